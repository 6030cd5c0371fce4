"""Pictures of a detector's keypoints, from the command line to the page in a browser."""

import html
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.cli import main
from limbeck.core.run_folder import CONFIG
from limbeck.data.store.store import Store, read_paths
from limbeck.keypoints.encoder_io import load_detector
from limbeck.reports import keypoint_pictures
from tests.helpers.browser import CHROMIUM, open_page
from tests.helpers.commands import Run

PHONE, IMAGES, SIZE, POINTS = 390, 30, 32, 4
HOSTILE = '"><b>&amp;' + "name-without-a-space-" * 8 + ".png"
NETWORK = ["--backbone.image-size", SIZE, "--backbone.width", 4, "--backbone.keypoints", POINTS]
DOT = r'<circle cx="([-\d.]+)" cy="([-\d.]+)" [^>]*><title>keypoint (\d+)</title>'
LINE = r'opacity="([\d.]+)"><title>edge (\d+) to (\d+), '


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a few steps on a bright square at different places of wide images."""
    folder, rng = tmp_path_factory.mktemp("keypoints"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(IMAGES):
        pixels = rng.integers(0, 60, (SIZE, 2 * SIZE, 3), np.uint8)
        row, column = rng.integers(0, SIZE - 8), rng.integers(SIZE // 2, 3 * SIZE // 2 - 8)
        pixels[row : row + 8, column : column + 8] = 230
        Image.fromarray(pixels).save(folder / "photos" / (f"{number:02d}.png" if number else HOSTILE))
    store = ["store", folder / "photos", folder / "store", "--store-size", 2 * SIZE]
    training = ["--epochs", 2, "--batch-size", 10, "--log-every-steps", 2]
    run = ["pretrain", folder / "store", "--out", folder / "run", "--method", "autolink", *NETWORK, *training]
    for command in (store, run):
        main([str(word) for word in command])
    return folder / "run"


def test_a_report_shows_keypoints_and_edges_where_they_are(detected: Path, limbeck: Run, tmp_path: Path) -> None:
    code, _, err = limbeck("report", detected, "--out", tmp_path / "report.html")
    assert code == 0, err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    figures = re.findall(r"<figure><div>.*?</figure>", page, re.S)
    store, detector = Store.open(detected.parent / "store"), load_detector(detected)
    rows = [round(step * (IMAGES - 1) / (keypoint_pictures.SAMPLES - 1)) for step in range(keypoint_pictures.SAMPLES)]
    assert len(figures) == len(rows)
    weights = torch.nn.functional.softplus(512 * detector.edge_scores.detach().double()).triu(1)
    for row, figure in zip(rows, figures, strict=True):
        assert html.escape(read_paths(store)[row], quote=False) in figure.replace("&#34;", '"')
        middle = Image.open(detected.parent / "photos" / read_paths(store)[row]).crop(
            (SIZE // 2, 0, 3 * SIZE // 2, SIZE)
        )
        image = torch.from_numpy(np.array(middle)).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            places = detector(image).final.view(POINTS, 2)
        dots = re.findall(DOT, figure)
        assert [int(number) for *_, number in dots] == list(range(POINTS))
        for (left, top, _), (down, right) in zip(dots, places.tolist(), strict=True):
            for shown, place in ((left, right), (top, down)):
                assert float(shown) == pytest.approx(100 * ((place + 1) / 2 * (SIZE - 1) + 0.5) / SIZE, abs=0.5)
        lines = re.findall(LINE, figure)
        assert len(lines) == POINTS * (POINTS - 1) // 2
        for opacity, first, second in lines:
            assert float(opacity) == pytest.approx(float(weights[int(first), int(second)] / weights.max()), abs=6e-3)
    assert "<b>&amp;" not in page
    assert "limbeck evaluate" in page, "the page says how the keypoints are evaluated"


def test_strong_edges_alone_are_drawn() -> None:
    weights = torch.zeros(20, 20)
    weights[2, 5], weights[0, 1], weights[5, 2], weights[3, 4] = 2.0, 1.0, 9.0, 0.1
    assert [edge[:2] for edge in keypoint_pictures.strongest(weights)] == [(0, 1), (2, 5)]
    assert [edge.opacity for edge in keypoint_pictures.strongest(weights)] == [0.5, 1.0]
    assert len(keypoint_pictures.strongest(torch.ones(20, 20))) == keypoint_pictures.EDGES


def test_what_is_missing_is_said(detected: Path, limbeck: Run, tmp_path: Path) -> None:
    run, page = Path(shutil.copytree(detected, tmp_path / "run")), tmp_path / "report.html"
    limbeck("report", run, "--out", page, "--no-images")
    assert "<circle" not in page.read_text(encoding="utf-8")
    (run / "encoder" / "model.safetensors").write_bytes(b"half")
    limbeck("report", run, "--out", page)
    text = page.read_text(encoding="utf-8")
    assert "<circle" not in text
    assert "model.safetensors" in text
    config = run / CONFIG
    config.write_text(config.read_text(encoding="utf-8").replace("/store", "/gone"), encoding="utf-8")
    assert limbeck("report", run, "--out", page)[0] == 0
    assert "not at hand" in page.read_text(encoding="utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_keypoints_fit_on_a_phone(detected: Path, limbeck: Run, tmp_path: Path) -> None:
    limbeck("report", detected, "--out", tmp_path / "report.html")
    found = open_page(tmp_path / "report.html", PHONE, tmp_path)
    assert (found["width"], found["images"]) == (PHONE, keypoint_pictures.SAMPLES)
    assert (found["console"], found["requests"]) == ([], [])
