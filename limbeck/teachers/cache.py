"""What a teacher says of a whole store, once: float16 unit vectors on a disk, to be read instead of asked for.

A cache is a folder for one teacher and one store. Each pass over the store is a file of its own, [N D], named after
the digest of what the teacher was shown: the plain images, or one draw of a view, which the loader can repeat.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from numpy.typing import NDArray

from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_write, disk_full_as_user_error
from limbeck.core.progress import progress
from limbeck.data.augment.views import View
from limbeck.data.store.store import Store
from limbeck.features.images import ImageFn, augmented_images, eval_images
from limbeck.teachers.frozen import LoadedTeacher

VERSION = 1
BLOCK = 4096  # rows between two marks of how far a pass has come
BATCH = 256
TIMED = 64  # images that the time of a pass is reckoned from
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
        path = self.folder / f"centered-{mark}.npy"
        with FileLock(self.folder / ".lock"):
            if not path.exists():
                with atomic_write(path) as unfinished:
                    bank = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float16, shape=plain.shape)
                    for start in range(0, len(plain), BLOCK):
                        bank[start : start + BLOCK] = plain[start : start + BLOCK] - center
                    bank.flush()
        return _open(path, plain.shape), mark

    def drawn(self, view: View, number: int, seed: int, draw: int) -> Vectors:
        """Of draw `draw` of a view, whose number among the views is `number`; as `plain`."""
        anybodys = asdict(view) | {"same_crop_as": None, "of_partner": False}
        shown = {"view": anybodys, "number": number, "drawn_from": seed, "draw": draw}
        return self._passes(shown, augmented_images(self.store, view, number, self.device, seed, draw))

    def bytes(self, passes: int) -> int:
        """On the disk, of so many passes."""
        return 2 * len(self.store) * self.frozen.dim * passes

    def _belong(self) -> None:
        """Writes down whose cache this is, or compares."""
        file, frozen, store = self.folder / "cache.json", self.frozen, self.store
        ours = {"version": VERSION, "teacher": frozen.digest, "store": store.digest}
        if not file.exists():
            with atomic_write(file) as path:
                path.write_text(json.dumps(ours | {"source": frozen.source}, indent=2) + "\n", encoding="utf-8")
            return
        theirs = _read(file)
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise UserError(
                    f"{self.folder} keeps the answers of another {name} ({theirs.get(name)!r:.16}, not {value!r:.16}); "
                    "name another folder, or none"
                )

    def _passes(self, shown: dict[str, Any], look: ImageFn) -> Vectors:
        """The rows of one pass, those that are missing answered first; other processes wait."""
        shown = {**shown, "size": self.frozen.size, "mean": self.frozen.mean, "std": self.frozen.std}
        text = json.dumps(shown, sort_keys=True)
        stem = self.folder / sha256(text.encode()).hexdigest()[:16]
        vectors, mark = stem.with_suffix(".npy"), stem.with_suffix(".json")
        with FileLock(self.folder / ".lock"):
            done = _read(mark)["rows"] if mark.exists() else 0
            if done < len(self.store):
                self._answer(vectors, mark, shown, look, done)
        return _open(vectors, (len(self.store), self.frozen.dim))

    def _answer(self, vectors: Path, mark: Path, shown: dict[str, Any], look: ImageFn, done: int) -> None:
        shape = len(self.store), self.frozen.dim
        self.say(self._cost(look, len(self.store) - done))
        with disk_full_as_user_error(vectors):
            if not done:
                self._reserve(vectors, shape)
            bank = _open(vectors, shape, mode="r+")
            for start in progress(range(done, len(self.store), BLOCK), "the teacher's answers"):
                stop = min(start + BLOCK, len(self.store))
                for at in range(start, stop, BATCH):
                    rows = np.arange(at, min(at + BATCH, stop))
                    found = F.normalize(self.network(look(rows)).vector, dim=1)
                    bank[rows] = found.cpu().numpy().astype(np.float16)
                bank.flush()
                with atomic_write(mark) as path:
                    path.write_text(json.dumps({"shown": shown, "rows": stop}, indent=2) + "\n", encoding="utf-8")

    def _reserve(self, vectors: Path, shape: tuple[int, int]) -> None:
        """The file, empty, if there is room for it."""
        free = shutil.disk_usage(self.folder).free
        if free < self.bytes(1):
            raise UserError(
                f"{self.folder} has {free / 2**20:,.0f} MiB left and a pass of the teacher takes "
                f"{self.bytes(1) / 2**20:,.0f} MiB: make room, or ask the teacher live (--teacher.cached-views 0)"
            )
        np.lib.format.open_memmap(vectors, mode="w+", dtype=np.float16, shape=shape).flush()

    def _cost(self, look: ImageFn, images: int) -> str:
        rows = np.arange(min(TIMED, len(self.store)))
        self.network(look(rows[:8]))  # the first call allocates and chooses kernels
        began = time.perf_counter()
        self.network(look(rows)).vector.cpu()
        seconds = (time.perf_counter() - began) / len(rows) * images
        return (
            f"asking the teacher about {images:,} images once: about {timedelta(seconds=round(seconds))}, "
            f"{self.bytes(1) / 2**20:,.0f} MiB in {self.folder}"
        )


def _open(path: Path, shape: tuple[int, int], mode: Literal["r", "r+"] = "r") -> "np.memmap[Any, np.dtype[np.float16]]":
    try:
        bank = np.lib.format.open_memmap(path, mode=mode)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({one_line(error)}); remove {path.parent} to ask the teacher anew"
        ) from error
    if bank.shape != shape or bank.dtype != np.float16:
        raise UserError(f"{path} holds {bank.dtype} {bank.shape}, not float16 {shape}; remove {path.parent}")
    return bank


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {one_line(error)}; remove {file.parent} to ask the teacher anew") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} is not what a cache writes; remove {file.parent} to ask the teacher anew")
    return found
