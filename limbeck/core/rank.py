"""Read the rank of this process, before the processes meet and without importing torch."""

import os


def is_rank0() -> bool:
    """Return whether this process is the one that writes files and messages, from what launchers set.

    torchrun sets RANK. Fabric sets LOCAL_RANK for the processes that it starts, which inherit SLURM_PROCID of a shell.
    """
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
