"""The table for a viewer of millions of images: its columns are the page's numbers; the viewer is started or named."""

import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from limbeck.core.text import printable
from limbeck.downstream.explorer import layout
from limbeck.downstream.explorer.build import _view
from limbeck.downstream.explorer.config import ExploreConfig
from limbeck.downstream.explorer.groups import vote
from limbeck.downstream.explorer.layout import lay_out_components
from limbeck.downstream.explorer.table import MapTable, write_table
from limbeck.downstream.explorer.viewer import PROGRAM
from limbeck.embeddings.source import embed_source
from limbeck.neighbors.graph import build_graph
from tests.helpers.commands import Run
from tests.helpers.errors import raises

PCA = ExploreConfig(layout="pca")
STAND_IN = """#!{python}
import json, os, sys, time
json.dump([sys.argv[1:], {{name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "HOME")}}, os.getpid()],
          open({log!r}, "w"))
if {interrupts}:
    os.kill(os.getppid(), {interrupts})
time.sleep({seconds})
sys.exit({status})
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def stand_in(folder: Path, status: int = 0, seconds: int = 0, interrupts: int = 0) -> tuple[Path, Path]:
    """Write a program with the viewer's name, which writes down how it was called; return its folder and that file."""
    program, log = folder / "bin" / PROGRAM, folder / "called.json"
    program.parent.mkdir()
    settings = {"log": str(log), "seconds": seconds, "status": status, "interrupts": int(interrupts)}
    program.write_text(STAND_IN.format(python=sys.executable, **settings))
    program.chmod(0o755)
    return program.parent, log


def test_every_row_has_the_numbers_of_the_page(trained: Path, photos: Path, tmp_path: Path) -> None:
    found = write_table(photos / "test", trained, tmp_path / "map.parquet", cfg=PCA)
    assert isinstance(found, MapTable)
    view = _view(embed_source(photos / "test", trained), PCA)
    rows = pq.read_table(found.path).to_pylist()
    assert (found.images, found.depth, found.clusters, found.layout) == (80, 3, 10, view.layout.name)
    assert [row["path"] for row in rows] == [printable(name) for name in view.names]
    assert [row["id"] for row in rows] == list(range(80))
    np.testing.assert_allclose([row["outlier"] for row in rows], view.outliers)
    places = np.array([(row["x"], row["y"]) for row in rows])
    turned = [
        np.abs(np.stack([a, 1 - a]) - b).max(axis=1).min()
        for a, b in zip(places.T, view.layout.positions.T, strict=True)
    ]
    assert max(turned) < 1e-3
    assert view.predicted is not None
    names = view.store.label_names
    for row, predicted, near in zip(rows, view.predicted, view.graphs[3].neighbors, strict=True):
        assert row["label"] == row["path"][0]
        assert row["predicted"] == names[predicted]
        assert row["neighbors"]["ids"] == near[:10].tolist()
    image = rows[7]["image"]
    assert image["path"] == rows[7]["path"]
    pixels = np.asarray(Image.open(io.BytesIO(image["bytes"])), float)
    assert pixels.shape == (28, 28, 3)  # no larger than what is stored
    assert np.abs(pixels - np.asarray(view.store.images[7])).mean() < 12


def test_without_labels_the_columns_of_labels_are_left_out(trained: Path, photos: Path, tmp_path: Path) -> None:
    found = write_table(
        photos / "test" / "3", trained, tmp_path / "map.parquet", cfg=ExploreConfig(layout="pca", sample=5)
    )
    assert found is not None
    table = pq.read_table(found.path)
    assert (table.num_rows, {"label", "predicted"} & set(table.column_names)) == (5, set())
    assert max(max(row["ids"]) for row in table["neighbors"].to_pylist()) < 5


def test_images_beyond_those_of_a_t_sne_follow_their_nearest_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LAID_OUT", 30)
    monkeypatch.setattr(layout, "BLOCK", 7)
    monkeypatch.setattr(layout, "_choose", lambda method, images: "openTSNE")
    monkeypatch.setattr(layout, "_opentsne", lambda reduced, perplexity, seed: reduced[:, :2].copy())
    reduced = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    positions = lay_out_components(reduced, seed=1).positions
    part = np.sort(np.random.default_rng(1).permutation(60)[:30])
    expected = reduced[:, :2].copy()
    for row in np.setdiff1d(np.arange(60), part):
        distances = ((reduced[part].astype(np.float64) - reduced[row]) ** 2).sum(axis=1)
        expected[row] = np.median(reduced[part[np.argsort(distances)[:5]], :2], axis=0)
    middle, span = (expected.max(axis=0) + expected.min(axis=0)) / 2, np.ptp(expected, axis=0).max()
    np.testing.assert_allclose(positions, (expected - middle) / span + 0.5, atol=1e-6)


def test_votes_do_not_depend_on_the_rows_that_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(-1, 4, 50)
    graph = build_graph(np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32), 8)
    whole = vote(graph, labels)
    monkeypatch.setattr("limbeck.downstream.explorer.groups.ROWS", 7)
    np.testing.assert_array_equal(vote(graph, labels), whole)


def test_the_viewer_is_started_on_this_machine_alone(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, log = stand_in(tmp_path)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    code, out, err = limbeck("explore", photos / "test", "--with", trained, "--serve", "--layout", "pca", "--json")
    assert code == 0, err
    words, variables, _ = json.loads(log.read_text())
    result, table = json.loads(out), tmp_path / "explore.parquet"
    assert [PROGRAM, *words] == result["command"]
    assert words[0] == str(table)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert set(words[words.index("--x") : words.index("--host")]) - {"x", "y"} == {
        *("--x", "--y", "--image", "image", "--neighbors", "neighbors")
    }
    assert {"x", "y", "image", "neighbors"} < set(pq.read_schema(table).names)
    assert variables == {"HF_HUB_OFFLINE": "1", "HOME": os.environ.get("HOME")}
    assert result["viewer"] == str(programs / PROGRAM)
    assert not (tmp_path / "explore.html").exists()


def test_without_a_viewer_the_table_is_there_and_the_way_to_one_is_named(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "my map.parquet"
    command = ("explore", photos / "test", "--with", trained, "--serve", "--layout", "pca", "--out", out)
    code, printed, err = limbeck(*command, "--json")
    assert code == 0, err
    assert json.loads(printed)["viewer"] is None
    assert "pip install embedding-atlas" in err
    assert f"{PROGRAM} '{out}' --x x --y y" in err
    content = out.read_bytes()
    assert limbeck(*command)[0] == 0  # one of ours is replaced, by the same
    assert out.read_bytes() == content


def test_a_viewer_that_fails_is_named(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, _ = stand_in(tmp_path, status=7)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    command = ("explore", photos / "test", "--with", trained, "--serve", "--layout", "pca", "--json")
    code, out, _ = limbeck(*command, "--out", tmp_path / "map.parquet")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (1, "viewer-failed")
    assert "7" in error["message"]
    (programs / PROGRAM).write_text("#!/nowhere/python\n")
    code, out, _ = limbeck(*command, "--out", tmp_path / "map.parquet")
    assert (code, json.loads(out)["error"]["code"]) == (1, "viewer-failed")


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_viewer_ends_with_the_command(
    limbeck: Run,
    trained: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    status: int,
) -> None:
    programs, log = stand_in(tmp_path, seconds=60, interrupts=number)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    command = ("explore", photos / "test", "--with", trained, "--serve", "--layout", "pca")
    assert limbeck(*command, "--out", tmp_path / "map.parquet")[0] == status
    with pytest.raises(ProcessLookupError):
        os.kill(json.loads(log.read_text())[2], 0)


def test_mistakes_are_found_before_any_work(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.downstream.explorer.table.embed_source", lambda *_, **__: pytest.fail("a pass began"))
    (tmp_path / "mine.parquet").write_text("mine")
    with raises("not-ours", "mine.parquet"):
        write_table(photos / "test", trained, tmp_path / "mine.parquet")
    with raises("unknown-format", "map.html"):
        write_table(photos / "test", trained, tmp_path / "map.html")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes(next(photos.glob("test/0/*")).read_bytes())
    with raises("too-few-images", 1):
        write_table(tmp_path / "one", trained, tmp_path / "map.parquet")
    assert not (tmp_path / "map.parquet").exists()
