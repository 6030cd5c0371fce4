"""Kill runs at moments of their life, resume them, and compare them bit for bit with an uninterrupted run.

A run is the command line (`limbeck pretrain`, then `limbeck resume`) on 250 real digits, in a process of its own that
is forked from one that has imported PyTorch. The process reports the moments of its life as they begin; SIGKILL comes
after a random part of the time that this moment took in the uninterrupted run.
"""

import csv
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.helpers.forks import FORKS

Life = list[tuple[str, float]]
TIMED = {"images_per_second", "data_wait"}  # columns of metrics.csv that depend on the time of day
VIT = '{"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2, "drop_path_rate": 0.2}'
SMALL = ["--method.hidden", "64", "--method.dim", "32", "--precision", "fp32"]
SMALL += ["--backbone", "vit_tiny_patch16_224", "--backbone.args", VIT]
SMALL += [
    "--epochs",
    "5",
    "--batch-size",
    "48",
    "--log-every-steps",
    "2",
    "--eval-every-epochs",
    "1",
    "--checkpoint-every-minutes",
    "0",
    "--progressive-resizing",
    "0.4",
    "--patch-drop-rate",
    "0.25",
]
METHODS = {
    "byol": ["--method", "byol", *SMALL],
    "mocov2, a queue": ["--method", "mocov2", "--method.queue-size", "96", *SMALL],
    "simclr, 2 micro-batches, SGD": ["--method", "simclr", "--accumulate-steps", "2", *SMALL, "--optim", "sgd"],
}


class Kill(NamedTuple):
    """A signal to send in the `number`-th time (from 1) of a moment, after `delay` seconds of it."""

    moment: str
    number: int
    delay: float
    sent: signal.Signals = signal.SIGKILL


def write_store(folder: Path) -> Path:
    """Write a store of every twentieth digit, 16 pixels squared."""
    from limbeck.data.samples import digits
    from limbeck.data.store.open import build_store

    images, labels = digits()
    rows = slice(None, None, 20)
    np.savez(folder / "digits.npz", images=np.ascontiguousarray(images[rows, 6:22, 6:22]), labels=labels[rows])
    return build_store(folder / "digits.npz", folder / "store").path or folder


def run(command: list[str], log: Path, kill: Kill | None = None) -> tuple[int, Life]:
    """Run a command of `limbeck` in a process of its own, which `kill` ends.

    Return its exit code (-9 if killed) and the moments of its life with the time at which each began.
    """
    receiver, sender = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_command, args=(command, log, sender))
    process.start()
    sender.close()
    began: Life = []
    with suppress(EOFError):
        while True:
            began.append((receiver.recv(), time.monotonic()))
            if kill and [moment for moment, _ in began].count(kill.moment) == kill.number:
                time.sleep(kill.delay)
                os.kill(process.pid or 0, kill.sent)
                kill = None
    process.join()
    assert process.exitcode is not None
    return process.exitcode, began


def _command(command: list[str], log: Path, pipe: Connection) -> None:
    from limbeck import cli
    from limbeck.modalities.images import Images
    from limbeck.train import loop, step
    from limbeck.train.metrics_file import MetricsFile

    torch.set_num_threads(1)
    with log.open("a") as stream:
        os.dup2(stream.fileno(), sys.stdout.fileno())
        os.dup2(stream.fileno(), sys.stderr.fileno())
    pipe.send("start")
    _announce(step, "seed_step", "step", pipe)
    _announce(MetricsFile, "add", "row", pipe, then="step")
    _announce(loop, "save_checkpoint", "checkpoint", pipe, then="step")
    _announce(loop, "evaluate_encoder", "evaluation", pipe, then="step")
    _announce(Images, "save_encoder", "encoder", pipe, then="step")
    cli.main(command)


def _announce(owner: Any, name: str, moment: str, pipe: Connection, then: str | None = None) -> None:
    """Make a function report when it begins and, if another moment follows then, when it ends."""
    function: Callable[..., Any] = getattr(owner, name)

    @wraps(function)
    def announced(*args: Any, **kwargs: Any) -> Any:
        pipe.send(moment)
        result = function(*args, **kwargs)
        if then:
            pipe.send(then)
        return result

    setattr(owner, name, announced)


def next_command(folder: Path, command: list[str]) -> list[str]:
    """Return the command after a kill: `resume`, or the first command again if there is no run yet."""
    return ["resume", str(folder)] if (folder / "config.json").exists() else command


def differences(one: Path, other: Path) -> list[str]:
    """Return what differs between two finished runs: tensors of the checkpoint and the encoder, rows of metrics.csv."""
    a, b = (_content(run) for run in (one, other))
    return sorted(name for name in a.keys() | b.keys() if not _equal(a.get(name), b.get(name)))


def _content(run: Path) -> dict[str, Any]:
    state = torch.load(run / "checkpoint.ckpt", weights_only=True)
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]
    encoder = {file.name: file.read_bytes() for file in (run / "encoder").iterdir() if file.suffix == ".safetensors"}
    return dict(_flat(state)) | encoder | {"metrics.csv": rows, "config.json": (run / "config.json").read_text()}


def _flat(tree: Any, where: str = "") -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in _flat(value, f"{where}.{key}")]
    return [(where, tree)]


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a == b)


def choose(life: Life, moment: str, chance: random.Random) -> Kill:
    """Return a random time within a random occurrence of a moment."""
    seconds = [end - start for (kind, start), (_, end) in pairwise(life) if kind == moment]
    return Kill(moment, chance.randint(1, len(seconds)), chance.uniform(0, median(seconds)))


def kill_and_resume(folder: Path, command: list[str], kills: list[Kill], log: Path) -> list[str]:
    """Complete a run in spite of `kills`; return the moments that these ended, with half-written files."""
    ended = []
    for kill in kills:
        code, life = run(next_command(folder, command), log, kill)
        halves = [f" with half of {Path(half.stem[1:]).stem}" for half in folder.rglob(".*.unfinished")]
        ended += [life[-1][0] + "".join(halves)] if code == -9 else []
    code, _ = run(next_command(folder, command), log)
    assert code == 0, log.read_text()
    return ended
