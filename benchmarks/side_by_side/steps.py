"""A step of SimCLR on ready views, an evaluation, and the start of a program."""

import importlib.metadata as metadata
import re
import resource
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.evaluation import STRENGTHS, features, ours, theirs
from benchmarks.side_by_side.lightly_train import our_step, simclr_step
from benchmarks.side_by_side.record import OURS, Measured, Measurements, Rounds, Side, paired
from limbeck.core.devices import supports_bf16
from limbeck.core.types import Batch
from limbeck.data.store.store import Store
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig

RESNET = BackboneConfig(name="resnet18", image_size=32)
IMAGES = 16


def ready() -> tuple[torch.Tensor, torch.Tensor]:
    """Return two views of a batch."""
    first, second = torch.rand(2, IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0)).unbind()
    return first, second


def limbeck_step(config: SimCLRConfig, bf16: bool) -> Side:
    """Return a step of Limbeck: loss, gradients, optimizer, updates."""
    torch.manual_seed(0)
    method = config.build(build_backbone(RESNET)).to(memory_format=torch.channels_last)
    return our_step(method, Batch(ready(), torch.arange(IMAGES)), bf16)


def lightly_step() -> Side:
    """Return the step of lightly's example, with the same network; heads and loss are lightly's."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    torch.manual_seed(0)
    backbone, head, criterion = build_backbone(RESNET), SimCLRProjectionHead(512, 2048, 128), NTXentLoss()
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=1e-4)
    views = ready()

    def run(_: int) -> None:
        first, second = (head(backbone(view).final) for view in views)
        criterion(first, second).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def steps(rounds: int) -> Measurements:
    """Measure a step in float32 with equal heads, and one as either library does it unless told."""
    equal = SimCLRConfig(hidden=2048, projector_layers=2, dim=128)
    note = f"SimCLR, ResNet-18 at 32 px, {IMAGES} images, ready views"
    others = {"lightly": lightly_step(), "lightly-train": simclr_step(build_backbone(RESNET), ready())}
    sides = {OURS: limbeck_step(equal, bf16=False), **others}
    yield Measured("step, float32, equal heads", "ms", paired(sides, rounds), note)
    bf16 = supports_bf16("cpu")
    sides = {OURS: limbeck_step(SimCLRConfig(), bf16), **others}
    yield Measured("step, defaults", "ms", paired(sides, rounds), f"{note}; Limbeck in {'bf16' if bf16 else 'float32'}")


def evaluation(train: Path, test: Path, rounds: int) -> Measurements:
    """Measure k-NN and linear probes of 12 layers, the strength of the penalty chosen on held-out rows by both."""
    bank, queries = features(Store.open(train), 3000), features(Store.open(test), 1000)
    sides: dict[str, Side] = {
        OURS: lambda _: ours(bank, queries),
        "scikit-learn": lambda _: theirs(bank, queries, STRENGTHS),
    }
    note = "k-NN and linear probe of 12 layers of width 192, 3,000 + 1,000 rows of CIFAR-10"
    yield Measured("evaluation of 12 layers", "ms", paired(sides, rounds), note)


def child_seconds(command: list[str]) -> float:
    """Return the processor time of a command, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def start_up(rounds: int) -> Measurements:
    """Measure a help, and the imports before a first step."""
    helps = {
        OURS: [sys.executable, "-m", "limbeck.cli", "pretrain", "--help"],
        "lightly-train": [str(Path(sys.executable).parent / "lightly-train"), "pretrain", "help"],
    }
    imports = {
        OURS: "import limbeck.train.step, limbeck.methods.simclr",
        "lightly": "import lightly.loss, lightly.transforms, lightly.models.modules",
        "lightly-train": "import lightly_train; lightly_train.pretrain",
    }
    commands = {name: [sys.executable, "-c", code] for name, code in imports.items()}
    for item, sides in (("help of the training command", helps), ("imports before a first step", commands)):
        found: Rounds = {name: [] for name in sides}
        for _ in range(rounds + 1):
            for name, command in sides.items():
                found[name].append(child_seconds(command))
        yield Measured(item, "ms", {name: values[1:] for name, values in found.items()})


def installed() -> Measurements:
    """Add up the files of each library and of what it needs, without what torch needs."""
    torch_needs = needed("torch")
    sizes: Rounds = {}
    for name in (OURS, "lightly", "lightly-train", "kornia"):
        sizes[name] = [sum(map(megabytes, needed(name) - torch_needs))]
    yield Measured("installed, beyond torch", "MB", sizes)


def needed(name: str) -> set[str]:
    """Return the distributions that one needs, itself included, by their names."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if current in found:
            continue
        try:
            requirements = metadata.requires(current) or []
        except metadata.PackageNotFoundError:
            continue  # for another system
        found.add(current)
        waiting += [re.split(r"[\s;\[<>=!~(]", line)[0] for line in requirements if "extra ==" not in line]
    return found


def megabytes(name: str) -> float:
    """Return the size of the files of a distribution."""
    paths = (Path(str(file.locate())) for file in metadata.files(name) or [])
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
