"""Features of a teacher for a whole store, computed once: float16 unit vectors on disk.

A cache is a folder for one teacher and one store. Each pass over the store is an array of its own, [N D], named after a
hash of the views that were passed: the central ones, or one draw of an augmentation, which the loader can repeat.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float16
from numpy.typing import NDArray

from limbeck.core.blocks import BlockArrays
from limbeck.core.config import to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.locks import wait_for_folder
from limbeck.core.progress import progress_bar
from limbeck.core.resumable import ResumableArray
from limbeck.core.text import format_bytes, format_duration
from limbeck.data.augment.views import View
from limbeck.data.store.store import Store
from limbeck.features.images import ImageFn, augmented_images
from limbeck.teachers.frozen import LoadedTeacher

logger = logging.getLogger(__name__)

VERSION = 1
BLOCK = 4096  # rows of a block: what a process computes at a time, and what a killed one costs
BATCH = 256
TIMED = 64  # images, timed to estimate a whole pass
REMEDY = "delete the folder of the cache, and it is made again"
Vectors = Float16[np.ndarray, "N D"]


@dataclass(frozen=True)
class ViewDraw:
    """What the random parameters of a view follow from."""

    view: View
    draw_index: int
    seed: int
    epoch: int


class FeatureCache:
    """The features of one teacher for one store.

    Args:
        folder: created if it does not exist; that of another teacher or store is refused.
        teacher: the network and its preprocessing.
        store: the images.
        device: where the teacher runs.
        ends: when all of it has to be done, on the clock of `time.monotonic`: a pass that takes longer is refused.

    Raises:
        UserError: the folder belongs to another teacher or store, or to something else.
    """

    def __init__(
        self, folder: Path, teacher: LoadedTeacher, store: Store, device: torch.device, ends: float = math.inf
    ) -> None:
        self.folder, self.teacher, self.store, self.device, self.ends = folder, teacher, store, device, ends
        self.network = teacher.network.to(device)
        with wait_for_folder(folder):
            self._check_owner()

    def features(self) -> Vectors:
        """Return the unit vectors of the central views, read-only."""
        return self._pass({"view": "central"}, self.teacher.images(self.store, self.device))

    def centered_features(self, center: NDArray[np.float32]) -> tuple[Vectors, str]:
        """Return `features` minus a center [D], and a hash of the center for the names of files."""
        features, name = self.features(), sha256(center.tobytes()).hexdigest()[:16]
        path, width = self.folder / f"centered-{name}.npy", (self.teacher.dim,)
        with wait_for_folder(self.folder):
            array = ResumableArray(path, width, np.float16, {"center": name})
            for start in range(array.rows, len(features), BLOCK):
                array.append(features[start : start + BLOCK] - center)
                array.commit()
        return array.read(), name

    def view_features(self, view: View, draw_index: int, seed: int, epoch: int) -> Vectors:
        """Return the unit vectors of one draw of a view, as the loader draws it; read-only."""
        draw = asdict(ViewDraw(view, draw_index, seed, epoch))
        return self._pass(draw, augmented_images(self.store, view, draw_index, self.device, seed, epoch))

    def bytes(self, passes: int) -> int:
        """Return the size on disk of so many passes."""
        return 2 * len(self.store) * self.teacher.dim * passes

    def _check_owner(self) -> None:
        """Record teacher and store in a new folder; raise UserError if the folder records others."""
        file = self.folder / "cache.json"
        expected = {"version": VERSION, "teacher": self.teacher.digest, "store": self.store.digest}
        if not file.exists():
            write_json(file, expected | {"source": self.teacher.source})
            return
        found = read_json(file, REMEDY)
        for name, value in expected.items():
            stored = found.get(name) if isinstance(found, dict) else None
            if stored != value:
                raise UserError(
                    f"'{self.folder}' is the cache of another {name} ({stored!r:.16} instead of {value!r:.16}): "
                    "set --teacher.cache to another folder, or leave it out",
                    code="other-cache",
                )

    def _pass(self, views: dict[str, Any], images: ImageFn) -> Vectors:
        """Return the features of one pass, after computing those that are missing, in all processes that need it."""
        teacher = self.teacher
        settings = {**views, "image_size": teacher.image_size, "mean": teacher.mean, "std": teacher.std}
        name = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

        def stored() -> ResumableArray:
            return ResumableArray(self.folder / f"{name}.npy", (teacher.dim,), np.float16, to_json(settings))

        part = BlockArrays(self.folder / f"pass-{name}", len(self.store), {name: (teacher.dim,)}, BLOCK, np.float16)
        with wait_for_folder(self.folder):
            if stored().rows == len(self.store):
                return stored().read()
            if not part.folder.is_dir():
                self._check_space()
            part.create()
        self._compute(part, images)
        with wait_for_folder(self.folder):
            if part.folder.is_dir():
                write_json(stored().manifest, {"settings": to_json(settings), "rows": len(self.store)})
                part.move_to(self.folder)
        return stored().read()

    def _compute(self, part: BlockArrays, images: ImageFn) -> None:
        """Compute blocks of a pass until all are there, those of other processes included."""
        blocks = part.missing()
        count = sum(rows.stop - rows.start for rows in blocks)
        self._log_cost(images, count)
        (name,) = part.shapes
        with progress_bar(count, "teacher features", unit="images") as bar:
            for rows in part.claimed():
                part.write(rows, {name: np.concatenate(list(self._vectors(rows, images)))})
                bar.advance(count - bar.done - sum(left.stop - left.start for left in part.missing()))

    def _vectors(self, rows: slice, images: ImageFn) -> Iterator[NDArray[np.float16]]:
        for start in range(rows.start, rows.stop, BATCH):
            batch = np.arange(start, min(start + BATCH, rows.stop))
            vectors = F.normalize(self.network(images(batch)).vector, dim=1)
            yield vectors.cpu().numpy().astype(np.float16)

    def _check_space(self) -> None:
        """Raise UserError unless a pass fits on the disk."""
        free = shutil.disk_usage(self.folder).free
        if free < self.bytes(1):
            raise UserError(
                f"'{self.folder}' has {format_bytes(free)} of free space and the teacher's features of a pass take "
                f"{format_bytes(self.bytes(1))}: make room, or run the teacher in every step "
                "(--teacher.cached-views 0)",
                code="disk-full",
            )

    def _log_cost(self, images: ImageFn, count: int) -> None:
        rows = np.arange(min(TIMED, len(self.store)))
        self.network(images(rows[:8]))  # the first call allocates and chooses kernels
        start = time.perf_counter()
        self.network(images(rows)).vector.cpu()
        seconds = (time.perf_counter() - start) / len(rows) * count
        logger.info(
            "computing teacher features of %s images: about %s, %s in %s",
            f"{count:,}",
            format_duration(seconds),
            format_bytes(self.bytes(1)),
            self.folder,
        )
        self._check_time(count, seconds)

    def _check_time(self, count: int, seconds: float) -> None:
        """Raise UserError unless a pass over `count` images, of so many seconds, ends in time."""
        if (left := self.ends - time.monotonic()) < seconds:
            raise UserError(
                f"the time is too short: the teacher's features of {count:,} images take about "
                f"{format_duration(seconds)}, and {format_duration(max(left, 0))} are left: give more (--time), or let "
                "`limbeck plan` with the same options compute them first",
                code="time-too-short",
            )
