"""Compare students with their teacher: cost, accuracy, and how much of the teacher's feature space is preserved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.core.types import Dataset
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.measure import measure_whole
from limbeck.evaluation.models import BackboneModel, EvaluatedModel, TeacherModel
from limbeck.evaluation.results import Comparison, ModelScores
from limbeck.metrics.fidelity import NUM_NEIGHBORS, check_images
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing, load, load_preprocessing
from limbeck.teachers.frozen import LoadedTeacher


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedWith:
    """Models that a run of data other than images is compared with, besides those that need no training."""

    teacher: LoadedTeacher | None = None
    """The teacher that it was distilled from."""
    start: tuple[str, Path] | None = None
    """Name of the weights that it started from, and the folder that keeps them."""
    others: tuple[str, ...] = ()
    """Further networks as a whole."""
    measured: tuple[ModelScores, ...] | None = None
    """Lines of reference that have been measured already; None: measure them, and `others`."""


def compare_run(
    run: str | Path,
    teacher: LoadedTeacher,
    untrained: Backbone,
    train: Store,
    test: Store,
    cfg: EvaluateConfig,
    others: Sequence[EvaluatedModel] = (),
) -> Comparison:
    """Compare the encoder of `run` with the teacher that it was distilled from and with the same network untrained.

    `others` are compared with the teacher as well, such as a run of the same network that was trained without one.

    Raises:
        UserError: as `compare`, or a folder holds no encoder.
    """
    preprocessing = load_preprocessing(run)
    student = WholeBackbone("student", load(run), preprocessing)
    students = [student, WholeBackbone("untrained", untrained, preprocessing), *others]
    return compare(students, TeacherModel(teacher), train, test, cfg)


def compare(
    students: Sequence[EvaluatedModel], teacher: EvaluatedModel, train: Dataset, test: Dataset, cfg: EvaluateConfig
) -> Comparison:
    """Measure whole networks on the same images, and the fidelity of the students to the teacher on `test`.

    Each model preprocesses images in its own way, whatever `cfg` sets. Two sets without labels give the metrics that
    need none. The networks are moved to the device one after the other.

    Raises:
        UserError: as `limbeck.evaluation.evaluator.evaluate`, or fewer than twelve test images.
    """
    check_images(len(test))
    data = EvalData.of(train, test, cfg)
    inputs = MetricInputs(teacher, data)
    features = inputs.test(teacher.depths[-1])
    return Comparison(
        teacher=measure_whole(inputs),
        students=tuple(measure_whole(MetricInputs(student, data, features)) for student in students),
        images=len(test),
        num_neighbors=NUM_NEIGHBORS,
    )


class WholeBackbone(BackboneModel):
    """A backbone at its last depth, with the metrics that a teacher has as well."""

    offers = frozenset()

    def __init__(self, name: str, backbone: Backbone, preprocessing: Preprocessing) -> None:
        super().__init__(name, backbone, preprocessing, depths=backbone.taps[-1:])
