"""An index finds what a comparison of all vectors finds, grows, and refuses another encoder."""

import errno
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import limbeck as library
from limbeck.downstream.image_index import index as indexes
from limbeck.downstream.image_index.index import ABOUT, About, ImageIndex, Rows, write_index
from limbeck.embeddings.source import embed_source
from tests.helpers.commands import Run
from tests.helpers.errors import raises

NEW = About(encoder="none", digest="0", depth=1, dim=8, store_size=1, images=0, search="exact", recall=1.0)


@pytest.fixture(scope="module")
def index(trained: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes") / "digits"
    library.index(photos / "train", folder, trained, depth=2)
    return folder


def rows(count: int, seed: int = 0) -> Rows:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return Rows(vectors, [f"{seed}/{row}.png" for row in range(count)], [None] * count)


def test_a_query_finds_what_a_comparison_of_all_finds(limbeck: Run, trained: Path, photos: Path, index: Path) -> None:
    query = photos / "test" / "7" / "16.png"
    status, printed, _ = limbeck("search", index, query, "--k", 5, "--json")
    (found,) = json.loads(printed)["queries"]
    assert status == 0
    base, queries = (embed_source(photos / part, trained, depths=[2]) for part in ("train", "test"))
    unit, asked = (x.features[2] / np.linalg.norm(x.features[2], axis=1, keepdims=True) for x in (base, queries))
    cosines = unit @ asked[queries.paths.index("7/16.png")]
    best = np.argsort(-cosines)[:5]
    assert found["query"] == str(query)
    assert [hit["path"] for hit in found["hits"]] == [str(photos / "train" / base.paths[row]) for row in best]
    assert [hit["label"] for hit in found["hits"]] == [base.paths[row].split("/")[0] for row in best]
    np.testing.assert_allclose([hit["cosine"] for hit in found["hits"]], cosines[best], atol=1e-5)


def test_images_are_added_once(limbeck: Run, photos: Path, index: Path, tmp_path: Path) -> None:
    shutil.copytree(index, tmp_path / "index")
    for images in (240, 240):
        status, printed, _ = limbeck("index", photos / "test", tmp_path / "index", "--json")
        assert status == 0
        assert json.loads(printed)["images"] == images
    (first, *_), *_ = [found.hits for found in library.search(tmp_path / "index", photos / "test", 1)]
    assert first.path == str(photos / "test" / "0" / "16.png")
    assert first.cosine == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(find_spec("faiss") is None, reason="FAISS is not installed")
def test_faiss_has_its_recall_measured(tmp_path: Path) -> None:
    images = rows(3000)
    with patch.object(indexes, "EXACT_ROWS", 1000):
        about = write_index(tmp_path / "ivf", None, images, NEW, "auto")
    assert about.search == "ivf"
    assert 0.5 < about.recall <= 1
    exact = write_index(tmp_path / "exact", None, images, NEW, "auto")
    assert (exact.search, exact.recall) == ("exact", 1.0)
    approximate, full = (ImageIndex(tmp_path / name).search(images.vectors[:50], 10) for name in ("ivf", "exact"))
    shared = [
        len({hit.path for hit in a} & {hit.path for hit in b}) / 10 for a, b in zip(approximate, full, strict=True)
    ]
    assert np.mean(shared) == pytest.approx(about.recall, abs=0.15)
    assert all(hits[0].path == path for hits, path in zip(full, images.paths, strict=False))


def test_growing_equals_building_at_once(tmp_path: Path) -> None:
    write_index(tmp_path / "grown", None, rows(30), NEW, "auto")
    write_index(tmp_path / "grown", ImageIndex(tmp_path / "grown"), rows(20, seed=1), NEW, "auto")
    first, second = rows(30), rows(20, seed=1)
    both = Rows(
        np.concatenate([first.vectors, second.vectors]), first.paths + second.paths, first.labels + second.labels
    )
    write_index(tmp_path / "whole", None, both, NEW, "auto")
    for name in ("vectors.npy", ABOUT):
        assert (tmp_path / "grown" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    grown = ImageIndex(tmp_path / "grown")
    assert grown.paths == both.paths
    assert len(grown.search(both.vectors[:1], 99)[0]) == 50


def test_more_than_there_are_is_said_and_all_are_found(limbeck: Run, photos: Path, index: Path) -> None:
    query = photos / "test" / "1" / "16.png"
    code, out, err = limbeck("search", index, query, "--k", "5000", "--json")
    assert code == 0, err
    rows = len(library.search(index, query, 1000)[0].hits)
    assert len(json.loads(out)["queries"][0]["hits"]) == rows < 1000
    assert "5,000" in err
    assert str(rows) in err


def test_another_encoder_is_refused(trained: Path, photos: Path, index: Path, tmp_path: Path) -> None:
    library.export(trained, tmp_path / "cut", depth=2)
    with raises("other-encoder", str(tmp_path / "cut")):
        library.search(index, photos / "test", encoder=tmp_path / "cut")
    with raises("other-encoder", str(tmp_path / "cut")):
        library.index(photos / "test", index, tmp_path / "cut")
    with raises("other-depth", "2", "3"):
        library.index(photos / "test", index, depth=3)
    shutil.copytree(trained / "encoder", tmp_path / "moved")
    assert library.search(index, photos / "test" / "1" / "16.png", 1, encoder=tmp_path / "moved")


@pytest.mark.parametrize("name", ["hf-hub:somebody/network", "timm:resnet18"])
def test_the_hub_is_not_asked_for_what_an_index_names(
    index: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    shutil.copytree(index, tmp_path / "index")
    found = json.loads((index / ABOUT).read_text())
    (tmp_path / "index" / ABOUT).write_text(json.dumps(found | {"encoder": name}))
    asked = patch("huggingface_hub.file_download.get_hf_file_metadata", side_effect=AssertionError("the hub was asked"))
    with asked, raises("hub-unreachable", name.partition(":")[2], "--with"):
        library.search(tmp_path / "index", photos / "test" / "1" / "16.png")


def test_mistakes(trained: Path, photos: Path, index: Path, tmp_path: Path) -> None:
    with raises("encoder-not-named", "--with"):
        library.index(photos / "test", tmp_path / "new")
    with raises("no-index", str(photos)):
        library.search(photos, photos / "test")
    with raises("not-ours", str(photos / "test")):
        library.index(photos / "test", photos / "test", trained)
    with raises("value-out-of-range", "0"):
        library.search(index, photos / "test", 0)
    with raises("not-an-image", "broken.png"):
        library.search(index, photos / "train" / "3" / "broken.png")
    with raises("source-missing", "none.png"):
        library.search(index, photos / "none.png")
    shutil.copytree(index, tmp_path / "damaged")
    (tmp_path / "damaged" / "vectors.npy").write_bytes(b"")
    with raises("damaged-index", "damaged"):
        library.search(tmp_path / "damaged", photos / "test")
    with patch("numpy.load", side_effect=PermissionError(errno.EACCES, "")), raises("not-readable", "damaged"):
        library.search(tmp_path / "damaged", photos / "test")
    found = json.loads((index / ABOUT).read_text())
    (tmp_path / "damaged" / ABOUT).write_text(json.dumps(found | {"encoder": "gone", "version": 1}))
    with raises("damaged-index"):
        library.search(tmp_path / "damaged", photos / "test")
