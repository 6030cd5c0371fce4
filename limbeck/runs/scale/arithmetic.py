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
class Cluster:
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
    """What one stage takes."""

    name: str
    seconds: float
    bound_by: str
    disk_bytes: float
    network_bytes_per_second: float
    """Into each machine, if images are elsewhere."""


class Pace(NamedTuple):
    """How long an image takes, and what is the slowest."""

    seconds: float
    bound_by: str


def stages(found: Constants, cluster: Cluster, epochs: float) -> list[Stage]:
    """Return the stages in their order; that of the teacher where there is one."""
    teacher = [_teacher(found, cluster)] if found.teacher_images_per_second else []
    return [
        _store(found, cluster),
        *teacher,
        _graph(found, cluster),
        _training(found, cluster, epochs),
        _evaluation(found, cluster),
    ]


def pace_of(found: Constants, cluster: Cluster, images_per_second: float, step_seconds: float = 0.0) -> Pace:
    """Return how fast all devices get through stored images.

    Args:
        found: the constants.
        cluster: the machines.
        images_per_second: of one device, once the pixels are read.
        step_seconds: of the network between machines, per image.
    """
    compute = 1 / (images_per_second * cluster.devices)
    read = found.need("read_core_seconds") / (found.need("cores") * cluster.machines)
    parts = {"GPUs": compute, "decoding": read} if cluster.gpus else {"cores": compute + read}
    if found.disk_bytes_per_second:
        parts["disk"] = found.need("stored_bytes") / (found.disk_bytes_per_second * cluster.machines)
    parts["network"] = step_seconds
    slowest = max(parts, key=parts.__getitem__)
    return Pace(parts[slowest], slowest)


def exchange_seconds(found: Constants, cluster: Cluster) -> float:
    """Return how long a step's gradients take between machines (a ring), 0 where that is not known or not needed."""
    if cluster.machines == 1 or not found.network_bytes_per_second:
        return 0.0
    return _exchanged_bytes(found, cluster) / found.network_bytes_per_second


def graph_seconds(found: Constants, cluster: Cluster) -> float:
    """Return how long an exact graph of all rows takes, without their features: 2 N^2 D operations."""
    operations = 2 * cluster.images**2 * found.need("dim")
    return operations / (found.need("products_per_second") * cluster.devices)


def _exchanged_bytes(found: Constants, cluster: Cluster) -> float:
    """Return what a machine sends for a step: a ring carries the gradient twice, less one part."""
    return 2 * found.need("gradient_bytes") * (cluster.machines - 1) / cluster.machines


def _store(found: Constants, cluster: Cluster) -> Stage:
    machines, source = cluster.machines, found.need("source_bytes")
    parts = {"cores": found.need("build_core_seconds") / (found.need("cores") * machines)}
    if found.disk_bytes_per_second:
        parts["disk"] = source / (found.disk_bytes_per_second * machines)
    slowest = max(parts, key=parts.__getitem__)
    disk = cluster.images * found.need("stored_bytes")
    return Stage("store", cluster.images * parts[slowest], slowest, disk, source / parts[slowest] / machines)


def _teacher(found: Constants, cluster: Cluster) -> Stage:
    pace = pace_of(found, cluster, found.need("teacher_images_per_second"))
    disk = cluster.images * ANSWER_BYTES * found.need("teacher_dim")
    return _pass(found, cluster, "teacher", pace, disk)


def _graph(found: Constants, cluster: Cluster) -> Stage:
    pace = pace_of(found, cluster, found.need("forward_images_per_second"))
    disk = cluster.images * (VECTOR_BYTES * found.need("dim") + NEIGHBORS * PAIR_BYTES)
    stage, search = _pass(found, cluster, "graph, exact", pace, disk), graph_seconds(found, cluster)
    bound_by = "search" if search > stage.seconds else stage.bound_by
    return stage._replace(seconds=stage.seconds + search, bound_by=bound_by)


def _training(found: Constants, cluster: Cluster, epochs: float) -> Stage:
    batch = found.need("batch_size") * cluster.devices
    exchange = exchange_seconds(found, cluster) / batch
    pace = pace_of(found, cluster, found.need("step_images_per_second"), exchange)
    stage = _pass(found, cluster, f"training, {epochs:g} epochs", pace, found.need("run_bytes"))
    gradients = _exchanged_bytes(found, cluster) / (batch * pace.seconds) if cluster.machines > 1 else 0.0
    traffic = stage.network_bytes_per_second + gradients
    return stage._replace(seconds=epochs * stage.seconds, network_bytes_per_second=traffic)


def _evaluation(found: Constants, cluster: Cluster) -> Stage:
    """Features of all images and neighbors of some, which one process computes."""
    alone = Cluster(images=cluster.images, gpus=min(cluster.gpus, 1))
    stage = _pass(found, alone, "evaluation", pace_of(found, alone, found.need("forward_images_per_second")), 0.0)
    operations = 2 * min(QUERIES, cluster.images) * cluster.images * found.need("dim")
    return stage._replace(seconds=stage.seconds + operations / found.need("products_per_second"))


def _pass(found: Constants, cluster: Cluster, name: str, pace: Pace, disk: float) -> Stage:
    traffic = found.need("stored_bytes") / pace.seconds / cluster.machines
    return Stage(name, cluster.images * pace.seconds, pace.bound_by, disk, traffic)
