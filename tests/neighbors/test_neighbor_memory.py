"""What is computed block by block takes the memory of a block, however many rows there are."""

import sys
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.neighbors.vectors import UnitVectors
from tests.helpers.forks import FORKS


def most_memory() -> int:
    """Return the most memory in MiB that this process has had."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10


def grow(sender: Connection) -> None:
    """Send how much the memory grows by the lengths of rows that take 55 MiB, and 220 in float64."""
    torch.set_num_threads(1)
    rows = np.ones((100_000, 289), np.float16)
    before = most_memory()
    UnitVectors(rows, None, torch.device("cpu"))
    sender.send(most_memory() - before)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_lengths_of_rows_leave_no_holes_in_the_heap() -> None:
    receiver, sender = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=grow, args=(sender,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert receiver.recv() < 110  # 41 to 60; where results lie between the blocks 188 to 204
