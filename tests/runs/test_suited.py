"""Networks, data and settings of different kinds are refused together, before anything is computed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck import adapt
from limbeck.core.config import to_json
from limbeck.downstream.explorer.build import write_explorer
from limbeck.downstream.selection.source import load_network
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import load_features
from limbeck.evaluation.config import OF, EvaluateConfig
from limbeck.keypoints.config import DetectorConfig
from limbeck.modalities import modality_named
from limbeck.runs.compare import compare_without_labels
from limbeck.runs.evaluation import evaluate_networks
from limbeck.runs.suited import DONE_ANYWAY, check_suited
from limbeck.series.config import SeriesConfig
from tests.helpers.commands import Run
from tests.helpers.errors import raises
from tests.helpers.written_runs import run_config

KINDS: dict[str, Any] = {"images": None, "series": SeriesConfig(), "keypoints": DetectorConfig(image_size=32)}
OTHER_VALUES: dict[type, Any] = {bool: True, int: 7, float: 0.5, str: "x", tuple: (3,), type(None): "x"}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    """Write a folder of a run of every kind, whose encoder nobody loads."""
    found = {}
    for kind, backbone in KINDS.items():
        folder = tmp_path / kind
        (folder / "encoder").mkdir(parents=True)
        config = run_config() if backbone is None else dataclasses.replace(run_config(), backbone=backbone)
        (folder / "config.json").write_text(json.dumps(to_json(config)), encoding="utf-8")
        about = {"limbeck": {"modality": "" if kind == "images" else kind}, "architecture": "x"}
        (folder / "encoder" / "config.json").write_text(json.dumps(about), encoding="utf-8")
        (folder / "encoder" / "model.safetensors").write_bytes(b"")
        found[kind] = str(folder)
    return found


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """Write a source of images and one of series."""
    np.save(tmp_path / "images.npy", np.zeros((4, 32, 32, 3), np.uint8))
    np.savez(tmp_path / "series.npz", series=np.zeros((4, 20, 1)))
    return {"images": str(tmp_path / "images.npy"), "series": str(tmp_path / "series.npz")}


def source_of(kind: str, data: dict[str, str]) -> str:
    return data["series" if kind == "series" else "images"]


@pytest.mark.parametrize("field", dataclasses.fields(EvaluateConfig), ids=lambda field: field.name)
def test_a_setting_is_taken_by_the_kinds_that_it_is_for(
    field: "dataclasses.Field[Any]", runs: dict[str, str], data: dict[str, str]
) -> None:
    """Every setting states what it is for, and is refused where it would have no effect."""
    value = {"linear": "sgd", "precision": "bf16"}.get(field.name, OTHER_VALUES[type(field.default)])
    value = not field.default if field.default is True else value
    cfg = EvaluateConfig()
    object.__setattr__(cfg, field.name, value)
    for kind, run in runs.items():
        sources = [source_of(kind, data)] * 2
        modality = modality_named("" if kind == "images" else kind)
        if field.metadata[OF] in ("", *modality.measured_as):
            check_suited([run], (), sources, cfg)
        else:
            with raises("flag-without-use", f"--{field.name.replace('_', '-')}", run, kind):
                check_suited([run], (), sources, cfg)


def test_what_is_done_anyway_may_be_asked_for(runs: dict[str, str], data: dict[str, str]) -> None:
    for kind, run in runs.items():
        check_suited([run], (), [source_of(kind, data)], EvaluateConfig(**dict(DONE_ANYWAY)))  # type: ignore[arg-type]


def test_choices_of_images_have_no_effect_on_series(runs: dict[str, str], data: dict[str, str]) -> None:
    for name, value in (("allow_bad", 0.5), ("exclude", ["*.png"]), ("only", ["a"])):
        choice: Any = {name: value}
        with raises("flag-without-use", name.replace("_", "-"), "series"):
            check_suited([runs["series"]], (), [data["series"]], EvaluateConfig(), **choice)
        check_suited([runs["keypoints"]], (), [data["images"]], EvaluateConfig(), **choice)


@pytest.mark.parametrize(("kind", "wrong"), [("images", "series"), ("keypoints", "series"), ("series", "folder")])
def test_data_of_another_kind_than_the_network(kind: str, wrong: str, runs: dict[str, str], data: Any) -> None:
    data["folder"] = str(Path(runs["images"]).parent)
    with raises("data-not-for-network", runs[kind], data[wrong], kind):
        evaluate_networks([runs[kind]], source_of(kind, data), data[wrong])


def test_networks_of_different_kinds_are_evaluated_one_by_one(runs: dict[str, str], data: dict[str, str]) -> None:
    for first, second in (("keypoints", "images"), ("series", "images"), ("images", "series")):
        with raises("modalities-differ", runs[first], runs[second]):
            evaluate_networks([runs[first], runs[second]], source_of(first, data), source_of(first, data))
        assert not (Path(runs[second]) / "result.json").exists()
    for beside, code in ((runs["series"], "modalities-differ"), (f"{runs['series']}/encoder", "modalities-differ")):
        with raises(code, beside):
            evaluate_networks([runs["images"]], data["images"], data["images"], others=[beside])
    with raises("not-images", runs["images"], "keypoints"):
        evaluate_networks([runs["keypoints"]], data["images"], data["images"], others=[runs["images"]])
    with raises("no-timm", "timm:resnet18", "series"):
        evaluate_networks([runs["series"]], data["series"], data["series"], others=["timm:resnet18"])
    with raises("not-images", "series", "run"):
        evaluate_networks([f"{runs['series']}/encoder"], data["series"], data["series"])


def test_places_of_keypoints_are_no_features(runs: dict[str, str], data: dict[str, str], tmp_path: Path) -> None:
    detector = runs["keypoints"]
    with raises("no-features", detector):
        load_features(detector)
    with raises("no-features", detector):
        compare_without_labels([detector, runs["images"]], data["images"])
    with raises("no-features", detector):
        load_network(detector, "typical", EmbedConfig())
    with raises("no-features", detector):
        write_explorer(data["images"], detector, tmp_path / "page.html")


def test_only_encoders_of_images_are_adapted(limbeck: Run, runs: dict[str, str], data: dict[str, str]) -> None:
    for start in ("images", "series"):
        code, _, err = limbeck("adapt", data["series"], "--from", runs[start])
        assert code == 1
        assert "--from RUN" in err, "the way that series go on"
        with raises("not-images", "series"):
            adapt(data["series"], start=runs[start])
