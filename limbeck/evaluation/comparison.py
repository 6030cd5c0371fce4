"""Compare students with their teacher: cost, accuracy, and how much of the teacher's feature space is preserved."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.evaluator import measure
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.models import BackboneModel, EvaluatedModel, TeacherModel
from limbeck.evaluation.results import Comparison, ModelScores
from limbeck.metrics.fidelity import NUM_NEIGHBORS, check_images
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing, load, load_preprocessing
from limbeck.teachers import LoadedTeacher


def compare_run(
    run: str | Path,
    teacher: LoadedTeacher,
    untrained: Backbone,
    train: Store,
    test: Store,
    cfg: EvaluateConfig,
    *,
    baseline: str | Path | None = None,
) -> Comparison:
    """Compare the encoder of `run` with the teacher that it was distilled from and with the same network untrained.

    `baseline` is a run of the same network that was trained without a teacher.

    Raises:
        UserError: as `compare`, or a folder holds no encoder.
    """
    students = [_encoder("student", run), WholeBackbone("untrained", untrained, load_preprocessing(run))]
    if baseline is not None:
        students.append(_encoder("baseline", baseline))
    return compare(students, TeacherModel(teacher), train, test, cfg)


def compare(
    students: Sequence[EvaluatedModel], teacher: EvaluatedModel, train: Store, test: Store, cfg: EvaluateConfig
) -> Comparison:
    """Measure whole networks on the same images, and the fidelity of the students to the teacher on `test`.

    Each model preprocesses images in its own way, whatever `cfg` sets. Two stores without labels give the metrics that
    need none. The networks are moved to the device one after the other.

    Raises:
        UserError: as `limbeck.evaluation.evaluate`, or fewer than twelve test images.
    """
    check_images(len(test))
    data = EvalData.of(train, test, cfg)
    inputs = MetricInputs(teacher, data)
    features = inputs.test(teacher.depths[-1])
    return Comparison(
        teacher=_scores(inputs),
        students=tuple(_student(student, data, features) for student in students),
        images=len(test),
        num_neighbors=NUM_NEIGHBORS,
    )


class WholeBackbone(BackboneModel):
    """A backbone at its last depth, with the metrics that a teacher has as well."""

    offers = frozenset()

    def __init__(self, name: str, backbone: Backbone, preprocessing: Preprocessing) -> None:
        super().__init__(name, backbone, preprocessing, depths=backbone.taps[-1:])


def _encoder(name: str, run: str | Path) -> WholeBackbone:
    return WholeBackbone(name, load(run), load_preprocessing(run))


def _student(student: EvaluatedModel, data: EvalData, teacher: Tensor) -> ModelScores:
    return _scores(MetricInputs(student, data, teacher))


def _scores(inputs: MetricInputs) -> ModelScores:
    model, last = inputs.model, inputs.depths[-1]
    return ModelScores(
        name=model.name,
        dim=inputs.test_bank[last].shape[1],
        image_size=model.image_size,
        values=measure(inputs)[last],
    )
