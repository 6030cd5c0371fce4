"""What a source says of its licence is kept, and a sentence warns where it is known to travel."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm

from limbeck.teachers import LoadedTeacher, TeacherConfig, larger, load_teacher, warning
from limbeck.teachers.license import license_in_card
from tests.helpers.folders import limbeck_run, save_timm, timm_vit


@pytest.fixture
def frozen(tmp_path: Path) -> LoadedTeacher:
    return load_teacher(TeacherConfig(name=str(save_timm(timm_vit(), tmp_path))))


def test_a_timm_folder_brings_the_licence_of_its_config(frozen: LoadedTeacher) -> None:
    assert frozen.license == timm.get_pretrained_cfg("vit_tiny_patch16_224").license == "apache-2.0"
    assert warning(frozen) is None


@pytest.mark.parametrize(
    ("license", "said"),
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
def test_licences_that_travel_are_named_with_what_is_known(frozen: LoadedTeacher, license: str, said: str) -> None:
    sentence = warning(replace(frozen, license=license))
    assert sentence is not None
    assert said in sentence
    assert f"'{license}'" in sentence
    assert "may bind" in sentence


@pytest.mark.parametrize("license", ["", "mit", "apache-2.0", "bsd-3-clause"])
def test_others_and_unknown_ones_give_no_warning(frozen: LoadedTeacher, license: str) -> None:
    assert warning(replace(frozen, license=license)) is None


def test_the_name_of_dinov3_is_enough(frozen: LoadedTeacher) -> None:
    assert "DINOv3" in str(warning(replace(frozen, license="", source="weights/dinov3_vits16")))


def test_a_student_inherits_what_its_teacher_was_under(tmp_path: Path) -> None:
    limbeck_run(tmp_path, {"run": {"teacher": {"license": "cc-by-nc-4.0"}}})
    assert load_teacher(TeacherConfig(name=str(tmp_path))).license == "cc-by-nc-4.0"


@pytest.mark.parametrize("note", [{}, {"run": {"teacher": None}}, {"run": 3}])
def test_without_a_teacher_nothing_is_inherited_and_what_is_given_counts(
    tmp_path: Path, note: dict[str, object]
) -> None:
    limbeck_run(tmp_path, note)
    assert load_teacher(TeacherConfig(name=str(tmp_path))).license == ""
    assert load_teacher(TeacherConfig(name=str(tmp_path), license="mine")).license == "mine"


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- vision\n---\n# A model", "apache-2.0"),
        ("---\ntags: [a]\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("---\nlicense: 'cc-by-nc-4.0'\n---", "cc-by-nc-4.0"),
        ("# A model\nlicense: mit\n", ""),
        ("---\ntags: [a]\n---\nlicense: mit", ""),
    ],
)
def test_the_front_of_a_model_card_is_read(tmp_path: Path, card: str, license: str) -> None:
    assert license_in_card(tmp_path) == ""
    (tmp_path / "README.md").write_text(card)
    assert license_in_card(tmp_path) == license


def test_a_student_larger_than_its_teacher_is_said() -> None:
    assert larger(10_000_000, 10_000_000) is None
    assert "12.0 M parameters, its teacher 10.0 M" in str(larger(12_000_000, 10_000_000))
