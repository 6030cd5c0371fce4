"""Paired measurements: rounds in which every side runs once, so that a busy machine hurts all alike."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

OURS = "limbeck"
Rounds = dict[str, list[float]]
"""Name of a side -> what every round measured; lower is better."""
Side = Callable[[int], object]
"""Computes something; gets the number of the round, from 0."""


class Measured(NamedTuple):
    """One measurement of all sides."""

    item: str
    unit: str
    rounds: Rounds
    note: str = ""


Measurements = Iterator[Measured]


def paired(sides: Mapping[str, Side], rounds: int, count: int = 1) -> Rounds:
    """Return the milliseconds of processor time of every side and round, divided by `count`; a first round warms up."""
    found: Rounds = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            start = time.process_time()
            side(number)
            found[name].append(1e3 * (time.process_time() - start) / count)
    return {name: values[1:] for name, values in found.items()}


def commit() -> str:
    """Return the short hash of the commit that is measured."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def processor() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if os.path.exists("/proc/cpuinfo") else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(out: Path, measured: Measured, versions: Mapping[str, str]) -> None:
    """Put a measurement into the file of results at once, in the place of an older one of the same name."""
    results: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    results[measured.item] = {
        "unit": measured.unit,
        "rounds": {name: [round(value, 4) for value in values] for name, values in measured.rounds.items()},
        "note": measured.note,
        "date": date.today().isoformat(),
        "commit": commit(),
        "processor": processor(),
        "load": round(os.getloadavg()[0], 1),
        "versions": dict(versions),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({measured.item: results[measured.item]}), flush=True)
