"""The graph against brute force in float64 and against the authors' bags; whatever blocks, memory and interruptions."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core import resumable_array
from limbeck.core.resumable_array import ResumableArray
from limbeck.neighbors import graph as module
from limbeck.neighbors import ivf as ivf_module
from limbeck.neighbors import search
from limbeck.neighbors.graph import Graph, build_graph
from limbeck.neighbors.search import BlockSize, ExactSearch, TopK, nearest, top_k
from limbeck.neighbors.vectors import UnitVectors
from tests.helpers.clusters import clustered, with_copies
from tests.helpers.errors import raises
from tests.helpers.golden import Golden

CPU = torch.device("cpu")


def by_hand(features: NDArray[np.floating], k: int, max_similarity: float = np.inf) -> NDArray[np.int64]:
    """Return the definition: all cosines in float64, rounded to float32, sorted by cosine and then by row."""
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found = []
    for row, query in enumerate(unit):
        cosines = (unit @ query).astype(np.float32)
        ranked = sorted((-c, other) for other, c in enumerate(cosines) if other != row and c <= max_similarity)
        found.append([other for _, other in ranked[:k]])
    return np.array(found)


def assert_equal(one: Graph, other: Graph) -> None:
    np.testing.assert_array_equal(one.neighbors, other.neighbors)
    np.testing.assert_array_equal(one.cosines, other.cosines)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("make", [clustered, with_copies])
def test_exact_equals_brute_force(make: Callable[..., NDArray[np.float32]], dtype: type[np.floating]) -> None:
    features = make(300, 24).astype(dtype)
    graph = build_graph(features, 7)
    np.testing.assert_array_equal(graph.neighbors, by_hand(features, 7))
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(graph.cosines, (unit[:, None] * unit[graph.neighbors]).sum(axis=2), rtol=0, atol=1e-7)
    assert graph.search == "exact"
    assert graph.neighbors.dtype == np.int32
    assert graph.cosines.dtype == np.float32


@pytest.mark.parametrize("blocks", [BlockSize(1, 150), BlockSize(7, 300), BlockSize(300, 11), BlockSize(64, 64)])
@pytest.mark.parametrize("max_similarity", [None, 0.9])
def test_blocks_do_not_show(blocks: BlockSize, max_similarity: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    features = with_copies(300, 16)
    whole = build_graph(features, 9, max_similarity=max_similarity)
    monkeypatch.setitem(search.BLOCK_SIZES, "cpu", blocks)
    assert_equal(build_graph(features, 9, search="exact", max_similarity=max_similarity), whole)


def test_neighbors_that_float32_cannot_tell_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cosines within 1e-7 of each other, more of them than there are candidates."""
    draw = np.random.default_rng(0)
    features = np.concatenate(
        [np.ones((60, 32)) + 1e-4 * draw.standard_normal((60, 32)), draw.standard_normal((60, 32))]
    )
    compare_all, undecided = ExactSearch._compare_all, list[int]()

    def watched(self: ExactSearch, query_idx: Tensor, queries: Tensor, floor: Tensor) -> TopK:
        undecided.extend(query_idx.tolist())
        return compare_all(self, query_idx, queries, floor)

    monkeypatch.setattr(ExactSearch, "_compare_all", watched)
    np.testing.assert_array_equal(build_graph(features, 5).neighbors, by_hand(features, 5))
    assert set(range(60)) == set(undecided)


def test_bags_equal_the_bingo_authors(golden: Callable[[str], Golden]) -> None:
    data = golden("bingo_bags")
    np.testing.assert_array_equal(build_graph(data["feats"], int(data["K"])).neighbors, data["imgs_corr"])


def test_copies_are_where_the_authors_bags_are_wrong(golden: Callable[[str], Golden]) -> None:
    """Their search drops the first hit, whatever it is: row 3 for its copies 40 and 41, now in their own bags."""
    features = golden("bingo_bags")["feats"]
    features[40:42] = features[3]
    authors = np.argsort(-(features.astype(np.float64) @ features.T), axis=1, kind="stable")[:, 1:6]
    bags = build_graph(features, 5).neighbors
    contains_itself = (authors == np.arange(64)[:, None]).any(axis=1)
    assert contains_itself.nonzero()[0].tolist() == [40, 41]
    np.testing.assert_array_equal(bags[~contains_itself], authors[~contains_itself])
    for row in (40, 41):
        assert row not in bags[row]
        assert [other for other in bags[row] if other != 3] == [other for other in authors[row] if other != row]


def test_nobody_is_its_own_neighbor() -> None:
    same = np.ones((30, 4), np.float32)
    graph = build_graph(same, 29)
    np.testing.assert_array_equal(graph.neighbors, [[j for j in range(30) if j != i] for i in range(30)])


def test_copies_are_dropped_and_the_next_best_taken() -> None:
    features = with_copies(300, 24)
    graph = build_graph(features, 7, max_similarity=0.999)
    np.testing.assert_array_equal(graph.neighbors, by_hand(features, 7, 0.999))
    assert graph.cosines.max() <= 0.999


def test_what_is_not_there_is_minus_one() -> None:
    graph = build_graph(np.eye(4, dtype=np.float32)[[0, 0, 1, 0]], 2, max_similarity=0.5)
    assert graph.neighbors.tolist() == [[2, -1], [2, -1], [0, 1], [2, -1]]
    assert graph.cosines.tolist() == [[0, -np.inf]] * 2 + [[0, 0], [0, -np.inf]]


def test_a_choice_of_rows_speaks_in_numbers_of_the_features(tmp_path: Path) -> None:
    features = clustered(200, 16)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r", allow_pickle=False)
    rows = np.arange(3, 200, 4)
    graph, subset = build_graph(mapped, 5, indices=rows), build_graph(features[rows], 5)
    np.testing.assert_array_equal(graph.indices, rows)
    np.testing.assert_array_equal(graph.neighbors, rows[subset.neighbors])
    np.testing.assert_array_equal(graph.cosines, subset.cosines)


def test_what_does_not_fit_into_memory_is_read_block_by_block() -> None:
    features = with_copies(200, 16)
    held, read = (UnitVectors(features, None, CPU, memory) for memory in (2**20, 0))
    for one, other in zip(nearest(held, 5), nearest(read, 5), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_rows_of_one_set_in_another() -> None:
    base, queries = clustered(100, 8), clustered(30, 8, seed=1)
    found = nearest(UnitVectors(torch.from_numpy(base), None, CPU), 3, UnitVectors(queries, None, CPU))
    unit = [x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (base, queries)]
    np.testing.assert_array_equal(found.positions, np.argsort(-(unit[1] @ unit[0].T), axis=1)[:, :3])


@pytest.mark.parametrize("max_similarity", [None, 0.97])
def test_ivf_finds_nearly_all(max_similarity: float | None) -> None:
    features = with_copies(4000, 16)
    exact, ivf = (
        build_graph(features, 10, search=method, max_similarity=max_similarity) for method in ("exact", "ivf")
    )
    recall = (exact.neighbors[:, :, None] == ivf.neighbors[:, None, :]).any(axis=2).mean()
    assert recall > 0.98
    assert ivf.recall > 0.98
    assert (ivf.neighbors != ivf.indices[:, None]).all()
    assert (ivf.neighbors >= 0).all()
    assert max_similarity is None or ivf.cosines.max() <= max_similarity


def test_an_approximate_search_finds_what_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One list of about 100 finds too little of vectors without clusters; recall counts copies as each other."""
    caplog.set_level("INFO", logger="limbeck")
    monkeypatch.setattr(ivf_module, "PROBES", 1)
    features = np.random.default_rng(0).standard_normal((4000, 16)).astype(np.float32)
    exact = build_graph(features, 10)
    given: dict[str, Any] = {"search": "ivf", "folder": tmp_path / "graph", "digest": "abc"}
    low = build_graph(features, 10, min_recall=0.0, **given)
    high = build_graph(features, 10, **given)
    for graph in (low, high):
        found = (exact.neighbors[:, :, None] == graph.neighbors[:, None, :]).any(axis=2)
        rows = np.linspace(0, 3999, 1000).astype(int)
        assert graph.recall == pytest.approx(found[rows].mean(), abs=1e-9)
    assert low.recall < 0.7
    assert high.recall >= 0.95
    assert build_graph(features, 10, **given).recall == high.recall
    assert json.loads((tmp_path / "graph" / "recall.json").read_text())["share"] == high.recall
    assert sum("nearest of 1000 rows" in message for message in caplog.messages) == 2


def test_auto_searches_exactly_while_there_is_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="limbeck")
    monkeypatch.setitem(search.BLOCK_SIZES, "cpu", BlockSize(100, 100))
    features = clustered(400, 8)
    assert build_graph(features, 3).search == "exact"
    assert build_graph(features, 3, budget=0).search == "ivf"
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert build_graph(features, 3, budget=0).search == "exact"
    reasons = [record.getMessage() for record in caplog.records]
    assert [("10 of 10 lists" in reason, "limbeck[faiss]" in reason) for reason in reasons] == [
        (False, False),
        (False, False),
        (True, False),
        (False, True),
    ]
    with raises("faiss-missing", "limbeck[faiss]"):
        build_graph(features, 3, search="ivf")


class Killed(BaseException):
    """In place of the end of the process."""


def kill_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, until it is called for that time."""
    calls = itertools.count(1)

    def wrapped(*args: Any) -> Any:
        if next(calls) == call:
            raise Killed
        return function(*args)

    return wrapped


@pytest.mark.parametrize(
    ("place", "name", "call"),
    [
        (ExactSearch, "find", 3),
        (resumable_array, "fsync", 3),
        (ResumableArray, "append", 3),
        (ResumableArray, "_write_manifest", 4),
        (ResumableArray, "_prepare", 1),
    ],
)
def test_a_killed_search_goes_on(
    place: Any, name: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between blocks, within one (before its rows are written, synced and counted), and before the first."""
    monkeypatch.setitem(search.BLOCK_SIZES, "cpu", BlockSize(50, 100))
    features, find, searched = with_copies(300, 16), ExactSearch.find, list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(place, name, kill_at(call, getattr(place, name)))
        with pytest.raises(Killed):
            build_graph(features, 5, folder=tmp_path / "graph", digest="abc", search="exact")

    def watched(self: ExactSearch, query_idx: Tensor) -> TopK:
        searched.append(int(query_idx[0]))
        return find(self, query_idx)

    monkeypatch.setattr(ExactSearch, "find", watched)
    graph = build_graph(features, 5, folder=tmp_path / "graph", digest="abc", search="exact")
    assert searched == list(range(0 if name == "_prepare" else 100, 300, 50))
    assert_equal(build_graph(features, 5, folder=tmp_path / "graph", digest="abc"), graph)
    assert searched.count(250) == 1  # the finished graph is read
    assert_equal(build_graph(features, 5), graph)


def test_what_auto_chose_once_is_kept(tmp_path: Path) -> None:
    features = clustered(400, 8)
    first = build_graph(features, 5, folder=tmp_path / "graph", digest="abc", search="ivf")
    assert_equal(build_graph(features, 5, folder=tmp_path / "graph", digest="abc"), first)
    assert build_graph(features, 5, folder=tmp_path / "graph", digest="abc").search == "ivf"


@pytest.mark.parametrize(
    ("change", "stored", "wanted"),
    [
        ({"digest": "def"}, "abc", "def"),
        ({"k": 4}, 5, 4),
        ({"max_similarity": 0.9}, None, 0.9),
        ({"indices": np.arange(100)}, 120, 100),
        ({"search": "ivf"}, "exact", "ivf"),
    ],
)
def test_another_graph_is_refused(change: dict[str, Any], stored: object, wanted: object, tmp_path: Path) -> None:
    features = clustered(120, 8)
    given: dict[str, Any] = {"k": 5, "folder": tmp_path / "graph", "digest": "abc"}
    build_graph(features, **given)
    with raises("other-graph", tmp_path / "graph", stored, wanted):
        build_graph(features, **given | change)


def test_a_damaged_or_strange_folder_is_refused(tmp_path: Path) -> None:
    features, folder = clustered(120, 8), tmp_path / "graph"
    build_graph(features, 5, folder=folder, digest="abc")
    whole = (folder / "graph.npy").read_bytes()
    (folder / "graph.npy").write_bytes(b"junk" + whole[4:])
    with raises("damaged-array", folder / "graph.npy"):
        build_graph(features, 5, folder=folder, digest="abc")
    (folder / "graph.json").write_text("{")
    with raises("not-json", folder / "graph.json"):
        build_graph(features, 5, folder=folder, digest="abc")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.tex").touch()
    with raises("not-a-graph", tmp_path / "strange"):
        build_graph(features, 5, folder=tmp_path / "strange", digest="abc")


def test_rows_that_a_disk_lost_are_searched_again(tmp_path: Path) -> None:
    features, folder = clustered(120, 8), tmp_path / "graph"
    graph = build_graph(features, 5, folder=folder, digest="abc")
    (folder / "graph.npy").write_bytes((folder / "graph.npy").read_bytes()[:-205])
    assert_equal(build_graph(features, 5, folder=folder, digest="abc"), graph)


@pytest.mark.parametrize(
    ("features", "k", "code", "value"),
    [
        (np.ones((5, 3), np.float32), 5, "too-many-neighbors", "1 to 4"),
        (np.ones((5, 3), np.float32), 0, "too-many-neighbors", 0),
        (np.ones((5, 3), np.int64), 2, "features-not-a-float-matrix", "int64"),
        (np.ones(5, np.float32), 2, "features-not-a-float-matrix", "(5,)"),
        (np.diag([1.0, 0.0, 2.0, 0.0]), 2, "features-all-zero", "2 of 4"),
        (np.diag([1.0, np.nan, 2.0, np.inf]), 2, "features-not-finite", "2 of 4"),
    ],
)
def test_features_without_neighbors_are_refused(
    features: NDArray[np.floating], k: int, code: str, value: object
) -> None:
    with raises(code, value):
        build_graph(features, k)


@pytest.mark.parametrize("rows", [[3, 2], [1, 1, 2], [-1, 2], [2, 9]])
def test_rows_that_do_not_increase_are_refused(rows: list[int]) -> None:
    with raises("indices-not-increasing", 9):
        build_graph(np.eye(9), 1, indices=np.array(rows))


@pytest.mark.parametrize("width", [1, 3, 40, 100])
def test_top_k_over_blocks_is_top_k_of_everything(width: int) -> None:
    scores = torch.randn(9, 40, generator=torch.Generator().manual_seed(0))
    blocks = ((start, scores[:, start : start + width]) for start in range(0, 40, width))
    expected = scores.topk(7)
    torch.testing.assert_close(top_k(blocks, 7), TopK(expected.indices, expected.values), rtol=0, atol=0)
    assert top_k([(0, scores[:, :3])], 7).positions.shape == (9, 3)
