"""Once this is imported, nothing waits for the disk: no test cuts the power, and files are read from memory."""

import os


def fsync(handle: int) -> None:
    """Return at once; OSError of a handle that is none."""
    os.fstat(handle)


os.fsync = fsync
