"""The license of a source is recorded, and a sentence warns if it is known to bind distilled models."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from limbeck.models.licenses import license_in_card
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.teachers.load import load_teacher
from limbeck.teachers.warnings import NetworkCost, license_warning, student_cost_warning
from tests.helpers.folders import limbeck_run, save_timm, timm_vit
from tests.helpers.tiny import tiny_vit


@pytest.fixture
def teacher(tmp_path: Path) -> LoadedTeacher:
    return load_teacher(TeacherConfig(name=str(save_timm(timm_vit(), tmp_path))))


def test_a_timm_folder_has_the_license_of_its_config(teacher: LoadedTeacher) -> None:
    assert teacher.license == timm.get_pretrained_cfg("vit_tiny_patch16_224").license == "apache-2.0"
    assert license_warning(teacher) is None


@pytest.mark.parametrize(
    ("license", "fact"),
    [
        ("dinov3-license", "DINOv3"),
        ("cc-by-nc-4.0", "forbids commercial use"),
        ("fair-noncommercial-research-license", "forbids commercial use"),
        ("apple-amlr", "research"),
        ("creativeml-openrail-m", "restrictions on use"),
        ("agpl-3.0", "same license"),
        ("other", "custom license"),
    ],
)
def test_licenses_that_bind_students_are_named_with_what_is_known(
    teacher: LoadedTeacher, license: str, fact: str
) -> None:
    sentence = license_warning(replace(teacher, license=license))
    assert sentence is not None
    assert fact in sentence
    assert f"'{license}'" in sentence


@pytest.mark.parametrize("license", ["", "mit", "apache-2.0", "bsd-3-clause"])
def test_others_and_unknown_ones_give_no_warning(teacher: LoadedTeacher, license: str) -> None:
    assert license_warning(replace(teacher, license=license)) is None


def test_the_name_of_dinov3_is_enough(teacher: LoadedTeacher) -> None:
    cfg = replace(teacher.cfg, name="weights/dinov3_vits16")
    assert "DINOv3" in str(license_warning(replace(teacher, license="", cfg=cfg)))


def test_a_student_inherits_what_its_teacher_was_under(tmp_path: Path) -> None:
    limbeck_run(tmp_path, {"run": {"teacher": {"license": "cc-by-nc-4.0"}}})
    assert load_teacher(TeacherConfig(name=str(tmp_path))).license == "cc-by-nc-4.0"


@pytest.mark.parametrize("note", [{}, {"run": {"teacher": None}}, {"run": 3}])
def test_without_a_teacher_nothing_is_inherited_and_what_is_given_counts(
    tmp_path: Path, note: dict[str, object]
) -> None:
    limbeck_run(tmp_path, note)
    assert load_teacher(TeacherConfig(name=str(tmp_path))).license == ""
    assert load_teacher(TeacherConfig(name=str(tmp_path), license="custom-1")).license == "custom-1"


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- vision\n---\n# A model", "apache-2.0"),
        ("---\ntags: [a]\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("---\nlicense: 'cc-by-nc-4.0'\n---", "cc-by-nc-4.0"),
        ("# A model\nlicense: mit\n", ""),
        ("---\ntags: [a]\n---\nlicense: mit", ""),
        ("---\nlicense: [\n---\n", ""),
        ("---\n- license\n---\n", ""),
    ],
)
def test_the_metadata_of_a_model_card_are_read(tmp_path: Path, card: str, license: str) -> None:
    assert license_in_card(tmp_path) == ""
    (tmp_path / "README.md").write_text(card)
    assert license_in_card(tmp_path) == license


def test_a_student_that_costs_more_than_its_teacher_is_warned_of() -> None:
    teacher = NetworkCost(10_000_000, 2_000_000_000)
    assert student_cost_warning(teacher, teacher) is None
    for student, shown in [(NetworkCost(12_000_000, 1), "12.0 M"), (NetworkCost(1, 3_400_000_000), "3.40 GFLOPs")]:
        warning = str(student_cost_warning(student, teacher))
        assert (shown in warning, "10.0 M" in warning, "2.00 GFLOPs" in warning) == (True, True, True)
    assert student_cost_warning(NetworkCost(1, 5), NetworkCost(2, 0)) is None, "a teacher that cannot be counted"


def test_the_cost_is_that_of_an_image_of_its_size() -> None:
    network = tiny_vit()
    small, large = (NetworkCost.of(network, torch.zeros(1, 3, size, size)) for size in (16, 32))
    assert small.parameters == large.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert 0 < 3 * small.operations < large.operations
    assert network.training
