"""Embeddings are those of the evaluation, however many processes compute them and however often they are killed."""

import csv
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import limbeck as library
from limbeck import cli
from limbeck.core.runners import run
from limbeck.core.runners.worker import perform
from limbeck.data.store.open import open_store
from limbeck.embeddings import shards, source
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import BackboneEncoder, load_encoder
from limbeck.embeddings.files import read_about
from limbeck.embeddings.source import embed_source
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.models import BackboneModel
from limbeck.models.encoder_io import load, load_preprocessing
from tests.helpers.commands import Run
from tests.helpers.errors import raises
from tests.helpers.forks import FORKS


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def exports(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with exports of the run: timm, onnx and onnx with the preprocessing folded in."""
    folder = tmp_path_factory.mktemp("exports")
    library.export(trained, folder / "timm")
    library.export(trained, folder / "onnx", depth=2, format="onnx")
    library.export(trained, folder / "folded", format="onnx", fold_preprocessing=True)
    return folder


def test_every_depth_is_what_an_evaluation_extracts(trained: Path, photos: Path) -> None:
    store = open_store(photos / "test")
    model = BackboneModel("network", load(trained), load_preprocessing(trained))
    expected = model.features(EvalData.of(store, store, EvaluateConfig()), store)
    found = embed_source(photos / "test", trained)
    assert set(found.features) == set(expected) == {1, 2, 3}
    for depth, vectors in found.features.items():
        np.testing.assert_array_equal(vectors, expected[depth].numpy())
    assert found.precision == ("bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32")
    assert [found.store.label_names[label] for label in found.labels] == [path[0] for path in found.paths]


def test_maps_are_those_of_the_backbone_and_their_mean_is_the_vector(trained: Path, photos: Path) -> None:
    found = embed_source(photos / "test", trained, depths=[2], maps=True, cfg=EmbedConfig(precision="fp32"))
    assert found.maps[2].shape == (80, 32, 4, 4)
    network, images = load(trained).eval(), found.encoder.images(found.store, torch.device("cpu"))
    with torch.no_grad():
        expected = network(images(np.arange(5, 9)), (2,), feature_maps=True)
    np.testing.assert_allclose(found.maps[2][5:9], expected.feature_maps[2], atol=1e-5)
    np.testing.assert_allclose(found.features[2][5:9], expected.taps[2], atol=1e-5)


def test_exports_give_the_numbers_of_the_run(trained: Path, photos: Path, exports: Path) -> None:
    exact = EmbedConfig(precision="fp32")
    run = embed_source(photos / "test", trained, cfg=exact)
    timm = embed_source(photos / "test", exports / "timm", cfg=exact)
    assert timm.encoder.digest == run.encoder.digest
    for depth, name in ((2, "onnx"), (3, "folded")):
        found = embed_source(photos / "test", exports / name, cfg=exact)
        assert set(found.features) == {depth}
        assert found.encoder.digest != run.encoder.digest
        np.testing.assert_allclose(found.features[depth], run.features[depth], atol=1e-4)
    with raises("no-maps", "onnx"):
        embed_source(photos / "test", exports / "onnx", maps=True)


def counted(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[int]:
    """Count the images of every batch that a backbone gets, and end the work after some batches."""
    batches: list[int] = []
    features = BackboneEncoder.features

    def count(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        if len(batches) == stop_after:
            raise KeyboardInterrupt
        batches.append(len(images))
        return features(self, images, *args, **kwargs)

    monkeypatch.setattr(BackboneEncoder, "features", count)
    return batches


def test_a_stopped_pass_goes_on_and_a_finished_one_is_not_repeated(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.embeddings.source.BLOCK", 16)
    cfg = EmbedConfig(batch_size=8)
    with monkeypatch.context() as first:
        batches = counted(first, stop_after=5)
        with pytest.raises(KeyboardInterrupt):
            embed_source(photos / "test", trained, cfg=cfg)
        assert sum(batches) == 40
        assert not list(tmp_path.glob("cache/limbeck/embeddings-*/*.npy"))
    with monkeypatch.context() as second:
        batches = counted(second)
        found = embed_source(photos / "test", trained, cfg=cfg)
        assert sum(batches) == 80 - 32  # two blocks of two batches were complete
        embed_source(photos / "test", trained, depths=[1, 3], cfg=cfg)
        assert sum(batches) == 80 - 32
    shutil.rmtree(tmp_path / "cache")
    whole = embed_source(photos / "test", trained, cfg=cfg)
    for depth, vectors in whole.features.items():
        np.testing.assert_array_equal(found.features[depth], vectors)


def one_of_two(variables: dict[str, str], command: list[str]) -> None:
    os.environ.update(variables | {"OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    cli.main(command)


def test_two_processes_write_the_file_of_one(limbeck: Run, trained: Path, photos: Path, tmp_path: Path) -> None:
    store = library.build_store(photos / "test", tmp_path / "store").path
    command = ["embed", str(store), "--with", str(trained), "--batch-size", "8", "--out"]
    assert limbeck(*command, tmp_path / "one.parquet")[0] == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "test"}
    shared |= {"WORLD_SIZE": "2", "GROUP_RANK": "0", "XDG_CACHE_HOME": str(tmp_path / "another")}
    words = [*command, str(tmp_path / "two.parquet"), "--devices", "2"]
    ranks = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    processes = [FORKS.Process(target=one_of_two, args=(variables, words)) for variables in ranks]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert pq.read_table(tmp_path / "one.parquet").equals(pq.read_table(tmp_path / "two.parquet"))


def test_workers_of_a_runner_compute_what_one_process_does(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders and outcomes are JSON, as for any runner; here this process does them in the reversed order."""

    def engine(orders: Iterator[str]) -> Iterator[tuple[str, str]]:
        yield from ((order, perform(order)) for order in list(orders)[::-1])

    monkeypatch.setattr(run, "engine_of", lambda cfg: engine)
    monkeypatch.setattr(source, "check_runner", lambda cfg: None)
    monkeypatch.setattr(source, "BLOCK", 8)
    for module in (source, shards):
        monkeypatch.setattr(module, "BLOCKS", 3)
    store = library.build_store(photos / "test", tmp_path / "store")
    one = embed_source(store, trained, cfg=EmbedConfig(batch_size=8))
    assert one.folder
    shutil.rmtree(one.folder)
    other = EmbedConfig(batch_size=8, runner="ray", workers=2)
    found = embed_source(store, trained, cfg=other)
    for depth, vectors in one.features.items():
        np.testing.assert_array_equal(found.features[depth], vectors)
    changed = load_encoder(trained)
    changed.digest = "of other weights"
    with raises("source-differs", "shard", trained):
        embed_source(store, changed, cfg=other)


def test_files_hold_paths_labels_vectors_and_their_encoder(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path
) -> None:
    expected = library.embed(photos / "test", trained, depth=2, maps=True)
    assert expected.maps is not None
    for suffix in ("parquet", "npy", "csv"):
        out = tmp_path / f"found.{suffix}"
        maps = () if suffix == "csv" else ("--maps",)
        code, printed, err = limbeck("embed", photos / "test", "--with", trained, "--depth", "2", "--out", out, *maps)
        assert (code, printed.strip()) == (0, str(out)), err
        about = read_about(out)
        assert (about.digest, about.depth, about.dim, about.images) == (expected.digest, 2, 32, 80)
        assert about.map_shape == (None if suffix == "csv" else (32, 4, 4))
        assert limbeck("embed", photos / "test", "--with", trained, "--depth", "2", "--out", out, *maps)[0] == 0
    table = pq.read_table(tmp_path / "found.parquet")
    assert table["path"].to_pylist() == expected.paths
    assert table["label"].to_pylist() == [path[0] for path in expected.paths]
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), expected.features)
    np.testing.assert_array_equal(np.stack(table["map"].to_numpy()).reshape(80, 32, 4, 4), expected.maps)
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy", allow_pickle=False), expected.features)
    np.testing.assert_array_equal(np.load(tmp_path / "found.maps.npy", allow_pickle=False), expected.maps)


def test_csv_has_a_row_per_image_and_no_formulas(trained: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "test" / "0" / "16.png", tmp_path / "photos" / "=1+1.png")
    shutil.copy(photos / "test" / "1" / "16.png", tmp_path / "photos" / "b.png")
    found = library.embed(tmp_path / "photos", trained, tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[:2] for row in rows[1:]] == [["'=1+1.png", ""], ["b.png", ""]]
    np.testing.assert_array_equal(np.array([row[2:] for row in rows[1:]], np.float32), found.features)


def test_what_cannot_be_written_or_computed_is_refused_before_any_work(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, exports: Path
) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"mine")
    (tmp_path / "b.csv").write_bytes(b"mine")
    shutil.copytree(exports / "onnx", tmp_path / "bare")
    (tmp_path / "bare" / "model.json").unlink()
    shutil.copytree(exports / "onnx", tmp_path / "broken")
    (tmp_path / "broken" / "model.onnx").write_bytes(b"nothing")
    cases: list[tuple[str, str, list[str | Path]]] = [
        ("unknown-format", "a.txt", ["--with", trained, "--out", "a.txt"]),
        ("no-maps-in-csv", "a.csv", ["--with", trained, "--out", tmp_path / "a.csv", "--maps"]),
        ("not-ours", "mine.parquet", ["--with", trained, "--out", tmp_path / "mine.parquet"]),
        ("not-ours", "b.csv", ["--with", trained, "--out", tmp_path / "b.npy"]),
        ("depth-out-of-range", "9", ["--with", trained, "--out", tmp_path / "a.npy", "--depth", "9"]),
        ("unknown-network", "nothing-here", ["--with", "nothing-here", "--out", tmp_path / "a.npy"]),
        ("damaged-export", "model.json", ["--with", tmp_path / "bare", "--out", tmp_path / "a.npy"]),
        ("damaged-export", "model.onnx", ["--with", tmp_path / "broken", "--out", tmp_path / "a.npy"]),
        ("out-of-range", "--batch-size", ["--with", trained, "--out", tmp_path / "a.npy", "--batch-size", "0"]),
    ]
    for code, value, words in cases:
        status, out, _ = limbeck("embed", photos / "test", *words, "--json")
        error = json.loads(out)["error"]
        assert status in (1, 2)
        assert error["code"] == code, error
        assert value in error["message"]
    assert not (tmp_path / "cache").exists()
    assert (tmp_path / "mine.parquet").read_bytes() == b"mine"
    with raises("images-in-memory", 2):
        embed_source(np.zeros((3, 28, 28, 3), np.uint8), load_encoder(trained), cfg=EmbedConfig(devices=2))
