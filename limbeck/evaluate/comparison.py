"""Students beside their teacher: what each costs, what its features are worth, how much of the teacher's it keeps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data.store.store import Store
from limbeck.evaluate.config import EvaluateConfig
from limbeck.evaluate.evaluator import Evaluator
from limbeck.evaluate.results import Comparison, ModelScores, finite
from limbeck.evaluate.teacher_fidelity import fidelity
from limbeck.features.images import eval_images
from limbeck.metrics.cost import cost
from limbeck.metrics.fidelity import NEIGHBOURS, check_images
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing, load, load_preprocessing
from limbeck.teachers import LoadedTeacher, teacher_features


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedModel:
    """A network, and how it looks at the images of a store."""

    name: str
    network: nn.Module
    """In eval mode: answers an image [1 3 size size]; what its cost is taken of."""
    size: int
    """Side of the images that it sees, pixels."""
    vectors: Callable[[Evaluator, Store], Tensor]
    """What it says of every row of a store, float32 [N D], on the bench's device."""

    @classmethod
    def of(cls, name: str, backbone: Backbone, preprocessing: Preprocessing) -> "ComparedModel":
        """A backbone, whole, that sees images as `preprocessing` says."""
        last = backbone.taps[-1]

        def vectors(bench: Evaluator, store: Store) -> Tensor:
            look = eval_images(store, preprocessing.image_size, preprocessing.mean, preprocessing.std, bench.device)
            return bench.extract(backbone, look, np.arange(len(store)), name, taps=(last,))[last]

        return cls(name=name, network=backbone.eval(), size=preprocessing.image_size, vectors=vectors)

    @classmethod
    def of_teacher(cls, frozen: LoadedTeacher) -> "ComparedModel":
        """A teacher, which sees images as it always does and computes in its own precision."""

        def vectors(bench: Evaluator, store: Store) -> Tensor:
            batch_size, show = bench.cfg.batch_size, "teacher" if bench.cfg.progress else ""
            rows = np.arange(len(store))
            return teacher_features(frozen, store, rows, device=bench.device, batch_size=batch_size, show=show)

        return cls(name="teacher", network=frozen.network, size=frozen.size, vectors=vectors)


def compare_run(
    run: str | Path,
    frozen: LoadedTeacher,
    untrained: Backbone,
    train: Store,
    test: Store,
    cfg: EvaluateConfig,
    *,
    baseline: str | Path | None = None,
) -> Comparison:
    """Judge the encoder of `run` beside the teacher that it was distilled from and the same network untrained.

    `baseline` is a run of the same network without a teacher. Raises UserError as `compare`, and where a folder holds no
    encoder.
    """
    students = [_of_run("student", run), ComparedModel.of("untrained", untrained, load_preprocessing(run))]
    if baseline is not None:
        students.append(_of_run("from scratch", baseline))
    return compare(students, ComparedModel.of_teacher(frozen), train, test, cfg)


def compare(
    students: Sequence[ComparedModel], teacher: ComparedModel, train: Store, test: Store, cfg: EvaluateConfig
) -> Comparison:
    """Judge whole networks on the same images: probes fitted on `train` and read on `test`, fidelity on `test`, cost.

    Two stores without labels give fidelity and cost alone. Networks are moved to the device one after the other.

    Raises:
        UserError: as `limbeck.evaluate.evaluate`, and fewer than twelve test images.
    """
    check_images(len(test))
    bench = Evaluator.of(train, test, cfg)
    theirs = teacher.vectors(bench, test).to(bench.device)
    return Comparison(
        teacher=_entrant(bench, teacher, theirs, {}),
        students=tuple(_student(bench, student, theirs) for student in students),
        images=len(test),
        neighbours=NEIGHBOURS,
    )


def _of_run(name: str, run: str | Path) -> ComparedModel:
    return ComparedModel.of(name, load(run), load_preprocessing(run))


def _student(bench: Evaluator, student: ComparedModel, theirs: Tensor) -> ModelScores:
    own = student.vectors(bench, bench.test).to(bench.device)
    kept = fidelity(own, theirs)
    fields = {"agreement": kept.agreement, "cka": kept.cka, "cka_chance": kept.cka_chance, "cosine": kept.cosine}
    return _entrant(bench, student, own, fields)


def _entrant(bench: Evaluator, contender: ComparedModel, own: Tensor, kept: dict[str, float | None]) -> ModelScores:
    scores = bench.judge({0: own}, lambda: {0: contender.vectors(bench, bench.train)}, contender.name)[0]
    image = torch.rand(1, 3, contender.size, contender.size, device=bench.device)
    price = cost(contender.network, image, latency=bench.cfg.latency)
    found = {"knn": scores.knn, "linear": scores.linear, "effective_rank": scores.effective_rank, **kept}
    finites: dict[str, Any] = {name: None if value is None else finite(value) for name, value in found.items()}
    return ModelScores(name=contender.name, dim=own.shape[1], size=contender.size, **price._asdict(), **finites)
