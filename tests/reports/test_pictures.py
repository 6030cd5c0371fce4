"""Pictures of a report: views as the loader makes them, neighbors as a loop finds them, bounds, and what is missing."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.core.run_folder import RESULT
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.models.encoder_io import load, load_preprocessing
from limbeck.reports import overview, pictures
from limbeck.reports.page import write_report
from limbeck.reports.pictures import Gallery, gallery
from limbeck.reports.runs import read_runs
from limbeck.runs.api import evaluate_run

MAX_BYTES = 1_000_000  # of a page without its images
DATA_URI = re.compile(r"data:image/[^\"]*")


def pictured(run: Path) -> Gallery:
    return gallery(read_runs([run]))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the trained run, which a test may change, without the evaluation that another test may write."""
    return Path(shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns(RESULT)))


def test_neighbors_are_those_of_a_loop(trained: Path, run: Path) -> None:
    found = pictured(run)
    store, backbone = Store.open(trained.parent / "store"), load(run).eval()
    how = load_preprocessing(run)
    mean, std = torch.tensor(how.mean).view(3, 1, 1), torch.tensor(how.std).view(3, 1, 1)
    pixels = torch.from_numpy(np.array(store.images)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        taps = backbone((pixels - mean) / std, backbone.taps).taps
    assert [space.name for space in found.queries[0].spaces] == [f"layer {depth}" for depth in backbone.taps]
    for depth, agreement in zip(backbone.taps, found.agreement, strict=True):
        same = 0
        for row, vector in enumerate(taps[depth]):
            cosines = torch.cosine_similarity(vector[None], taps[depth])
            cosines[row] = -2
            near = cosines.topk(pictures.NEIGHBORS).indices.numpy()
            same += int((store.labels[near] == store.labels[row]).sum())
        assert agreement.share == pytest.approx(same / (len(store) * pictures.NEIGHBORS), abs=0.01)
    for query in found.queries:
        for space in query.spaces:
            assert len(space.neighbors) == pictures.NEIGHBORS
            assert [n.same for n in space.neighbors] == [n.label == query.label for n in space.neighbors]


def test_a_page_has_a_bounded_number_of_pictures_and_is_small_without_them(trained: Path, tmp_path: Path) -> None:
    text = write_report([trained], tmp_path / "report.html").read_text(encoding="utf-8")
    shown = DATA_URI.findall(text)
    most = pictures.SAMPLES * (1 + pictures.VIEWS) + pictures.QUERIES * (1 + 3 * pictures.NEIGHBORS)
    most += 2 * overview.SHOWN + overview_of_all(trained)
    assert 0 < len(shown) <= most
    assert max(map(len, shown)) < 8_000
    assert len(DATA_URI.sub("", text).encode()) < MAX_BYTES
    plain = write_report([trained], tmp_path / "plain.html", images=False).read_text(encoding="utf-8")
    assert "<img" not in plain
    assert "Nearest neighbors" not in plain


def overview_of_all(run: Path) -> int:
    found = pictured(run).overview
    assert found
    return len(found.placed)


def test_the_map_shows_photographs_that_do_not_cover_each_other_and_disputed_ones(trained: Path, run: Path) -> None:
    found = pictured(run).overview
    assert found
    store, backbone = Store.open(trained.parent / "store"), load(run).eval()
    how = load_preprocessing(run)
    vectors = extract(
        backbone,
        eval_images(store, how.image_size, how.mean, how.std, torch.device("cpu")),
        np.arange(len(store)),
        device=torch.device("cpu"),
    )[backbone.taps[-1]]
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None].double(), vectors[None].double(), dim=2)
    cosines.fill_diagonal_(-2)
    near = cosines.sort(dim=1, descending=True, stable=True)
    wrong = 0
    for row, label in enumerate(store.labels):
        votes = np.zeros(len(store.label_names))
        for j, cosine in zip(near.indices[row, :20].tolist(), near.values[row, :20].tolist(), strict=True):
            votes[store.labels[j]] += np.exp(cosine / 0.07)
        wrong += int(votes.argmax() != label)
    assert found.wrong == pytest.approx(wrong, abs=3)
    assert len(found.unusual) == overview.SHOWN
    assert 0 < len(found.disputed) <= overview.SHOWN
    assert all(image.vote != image.label for image in found.disputed)
    assert len(found.placed) > 20
    for number, one in enumerate(found.placed):
        assert 0 <= one.left <= 100 - overview.WIDTH
        assert 0 <= one.top <= 100 - overview.HEIGHT
        for other in found.placed[:number]:
            apart = (
                abs(one.left - other.left) >= overview.WIDTH - 0.02
                or abs(one.top - other.top) >= overview.HEIGHT - 0.02
            )
            assert apart


def test_several_runs_are_compared_at_their_last_layer(trained: Path, run: Path) -> None:
    found = gallery(read_runs([trained, run]))
    assert len({space.name for space in found.queries[0].spaces}) == 2
    assert len({agreement.share for agreement in found.agreement}) == 1, "a copy has the same neighbors"


def test_test_images_of_the_evaluation_are_preferred(run: Path, trained: Path, photos: Path, tmp_path: Path) -> None:
    assert pictured(run).source == "training images"
    cfg = EvaluateConfig(linear="none", latency=False, progress=False, references=False)
    test = build_store(str(photos / "test"), tmp_path / "test")
    evaluate_run(run, str(trained.parent / "store"), str(test.path), cfg)
    found = pictured(run)
    assert (found.source, found.candidates) == ("test images of the evaluation", 80)


def test_what_is_missing_is_said_and_the_page_is_written(run: Path, tmp_path: Path) -> None:
    config = run / "config.json"
    changed = config.read_text(encoding="utf-8")
    digest = read_runs([run])[0].config.digest
    config.write_text(changed.replace(digest, "other"), encoding="utf-8")
    assert pictured(run).notes
    assert not pictured(run).samples
    config.write_text(changed.replace("/store", "/gone"), encoding="utf-8")
    assert "<img" not in write_report([run], tmp_path / "gone.html").read_text(encoding="utf-8")
    config.write_text(changed, encoding="utf-8")
    (run / "encoder" / "model.safetensors").write_bytes(b"half")
    found = pictured(run)
    assert found.samples
    assert not found.queries
    assert "model.safetensors" in found.notes[0]
