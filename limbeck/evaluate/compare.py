"""Students beside their teacher: what each costs, what its features are worth, how much of the teacher's it keeps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.backbones import Backbone
from limbeck.data.store import Store
from limbeck.encoders import Preprocessing
from limbeck.evaluate.bench import Bench
from limbeck.evaluate.comparison import Comparison, Entrant
from limbeck.evaluate.config import EvaluateConfig
from limbeck.evaluate.cost import cost
from limbeck.evaluate.fidelity import NEIGHBOURS, check_images, fidelity
from limbeck.evaluate.result import finite
from limbeck.passes import plain_look


@dataclass(frozen=True, kw_only=True, eq=False)
class Contender:
    """A network, and how it looks at the images of a store."""

    name: str
    network: nn.Module
    """In eval mode: answers an image [1 3 size size]; what its cost is taken of."""
    size: int
    """Side of the images that it sees, pixels."""
    vectors: Callable[[Bench, Store], Tensor]
    """What it says of every row of a store, float32 [N D], on the bench's device."""

    @classmethod
    def of(cls, name: str, backbone: Backbone, preprocessing: Preprocessing) -> "Contender":
        """A backbone, whole, that sees images as `preprocessing` says."""
        size, mean, std = preprocessing.size, preprocessing.mean, preprocessing.std

        def vectors(bench: Bench, store: Store) -> Tensor:
            look = plain_look(store, size, mean, std, bench.device)
            return bench.extract(backbone, look, np.arange(len(store)), name, taps=backbone.taps[-1:])[
                backbone.taps[-1]
            ]

        return cls(name=name, network=backbone.eval(), size=size, vectors=vectors)


def compare(
    students: Sequence[Contender], teacher: Contender, train: Store, test: Store, cfg: EvaluateConfig
) -> Comparison:
    """Judge whole networks on the same images: probes fitted on `train` and read on `test`, fidelity on `test`, cost.

    Two stores without labels give fidelity and cost alone. Networks are moved to the device one after the other.

    Raises:
        UserError: as `limbeck.evaluate.evaluate`, and fewer than twelve test images.
    """
    check_images(len(test))
    bench = Bench.of(train, test, cfg)
    theirs = teacher.vectors(bench, test).to(bench.device)
    return Comparison(
        teacher=_entrant(bench, teacher, theirs, {}),
        students=tuple(_student(bench, student, theirs) for student in students),
        images=len(test),
        neighbours=NEIGHBOURS,
    )


def _student(bench: Bench, student: Contender, theirs: Tensor) -> Entrant:
    own = student.vectors(bench, bench.test).to(bench.device)
    kept = fidelity(own, theirs)
    fields = {"agreement": kept.agreement, "cka": kept.cka, "cka_chance": kept.cka_chance, "cosine": kept.cosine}
    return _entrant(bench, student, own, fields)


def _entrant(bench: Bench, contender: Contender, own: Tensor, kept: dict[str, float | None]) -> Entrant:
    scores = bench.judge({0: own}, lambda: {0: contender.vectors(bench, bench.train)}, contender.name)[0]
    image = torch.rand(1, 3, contender.size, contender.size, device=bench.device)
    price = cost(contender.network, image, latency=bench.cfg.latency)
    found = {"knn": scores.knn, "linear": scores.linear, "effective_rank": scores.effective_rank, **kept}
    finites: dict[str, Any] = {name: None if value is None else finite(value) for name, value in found.items()}
    return Entrant(name=contender.name, dim=own.shape[1], size=contender.size, **price._asdict(), **finites)
