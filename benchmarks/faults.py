"""Break methods on purpose, and report which guard detects it: law, oracle or band.

    python -m benchmarks.faults

A fault replaces one function, in every Python process that has LIMBECK_FAULT in its environment (through a
sitecustomize.py in a temporary folder), so that it also reaches the processes that a test starts. The guards are the
project's own tests; the first one that fails is named.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
GUARDS = {
    "law of a step": ["tests/conformance/test_laws.py"],
    "law of processes": ["tests/conformance/test_processes.py"],
    "law of a run": ["tests/conformance/test_runs.py"],
    "oracle": [
        "tests/methods",
        "tests/losses",
        "tests/models/test_queue.py",
        "tests/core/test_distributed.py",
        "tests/data",
    ],
    "band": ["tests/conformance/test_bands.py"],
}
HOOK = """import os, traceback
try:
    from benchmarks.faults import install
    install(os.environ["LIMBECK_FAULT"])
except BaseException:
    traceback.print_exc()
    os._exit(70)  # otherwise Python would continue without the fault
"""
CONTROL = "no fault"
FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {}
"""Name -> function that installs the fault, and the tests it concerns (pytest -k)."""


def fault(name: str, methods: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function that is called with `replace(owner, name, value)`, a lasting patch."""

    def register(install: Callable[[Any], None]) -> Callable[[Any], None]:
        FAULTS[name] = (install, methods)
        return install

    return register


@fault(CONTROL, "byol or mocov2 or simclr")
def _nothing(replace: Any) -> None:
    pass


@fault("no stop-gradient: the trained network computes its own targets", "byol")
def _no_stop_gradient(replace: Any) -> None:
    from limbeck.core.distributed import gather
    from limbeck.methods.base import EMAHost

    replace(EMAHost, "ema_forward", lambda self, view, *_: gather(self.head.project(self.backbone(view).final)))


@fault("EMA encoder is never updated", "byol")
def _frozen(replace: Any) -> None:
    from limbeck.models.ema import EMA

    replace(EMA, "update", lambda self, source, momentum: None)


@fault("EMA encoder with momentum 0", "byol")
def _forgetful(replace: Any) -> None:
    from limbeck.models.ema import EMA

    update = EMA.update
    replace(EMA, "update", lambda self, source, momentum: update(self, source, 0.0))


@fault("nothing is enqueued", "mocov2 or state or test_queue.py")
def _still_queue(replace: Any) -> None:
    from limbeck.models.queue import Queue

    replace(Queue, "enqueue", lambda self, new_rows: None)


@fault("only the rows of the process itself are enqueued", "mocov2 or state or test_queue.py")
def _own_queue(replace: Any) -> None:
    from limbeck.core.distributed import local_rows
    from limbeck.models.queue import Queue

    enqueue = Queue.enqueue
    replace(Queue, "enqueue", lambda self, new_rows: enqueue(self, {k: local_rows(v) for k, v in new_rows.items()}))


@fault("moments of each process by itself", "vicreg")
def _own_moments(replace: Any) -> None:
    import limbeck.methods.vicreg

    replace(limbeck.methods.vicreg, "mean_over_processes", lambda x: x)


@fault("the center is never updated", "dino")
def _still_center(replace: Any) -> None:
    from limbeck.methods.base import EMAHost
    from limbeck.methods.dino import DINO

    replace(DINO, "after_step", EMAHost.after_step)


@fault("the same directions in every step", "lejepa")
def _still_directions(replace: Any) -> None:
    from limbeck.methods.lejepa import LeJEPA

    directions = LeJEPA._directions
    replace(LeJEPA, "_directions", lambda self, step: directions(self, 0))


@fault("BatchNorm of each process by itself", "byol")
def _own_statistics(replace: Any) -> None:
    import limbeck.core.distributed

    replace(limbeck.core.distributed, "sync_batchnorm", lambda module, device: module)


@fault("BatchNorm over both views where each has its own", "byol")
def _joint_statistics(replace: Any) -> None:
    import torch

    from limbeck.methods.base import HostOutput, SymmetricEMAHost

    def encode(self: Any, batch: Any, taps: tuple[int, ...] = ()) -> HostOutput:
        first, second = batch.views
        both = self.backbone(torch.cat([second, first]), taps)
        halves = zip(*(tensor.chunk(2) for tensor in (both.final, *both.taps.values())), strict=True)
        features = tuple(both._replace(final=h[0], taps=dict(zip(both.taps, h[1:], strict=True))) for h in halves)
        projections = self.head.project(both.final).chunk(2)
        return HostOutput(features, projections, tuple(self.ema_forward(view) for view in (first, second)), {})

    replace(SymmetricEMAHost, "encode", encode)


@fault("all views of an image are the same", "byol or views or loader")
def _identical_views(replace: Any) -> None:
    from limbeck.data.loader import Loader

    view = Loader._view
    replace(Loader, "_view", lambda self, index, *args: view(self, 0, *args))


@fault("one side detached", "simclr")
def _detached(replace: Any) -> None:
    from limbeck.core.distributed import gather
    from limbeck.methods.base import host

    replace(host, "gather", lambda rows: gather(rows.detach()))


@fault("gradient of gathered rows stays with their process", "simclr")
def _local_gradient(replace: Any) -> None:
    from limbeck.core.distributed import _Gather, local_rows

    replace(_Gather, "backward", staticmethod(lambda ctx, *grads: local_rows(grads[0])))


@fault("a local crop has one global view as target, twice", "local_crop")
def _one_target(replace: Any) -> None:
    import limbeck.methods.base.ema_host
    import limbeck.methods.base.host
    import limbeck.methods.simclr

    def one(views: Any) -> Any:
        return *views[:2], *views[2:], *views[2:]

    for module in (limbeck.methods.base.ema_host, limbeck.methods.base.host, limbeck.methods.simclr):
        replace(module, "local_crops_twice", one)


@fault("positives are other images", "simclr or contrastive")
def _wrong_positives(replace: Any) -> None:
    import limbeck.methods.mocov3
    import limbeck.methods.simclr
    from limbeck.losses.contrastive import info_nce

    def wrong(queries: Any, keys: Any, positives: Any, *rest: Any, **named: Any) -> Any:
        return info_nce(queries, keys, positives.roll(1), *rest, **named)

    for module in (limbeck.methods.simclr, limbeck.methods.mocov3):
        replace(module, "info_nce", wrong)


def install(name: str) -> None:
    """Install a fault in this process, for its lifetime."""
    stack = ExitStack()
    FAULTS[name][0](lambda owner, attribute, value: stack.enter_context(patch.object(owner, attribute, value)))
    stack.pop_all()


def caught_by(name: str, site: str) -> list[str]:
    """Return for each guard the first test that fails, or a dash."""
    environment = os.environ | {"LIMBECK_FAULT": name, "PYTHONPATH": f"{site}:{ROOT}", "OMP_NUM_THREADS": "1"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # jaxtyping's refuses packages that the fault has imported
    command = [sys.executable, "-m", "pytest", "-o", "addopts=-q --import-mode=importlib", "--tb=no"]
    command += ["-p", "no:cacheprovider"]
    command += ["-k", f"({FAULTS[name][1]}) and not sdssl", *(file for files in GUARDS.values() for file in files)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    return [_first(failed, files) for files in GUARDS.values()]


def _first(failed: list[str], files: list[str]) -> str:
    found = [test.rsplit("/", 1)[-1] for test in failed if test.startswith(tuple(files))]
    return f"`{found[0]}`" if found else "-"


def main() -> None:
    """Print the table fault x guard; exit where no guard detects a fault, or one fails without a fault."""
    chosen = [name for name in FAULTS if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    with TemporaryDirectory() as site:
        (Path(site) / "sitecustomize.py").write_text(HOOK)
        print("| fault | " + " | ".join(GUARDS) + " |")
        print("|---" * (len(GUARDS) + 1) + "|", flush=True)
        for name in chosen:
            row = caught_by(name, site)
            print(f"| {name} | " + " | ".join(row) + " |", flush=True)
            if (set(row) == {"-"}) is not (name == CONTROL):
                sys.exit(f"'{name}' is detected by {set(row)}")


if __name__ == "__main__":
    main()
