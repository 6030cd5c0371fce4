"""Limits of a plan: the first number of images, or of GPUs, that is too many."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from limbeck.runs.scale.arithmetic import Workload, exchange_seconds
from limbeck.runs.scale.constants import Constants

DAY = 86_400.0
INDEX_BYTES = 32  # of an image, in the memory of each process
MEMORY_SHARE = 0.25  # of a machine, for the index
FEW_IMAGES = 32  # per step of a device: fewer leave it idle


class Limit(NamedTuple):
    """Something that stops being enough."""

    what: str
    stops_at: float
    unit: str
    planned: float
    """Amount of the unit that the plan has."""
    remedy: str

    @property
    def is_exceeded(self) -> bool:
        """Whether the plan is beyond it."""
        return self.planned > self.stops_at


def limits(found: Constants, workload: Workload) -> list[Limit]:
    """Return all limits that can be computed, in the order in which growing sets of images meet them."""
    return sorted(_of_images(found, workload), key=lambda limit: limit.stops_at) + list(_of_devices(found, workload))


def _of_images(found: Constants, workload: Workload) -> Iterator[Limit]:
    def limit(what: str, stops_at: float, remedy: str) -> Limit:
        return Limit(what, stops_at, "images", workload.images, remedy)

    if found.disk_bytes:
        raw = 3 * found.need("store_size") ** 2
        yield limit("disk for a raw store", found.disk_bytes / raw, "--keep jpeg")
        yield limit("disk for an encoded store", found.disk_bytes / found.need("stored_bytes"), "a larger disk")
    if found.memory_bytes:
        room = MEMORY_SHARE * found.memory_bytes / (INDEX_BYTES * max(workload.gpus, 1))
        yield limit(f"{MEMORY_SHARE:.0%} of the memory for the index", room, "more memory, or several stores")
    operations = DAY * workload.devices * found.need("products_per_second")
    rows = math.sqrt(operations / (2 * found.need("dim")))
    yield limit("an exact graph within a day", rows, "an approximate one (search ivf), or k-means cells")


def _of_devices(found: Constants, workload: Workload) -> Iterator[Limit]:
    if workload.gpus:
        decoded = found.need("cores") / found.need("read_core_seconds")
        for name in ("step_images_per_second", "forward_images_per_second"):
            what = "cores that decode for training" if name.startswith("step") else "cores that decode for a pass"
            yield Limit(what, decoded / found.need(name), "GPUs per machine", workload.gpus, "more cores per GPU")
    exchange = exchange_seconds(found, workload)
    if exchange:
        batch = found.need("step_images_per_second") * exchange
        what = "a network that exchanges gradients during a step"
        yield Limit(what, found.need("batch_size") / batch, "times this exchange", 1.0, "a larger batch, or network")
    if found.batch_size and found.batch_size < FEW_IMAGES:
        share = found.batch_size * workload.devices / FEW_IMAGES
        yield Limit(f"a batch of {FEW_IMAGES} images per device", share, "devices", workload.devices, "--batch-size")
