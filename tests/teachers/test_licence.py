"""What a source says of its licence is kept, and a sentence warns where it is known to travel."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm

from limbeck.teachers import Frozen, TeacherConfig, larger, load_teacher, warning
from limbeck.teachers.licence import licence_in_card
from tests.helpers.folders import limbeck_run, save_timm, timm_vit


@pytest.fixture
def frozen(tmp_path: Path) -> Frozen:
    return load_teacher(TeacherConfig(name=str(save_timm(timm_vit(), tmp_path))))


def test_a_timm_folder_brings_the_licence_of_its_config(frozen: Frozen) -> None:
    assert frozen.licence == timm.get_pretrained_cfg("vit_tiny_patch16_224").license == "apache-2.0"
    assert warning(frozen) is None


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("dinov3-license", "DINOv3"),
        ("cc-by-nc-4.0", "forbids commercial use"),
        ("fair-noncommercial-research-license", "forbids commercial use"),
        ("apple-amlr", "research"),
        ("creativeml-openrail-m", "restrictions on use"),
        ("agpl-3.0", "keep the licence"),
        ("other", "licence of its own"),
    ],
)
def test_licences_that_travel_are_named_with_what_is_known(frozen: Frozen, licence: str, said: str) -> None:
    sentence = warning(replace(frozen, licence=licence))
    assert sentence is not None
    assert said in sentence
    assert f"'{licence}'" in sentence
    assert "may bind" in sentence


@pytest.mark.parametrize("licence", ["", "mit", "apache-2.0", "bsd-3-clause"])
def test_others_and_unknown_ones_give_no_warning(frozen: Frozen, licence: str) -> None:
    assert warning(replace(frozen, licence=licence)) is None


def test_the_name_of_dinov3_is_enough(frozen: Frozen) -> None:
    assert "DINOv3" in str(warning(replace(frozen, licence="", source="weights/dinov3_vits16")))


def test_a_student_inherits_what_its_teacher_was_under(tmp_path: Path) -> None:
    limbeck_run(tmp_path, {"run": {"teacher": {"licence": "cc-by-nc-4.0"}}})
    assert load_teacher(TeacherConfig(name=str(tmp_path))).licence == "cc-by-nc-4.0"


@pytest.mark.parametrize("note", [{}, {"run": {"teacher": None}}, {"run": 3}])
def test_without_a_teacher_nothing_is_inherited_and_what_is_given_counts(
    tmp_path: Path, note: dict[str, object]
) -> None:
    limbeck_run(tmp_path, note)
    assert load_teacher(TeacherConfig(name=str(tmp_path))).licence == ""
    assert load_teacher(TeacherConfig(name=str(tmp_path), licence="mine")).licence == "mine"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- vision\n---\n# A model", "apache-2.0"),
        ("---\ntags: [a]\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("---\nlicense: 'cc-by-nc-4.0'\n---", "cc-by-nc-4.0"),
        ("# A model\nlicense: mit\n", ""),
        ("---\ntags: [a]\n---\nlicense: mit", ""),
    ],
)
def test_the_front_of_a_model_card_is_read(tmp_path: Path, card: str, licence: str) -> None:
    assert licence_in_card(tmp_path) == ""
    (tmp_path / "README.md").write_text(card)
    assert licence_in_card(tmp_path) == licence


def test_a_student_larger_than_its_teacher_is_said() -> None:
    assert larger(10_000_000, 10_000_000) is None
    assert "12.0 M parameters, its teacher 10.0 M" in str(larger(12_000_000, 10_000_000))
