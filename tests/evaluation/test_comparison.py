"""Students compared with a teacher: what is compared with what, the sentence, the table, the file."""

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from limbeck.core.types import Dataset
from limbeck.evaluation.comparison import WholeBackbone, compare, compare_run
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.evaluator import evaluate
from limbeck.evaluation.models import Bank
from limbeck.evaluation.render import comparison_table
from limbeck.evaluation.results import Comparison, EvaluationResult, ModelScores, percent
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.metrics.fidelity import fidelity
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import load, save_encoder
from limbeck.teachers.config import TeacherConfig
from limbeck.teachers.load import load_teacher
from tests.helpers.errors import raises
from tests.helpers.shades import CFG, PLAIN, shades, tiny_resnet
from tests.helpers.tiny import SIZE, tiny_vit

CPU = torch.device("cpu")
FIDELITY = {"neighbor_agreement", "cka", "cka_chance", "cosine"}


def test_a_student_is_compared_with_its_teacher_and_costs_what_it_costs() -> None:
    student, teacher = tiny_vit(1), tiny_vit(3)
    train, test = shades(45, 0), shades(30, 1)
    students = [WholeBackbone("student", student, PLAIN)]
    found = compare(students, WholeBackbone("teacher", teacher, PLAIN), train, test, CFG)
    images = eval_images(test, SIZE, PLAIN.mean, PLAIN.std, CPU)
    own, wanted = (extract(b, images, np.arange(30), device=CPU)[b.taps[-1]] for b in (student, teacher))
    expected = fidelity(own, wanted)._asdict()
    (scores,) = found.students
    for name in FIDELITY:
        assert scores.values[name] == pytest.approx(expected[name], rel=1e-5)
    assert not FIDELITY & set(found.teacher.values)
    for judged, backbone in ((scores, student), (found.teacher, teacher)):
        last = evaluate(backbone, train, test, CFG, preprocessing=PLAIN).layers[-1].values
        for name in ("knn", "linear", "effective_rank", "parameters", "gflops"):
            assert judged.values[name] == pytest.approx(last[name], rel=1e-5), name
    assert found.chance == pytest.approx(10 / 29)


def test_a_copy_preserves_its_teacher() -> None:
    teacher = tiny_vit()
    copy, original = (WholeBackbone(name, teacher, PLAIN) for name in ("copy", "teacher"))
    found = compare([copy], original, shades(9, 0), shades(30, 1), CFG)
    assert found.students[0].values["neighbor_agreement"] == 1.0
    assert found.students[0].values["cosine"] == pytest.approx(1.0, abs=1e-5)
    assert found.sentence().count("100 %") == 2, "of the neighbors, of the cost"


def test_every_network_preprocesses_images_in_its_own_way() -> None:
    teacher = tiny_vit()
    ways = {"small": replace(PLAIN, image_size=8), "odd": replace(PLAIN, mean=(0.9, 0.1, 0.5))}
    students = [WholeBackbone(name, teacher, way) for name, way in ways.items()]
    found = compare(students, WholeBackbone("teacher", teacher, PLAIN), shades(9, 0), shades(30, 1), CFG)
    small, odd = found.students
    assert small.image_size == 8
    assert (small.values["gflops"] or 0) < (found.teacher.values["gflops"] or 0)
    assert odd.values["gflops"] == found.teacher.values["gflops"]
    assert all((student.values["cosine"] or 1) < 0.9999 for student in found.students)


def test_without_labels_there_is_fidelity_and_cost_and_the_train_images_are_not_read() -> None:
    train, test = shades(9, 0, labeled=False), shades(30, 1, labeled=False)
    read: list[Dataset] = []

    class Spy(WholeBackbone):
        def features(self, data: EvalData, store: Dataset) -> Bank:
            read.append(store)
            return super().features(data, store)

    found = compare([Spy("student", tiny_vit(1), PLAIN)], WholeBackbone("t", tiny_vit(), PLAIN), train, test, CFG)
    assert read == [test]
    assert set(found.students[0].values) == {"parameters", "gflops", "width", "effective_rank", *FIDELITY}
    assert "k-NN" not in text(found)


def test_too_few_images_are_refused_before_anything_is_computed() -> None:
    with raises("too-few-images", 10, 11):
        compare([], WholeBackbone("teacher", tiny_vit(), PLAIN), shades(9, 0), shades(11, 1), CFG)


@pytest.mark.parametrize("build", [tiny_vit, tiny_resnet])
def test_a_run_is_compared_with_its_teacher_itself_untrained_and_another(
    tmp_path: Path, build: Callable[[], Backbone]
) -> None:
    teacher, student, untrained, alone = (build() for _ in range(4))
    for name, backbone in (("teacher", teacher), ("student", student), ("alone", alone)):
        save_encoder(backbone, tmp_path / name, PLAIN, {})
    loaded = load_teacher(TeacherConfig(name=str(tmp_path / "teacher"), precision="fp32"))
    train, test = shades(45, 0), shades(30, 1)
    other = WholeBackbone("alone", load(tmp_path / "alone"), PLAIN)
    found = compare_run(tmp_path / "student", loaded, untrained, train, test, CFG, [other])
    networks = {"student": student, "untrained": untrained, "alone": alone}
    students = [WholeBackbone(name, backbone, PLAIN) for name, backbone in networks.items()]
    same = compare(students, WholeBackbone("teacher", teacher, PLAIN), train, test, CFG)
    assert [model.name for model in found.models] == ["student", "teacher", "untrained", "alone"]
    for one, same_one in zip(found.models, same.models, strict=True):
        assert (one.name, one.image_size) == (same_one.name, same_one.image_size)
        assert one.values == pytest.approx(same_one.values, rel=1e-4)
    without = compare_run(tmp_path / "student", loaded, untrained, train, test, CFG)
    assert without == replace(found, students=found.students[:2])


def model(name: str, gflops: float, **values: float) -> ModelScores:
    return ModelScores(name=name, image_size=32, values={"parameters": 1_000_000, "gflops": gflops, **values})


FOUND = Comparison(
    teacher=model("teacher", 10.0, knn=0.9, linear=0.95, latency_ms=20.0, effective_rank=300.2),
    students=(
        model(
            "student", 0.4, neighbor_agreement=0.9123, cka=0.87, cka_chance=0.05, knn=0.85, linear=0.9, latency_ms=1.5
        ),
        model("baseline", 0.4, neighbor_agreement=0.408, cka=0.4, cka_chance=0.06, knn=0.6, linear=0.7, latency_ms=1.5),
    ),
    images=2001,
    num_neighbors=10,
)


def text(found: Comparison) -> str:
    """Return the table as a terminal of 80 columns shows it."""
    console = Console(file=StringIO(), width=80)
    console.print(comparison_table(found))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_sentence_has_every_share_the_cost_and_the_images() -> None:
    sentence = FOUND.sentence()
    for part in ("student preserves 91 %", "10 nearest", "baseline 41 %", "chance 0.5 %", "2,001", "4 % of its GFLOPs"):
        assert part in sentence, part
    uncounted = replace(FOUND, teacher=model("teacher", 0.0))
    assert "unknown" in uncounted.sentence()


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1.0, "100 %"), (0.0995, "10 %"), (0.0404, "4 %"), (0.00126, "0.13 %"), (0.0, "0 %"), (1.304, "130 %")],
)
def test_shares_have_two_digits(share: float, shown: str) -> None:
    assert percent(share) == shown


def test_the_table_has_a_line_per_network_and_fits_a_terminal() -> None:
    shown = text(FOUND)
    assert "0.5 %" in shown
    assert "…" not in shown
    lines = [line.split() for line in shown.splitlines() if line.startswith((" student", " teacher", " baseline"))]
    assert [line[0] for line in lines] == ["student", "teacher", "baseline"]
    assert lines[0][1:] == ["1.00", "0.400", "1.50", "85.0", "90.0", "-", "91.2", "0.87", "0.05"]
    assert lines[1][1:] == ["1.00", "10.0", "20.00", "90.0", "95.0", "300.2", "-", "-", "-"]


def test_a_comparison_survives_the_file_of_its_result(tmp_path: Path) -> None:
    alone = evaluate(tiny_vit(1), shades(9, 0), shades(30, 1), CFG, preprocessing=PLAIN)
    for result in (alone, replace(alone, comparison=FOUND)):
        result.save(tmp_path / "result.json")
        assert EvaluationResult.load(tmp_path / "result.json") == result
