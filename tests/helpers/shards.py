"""A piece of work on shards for the tests of runners, in a module that workers import quickly."""

import os
import signal
from pathlib import Path
from typing import Any

from limbeck.core.errors import UserError


def write(spec: dict[str, Any], shard: int) -> None:
    """Write a file for a shard; according to the specification, fail or die first."""
    folder = Path(spec["folder"])
    tries = len(list(folder.glob(f"try-{shard}-*")))
    (folder / f"try-{shard}-{tries}").touch()
    if shard == spec.get("dies") and tries < spec["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    if shard == spec.get("fails") and tries < spec["times"]:
        raise RuntimeError("out of memory")
    if shard == spec.get("refuses"):
        raise UserError("'/full' could not be written", code="disk-full")
    (folder / f"{shard}.txt").write_text(str(shard**2))
