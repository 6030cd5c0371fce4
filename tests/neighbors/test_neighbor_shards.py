"""Neighbors by the workers of any runner are those of one process, byte for byte; what was killed goes on."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbeck.core.config import to_json
from limbeck.core.runners.run import RunnerConfig, ShardWork, run_shards
from limbeck.data.store.store import Store
from limbeck.neighbors import shards, thumbnail_shards
from limbeck.neighbors.graph import build_graph
from limbeck.neighbors.near_duplicate_report import find_near_duplicates
from limbeck.neighbors.storage import ARRAY
from tests.helpers.clusters import with_copies
from tests.helpers.commands import Run
from tests.helpers.errors import raises

HERE, LOCAL = RunnerConfig(), RunnerConfig(runner="local", workers=2)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # what an earlier run of the tests found is no answer
    monkeypatch.setattr(shards, "SHARD", 70)
    monkeypatch.setattr(thumbnail_shards, "SHARD", 9)


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    return with_copies(300, 16)


def graph_file(folder: Path) -> bytes:
    return (folder / ARRAY).read_bytes()


@pytest.mark.parametrize("given", ["array", "file", "rows"])
def test_a_graph_has_the_bytes_of_one_process(features: NDArray[np.float32], tmp_path: Path, given: str) -> None:
    rows = np.arange(0, 300, 2) if given == "rows" else None
    matrix: Any = features
    if given == "file":
        np.save(tmp_path / "f.npy", features)
        matrix = np.load(tmp_path / "f.npy", mmap_mode="r")
    how: dict[str, Any] = {"indices": rows, "digest": "d", "max_similarity": 0.999}
    build_graph(matrix, 4, folder=tmp_path / "one", **how)
    build_graph(matrix, 4, folder=tmp_path / "two", runner=HERE, **how)
    assert graph_file(tmp_path / "two") == graph_file(tmp_path / "one")
    assert os.listdir(tmp_path / "two" / shards.WORK) == [shards.JOURNAL]


def test_lists_of_faiss_are_searched_by_workers(features: NDArray[np.float32], tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="an approximate search needs FAISS")
    one = build_graph(features, 4, search="ivf", folder=tmp_path / "one", digest="d")
    two = build_graph(features, 4, search="ivf", folder=tmp_path / "two", digest="d", runner=HERE)
    assert graph_file(tmp_path / "two") == graph_file(tmp_path / "one")
    assert two.recall == one.recall


def search_spec(features: NDArray[np.float32], folder: Path) -> shards.SearchSpec:
    file = str(shards.file_of(features, folder))
    return shards.SearchSpec(
        queries=file,
        base=None,
        digest=shards.digest_of(file),
        indices=None,
        k=3,
        max_similarity=None,
        device="cpu",
        lists=None,
        rows=len(features),
        shard=70,
        folder=str(folder),
    )


def test_a_search_that_was_killed_goes_on_with_its_shards(features: NDArray[np.float32], tmp_path: Path) -> None:
    spec = search_spec(features, tmp_path)
    found = shards.search_by_shards(spec, HERE, "rows")
    first = np.array(next(found))
    found.close()  # as if the command had ended here
    assert len(list(tmp_path.glob("neighbors-*.npy"))) == 5
    (tmp_path / "neighbors-00003.npy").unlink()
    again = list(shards.search_by_shards(spec, HERE, "rows"))
    np.testing.assert_array_equal(first, again[0])
    assert [json.loads(line)["shard"] for line in (tmp_path / shards.JOURNAL).read_text().splitlines()] == [
        *range(5),
        3,
    ]
    one = build_graph(features, 3)
    np.testing.assert_array_equal(np.concatenate(again)["neighbor"], one.neighbors)
    np.testing.assert_array_equal(np.concatenate(again)["cosine"], one.cosines)


def test_shards_of_another_search_do_not_count(features: NDArray[np.float32], tmp_path: Path) -> None:
    spec = search_spec(features, tmp_path)
    found = shards.search_by_shards(spec, HERE, "rows")
    next(found)
    found.close()
    other = shards.search_by_shards(search_spec(features[:, ::-1], tmp_path), HERE, "rows")
    neighbors = np.concatenate(list(other))["neighbor"]
    np.testing.assert_array_equal(neighbors, build_graph(np.ascontiguousarray(features[:, ::-1]), 3).neighbors)


def test_other_features_are_refused(features: NDArray[np.float32], tmp_path: Path) -> None:
    spec = search_spec(features, tmp_path)
    np.save(tmp_path / "features.npy", features + 1)
    with raises("source-differs", "features.npy"):
        list(shards.search_by_shards(spec, HERE, "rows"))


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_shard(features: NDArray[np.float32], tmp_path: Path) -> None:
    spec = to_json(search_spec(features, tmp_path)) | {"killed": str(tmp_path / "killed")}  # type: ignore[operator]
    work = ShardWork(
        task=f"{__name__}:die_once",
        spec=spec,
        here=lambda shard, advance: None,
        size=lambda shard: 1,
        journal=tmp_path / "j",
        description="rows",
    )
    run_shards(work, range(5), LOCAL)
    parts = [np.load(tmp_path / f"neighbors-{shard:05d}.npy") for shard in range(5)]
    np.testing.assert_array_equal(np.concatenate(parts)["neighbor"], build_graph(features, 3).neighbors)
    assert [line["shard"] for line in map(json.loads, (tmp_path / "j").read_text().splitlines()) if line["error"]] == [
        2
    ]


def die_once(spec: dict[str, Any], shard: int) -> None:
    """Search a shard; the first worker that gets shard 2 is killed."""
    mark = Path(str(spec["killed"]))
    if shard == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    shards.search_shard({name: value for name, value in spec.items() if name != "killed"}, shard)


@pytest.mark.slow
def test_near_duplicates_of_the_command(limbeck: Run, photos: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        assert limbeck("store", photos / split, tmp_path / split, "--allow-bad", "0.5")[0] == 0
    words = ("check", tmp_path / "train", "--against", tmp_path / "test", "--similarity-threshold", "0.9", "--json")
    tables = {}
    for name, runner in {"here": (), "local": ("--runner", "local", "--workers", "1")}.items():  # each step starts them
        code, out, err = limbeck(*words, "--out", tmp_path / name, *runner)
        assert code == 0, err
        tables[name] = ((tmp_path / name / "near_duplicates.csv").read_bytes(), json.loads(out)["near_duplicates"])
    assert tables["here"][0] == tables["local"][0]
    assert tables["local"][1]["images"] > 0
    code, out, _ = limbeck("check", tmp_path / "train", "--runner", "local", "--json")
    assert json.loads(out)["error"]["code"] == "flag-without-use"


def test_another_store_is_refused(tmp_path: Path, limbeck: Run, photos: Path) -> None:
    assert limbeck("store", photos / "test", tmp_path / "test", "--allow-bad", "0.5")[0] == 0
    store = Store.open(tmp_path / "test")
    spec = thumbnail_shards.ThumbnailSpec(
        store=str(store.path), digest="other", rows=len(store), shard=9, folder=str(tmp_path)
    )
    with raises("source-differs", "test"):
        thumbnail_shards.thumbnail_shard(to_json(spec), 0)
    same = find_near_duplicates(store, store, runner=HERE)
    assert same.across is not None
    assert len(same.across.indices) == len(store)
