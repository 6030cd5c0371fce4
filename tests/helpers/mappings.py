"""What the kernel says about the memory of a process (Linux), and a process that reads a store that it was sent."""

import re
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from limbeck.data.augment.views import View
from limbeck.data.loader import Loader
from limbeck.data.sampling import ViewSpec
from limbeck.data.store.store import Store

BATCH = 20


def mapped(folder: Path) -> dict[str, int]:
    """Return the sums, in KiB, of what /proc/self/smaps has for mappings of the files of a folder."""
    found: dict[str, int] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = f" {folder}/" in line
        elif inside and (match := re.match(r"(\w+): +(\d+) kB", line)):
            found[match[1]] = found.get(match[1], 0) + int(match[2])
    return found


def read_store(store: Store, end: Connection) -> None:
    """Load an epoch of tiny views; send what is mapped, and a sum of the pixels."""
    torch.set_num_threads(1)
    loader = Loader(store, (ViewSpec(augmentation=View(size=8)),), BATCH, seed=0, device=torch.device("cpu"))
    total = sum(int(store.images[start : start + BATCH].sum()) for start in range(0, len(store), BATCH))
    sum(float(batch.views[0].mean()) for batch in loader.batches(0, loader.steps_per_epoch))
    assert store.path
    end.send((mapped(store.path), total))
