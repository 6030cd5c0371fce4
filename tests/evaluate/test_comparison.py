"""Students beside a teacher: what is compared with what, the sentence, the table, the file."""

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from limbeck.core.errors import UserError
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.store.store import Store
from limbeck.evaluate import Result, evaluate
from limbeck.evaluate.comparison import ComparedModel, compare, compare_run
from limbeck.evaluate.render import comparison_table
from limbeck.evaluate.results import Comparison, ModelScores, percent
from limbeck.evaluate.teacher_fidelity import fidelity
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing, save_encoder
from limbeck.teachers import TeacherConfig, load_teacher
from tests.helpers.shades import CFG, shades, tiny_resnet
from tests.helpers.tiny import SIZE, tiny_vit

PLAIN = Preprocessing(image_size=SIZE, store_size=SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def contender(name: str, backbone: Backbone, preprocessing: Preprocessing = PLAIN) -> ComparedModel:
    return ComparedModel.of(name, backbone, preprocessing)


def test_a_student_is_held_against_its_teacher_and_costs_what_it_costs() -> None:
    student, teacher = tiny_vit(1), tiny_vit(3)
    train, test = shades(45, 0), shades(30, 1)
    found = compare([contender("student", student)], contender("teacher", teacher), train, test, CFG)
    look = eval_images(test, SIZE, IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu"))
    own, theirs = (extract(b, look, np.arange(30), device=torch.device("cpu"))[b.taps[-1]] for b in (student, teacher))
    expected = fidelity(own, theirs)
    (entrant,) = found.students
    for name in ("agreement", "cka", "cka_chance", "cosine"):
        assert getattr(entrant, name) == pytest.approx(getattr(expected, name), rel=1e-5)
        assert getattr(found.teacher, name) is None
    for judged, backbone in ((entrant, student), (found.teacher, teacher)):
        last = evaluate(backbone, train, test, CFG).rows[-1]
        for name in ("knn", "linear", "effective_rank", "parameters", "gflops"):
            assert getattr(judged, name) == pytest.approx(getattr(last, name), rel=1e-5), name
    assert found.chance == pytest.approx(10 / 29)


def test_the_teacher_keeps_itself_and_its_copy_keeps_it() -> None:
    teacher = tiny_vit()
    found = compare([contender("copy", teacher)], contender("teacher", teacher), shades(9, 0), shades(30, 1), CFG)
    assert found.students[0].agreement == 1.0
    assert found.students[0].cosine == pytest.approx(1.0, abs=1e-5)
    assert found.sentence().startswith("the copy keeps 100 % of the teacher's neighbours (chance 34 %) at 100 % of")


def test_every_network_sees_images_its_own_way() -> None:
    teacher = tiny_vit()
    small, odd = replace(PLAIN, image_size=8), replace(PLAIN, mean=(0.9, 0.1, 0.5))
    students = [contender("small", teacher, small), contender("odd", teacher, odd)]
    found = compare(students, contender("teacher", teacher), shades(9, 0), shades(30, 1), CFG)
    assert found.students[0].size == 8
    assert found.students[0].gflops < found.teacher.gflops == found.students[1].gflops
    assert all(student.cosine is not None and student.cosine < 0.9999 for student in found.students)


def test_without_labels_there_is_fidelity_and_cost_and_no_look_at_the_train_images() -> None:
    plain = contender("student", tiny_vit(1))
    train, test = shades(9, 0, labelled=False), shades(30, 1, labelled=False)
    seen: list[Store] = []
    spied = replace(plain, vectors=lambda bench, store: (seen.append(store), plain.vectors(bench, store))[1])
    found = compare([spied], contender("teacher", tiny_vit()), train, test, CFG)
    assert seen == [test]
    assert found.students[0].knn is found.students[0].linear is None
    assert found.students[0].agreement is not None
    assert "k-NN" not in text(found)


def test_too_few_images_are_refused_before_anything_is_computed() -> None:
    with pytest.raises(UserError, match="10 neighbours says nothing of 11 images"):
        compare([], contender("teacher", tiny_vit()), shades(9, 0), shades(11, 1), CFG)


@pytest.mark.parametrize("build", [tiny_vit, tiny_resnet])
def test_a_run_stands_beside_its_teacher_itself_untrained_and_trained_alone(
    tmp_path: Path, build: Callable[[], Backbone]
) -> None:
    teacher, student, untrained, alone = (build() for _ in range(4))
    for name, backbone in (("teacher", teacher), ("student", student), ("alone", alone)):
        save_encoder(backbone, tmp_path / name, PLAIN, {})
    frozen = load_teacher(TeacherConfig(name=str(tmp_path / "teacher"), precision="fp32"))
    train, test = shades(45, 0), shades(30, 1)
    found = compare_run(tmp_path / "student", frozen, untrained, train, test, CFG, baseline=tmp_path / "alone")
    networks = {"student": student, "untrained": untrained, "from scratch": alone}
    same = compare([contender(*pair) for pair in networks.items()], contender("teacher", teacher), train, test, CFG)
    assert [entrant.name for entrant in found.entrants] == ["student", "teacher", "untrained", "from scratch"]
    for one, other in zip(found.entrants, same.entrants, strict=True):
        for name, value in vars(one).items():
            assert value == (pytest.approx(getattr(other, name), rel=1e-4) if isinstance(value, float) else value), name
    without = compare_run(tmp_path / "student", frozen, untrained, train, test, CFG)
    assert without == replace(found, students=found.students[:2])


def entrant(name: str, gflops: float, agreement: float | None = None, **more: float) -> ModelScores:
    return ModelScores(name=name, dim=8, size=32, parameters=1_000_000, gflops=gflops, agreement=agreement, **more)


FOUND = Comparison(
    teacher=entrant("teacher", 10.0, knn=0.9, linear=0.95, latency_ms=20.0, effective_rank=300.2),
    students=(
        entrant("student", 0.4, 0.9123, cka=0.87, cka_chance=0.05, knn=0.85, linear=0.9, latency_ms=1.5),
        entrant("from scratch", 0.4, 0.408, cka=0.4, cka_chance=0.06, knn=0.6, linear=0.7, latency_ms=1.5),
    ),
    images=2001,
    neighbours=10,
)


def text(found: Comparison) -> str:
    """The table as a terminal of 80 columns shows it."""
    console = Console(file=StringIO(), width=80)
    console.print(comparison_table(found))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_sentence_says_what_is_kept_at_what_cost_and_on_what_ground() -> None:
    assert FOUND.sentence() == (
        "the student keeps 91 % of the teacher's neighbours (from scratch 41 %, chance 0.5 %) at 4 % of its cost: "
        "agreement@10 among 2,001 test images; GFLOPs per image"
    )


@pytest.mark.parametrize(
    ("share", "said"),
    [(1.0, "100 %"), (0.0995, "10 %"), (0.0404, "4 %"), (0.00126, "0.13 %"), (0.0, "0 %"), (1.304, "130 %")],
)
def test_shares_have_two_digits(share: float, said: str) -> None:
    assert percent(share) == said


def test_the_table_has_a_line_per_network_and_fits_a_terminal() -> None:
    shown = text(FOUND)
    assert "0.5 % by chance" in shown
    assert "…" not in shown
    lines = [line.split() for line in shown.splitlines() if line.startswith((" student", " teacher", " from"))]
    assert [line[0] for line in lines] == ["student", "teacher", "from"]
    assert lines[0][1:] == ["1.00", "0.400", "1.50", "85.0", "90.0", "91.2", "0.87", "0.05", "-"]
    assert lines[1][1:] == ["1.00", "10.000", "20.00", "90.0", "95.0", "-", "-", "-", "300.2"]


def test_a_comparison_survives_the_file_of_its_result(tmp_path: Path) -> None:
    alone = evaluate(tiny_vit(1), shades(9, 0), shades(30, 1), CFG)
    both = replace(alone, comparison=FOUND)
    for result in (alone, both):
        result.save(tmp_path / "result.json")
        assert Result.load(tmp_path / "result.json") == result


def test_a_result_from_before_there_were_comparisons_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result = evaluate(tiny_vit(1), shades(9, 0), shades(30, 1), CFG)
    result.save(path)
    written = path.read_text()
    assert ',\n  "comparison": null' in written
    path.write_text(written.replace(',\n  "comparison": null', ""))
    assert Result.load(path) == result
