"""SimCLR as lightly publishes it for CIFAR-10, for so many seconds of processor time; features to two files.

    python -m benchmarks.ingredients.lightly_simclr TRAIN.parquet TEST.parquet --seconds 600 --out FOLDER

Views, loss, head and network are those of the package; batches of 128, SGD with learning rate 0.06, momentum 0.9,
weight decay 5e-4, falling to 0 as a cosine (lightly's docs, CIFAR-10 benchmark, SimCLR). `--backbone plain_cnn` takes
the network of `limbeck pretrain` in its place. Everything is computed by one thread in float32.
"""

import argparse
import io
import math
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

BATCH, RATE = 128, 0.06
WARM = 8  # steps that tell how many fit


class Files(Dataset[Any]):
    """Encoded images, decoded whenever they are seen."""

    def __init__(self, table: str, transform: Any) -> None:
        self.images, self.transform = pq.read_table(table, columns=["image"])["image"].to_pylist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        return self.transform(Image.open(io.BytesIO(self.images[row]["bytes"])).convert("RGB"))


class Networks(NamedTuple):
    """What is trained."""

    backbone: nn.Module
    head: nn.Module

    def parameters(self) -> list[nn.Parameter]:
        """Return the weights of both."""
        return [*self.backbone.parameters(), *self.head.parameters()]


class Final(nn.Module):
    """The last features of a network of ours."""

    def __init__(self) -> None:
        super().__init__()
        from limbeck.modalities.images.sizes import JOINED_ARGS, SMALL_NETWORK
        from limbeck.models.backbone import build_backbone
        from limbeck.models.config import BackboneConfig

        self.network = build_backbone(BackboneConfig(name=SMALL_NETWORK, image_size=32, args=JOINED_ARGS))
        self.dim = self.network.dim

    def forward(self, images: Tensor) -> Tensor:
        """Return the features [B D]."""
        found: Tensor = self.network(images).final
        return found


def networks(name: str) -> Networks:
    """Return the backbone, with a head as the recipe's."""
    from lightly.models import ResNetGenerator
    from lightly.models.modules import SimCLRProjectionHead

    if name == "plain_cnn":
        backbone: nn.Module = Final()
        return Networks(backbone, SimCLRProjectionHead(backbone.dim, 512, 128))
    layers = list(ResNetGenerator("resnet-18").children())[:-1]
    return Networks(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), SimCLRProjectionHead(512, 512, 128))


def batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches of view pairs, epoch after epoch."""
    for _ in count():
        yield from loader


def train(found: Networks, table: str, seconds: float, start: float) -> int:
    """Train until the processor time since `start` is over; return the steps."""
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform

    files = Files(table, SimCLRTransform(input_size=32, gaussian_blur=0.0))
    loader = batches(DataLoader(files, BATCH, shuffle=True, drop_last=True))
    optimizer = torch.optim.SGD(found.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    criterion, steps, begun = NTXentLoss(), WARM, time.process_time()
    for step in count():
        if step == WARM:
            steps = int(WARM * (seconds - (begun - start)) / (time.process_time() - begun))
        if step == steps or time.process_time() - start > 1.05 * seconds:
            return step
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * step / max(steps, step + 1))) / 2 if step > WARM else RATE
        first, second = (found.head(found.backbone(view)) for view in next(loader))
        criterion(first, second).backward()
        optimizer.step()
        optimizer.zero_grad()
    raise AssertionError("the loop ends by returning")


@torch.inference_mode()
def features(backbone: nn.Module, table: str) -> np.ndarray:
    """Return the features of all images of a table, as the recipe normalizes them."""
    from torchvision import transforms

    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    loader = DataLoader(Files(table, transforms.Compose([transforms.ToTensor(), normalize])), 512)
    return torch.cat([backbone.eval()(batch) for batch in loader]).numpy()


def main() -> None:
    """Parse the command line, train and write the features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", choices=("resnet-18", "plain_cnn"), default="resnet-18")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.process_time()
    torch.manual_seed(args.seed)
    found = networks(args.backbone)
    steps = train(found, args.train, args.seconds, start)
    print(f"{steps} steps in {time.process_time() - start:.0f} s of processor time", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, table in (("train", args.train), ("test", args.test)):
        np.save(args.out / f"{name}.npy", features(found.backbone, table))


if __name__ == "__main__":
    main()
