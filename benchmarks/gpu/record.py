"""A file that grows by one JSON line per finding, so that nothing is lost if the process ends early."""

import json
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

Findings = Iterator[dict[str, Any]]


class Machine(NamedTuple):
    """The folders and the device of the battery."""

    device: torch.device
    train: Path  # parquet files of CIFAR-10, or stores
    test: Path
    baseline: Path  # folder for stores and runs
    toy: bool  # sizes that a laptop's CPU manages in a test


class Item(NamedTuple):
    """A check or a measurement; it yields its findings one by one."""

    name: str
    run: Callable[[Machine], Findings]
    minutes: float  # that it takes; it is not begun with less left


def play(items: list[Item], machine: Machine, out: Path, minutes: float) -> int:
    """Run the items in their order for as long as there is time; return how many ended in an error."""
    end = time.monotonic() + 60 * minutes
    failed = 0
    for item in items:
        if time.monotonic() + 60 * item.minutes > end and not machine.toy:
            note(out, {"item": item.name, "skipped": f"less than {item.minutes:g} minutes left"})
            continue
        began = time.monotonic()
        try:
            for found in item.run(machine):
                note(out, {"item": item.name, **found})
        except Exception as error:  # one broken item must not take the others with it
            failed += 1
            trace = traceback.format_exception(error)
            note(out, {"item": item.name, "error": f"{type(error).__name__}: {error}", "trace": "".join(trace[-4:])})
        note(out, {"item": item.name, "took_s": round(time.monotonic() - began, 1)})
    return failed


def note(out: Path, line: dict[str, Any]) -> None:
    """Append a line to the file, and print it."""
    text = json.dumps(line)
    with out.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    print(text, flush=True)
