"""Unusual images: distances are their definitions, a planted spot is found where it is, and the command writes it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import limbeck as library
from limbeck.downstream.anomalies.config import Compare
from limbeck.downstream.anomalies.distances import Vectors, neighbor_distances
from limbeck.downstream.anomalies.patches import PatchMemory, remember
from tests.helpers.browser import CHROMIUM, open_page
from tests.helpers.commands import Run
from tests.helpers.errors import raises

PHONE = 390  # pixels


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache-of-outliers"))


def random_maps(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 3, 4, 5)).astype(np.float32)


def patch_of(square: NDArray[np.float32], y: int, x: int) -> NDArray[np.float64]:
    """Return the mean of the places around one, as a loop."""
    near = [(a, b) for a in (y - 1, y, y + 1) for b in (x - 1, x, x + 1) if 0 <= a < 4 and 0 <= b < 5]
    return np.mean([square[:, a, b].astype(np.float64) for a, b in near], axis=0)


def test_distances_of_vectors_are_their_definition() -> None:
    base, queries = np.random.default_rng(0).standard_normal((2, 12, 6)).astype(np.float32)
    unit = base.astype(np.float64) / np.linalg.norm(base.astype(np.float64), axis=1, keepdims=True)
    for images, own in ((base, True), (queries, False)):
        expected = []
        for i, image in enumerate(images.astype(np.float64)):
            cosines = [u @ image / np.linalg.norm(image) for j, u in enumerate(unit) if not (own and i == j)]
            expected.append(1 - np.mean(sorted(cosines)[-4:]))
        numbers = np.arange(24)
        found = neighbor_distances(Vectors(base, numbers[:12]), 4, None if own else Vectors(queries, numbers[12:]))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_distances_of_patches_are_their_definition() -> None:
    base, images = random_maps(3), random_maps(2, seed=1)
    numbers = np.arange(5)
    memory = remember(base, numbers[:3], 10_000)
    assert len(memory.vectors) == 3 * 20
    patches = [(i, patch_of(square, y, x)) for i, square in enumerate(base) for y in range(4) for x in range(5)]
    for maps, own in ((images, False), (base, True)):
        expected = np.empty((len(maps), 4, 5))
        for i, y, x in np.ndindex(expected.shape):
            patch = patch_of(maps[i], y, x)
            expected[i, y, x] = min(np.linalg.norm(patch - p) for j, p in patches if not (own and i == j))
        found = memory.distance_maps(maps, numbers[:3] if own else numbers[3:])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_memory_is_spread_follows_from_the_seed_and_is_not_compared_with_itself() -> None:
    maps = np.tile(random_maps(1), (6, 1, 1, 1)) + 0.01 * random_maps(6, seed=2)
    maps[4, :, 1:, :3] += 9
    memory = remember(maps, np.arange(6), 8, seed=3)
    assert 4 in memory.images.tolist(), "a rare patch is one of the farthest"
    torch.testing.assert_close(memory.vectors, remember(maps, np.arange(6), 8, seed=3).vectors, rtol=0, atol=0)
    distances = memory.distance_maps(maps, np.arange(6))
    assert distances.max(axis=(1, 2)).argmax() == 4
    assert np.unravel_index(distances[4].argmax(), (4, 5)) == (2, 1), "the middle of the spot"
    alone = PatchMemory(memory.vectors, torch.zeros_like(memory.images))
    with raises("memory-too-small", 8):
        alone.distance_maps(maps, np.arange(6))


@pytest.fixture(scope="module")
def spotted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return digits as they are, and others of which one has a bright corner and a name that is HTML."""
    folder = tmp_path_factory.mktemp("spotted")
    for digit in "01":
        shutil.copytree(photos / "train" / digit, folder / "normal" / digit)
        shutil.copytree(photos / "test" / digit, folder / "images" / digit)
    pixels = np.asarray(Image.open(folder / "images" / "0" / "16.png")).copy()
    pixels[-9:, :9] = 255
    Image.fromarray(pixels).save(folder / "images" / "0" / "<b>&amp;=spot.png")
    return folder / "normal", folder / "images"


def test_the_command_finds_the_spot(limbeck: Run, trained: Path, spotted: tuple[Path, Path], tmp_path: Path) -> None:
    normal, images = spotted
    words = ["outliers", images, "--with", trained, "--normal", normal, "--compare", "patches", "--depth", "1"]
    detector = tmp_path / "detector"
    code, printed, err = limbeck(*words, "--out", tmp_path / "a.csv", "--detector", detector, "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert found["images"][0]["path"].endswith("spot.png")
    assert [image["unusual"] for image in found["images"]] == [
        image["score"] > found["threshold"] for image in found["images"]
    ]
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [image["path"] for image in found["images"]]
    assert [row["rank"] for row in rows] == [str(image["rank"]) for image in found["images"]]
    assert [row["unusual"] for row in rows] == [{True: "yes", False: "no"}[x["unusual"]] for x in found["images"]]
    assert rows[0].keys() == found["images"][0].keys()
    assert (rows[0]["rank"], rows[0]["unusual"]) == ("1", "yes")
    compare_with_the_detector(detector, images, trained, found["images"])
    assert limbeck(*words, "--out", tmp_path / "a.html")[0] == 0
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 17
    assert "<b>&amp;=spot" not in page
    if CHROMIUM:
        shown = open_page(tmp_path / "a.html", PHONE, tmp_path)
        assert (shown["width"], shown["console"], shown["requests"]) == (PHONE, [], [])
        assert shown["images"] == 2 * 17


def compare_with_the_detector(folder: Path, images: Path, run: Path, expected: list[dict[str, float]]) -> None:
    """Compare the scores of the ONNX file with those of the command, which may have computed in bf16."""
    import onnxruntime

    exact = library.outliers(images, run, normal=images.parent / "normal", compare="patches", depth=1)
    inputs = exact.network.images(exact.store, torch.device("cpu"))(np.arange(len(exact.store)))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    scores, heat_maps = session.run(["scores", "heat_maps"], {"images": inputs.numpy()})
    assert heat_maps.shape == (17, 4, 4)
    np.testing.assert_array_equal(scores, heat_maps.max(axis=(1, 2)))
    np.testing.assert_allclose(np.sort(scores)[::-1], [image["score"] for image in expected], rtol=0.05)
    assert exact.paths[scores.argmax()] == expected[0]["path"]


@pytest.mark.parametrize("compare", ["images", "patches"])
def test_an_image_is_not_compared_with_a_copy_of_itself(
    limbeck: Run, trained: Path, spotted: tuple[Path, Path], tmp_path: Path, compare: Compare
) -> None:
    """What is in both folders has the score that it has among the normal images, and a copy changes no score."""
    normal, _ = spotted
    shutil.copytree(normal, tmp_path / "both")
    shutil.copy(normal / "0" / "00.png", tmp_path / "both" / "0" / "a copy.png")
    own, both = library.outliers(normal, trained, compare=compare), tmp_path / "both"
    expected = dict(zip(own.paths, own.scores, strict=True))
    crossed = library.outliers(both, trained, compare=compare, normal=normal)
    assert (own.identical, crossed.identical) == (0, len(crossed.paths))
    scores = dict(zip(crossed.paths, crossed.scores, strict=True))
    assert scores.pop("0/a copy.png") == pytest.approx(expected["0/00.png"], rel=1e-2)
    assert scores == pytest.approx(expected, rel=1e-2, abs=1e-4)
    unusual = crossed.unusual()
    assert unusual is not None
    assert unusual.mean() < 0.1
    status, printed, err = limbeck(
        "outliers", both, "--with", trained, "--compare", compare, "--out", tmp_path / "a.csv"
    )
    assert status == 0, err
    assert "2 images with an identical one" in " ".join(printed.split())


def test_few_images_are_compared_with_fewer(trained: Path, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The default, which nobody typed, is 10 neighbors; 8 images have 7 others."""
    caplog.set_level("INFO", "limbeck")
    found = library.outliers(photos / "test" / "0", trained)
    assert found.k == 7
    assert "7 nearest images instead of 10" in caplog.text
    np.testing.assert_array_equal(found.scores, library.outliers(photos / "test" / "0", trained, k=7).scores)


def test_without_normal_images_each_is_compared_with_the_others(trained: Path, photos: Path) -> None:
    found = library.outliers(photos / "test", trained, k=3)
    assert (found.threshold, found.maps, found.normal) == (None, None, 0)
    vectors = library.embed(photos / "test", trained).features
    np.testing.assert_array_equal(found.scores, neighbor_distances(Vectors(vectors, np.arange(80)), 3))
    assert [image["unusual"] for image in found.table()] == [None] * 80
    assert found.order[0] == found.scores.argmax()


def test_mistakes_are_found_before_any_work(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "limbeck.downstream.anomalies.source.embed_source", lambda *_, **__: pytest.fail("a pass began")
    )
    (tmp_path / "mine.csv").write_text("mine\n")
    (tmp_path / "one").mkdir()
    shutil.copy(photos / "test" / "0" / "16.png", tmp_path / "one")
    test = photos / "test"
    with raises("too-many-neighbors", "--k", 80, 79):
        library.outliers(test, trained, k=80)
    for compare in ("images", "patches"):
        with raises("too-few-images", 1):
            library.outliers(test, trained, normal=tmp_path / "one", compare=compare)
    with raises("depth-out-of-range", 9):
        library.outliers(test, trained, depth=9)
    with raises("unknown-format", "a.txt"):
        library.outliers(test, trained, tmp_path / "a.txt")
    with raises("out-exists", "mine.csv"):
        library.outliers(test, trained, tmp_path / "mine.csv")
    with raises("no-detector", "patches"):
        library.outliers(test, trained, detector=tmp_path / "detector")
    with raises("out-not-empty", "one"):
        library.outliers(test, trained, compare="patches", detector=tmp_path / "one")
    for memory in (0, 20_001):
        with raises("out-of-range", "--memory", memory):
            library.outliers(test, trained, compare="patches", memory=memory)
    with raises("no-effect", "--memory", 30):
        library.outliers(test, trained, memory=30)
    with raises("no-effect", "--k", 3):
        library.outliers(test, trained, compare="patches", k=3)
    with raises("wrong-type", "pixels"):
        library.outliers(test, trained, compare="pixels")  # type: ignore[arg-type]
