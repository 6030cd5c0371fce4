"""What a teacher says of a whole store, once: float16 unit vectors on a disk, to be read instead of asked for.

A cache is a folder for one teacher and one store. Each pass over the store is a file of its own, [N D], named after
the digest of what the teacher was shown: the plain images, or one draw of a view, which the loader can repeat.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from numpy.typing import NDArray

from limbeck.core.config import to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.progress import progress
from limbeck.core.resumable import ResumableArray
from limbeck.core.text import format_bytes, format_duration
from limbeck.data.augment.views import View
from limbeck.data.store.store import Store
from limbeck.features.images import ImageFn, augmented_images, eval_images
from limbeck.teachers.frozen import LoadedTeacher

VERSION = 1
BLOCK = 4096  # rows between two marks of how far a pass has come
BATCH = 256
TIMED = 64  # images that the time of a pass is reckoned from
REMEDY = "delete the folder of the cache, and it is made again"
Vectors = NDArray[np.float16]


class Cache:
    """The passes of one teacher over one store.

    Args:
        folder: made if it is not there; one of another teacher or store is refused.
        frozen: the teacher.
        store: the images.
        device: where the teacher answers.
        say: where to tell what a pass will cost.

    Raises:
        UserError: the folder belongs to another teacher or store, or to something else.
    """

    def __init__(
        self, folder: Path, frozen: LoadedTeacher, store: Store, device: torch.device, say: Callable[[str], None]
    ) -> None:
        self.folder, self.frozen, self.store, self.device, self.say = folder, frozen, store, device, say
        self.network = frozen.network.to(device)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            self._belong()

    def plain(self) -> Vectors:
        """Of the images as they are evaluated, float16 [N D], unit rows, read-only."""
        frozen = self.frozen
        look = eval_images(self.store, frozen.size, frozen.mean, frozen.std, self.device, frozen.interpolation)
        return self._passes({"plain": True}, look)

    def centred(self, center: NDArray[np.float32]) -> tuple[Vectors, str]:
        """`plain` less a centre [D], and what tells it apart from others in the name of a file."""
        plain, mark = self.plain(), sha256(center.tobytes()).hexdigest()[:16]
        with FileLock(self.folder / ".lock"):
            bank = ResumableArray(
                self.folder / f"centered-{mark}.npy", (self.frozen.dim,), np.float16, {"center": mark}
            )
            for start in range(bank.rows, len(plain), BLOCK):
                bank.append(plain[start : start + BLOCK] - center)
                bank.commit()
        return bank.read(), mark

    def drawn(self, view: View, number: int, seed: int, draw: int) -> Vectors:
        """Of draw `draw` of a view, whose number among the views is `number`; as `plain`."""
        shown = {"view": asdict(view), "number": number, "drawn_from": seed, "draw": draw}
        return self._passes(shown, augmented_images(self.store, view, number, self.device, seed, draw))

    def bytes(self, passes: int) -> int:
        """On the disk, of so many passes."""
        return 2 * len(self.store) * self.frozen.dim * passes

    def _belong(self) -> None:
        """Writes down whose cache this is, or compares."""
        file, frozen, store = self.folder / "cache.json", self.frozen, self.store
        wanted = {"version": VERSION, "teacher": frozen.digest, "store": store.digest}
        if not file.exists():
            write_json(file, wanted | {"source": frozen.source})
            return
        found = read_json(file, REMEDY)
        for name, value in wanted.items():
            stored = found.get(name) if isinstance(found, dict) else None
            if stored != value:
                raise UserError(
                    f"{self.folder} keeps the answers of another {name} ({stored!r:.16}, not {value!r:.16}); "
                    "name another folder, or none",
                    code="other-cache",
                )

    def _passes(self, shown: dict[str, Any], look: ImageFn) -> Vectors:
        """The rows of one pass, those that are missing answered first; other processes wait."""
        shown = {**shown, "size": self.frozen.size, "mean": self.frozen.mean, "std": self.frozen.std}
        name = sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16]
        with FileLock(self.folder / ".lock"):
            bank = ResumableArray(self.folder / f"{name}.npy", (self.frozen.dim,), np.float16, to_json(shown))
            if bank.rows < len(self.store):
                self._answer(bank, look)
        return bank.read()

    def _answer(self, bank: ResumableArray, look: ImageFn) -> None:
        if not bank.rows:
            self._check_room()
        self.say(self._cost(look, len(self.store) - bank.rows))
        for start in progress(range(bank.rows, len(self.store), BLOCK), "the teacher's answers"):
            stop = min(start + BLOCK, len(self.store))
            for at in range(start, stop, BATCH):
                found = F.normalize(self.network(look(np.arange(at, min(at + BATCH, stop)))).vector, dim=1)
                bank.append(found.cpu().numpy().astype(np.float16))
            bank.commit()

    def _check_room(self) -> None:
        """UserError unless a pass fits on the disk."""
        free = shutil.disk_usage(self.folder).free
        if free < self.bytes(1):
            raise UserError(
                f"{self.folder} has {format_bytes(free)} left and a pass of the teacher takes "
                f"{format_bytes(self.bytes(1))}: make room, or ask the teacher live (--teacher.cached-views 0)",
                code="disk-full",
            )

    def _cost(self, look: ImageFn, images: int) -> str:
        rows = np.arange(min(TIMED, len(self.store)))
        self.network(look(rows[:8]))  # the first call allocates and chooses kernels
        began = time.perf_counter()
        self.network(look(rows)).vector.cpu()
        seconds = (time.perf_counter() - began) / len(rows) * images
        return (
            f"asking the teacher about {images:,} images once: about {format_duration(seconds)}, "
            f"{format_bytes(self.bytes(1))} in {self.folder}"
        )
