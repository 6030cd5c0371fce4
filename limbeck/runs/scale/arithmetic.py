"""Hours, disk and network of every stage, from constants. All of it is derived.

A stage takes as long as the slowest of what works at the same time: devices, cores that decode, disks, the network. On
a machine without GPUs the same cores compute and decode, so that these two add up.
"""

from dataclasses import dataclass
from typing import NamedTuple

from limbeck.core.errors import UserError
from limbeck.runs.scale.constants import Constants

NEIGHBORS = 5  # of a row of the graph, for the bytes that it takes
QUERIES = 50_000  # rows whose nearest neighbors an evaluation looks up among all
PAIR_BYTES, ANSWER_BYTES, VECTOR_BYTES = 8, 2, 4  # of an edge of the graph, and of a number of a vector


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Equal machines, and the images that they have to deal with."""

    images: float
    machines: int = 1
    gpus: int = 0
    """Of each machine; 0: its processor trains."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        least = {"images": 1, "machines": 1, "gpus": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UserError(
                    f"{name} is {getattr(self, name):g}: it must be at least {smallest}", code="out-of-range"
                )

    @property
    def devices(self) -> int:
        """Devices that compute, over all machines."""
        return self.machines * max(self.gpus, 1)


class Stage(NamedTuple):
    """Cost of one stage."""

    name: str
    seconds: float
    bound_by: str
    disk_bytes: float
    network_bytes_per_second: float
    """Into each machine, if images are elsewhere."""


class Pace(NamedTuple):
    """Seconds per image, and the bottleneck."""

    seconds: float
    bound_by: str


def stages(found: Constants, workload: Workload, epochs: float) -> list[Stage]:
    """Return the stages in their order; that of the teacher where there is one."""
    teacher = [_teacher(found, workload)] if found.teacher_images_per_second else []
    return [
        _store(found, workload),
        *teacher,
        _graph(found, workload),
        _training(found, workload, epochs),
        _evaluation(found, workload),
    ]


def pace_of(found: Constants, workload: Workload, images_per_second: float, step_seconds: float = 0.0) -> Pace:
    """Return the throughput of all devices on stored images.

    Args:
        found: the constants.
        workload: the machines.
        images_per_second: of one device, once the pixels are read.
        step_seconds: of the network between machines, per image.
    """
    compute = 1 / (images_per_second * workload.devices)
    read = found.need("read_core_seconds") / (found.need("cores") * workload.machines)
    parts = {"GPUs": compute, "decoding": read} if workload.gpus else {"cores": compute + read}
    if found.disk_bytes_per_second:
        parts["disk"] = found.need("stored_bytes") / (found.disk_bytes_per_second * workload.machines)
    parts["network"] = step_seconds
    slowest = max(parts, key=parts.__getitem__)
    return Pace(parts[slowest], slowest)


def exchange_seconds(found: Constants, workload: Workload) -> float:
    """Return the seconds of a step's gradients between machines (a ring), 0 where they are not known or not needed."""
    if workload.machines == 1 or not found.network_bytes_per_second:
        return 0.0
    return _exchanged_bytes(found, workload) / found.network_bytes_per_second


def graph_seconds(found: Constants, workload: Workload) -> float:
    """Return the seconds of an exact graph of all rows, without their features: 2 N^2 D operations."""
    operations = 2 * workload.images**2 * found.need("dim")
    return operations / (found.need("products_per_second") * workload.devices)


def _exchanged_bytes(found: Constants, workload: Workload) -> float:
    """Return the bytes that a machine sends for a step: a ring carries the gradient twice, less one part."""
    return 2 * found.need("gradient_bytes") * (workload.machines - 1) / workload.machines


def _store(found: Constants, workload: Workload) -> Stage:
    machines, source = workload.machines, found.need("source_bytes")
    parts = {"cores": found.need("build_core_seconds") / (found.need("cores") * machines)}
    if found.disk_bytes_per_second:
        parts["disk"] = source / (found.disk_bytes_per_second * machines)
    slowest = max(parts, key=parts.__getitem__)
    disk = workload.images * found.need("stored_bytes")
    return Stage("store", workload.images * parts[slowest], slowest, disk, source / parts[slowest] / machines)


def _teacher(found: Constants, workload: Workload) -> Stage:
    pace = pace_of(found, workload, found.need("teacher_images_per_second"))
    disk = workload.images * ANSWER_BYTES * found.need("teacher_dim")
    return _pass(found, workload, "teacher", pace, disk)


def _graph(found: Constants, workload: Workload) -> Stage:
    pace = pace_of(found, workload, found.need("forward_images_per_second"))
    disk = workload.images * (VECTOR_BYTES * found.need("dim") + NEIGHBORS * PAIR_BYTES)
    stage, search = _pass(found, workload, "graph, exact", pace, disk), graph_seconds(found, workload)
    bound_by = "search" if search > stage.seconds else stage.bound_by
    return stage._replace(seconds=stage.seconds + search, bound_by=bound_by)


def _training(found: Constants, workload: Workload, epochs: float) -> Stage:
    batch = found.need("batch_size") * workload.devices
    exchange = exchange_seconds(found, workload) / batch
    pace = pace_of(found, workload, found.need("step_images_per_second"), exchange)
    stage = _pass(found, workload, f"training, {epochs:g} epochs", pace, found.need("run_bytes"))
    gradients = _exchanged_bytes(found, workload) / (batch * pace.seconds) if workload.machines > 1 else 0.0
    traffic = stage.network_bytes_per_second + gradients
    return stage._replace(seconds=epochs * stage.seconds, network_bytes_per_second=traffic)


def _evaluation(found: Constants, workload: Workload) -> Stage:
    """Features of all images and neighbors of some, which one process computes."""
    alone = Workload(images=workload.images, gpus=min(workload.gpus, 1))
    stage = _pass(found, alone, "evaluation", pace_of(found, alone, found.need("forward_images_per_second")), 0.0)
    operations = 2 * min(QUERIES, workload.images) * workload.images * found.need("dim")
    return stage._replace(seconds=stage.seconds + operations / found.need("products_per_second"))


def _pass(found: Constants, workload: Workload, name: str, pace: Pace, disk: float) -> Stage:
    traffic = found.need("stored_bytes") / pace.seconds / workload.machines
    return Stage(name, workload.images * pace.seconds, pace.bound_by, disk, traffic)
