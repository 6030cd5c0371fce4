"""Whitening of W-MSE: all slices in one factorisation, with the gradient in closed form, against a loop over slices.

    OMP_NUM_THREADS=1 python benchmarks/whitening.py

Two views on the shapes of CIFAR (512 images, 64 columns, slices of 128) and ImageNet-100 (128 columns, slices of 256):
random permutation, whitening, loss, and their gradients, in float32. The loop does the same slice by slice through
autograd, as the authors' code does (htdt/self-supervised d9662c8); both give the same loss and gradient, which is
checked. Rounds alternate; a ratio is the median of the ratios within a round. Time is that of the process on a CPU, and
of a synchronised device on a GPU; brackets hold the range without a tenth at each end. The step is the forward and
backward pass of a ResNet-18 over some of the crops (32 pixels, 3x3 stem; 224 pixels, its own), in proportion to 1,024.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.methods.base import HostOutput
from limbeck.methods.config.wmse import WMSEConfig
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig

SHAPES = {"CIFAR": (64, 128, 32), "ImageNet-100": (128, 256, 224)}  # columns, images of a slice, pixels
VIEWS, IMAGES = 2, 512


class Counter(TorchDispatchMode):
    """Counts operators, views of memory left out."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def loop(rows: Tensor, size: int) -> Tensor:
    """[V B D] -> []: a mean, a product, a factorisation and a solution for each slice of each view."""
    order = torch.rand(rows.shape[1], device=rows.device).argsort()
    whitened = torch.empty_like(rows)
    for piece in order.split(size):
        for view in range(len(rows)):
            centred = rows[view, piece] - rows[view, piece].mean(0)
            factor = torch.linalg.cholesky(centred.T @ centred / (size - 1))
            identity = torch.eye(rows.shape[2], device=rows.device)
            whitened[view, piece] = centred @ torch.linalg.solve_triangular(factor, identity, upper=False).T
    return (F.normalize(whitened[0], dim=1) - F.normalize(whitened[1], dim=1)).square().sum(1).mean()


def gradient(loss: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Of the loss with respect to the rows; the permutation is that of seed 0."""
    torch.manual_seed(0)
    return torch.autograd.grad(loss(rows), rows)[0]


def operators(loss: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[int, int]:
    """Forward and backward."""
    with Counter() as forward:
        value = loss(rows)
    with Counter() as backward:
        value.backward()
    return forward.count, backward.count


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of one call."""
    step_info = time.process_time
    if device.type == "cuda":
        torch.cuda.synchronize()
        step_info = time.perf_counter
    start = step_info()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return step_info() - start


def step(pixels: int, crops: int, device: torch.device) -> float:
    """Seconds of the forward and backward pass of 1,024 crops through a ResNet-18, from the faster of two passes."""
    backbone = build_backbone(BackboneConfig(name="resnet18", image_size=pixels)).to(device)
    images = torch.randn(crops, 3, pixels, pixels, device=device)
    times = [seconds(lambda: backbone(images).final.sum().backward(), device) for _ in range(3)]
    return min(times[1:]) * VIEWS * IMAGES / crops


def measure(name: str, rounds: int, crops: int, device: torch.device) -> None:
    columns, size, pixels = SHAPES[name]
    tiny = BackboneConfig(name="resnet18", image_size=32, args={"channels": [8, 8, 8, 8]})
    method = WMSEConfig(dim=columns, whitening_size=size).build(build_backbone(tiny))
    rows = torch.randn(VIEWS, IMAGES, columns, device=device).requires_grad_(True)

    def by_slice(rows: Tensor) -> Tensor:
        return loop(rows, size)

    def at_once(rows: Tensor) -> Tensor:
        return method.loss(HostOutput((), (), (rows,), {}))

    torch.testing.assert_close(gradient(at_once, rows), gradient(by_slice, rows), rtol=1e-3, atol=1e-6)
    counts = [operators(loss, rows) for loss in (by_slice, at_once)]
    times = [[seconds(lambda: gradient(f, rows), device) for f in (by_slice, at_once)] for _ in range(rounds)]  # noqa: B023
    slow, fast = (median(column) for column in zip(*times, strict=True))
    ratios = sorted(a / b for a, b in times)
    spread = f"{median(ratios):.1f} ({ratios[rounds // 10]:.1f} to {ratios[-1 - rounds // 10]:.1f})"
    issued = " | ".join(f"{forward} + {backward}" for forward, backward in counts)
    share = fast / (fast + step(pixels, crops, device))
    print(f"| {name} | {issued} | {1000 * slow:.2f} ms | {1000 * fast:.2f} ms | {spread} | {100 * share:.3f} % |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--crops", type=int, default=32, help="crops that stand for a step of 1,024")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{args.rounds} rounds, one thread, torch {torch.__version__}\n")
    print("| shapes | operators, loop | operators, at once | loop | at once | ratio | share of a step |")
    print("|---|---|---|---|---|---|---|")
    for name in SHAPES:
        measure(name, args.rounds, args.crops, torch.device(args.device))


if __name__ == "__main__":
    main()
