"""Once this is imported, nothing waits for the disk: no test cuts the power, and files are read from memory."""

import os
from typing import Any


def fsync(fd: Any) -> None:
    """Return at once; OSError of a descriptor that is none."""
    os.fstat(fd)


os.fsync = fsync
