"""Windows of long recordings: the steps, names and labels that they have, by definition and by the command line."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from limbeck.series.data import SeriesData
from limbeck.series.encoder_io import load_encoder
from limbeck.series.sources import open_series
from limbeck.series.windows import cut_windows
from tests.helpers.commands import Run
from tests.helpers.errors import raises

NAN = float("nan")
SMALL = [
    "--backbone.hidden",
    "6",
    "--backbone.dim",
    "8",
    "--backbone.depth",
    "4",
    "--precision",
    "fp32",
    "--epochs",
    "1",
]
WINDOWS = ["--window", "20", "--stride", "10"]


def recordings(lengths: tuple[int, ...], channels: int = 2) -> SeriesData:
    """Return noise of these lengths, labeled by turns, with some missing values."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((len(lengths), max(lengths), channels))
    values[:, 3, 0] = NAN
    for row, length in enumerate(lengths):
        values[row, length:] = NAN
    names = [f"{row}.csv" for row in range(len(lengths))]
    return SeriesData(values, np.arange(len(lengths)) % 2, ["a", "b"], names=names)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write training and test recordings of two classes as CSV files, in a sub-folder each."""
    rng, place = np.random.default_rng(1), tmp_path_factory.mktemp("recordings")
    for role in ("train", "test"):
        for name, frequency in (("slow", 0.3), ("fast", 1.2)):
            (place / role / name).mkdir(parents=True)
            values = np.sin(frequency * np.arange(205))[:, None] + 0.1 * rng.standard_normal((205, 2))
            np.savetxt(place / role / name / "a.csv", values, delimiter=",")
    return place / "train", place / "test"


@pytest.mark.parametrize(("window", "stride"), [(7, 3), (7, 7), (5, 9), (30, 1), (31, None), (2, 1)])
@pytest.mark.parametrize("lengths", [(31,), (31, 12, 5)])
def test_windows_are_those_of_a_loop(lengths: tuple[int, ...], window: int, stride: int | None) -> None:
    data, step = recordings(lengths), stride or window
    found, values, names, labels, rest = cut_windows(data, window, stride), [], [], [], []
    for row, length in enumerate(lengths):
        start = seen = 0
        while start + window <= length:
            values.append(data.values[row, start : start + window])
            names.append(f"{row}.csv[{start}:{start + window}]")
            labels.append(row % 2)
            start, seen = start + step, start + window
        if start < length and seen < length:
            rest.append(f"{row}.csv[{start}:{length}]")
    np.testing.assert_array_equal(found.values, np.stack(values))
    assert (found.names, found.labels.tolist(), found.label_names) == (names, labels, ["a", "b"])
    assert [text.partition(" ")[0] for text in found.left_out] == rest
    np.testing.assert_array_equal(found[np.array([len(found) - 1, 0])], np.stack([values[-1], values[0]]))
    whole = SeriesData(np.stack(values), found.labels, names=names)
    assert found.digest == whole.digest
    np.testing.assert_allclose(found.normalization(), whole.normalization(), rtol=1e-12)
    for name in ("lengths", "constant", "present"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_windows_of_several_recordings_take_the_memory_of_the_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    data = recordings((20_000, 20_000))
    monkeypatch.setattr("limbeck.series.data.BLOCK", 10_000)
    tracemalloc.start()
    found = cut_windows(data, 200, 20)
    assert (len(found.digest), len(found.remarks()), len(found.normalization())) == (64, 1, 2)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.values.nbytes > 9 * data.values.nbytes
    assert kept < 1.5 * data.values.nbytes
    assert peak < 3 * data.values.nbytes


def test_windows_without_a_whole_step_are_left_out_and_named() -> None:
    values = np.arange(40.0).reshape(1, 40, 1)
    values[:, 10:20] = NAN
    found = cut_windows(SeriesData(values), 10)
    assert found.names == ["0[0:10]", "0[20:30]", "0[30:40]"]
    np.testing.assert_array_equal(found.values[:, 0, 0], [0, 20, 30])
    assert "0[10:20]" in found.omissions()[0]
    values[:, :35] = NAN
    with raises("series-all-missing", "0[0:20]"):
        cut_windows(SeriesData(values[:, :38]), 20, 5)


def test_runs_record_their_windows_and_other_commands_cut_alike(
    limbeck: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "a.parquet"
    code, _, err = limbeck("pretrain", folders[0], "--out", run, *WINDOWS, *SMALL, "--backbone.kernel-features", "84")
    assert code == 0, err
    assert "slow/a.csv[190:205]" in err
    config = json.loads((run / "config.json").read_text())
    assert (config["backbone"]["window"], config["backbone"]["stride"]) == (20, 10)
    weights = (run / "encoder" / "model.safetensors").read_bytes()
    (run / "checkpoint.ckpt").unlink()
    assert limbeck("resume", run)[0] == 0
    assert (run / "encoder" / "model.safetensors").read_bytes() == weights
    code, printed, err = limbeck("evaluate", run, "--train", folders[0], "--test", folders[1], "--no-latency", "--json")
    assert code == 0, err
    assert json.loads(printed)["image_size"] == 20
    assert limbeck("embed", folders[1], "--with", run / "encoder", "--out", out)[0] == 0
    table, series = pq.read_table(out).to_pydict(), open_series(folders[1]).values
    assert (len(table["path"]), table["path"][20], table["label"][20]) == (38, "slow/a.csv[10:30]", "slow")
    expected = load_encoder(run)(torch.from_numpy(series[1:, 10:30])).final.detach()
    torch.testing.assert_close(torch.tensor(table["vector"][20:21]), expected)
    again = ["pretrain", "--config", run / "config.json", "--print-config"]
    for words, window, stride in (([], 20, 10), (["--window", "30", "--stride", "None"], 30, None)):
        code, printed, err = limbeck(*again, *words)
        assert code == 0, err
        found = json.loads(printed)["backbone"]
        assert (found["window"], found["stride"]) == (window, stride)
    short = tmp_path / "short.npz"
    np.savez(short, series=recordings((15, 15)).values)
    assert limbeck("embed", short, "--with", run, "--out", out)[0] == 0
    assert pq.read_table(out).to_pydict()["path"] == ["0", "1"]
    for more in ([], ["--window", "12"]):
        start = ["--from", str(run), "--print-config", "--batch-size", "2"]
        code, printed, err = limbeck("pretrain", short, *start, *more)
        assert code == 0, err
        assert json.loads(printed)["backbone"]["window"] == (12 if more else None)
        assert ("0[12:15]" in err) == bool(more)


@pytest.mark.parametrize(
    ("words", "code", "value"),
    [
        (["--window", "1"], "out-of-range", "window is 1"),
        (["--window", "-5"], "out-of-range", "window is -5"),
        (["--window", "20", "--stride", "0"], "out-of-range", "stride is 0"),
        (["--stride", "-3", "--window", "20"], "out-of-range", "stride is -3"),
        (["--stride", "3"], "flag-without-use", "stride is 3"),
        (["--window", "96"], "window-too-long", "recording.csv, has 95 steps"),
        (["--window", "4"], "series-too-short", "4 steps"),
        (["--window", "20", "--method.mask-span", "20"], "span-too-long", "mask_span is 20"),
    ],
)
def test_windows_that_cannot_be_are_refused(
    limbeck: Run, tmp_path: Path, words: list[str], code: str, value: str
) -> None:
    np.savetxt(tmp_path / "recording.csv", recordings((95,)).values[0], delimiter=",", header="x,y", comments="")
    status, printed, err = limbeck("pretrain", tmp_path / "recording.csv", "--out", tmp_path / "run", *words, "--json")
    found = json.loads(printed)["error"]
    assert status > 0
    assert found["code"] == code
    assert value in found["message"]
    assert "Traceback" not in err


def test_windows_of_images_and_of_nothing_are_refused(limbeck: Run, photos: Path) -> None:
    status, printed, _ = limbeck("pretrain", photos / "train", "--window", "200", "--json")
    found = json.loads(printed)["error"]
    assert (status > 0, found["code"]) == (True, "unknown-option")
    assert f"'{photos / 'train'}'" in found["message"]
    assert ".csv" in found["message"]
    status, printed, _ = limbeck("pretrain", photos / "none.csv", "--window", "200", "--json")
    found = json.loads(printed)["error"]
    assert (status > 0, found["code"]) == (True, "source-missing")
    assert "none.csv" in found["message"]


def test_a_csv_file_is_a_recording_only_if_it_holds_numbers(limbeck: Run, tmp_path: Path) -> None:
    for name, text, modality in (("a", "x,y\n1,\n2,5\n", "series"), ("b", "path,label\na.png,2\n", None)):
        (tmp_path / f"{name}.csv").write_text(text)
        printed = json.loads(limbeck("check", tmp_path / f"{name}.csv", "--json")[1])
        assert printed.get("modality") == modality
