"""Variants of an export: what is measured of all at once is what a file has; which is chosen within limits."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest
import torch

import limbeck as package
from limbeck.exports import export
from limbeck.exports.export_source import load_source
from limbeck.exports.openvino import open_openvino
from limbeck.exports.survey import PROOF, default_sizes, survey
from limbeck.exports.variants import Limits, Survey, Variant, choose, pareto_front, parse_limits
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing, load, save_encoder
from limbeck.reports.variants import COLUMNS, DATA, PAGE, TABLE, openvino_sentences, row
from tests.helpers.browser import CHROMIUM, open_page
from tests.helpers.commands import Run
from tests.helpers.errors import raises

HALF = (0.5, 0.5, 0.5)


def variant(latency: float, size: int, neighbors: float, depth: int = 1) -> Variant:
    return Variant(
        depth=depth,
        image_size=32,
        precision="fp32",
        dim=8,
        file_bytes=size,
        latency_ms=latency,
        latency_median_ms=latency,
        openvino_latency_ms=None,
        openvino_missing="none here",
        neighbors=neighbors,
        knn=None,
    )


@pytest.fixture(scope="module")
def found(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Survey, Path]]:
    """Return the survey of the run, its folder, and a cache that only this file uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("limbeck.exports.survey.FRACTIONS", (1, 1 / 2))
        out = tmp_path_factory.mktemp("surveys") / "all"
        yield package.export_all(trained, out), out


def test_every_depth_size_and_precision_is_measured(found: tuple[Survey, Path]) -> None:
    variants = found[0].variants
    names = {(v.depth, v.image_size, v.precision) for v in variants}
    assert names == {*product((1, 2, 3), (28, 14), ("fp32", "fp16", "int8"))}
    assert len(variants) == len(names)
    whole = found[0].whole
    assert (whole.depth, whole.image_size, whole.precision, whole.neighbors) == (3, 28, "fp32", 1)
    for v in variants:
        assert v.dim == 32
        assert 0 < v.latency_ms <= v.latency_median_ms
        assert (v.openvino_latency_ms is None) == (find_spec("openvino") is None) == bool(v.openvino_missing)
        assert v.openvino_latency_ms is None or v.openvino_latency_ms > 0
        assert v.knn is not None
    bytes_of = {(v.depth, v.precision): v.file_bytes for v in variants if v.image_size == 28}
    assert bytes_of[1, "fp32"] < bytes_of[2, "fp32"] < bytes_of[3, "fp32"]
    assert bytes_of[3, "int8"] < bytes_of[3, "fp16"] < bytes_of[3, "fp32"]


def test_a_variant_is_the_file_that_an_export_writes(found: tuple[Survey, Path], trained: Path, tmp_path: Path) -> None:
    """Compare the file of its own with the part of the file of all depths, on the images of the proof."""
    written = export(trained, tmp_path / "out", format="onnx", precision="int8", keep=0.1)
    expected = next(v for v in found[0].variants if (v.depth, v.image_size, v.precision) == (3, 28, "int8"))
    assert written.file_bytes == pytest.approx(expected.file_bytes, rel=0.03)
    assert written.proof is not None
    assert written.proof.images == found[0].images <= PROOF
    assert written.proof.neighbors == pytest.approx(expected.neighbors, abs=0.02)
    assert written.proof.knn == pytest.approx(expected.knn, abs=0.03)


def test_a_choice_is_read_from_the_cache_and_exported(
    found: tuple[Survey, Path], trained: Path, limbeck: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.exports.survey.latencies", None)  # nothing is measured again
    within = [v for v in found[0].variants if v.file_bytes <= 60_000]
    best = max(within, key=lambda v: (v.neighbors, -v.latency_ms))
    code, out, err = limbeck("export", trained, tmp_path / "out", "--size", "60KB", "--json")
    assert code == 0, err
    written = json.loads(out)
    assert (written["depth"], written["precision"]) == (best.depth, best.precision)
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["preprocessing"]["image_size"] == best.image_size
    assert written["file_bytes"] <= 60_000 * 1.05
    assert f"depth {best.depth}, {best.image_size} pixels, {best.precision}" in err
    assert "depth 3, 28 pixels, fp32" in err
    code, _, err = limbeck("export", trained, tmp_path / "none", "--size", "0.5KB", "--latency", "9s")
    assert code == 1
    assert "500 bytes" in err
    assert "depth 1, " in err
    assert not (tmp_path / "none").exists()


def test_the_page_and_the_table_hold_every_variant(found: tuple[Survey, Path], tmp_path: Path) -> None:
    survey, out = found
    assert sorted(file.name for file in out.iterdir()) == sorted([PAGE, TABLE, DATA])
    with (out / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["depth"]), int(r["image_size"]), r["precision"]) for r in rows] == [
        (v.depth, v.image_size, v.precision) for v in survey.variants
    ]
    assert [v["neighbors"] for v in json.loads((out / DATA).read_text())["variants"]] == [
        v.neighbors for v in survey.variants
    ]
    page = (out / PAGE).read_text(encoding="utf-8")
    assert page.count("<tr>") == 2 + len(survey.variants) + len(pareto_front(survey.variants))
    if CHROMIUM:
        seen = open_page(out / PAGE, 390, tmp_path)
        assert (seen["width"], seen["charts"], seen["requests"], seen["console"]) == (390, seen["charts"], [], [])
        assert seen["charts"] >= 12


def test_a_variant_without_a_latency_in_openvino_has_a_dash_and_the_reason_is_said_once() -> None:
    variants = [replace(variant(1, 9, 0.5), openvino_missing="no operator Abc") for _ in range(3)]
    variants += [replace(variant(1, 9, 0.5), openvino_latency_ms=2.5, openvino_missing="")]
    cells = [row(v)[COLUMNS.index("OpenVINO ms")] for v in variants]
    assert cells == ["-", "-", "-", "2.50"]
    (sentence,) = openvino_sentences(variants)
    assert "3 variants" in sentence
    assert "no operator Abc" in sentence


def test_without_openvino_the_reason_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.exports.openvino.find_spec", lambda name: None)
    assert "limbeck[openvino]" in str(open_openvino(b""))


def test_the_front_is_what_no_other_one_dominates() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(1, 6, (60, 3), generator=generator).tolist()
    variants = [variant(float(a), b, c / 6) for a, b, c in numbers]
    expected = []
    for v in variants:
        better = False
        for other in variants:
            no_worse = (
                other.latency_ms <= v.latency_ms and other.file_bytes <= v.file_bytes and other.neighbors >= v.neighbors
            )
            differs = (other.latency_ms, other.file_bytes, other.neighbors) != (v.latency_ms, v.file_bytes, v.neighbors)
            better = better or (no_worse and differs)
        if not better:
            expected.append(v)
    assert sorted(map(repr, pareto_front(variants))) == sorted(map(repr, expected))
    assert 1 < len(expected) < len(variants)


def test_the_most_faithful_within_the_limits_is_chosen() -> None:
    variants = [variant(1, 100, 0.5), variant(2, 50, 0.7), variant(1.5, 90, 0.7), variant(9, 10, 0.9)]
    assert choose(variants, Limits(latency_ms=2)) == variants[2]
    assert choose(variants, Limits(latency_ms=2, file_bytes=60)) == variants[1]
    assert choose(variants, Limits()) == variants[3]
    with raises("no-variant-fits", "0.5 ms", "1.00 ms"):
        choose(variants, Limits(latency_ms=0.5))


@pytest.mark.parametrize(
    ("latency", "size", "expected"),
    [
        ("5ms", None, Limits(latency_ms=5)),
        ("0.02 s", "3MB", Limits(latency_ms=20, file_bytes=3e6)),
        (None, "900kb", Limits(file_bytes=9e5)),
    ],
)
def test_limits_are_read_with_their_units(latency: str | None, size: str | None, expected: Limits) -> None:
    found = parse_limits(latency, size)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("latency", "size", "code", "value"),
    [
        ("5", None, "bad-latency", "'5'"),
        ("0ms", None, "bad-latency", "'0ms'"),
        ("soon", None, "bad-latency", "'soon'"),
        (None, "3", "bad-size", "'3'"),
        (None, "-1MB", "bad-size", "'-1MB'"),
    ],
)
def test_what_is_no_limit_is_refused(latency: str | None, size: str | None, code: str, value: str) -> None:
    with raises(code, value):
        parse_limits(latency, size)


@pytest.mark.parametrize(
    ("argv", "status", "values"),
    [
        ("--all --depth 2", 2, ["--all", "--depth"]),
        ("--all --precision int8", 2, ["--precision"]),
        ("--latency 5ms --depth 2", 2, ["--latency", "--depth"]),
        ("--latency 5ms --format torch", 2, ["--format"]),
        ("--image-size 28 14", 2, ["--all"]),
        ("--image-size 15", 1, ["15", "14", "21"]),
        ("--image-size 0", 1, ["0 pixels"]),
        ("--all --image-size 28 15", 1, ["15", "14", "21"]),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    limbeck: Run, trained: Path, tmp_path: Path, argv: str, status: int, values: list[str]
) -> None:
    code, _, err = limbeck("export", trained, tmp_path / "out", *argv.split())
    assert code == status, err
    assert all(value in err for value in values), err
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_without_images_is_refused_by_a_survey(trained: Path) -> None:
    with raises("no-images", "--images"):
        survey(trained / "encoder")


@pytest.mark.parametrize("name", ["vit", "cnn"])
@torch.no_grad()
def test_an_export_of_another_image_size_is_the_network_at_that_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A ViT gets the positions that timm resamples, a CNN keeps the stem that its own size gave it."""
    forms = {
        "vit": BackboneConfig(image_size=32, args={"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}),
        "cnn": BackboneConfig(
            name="resnet18", image_size=96, args={"channels": [8, 8, 12, 12], "layers": [1, 1, 1, 1]}
        ),
    }
    backbone, own = build_backbone(forms[name]).eval(), forms[name].image_size or 0
    how = Preprocessing(image_size=own, store_size=own, mean=HALF, std=HALF)
    save_encoder(backbone, tmp_path / "encoder", how, {})
    result = export(tmp_path / "encoder", tmp_path / "out", image_size=24)
    assert result.difference == 0
    written = load(tmp_path / "out").eval()
    images = torch.randn(2, 3, 24, 24)
    if name == "vit":
        backbone.model.set_input_size(img_size=(24, 24))
    torch.testing.assert_close(written(images).final, backbone(images).final)
    monkeypatch.setattr("limbeck.exports.survey.FRACTIONS", (1, 3 / 4, 1 / 2))  # `found` may have made them fewer
    assert (
        default_sizes(load_source(tmp_path / "encoder", None, fold=False))
        == {
            "vit": [32, 24, 16],
            "cnn": [96, 72, 48],
        }[name]
    )
