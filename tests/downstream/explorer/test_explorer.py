"""What the page shows: definitions as loops, a seed that decides, budgets that hold, and mistakes before any work."""

import base64
import gzip
import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import limbeck as library
from limbeck.data.store.store import Store
from limbeck.downstream.anomalies.distances import outlier_scores
from limbeck.downstream.explorer.atlas import make_atlas
from limbeck.downstream.explorer.build import write_explorer
from limbeck.downstream.explorer.config import ExploreConfig
from limbeck.downstream.explorer.groups import agreement, default_clusters, find_clusters, held_out_predictions, vote
from limbeck.downstream.explorer.layout import lay_out
from limbeck.downstream.explorer.page import BASE64, MOST, SHARE, page_bytes, shown_depths, shown_neighbors
from limbeck.embeddings.encoders import BackboneEncoder
from limbeck.neighbors.graph import build_graph
from tests.helpers.commands import Run
from tests.helpers.errors import raises

RANDOM = np.random.default_rng(0)
CENTERS = RANDOM.normal(size=(3, 8))
LABELS = np.repeat(np.arange(3), 20)
VECTORS = (CENTERS[LABELS] + 0.2 * RANDOM.normal(size=(60, 8))).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def read_page(path: Path) -> dict[str, Any]:
    """Return what a page holds: the settings, and the text of every block of data by its id."""
    text = path.read_text(encoding="utf-8")
    blocks = dict(re.findall(r'<script type="text/plain" id="([\w-]+)">(.*?)</script>', text, re.S))
    about = re.search(r'<script type="application/json" id="about">(.*?)</script>', text, re.S)
    assert about
    return {"about": json.loads(about.group(1)), **{name: base64.b64decode(found) for name, found in blocks.items()}}


def test_outliers_votes_and_agreement_are_their_definitions() -> None:
    labels = LABELS.copy()
    labels[[3, 30]] = -1
    labels[10] = 2
    graph = build_graph(VECTORS, 12)
    scores, predicted = outlier_scores(graph.cosines), vote(graph, labels)
    same = []
    for i in range(60):
        cosines = UNIT.astype(np.float64) @ UNIT[i]
        cosines[i] = -np.inf
        order = np.argsort(-cosines, kind="stable")[:12]
        assert scores[i] == pytest.approx(1 - cosines[order[:10]].mean(), abs=1e-6)
        votes = np.zeros(3)
        for j in order:
            if labels[j] >= 0:
                votes[labels[j]] += np.exp(cosines[j] / 0.07)
        assert predicted[i] == votes.argmax()
        if labels[i] >= 0:
            same += [labels[j] == labels[i] for j in order[:5]]
    assert agreement(graph, labels, 5) == pytest.approx(np.mean(same))
    assert predicted[10] != labels[10]


def test_clusters_are_described_by_their_typical_images_and_labels() -> None:
    found = find_clusters(UNIT, LABELS, 3, seed=0)
    assert [cluster.size for cluster in found.clusters] == [20, 20, 20]
    for number, cluster in enumerate(found.clusters):
        rows = np.flatnonzero(found.of_image == number)
        distances = np.linalg.norm(UNIT[rows] - UNIT[rows].mean(axis=0), axis=1)
        assert cluster.typical == rows[np.argsort(distances, kind="stable")][:12].tolist()
        assert cluster.share == 1.0
        assert set(LABELS[rows]) == {cluster.label}
    assert default_clusters(60, 3) == 3
    assert default_clusters(50_000, 1000) == 24
    assert default_clusters(3, 0) == 1


@pytest.mark.parametrize("method", ["auto", "pca"])
def test_a_map_follows_from_the_seed_and_puts_similar_images_together(method: Any) -> None:
    first, second = lay_out(UNIT, method, seed=1), lay_out(UNIT, method, seed=1)
    np.testing.assert_array_equal(first.positions, second.positions)
    assert first.positions.min() >= 0
    assert first.positions.max() <= 1
    assert np.ptp(first.positions, axis=0).max() == pytest.approx(1, abs=1e-6)
    distances = np.linalg.norm(first.positions[:, None] - first.positions[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (LABELS[distances.argmin(axis=1)] == LABELS).mean() > 0.9


def test_without_a_library_the_map_is_another_one_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.downstream.explorer.layout.find_spec", lambda name: None)
    monkeypatch.setattr("limbeck.core.packages.find_spec", lambda name: None)
    assert "scikit-learn" in lay_out(UNIT[:20]).name
    monkeypatch.setattr("limbeck.downstream.explorer.layout.SLOW", 10)
    pca = lay_out(UNIT)
    assert "principal components" in pca.name
    with raises("missing-package", "limbeck[explore]", 60):
        lay_out(UNIT, "tsne")
    centered = UNIT - UNIT.mean(axis=0)
    along = centered @ np.linalg.svd(centered, full_matrices=False)[2][0]
    assert abs(np.corrcoef(pca.positions[:, 0], along)[0, 1]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("images", [2, 40, 1000, 10_000, 50_000, 65_537, MOST])
@pytest.mark.parametrize("depths", [1, 4, 12, 24])
def test_neighbors_stay_within_their_share_of_the_page(images: int, depths: int) -> None:
    chosen = shown_depths(range(1, depths + 1), images)
    shown = shown_neighbors(len(chosen), images)
    assert chosen[-1] == depths
    assert chosen[0] == 1
    assert 1 <= shown < images
    assert images * shown * len(chosen) * (2 if images <= 2**16 else 4) * BASE64 <= SHARE * page_bytes(images)
    if images <= 10_000:
        assert len(chosen) == depths


def test_tiles_are_the_images_and_as_large_as_the_budget_allows() -> None:
    shades = RANDOM.integers(0, 256, (70, 1, 1, 3), np.uint8)
    store = Store.from_arrays(np.broadcast_to(shades, (70, 64, 64, 3)).copy())
    rows = np.arange(5, 70)
    atlas = make_atlas(store, rows, budget=1e6)
    assert atlas.side == 64
    sheet = np.asarray(Image.open(io.BytesIO(atlas.sheets[0])).convert("RGB"))
    for place, row in enumerate(rows):
        y, x = divmod(place, atlas.columns)
        middle = sheet[64 * y + 32, 64 * x + 32].astype(int)
        assert np.abs(middle - shades[row, 0, 0]).max() < 12
    noise = Store.from_arrays(RANDOM.integers(0, 256, (300, 64, 64, 3), np.uint8))
    small = make_atlas(noise, np.arange(300), budget=60_000)
    assert 12 < small.side < 64
    assert sum(map(len, small.sheets)) < 66_000


def test_the_command_writes_what_the_numbers_say(limbeck: Run, trained: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    command = ("explore", photos / "test", "--with", trained, "--out", out, "--layout", "pca", "--json")
    code, printed, err = limbeck(*command)
    assert code == 0, err
    result, found = json.loads(printed), read_page(out)
    about = found["about"]
    assert result["images"] == about["count"] == 80
    assert result["bytes"] == out.stat().st_size
    assert result["depths"] == about["depths"] == [1, 2, 3]
    assert result["clusters"] == len(about["clusters"]) == 10
    names = json.loads(gzip.decompress(found["names"]))
    assert sorted(names) == sorted(path.relative_to(photos / "test").as_posix() for path in photos.glob("test/*/*"))
    labels = np.frombuffer(found["labels"], "<i4")
    assert [about["labels"][label] for label in labels] == [name[0] for name in names]
    neighbors = np.frombuffer(found["neighbors"], "<u2").reshape(3, 80, about["shown"])
    assert result["agreement"][2] == pytest.approx((labels[neighbors[2]] == labels[:, None]).mean())
    scores = np.frombuffer(found["outliers"], np.uint8)
    assert (scores.min(), scores.max()) == (0, 255)
    content = out.read_bytes()
    assert limbeck(*command)[0] == 0
    assert out.read_bytes() == content
    code, printed, _ = limbeck(*command, "--sample", "30", "--clusters", "4", "--seed", "3")
    part = read_page(out)
    assert part["about"]["count"] == 30
    assert len(part["about"]["clusters"]) == 4
    assert set(json.loads(gzip.decompress(part["names"]))) < set(names)


def test_without_labels_nothing_is_said_of_them(trained: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "test" / "3", tmp_path / "photos")
    found = library.explore(tmp_path / "photos", trained, tmp_path / "page.html", clusters=50, batch_size=3)
    assert found is not None
    assert found.agreement == ()
    assert found.images == 8
    page = read_page(tmp_path / "page.html")
    assert page["about"]["labels"] == []
    assert page["labels"] == b""
    assert page["about"]["encoder"] == trained.name  # and not where it lies
    with raises("unknown-option", "cluster", "clusters"):
        library.explore(tmp_path / "photos", trained, cluster=3)


def test_the_page_refuses_every_script_but_its_own(trained: Path, photos: Path, tmp_path: Path) -> None:
    write_explorer(photos / "test", trained, tmp_path / "page.html", cfg=ExploreConfig(layout="pca"))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    rules = html.unescape(policy.group(1)).split("; ")
    assert rules[0] == "default-src 'none'"
    assert next(rule for rule in rules if rule.startswith("script-src")).startswith("script-src 'sha256-")
    assert "http:" not in (shown := re.sub(r'<script type="text/plain".*?</script>', "", text, flags=re.S))
    assert "https:" not in shown


def test_a_probe_predicts_images_that_it_was_not_fitted_to() -> None:
    labels = LABELS.copy()
    labels[10], labels[[3, 30]] = 2, -1
    predicted = held_out_predictions(VECTORS, labels, 0)
    assert predicted[[3, 30]].tolist() == [-1, -1]
    assert predicted[10] == 0
    rest = np.setdiff1d(np.arange(60), [3, 10, 30])
    assert (predicted[rest] == LABELS[rest]).mean() > 0.9
    for nothing in (
        held_out_predictions(np.ones_like(VECTORS), labels, 0),
        held_out_predictions(VECTORS, 0 * labels, 0),
    ):
        assert (nothing == -1).all()


def test_a_killed_page_goes_on_with_its_embeddings(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map is what is computed when it is killed; the page is that of a command that was not."""

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    def command(name: str) -> tuple[str | Path, ...]:
        return ("explore", photos / "test", "--with", trained, "--layout", "pca", "--out", tmp_path / name)

    with monkeypatch.context() as patch:
        patch.setattr("limbeck.downstream.explorer.build.lay_out_components", killed)
        assert limbeck(*command("a.html"))[0] == 130
    assert not (tmp_path / "a.html").exists()
    with monkeypatch.context() as patch:
        patch.setattr(BackboneEncoder, "features", lambda *args: pytest.fail("the pass began again"))
        assert limbeck(*command("a.html"))[0] == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert limbeck(*command("b.html"))[0] == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_first_of_several_processes_alone_makes_the_page(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("limbeck.downstream.explorer.build._view", lambda *args: pytest.fail("a second page began"))
    assert write_explorer(photos / "test", trained, tmp_path / "page.html") is None


def test_mistakes_are_found_before_any_work(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.html").write_text("mine")
    monkeypatch.setattr("limbeck.downstream.explorer.build.MOST", 50)
    monkeypatch.setattr("limbeck.downstream.explorer.build.open_images", lambda *_, **__: pytest.fail("decoding began"))
    cases: list[tuple[str, str, list[str | Path]]] = [
        ("not-ours", "mine.html", ["--out", tmp_path / "mine.html"]),
        ("too-many-images", "80 images", ["--out", tmp_path / "a.html"]),
        ("too-many-images", "MB", ["--out", tmp_path / "a.html"]),
        ("too-many-images", "--sample 50", ["--out", tmp_path / "a.html"]),
        ("out-of-range", "--clusters", ["--out", tmp_path / "a.html", "--clusters", "0"]),
        ("out-of-range", "--sample", ["--out", tmp_path / "a.html", "--sample", "1"]),
    ]
    for code, value, words in cases:
        status, out, _ = limbeck("explore", photos / "test", "--with", trained, *words, "--json")
        error = json.loads(out)["error"]
        assert status in (1, 2)
        assert error["code"] == code
        assert value in error["message"]
    assert not (tmp_path / "a.html").exists()
    assert (tmp_path / "mine.html").read_text() == "mine"
