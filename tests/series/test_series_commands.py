"""The commands on series: check, pretrain, resume, evaluate, report; other data and flags of images are refused."""

import csv
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import limbeck as package
from limbeck.cli import main
from limbeck.embeddings.files import read_about
from limbeck.evaluation.results import EvaluationResult
from limbeck.exports.onnx_file import open_onnx
from limbeck.series.encoder_io import load_encoder
from tests.helpers.commands import Run
from tests.helpers.tiny_series import waves

SMALL = [
    "--backbone.hidden",
    "6",
    "--backbone.dim",
    "8",
    "--backbone.depth",
    "4",
    "--backbone.kernel-features",
    "84",
    "--precision",
    "fp32",
    "--optim.lr",
    "0.3",
]
Data = tuple[Path, Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Training and test series of two classes."""
    folder = tmp_path_factory.mktemp("series")
    for name, seed in (("train", 0), ("test", 1)):
        found = waves(48, seed)
        np.savez(folder / f"{name}.npz", series=found.values, labels=np.array(["slow", "fast"])[found.labels])
    return folder / "train.npz", folder / "test.npz"


@pytest.fixture(scope="module")
def run(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an evaluated run of the default method."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    main(["pretrain", str(data[0]), "--out", str(folder), "--epochs", "10", *SMALL])
    main(["evaluate", str(folder), "--train", str(data[0]), "--test", str(data[1]), "--no-latency"])
    return folder


def test_a_run_has_the_defaults_of_series(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    assert (config["method"]["name"], config["backbone"]["name"]) == ("masked", "dilated_conv")
    assert (config["training"]["batch_size"], config["backbone"]["channels"]) == (8, 2)
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < 0.9 * float(rows[0]["loss"])
    assert float(rows[-1]["target_std"]) > 0.1


def test_every_layer_is_measured_beside_what_needs_no_training(run: Path) -> None:
    result = EvaluationResult.load(run / "result.json")
    assert [layer.depth for layer in result.layers] == [1, 2, 3, 4]
    last = result.layers[-1].values
    for name in ("svm", "linear", "one_nn"):
        assert (last[name] or 0) > 0.7
        assert last[f"untrained_{name}"] is not None
    assert [model.name for model in result.references][:3] == ["untrained network", "raw series", "fixed kernels"]
    assert (result.references[2].values["linear"] or 0) > 0.7
    assert result.image_size == 20
    assert "linear" in result.verdict


def test_the_random_convolutions_are_a_line_where_aeon_is(
    run: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    from limbeck.series import evaluation

    class Classifier:
        def __init__(self, random_state: int) -> None:
            self.seed = random_state

        def fit(self, X: np.ndarray, y: np.ndarray) -> "Classifier":
            assert X.shape == (48, 2, 20)
            assert not np.isnan(X).any()
            return self

        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.zeros(len(X))

    module, parent = ModuleType("aeon.classification.convolution_based"), ModuleType("aeon.classification")
    module.MiniRocketClassifier = module.MultiRocketClassifier = Classifier  # type: ignore[attr-defined]
    parent.convolution_based = module  # type: ignore[attr-defined]
    for each in (ModuleType("aeon"), parent, module):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    monkeypatch.setattr(evaluation, "find_spec", lambda name: name)
    before = (run / "result.json").read_bytes()
    found = package.evaluate(run, data[0], data[1], linear="one-vs-rest", latency=False)
    assert [model.name for model in found.references[-2:]] == ["MiniRocket", "MultiRocket"]
    assert [model.values["linear"] for model in found.references[-2:]] == [0.5, 0.5]
    (run / "result.json").write_bytes(before)


def test_a_stopped_run_resumes_to_the_same_numbers(limbeck: Run, run: Path, data: Data, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert limbeck("pretrain", "--config", run / "config.json", "--out", again)[0] == 0
    assert (again / "encoder" / "model.safetensors").read_bytes() == (
        run / "encoder" / "model.safetensors"
    ).read_bytes()
    (again / "checkpoint.ckpt").unlink()
    assert limbeck("resume", again)[0] == 0
    moved = tmp_path / "moved.npz"
    np.savez(moved, series=waves(48, 5).values)
    code, _, err = limbeck("resume", again, "--store", moved)
    assert code == 1
    assert str(moved) in err


def test_sdssl_over_a_host_trains_on_series(limbeck: Run, data: Data, tmp_path: Path) -> None:
    heads = ["--method.hidden", "16", "--method.host.hidden", "16", "--method.host.dim", "8"]
    argv = [*heads, *SMALL, "--epochs", "1", "--batch-size", "24", "--health-every-steps", "0"]
    code, _, err = limbeck("pretrain", data[0], "--out", tmp_path / "run", "--method", "sdssl", *argv)
    assert code == 0
    proposed = next(line for line in err.splitlines() if "limbeck evaluate" in line).split()
    assert [Path(word).suffix for word in proposed if word.startswith("LABELED")] == [".ts", ".ts"]
    assert (tmp_path / "run" / "encoder" / "model.safetensors").is_file()


def test_check_counts_and_the_report_shows(limbeck: Run, run: Path, data: Data, tmp_path: Path) -> None:
    code, out, _ = limbeck("check", data[0], "--json")
    found = json.loads(out)
    assert (code, found["modality"]) == (0, "series")
    assert any("missing" in sentence for sentence in found["summary"])
    assert limbeck("report", run, "--out", tmp_path / "report.html")[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "dilated_conv" in page
    assert "raw series" in page


def test_a_run_in_python_loads_the_encoder_of_its_kind(run: Path) -> None:
    whole, cut = package.Run.open(run).load(), package.Run.open(run).load(depth=2)
    assert (len(whole.taps) > 2, tuple(cut.taps)) == (True, (1, 2))
    values = torch.from_numpy(waves(2, 5).values)
    assert torch.equal(cut(values).final, whole(values, whole.taps).taps[2])


def test_embed_writes_what_the_encoder_computes(limbeck: Run, run: Path, data: Data, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    code, out, err = limbeck("embed", data[1], "--with", run, "--depth", "2", "--out", file, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["series"], found["dim"], found["depth"]) == (48, 6 + 168, 2)
    table, series = pq.read_table(file).to_pydict(), waves(48, 1)
    expected = load_encoder(run, 2)(torch.from_numpy(series.values)).final.detach()
    torch.testing.assert_close(torch.tensor(table["vector"]), expected)
    assert (table["path"][:2], table["label"][:2]) == (["0", "1"], ["slow", "fast"])
    assert read_about(file).digest == package.embed(data[1], run).digest
    np.savez(tmp_path / "one.npz", series=series.values[:, :, :1])
    assert limbeck("embed", tmp_path / "one.npz", "--with", run, "--out", file)[0] == 1


def test_an_export_takes_series_of_any_length_and_is_proved(limbeck: Run, run: Path, tmp_path: Path) -> None:
    code, out, err = limbeck("export", run, tmp_path / "phone", "--format", "onnx", "--depth", "2", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["depth"], found["dim"], found["proof"]["images"]) == (2, 6 + 168, 48)
    assert found["proof"]["neighbors"] == 1
    network, series = open_onnx(tmp_path / "phone" / "model.onnx"), torch.from_numpy(waves(7, 3, steps=31).values)
    expected = load_encoder(run, 2)(series).final.detach()
    torch.testing.assert_close(network(series), expected)
    assert "[B T 2]" in (tmp_path / "phone" / "README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "phone" / "model.json").read_text()
    other = tmp_path / "other.npz"
    np.savez(other, series=waves(20).values[:, :, :1])
    for words, code_of_error in (
        (["--format", "timm"], "no-timm"),
        (["--format", "onnx", "--precision", "int8"], "flag-without-use"),
        (["--format", "onnx", "--images", other], "channels-differ"),
        (["--format", "torch", "--depth", "5"], "depth-out-of-range"),
    ):
        code, out, _ = limbeck("export", run, tmp_path / "none", *words, "--json")
        assert (code, json.loads(out)["error"]["code"]) == (1, code_of_error)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["check", "DATA", "--near-duplicates"], "near-duplicates"),
        (["store", "DATA", "OUT"], "pretrain"),
        (["pretrain", "DATA", "--exclude", "a"], "exclude"),
        (["pretrain", "DATA", "--max-images", "5"], "max-images"),
        (["pretrain", "DATA", "--method", "cgh"], "hypercolumn"),
        (["pretrain", "DATA", "--method.mask-span", "20"], "20"),
        (["distill", "DATA", "--teacher", "timm:resnet18"], "timm:resnet18"),
        (["embed", "OUT", "--with", "RUN", "--out", "a.npy"], "series"),
        (["embed", "DATA", "--with", "RUN", "--out", "a.npy", "--maps"], "maps"),
        (["embed", "DATA", "--with", "RUN", "--out", "a.npy", "--devices", "2"], "devices"),
        (["embed", "DATA", "--with", "RUN", "--out", "a.npy", "--depth", "5"], "5"),
        (["embed", "DATA", "--with", "OUT", "--out", "a.npy"], "out"),
        (["export", "RUN", "OUT", "--all"], "series"),
        (["evaluate", "RUN", "--train", "DATA", "--test", "DATA", "--beside", "timm:resnet18"], "timm:resnet18"),
    ],
)
def test_what_is_for_images_alone_is_refused(
    limbeck: Run, run: Path, data: Data, tmp_path: Path, words: list[str], value: str
) -> None:
    places = {"DATA": str(data[0]), "RUN": str(run), "OUT": str(tmp_path / "out")}
    code, _, err = limbeck(*(places.get(word, word) for word in words))
    assert code == 1
    assert value in err.splitlines()[-1]


def test_a_run_starts_from_a_run_or_an_export(limbeck: Run, run: Path, data: Data, tmp_path: Path) -> None:
    assert limbeck("export", run, tmp_path / "phone", "--format", "onnx", "--depth", "3")[0] == 0
    words = ["--epochs", "1", "--precision", "fp32", "--optim.lr", "1e-9", "--method.target-blocks", "1"]
    for start, blocks in ((run, 4), (tmp_path / "phone", 3)):
        out = tmp_path / f"from-{blocks}"
        code, _, err = limbeck("pretrain", data[1], "--out", out, "--from", start, *words)
        assert code == 0, err
        assert "48" in err
        found, before = load_encoder(out), load_encoder(start)
        assert len(found.blocks) == blocks
        torch.testing.assert_close(found.input_map.weight, before.input_map.weight, rtol=0, atol=1e-6)
        assert torch.equal(found.mean, before.mean)
        config = json.loads((out / "config.json").read_text())
        assert config["start"]["digest"]
    one = tmp_path / "one.npz"
    np.savez(one, series=waves(20).values[:, :, :1])
    for source, more, code_of_error in (
        (one, [], "channels-differ"),
        (data[1], ["--backbone.hidden", "7"], "start-contradicted"),
    ):
        code, text, _ = limbeck("pretrain", source, "--out", tmp_path / "none", "--from", run, *more, "--json")
        assert (code, json.loads(text)["error"]["code"]) == (1, code_of_error)
