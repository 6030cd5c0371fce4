"""Features of a teacher for a whole store, computed once: float16 unit vectors on disk, and feature maps of 8 bits.

A cache is a folder for one teacher and one store. Each pass over the store is an array of its own, [N D], named after a
hash of the views that were passed: the central ones, or one draw of an augmentation, which the loader can repeat. Maps
are on the principal axes of this teacher and store, which are in the folder, too (`map_code`).
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
from jaxtyping import Float, Float16, Int8
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.blocks import BlockArrays
from limbeck.core.config import to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.locks import wait_for_folder
from limbeck.core.progress import progress_bar
from limbeck.core.resumable_array import ResumableArray
from limbeck.core.text import format_bytes, format_duration
from limbeck.core.types import Dataset
from limbeck.data.augment.views import View
from limbeck.data.store.store import Store
from limbeck.features.images import ImageFn, augmented_images
from limbeck.teachers.frozen import LoadedTeacher
from limbeck.teachers.map_code import COMPONENTS, encode_maps, principal_axes

logger = logging.getLogger(__name__)

VERSION = 1
BLOCK = 4096  # rows of a block: what a process computes at a time, and what a killed one costs
BATCH = 256
TIMED = 64  # images, timed to estimate a whole pass
REMEDY = "delete the folder of the cache, and it is made again"
Vectors = Float16[np.ndarray, "N D"]
Maps = Int8[np.ndarray, "N K H W"]
MAPS, AXES = "-maps", "map-axes"  # suffix of a name of maps; name of their axes
AXES_IMAGES = 256  # whose maps the axes are fitted to


@dataclass(frozen=True)
class ViewDraw:
    """Values that determine the random parameters of a view."""

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
        self, folder: Path, teacher: LoadedTeacher, store: Dataset, device: torch.device, ends: float = math.inf
    ) -> None:
        self.folder, self.teacher, self.store, self.device, self.ends = folder, teacher, store, device, ends
        self.network = teacher.network.to(device)
        with wait_for_folder(folder):
            self._check_owner()

    def features(self) -> Vectors:
        """Return the unit vectors of the central views, read-only."""
        (vectors,) = self._pass({"view": "central"}, self.teacher.images(self.store, self.device))
        return vectors

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
        assert isinstance(self.store, Store), "augmentations are of images"
        draw = asdict(ViewDraw(view, draw_index, seed, epoch))
        (vectors,) = self._pass(draw, augmented_images(self.store, view, draw_index, self.device, seed, epoch))
        return vectors

    def view_maps(self, view: View, draw_index: int, seed: int, epoch: int) -> Maps:
        """Return the feature maps of one draw of a view, coded; read-only. The same pass stores its unit vectors."""
        assert isinstance(self.store, Store), "augmentations are of images"
        draw = asdict(ViewDraw(view, draw_index, seed, epoch))
        images = augmented_images(self.store, view, draw_index, self.device, seed, epoch)
        return self._pass(draw, images, self.map_axes())[1]

    def map_axes(self) -> Float[Tensor, "C K"]:
        """Return the principal axes of the maps of some images, spread over the store, which are fitted once."""
        width = (min(COMPONENTS, self.teacher.map_dim),)
        with wait_for_folder(self.folder):
            array = ResumableArray(self.folder / f"{AXES}.npy", width, np.float32, {"images": AXES_IMAGES})
            if array.rows < self.teacher.map_dim:
                rows = np.linspace(0, len(self.store) - 1, min(AXES_IMAGES, len(self.store))).astype(np.int64)
                images = self.teacher.images(self.store, self.device)
                found = principal_axes(
                    self._map(images(part)).cpu() for part in np.array_split(rows, -(-len(rows) // 32))
                )
                logger.info(
                    "%d components have %.0f %% of the squares of the teacher's maps", *width, 100 * found.share
                )
                array.append(found.axes.numpy())
                array.commit()
        return torch.from_numpy(np.array(array.read()))

    def _map(self, images: Tensor) -> Float[Tensor, "B C H W"]:
        """Return the feature maps of some images."""
        found = self.network(images, feature_map=True).feature_map
        assert found is not None, "a dense term without maps is refused"
        return found

    def bytes(self, passes: int) -> int:
        """Return the size on disk of the vectors of so many passes."""
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

    def _pass(
        self, views: dict[str, Any], images: ImageFn, axes: Float[Tensor, "C K"] | None = None
    ) -> list[NDArray[Any]]:
        """Return the vectors of one pass and, with `axes`, the maps; what is missing is computed, by all processes."""
        teacher = self.teacher
        settings = {**views, "image_size": teacher.image_size, "mean": teacher.mean, "std": teacher.std}
        name = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        shapes: dict[str, tuple[int, ...]] = {name: (teacher.dim,)}
        if axes is not None:
            shapes[f"{name}{MAPS}"] = (axes.shape[1], *self._map(images(np.arange(1))).shape[2:])
        kinds = {key: np.int8 if key.endswith(MAPS) else np.float16 for key in shapes}

        def stored(key: str) -> ResumableArray:
            return ResumableArray(self.folder / f"{key}.npy", shapes[key], kinds[key], to_json(settings))

        with wait_for_folder(self.folder):
            missing = {key: shape for key, shape in shapes.items() if stored(key).rows < len(self.store)}
            part = BlockArrays(self.folder / "-".join(["pass", *missing]), len(self.store), missing, BLOCK, kinds)
            if missing:
                if not part.folder.is_dir():
                    self._check_space(part.nbytes)
                part.create()
        if missing:
            self._compute(part, images, axes)
        with wait_for_folder(self.folder):
            if missing and part.folder.is_dir():
                for key in missing:
                    write_json(stored(key).manifest, {"settings": to_json(settings), "rows": len(self.store)})
                part.move_to(self.folder)
        return [stored(key).read() for key in shapes]

    def _compute(self, part: BlockArrays, images: ImageFn, axes: Float[Tensor, "C K"] | None) -> None:
        """Compute blocks of a pass until all are there, those of other processes included."""
        blocks = part.missing()
        count = sum(rows.stop - rows.start for rows in blocks)
        self._log_cost(images, count, part.nbytes)
        with progress_bar(count, "teacher features", unit="images") as bar:
            for rows in part.claimed():
                answers = list(self._answers(rows, images, axes))
                values = [np.concatenate(arrays) for arrays in zip(*answers, strict=True)]
                part.write(rows, {key: values[key.endswith(MAPS)] for key in part.shapes})
                bar.advance(count - bar.done - sum(left.stop - left.start for left in part.missing()))

    def _answers(self, rows: slice, images: ImageFn, axes: Float[Tensor, "C K"] | None) -> Iterator[list[NDArray[Any]]]:
        """Yield the vectors of some rows, batch by batch, and with `axes` their maps."""
        axes = None if axes is None else axes.to(self.device)
        for start in range(rows.start, rows.stop, BATCH):
            output = self.network(images(np.arange(start, min(start + BATCH, rows.stop))), axes is not None)
            found = [F.normalize(output.vector, dim=1).cpu().numpy().astype(np.float16)]
            if axes is not None and output.feature_map is not None:
                found.append(encode_maps(output.feature_map, axes).cpu().numpy())
            yield found

    def _check_space(self, needed: int) -> None:
        """Raise UserError unless a pass of so many bytes fits on the disk."""
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise UserError(
                f"'{self.folder}' has {format_bytes(free)} of free space and the teacher's features of a pass take "
                f"{format_bytes(needed)}: make room, or run the teacher in every step "
                "(--teacher.cached-views 0)",
                code="disk-full",
            )

    def _log_cost(self, images: ImageFn, count: int, size: int) -> None:
        rows = np.arange(min(TIMED, len(self.store)))
        self.network(images(rows[:8]))  # the first call allocates and chooses kernels
        start = time.perf_counter()
        self.network(images(rows)).vector.cpu()
        seconds = (time.perf_counter() - start) / len(rows) * count
        logger.info(
            "computing teacher features of %s images: about %s, %s in %s",
            f"{count:,}",
            format_duration(seconds),
            format_bytes(size),
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
