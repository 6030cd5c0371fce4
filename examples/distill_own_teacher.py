"""Distill a network of your own into a smaller one, without labels.

    python examples/distill_own_teacher.py

The teacher here is a small CNN that is first trained on labeled digits; any `torch.nn.Module` that maps images
[B 3 H W] to features [B D] would do, and `teacher="vit_base_patch14_dinov2"` takes one of timm's instead.
Takes about half a minute on two CPU cores.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

import limbeck
from limbeck.data.samples import digits

MEAN = STD = (0.5, 0.5, 0.5)


def teacher(images: Tensor, labels: Tensor, steps: int) -> nn.Module:
    """Train a CNN on labeled digits [N 3 28 28], and return it without its classifier."""
    trunk = nn.Sequential()
    for width, narrower in [(32, 3), (64, 32), (128, 64)]:
        trunk.extend([nn.Conv2d(narrower, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()])
    trunk.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
    classifier = nn.Linear(128, 10)
    optimizer = torch.optim.AdamW([*trunk.parameters(), *classifier.parameters()], lr=3e-3)
    for _ in range(steps):
        batch = torch.randint(len(images), (128,))
        loss = nn.functional.cross_entropy(classifier(trunk(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trunk.eval()


def main(out: Path = Path("out/distill"), epochs: float = 5, steps: int = 100) -> None:
    """Write a store and the run of the student into the folder `out`."""
    torch.manual_seed(0)
    images, labels = digits()
    store = limbeck.build_store((images, labels), out / "store")
    pixels = (torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1) / 255 - 0.5) / 0.5
    run = limbeck.distill(
        store.path or out,
        out / "run",
        teacher=limbeck.TeacherConfig(name="my CNN", image_size=28, mean=MEAN, std=STD, cached_views=1),
        teacher_module=teacher(pixels, torch.from_numpy(labels), steps),
        student="resnet18",
        student_image_size=28,
        student_args={"channels": [8, 16, 32, 64]},
        epochs=epochs,
        batch_size=128,
        precision="fp32",
    )
    print(f"the student is in {run / 'encoder'}")


if __name__ == "__main__":
    main()
