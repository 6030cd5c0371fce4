"""Steps of lightly-train: what its trainer calls for a batch, with the networks of the other side.

Its trainer wants folders of images and its teachers are downloads, so the methods are called without it.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from benchmarks.side_by_side.record import OURS, Measured, Measurements, Side, paired
from benchmarks.teachers import CLOCK, Big, distillers
from limbeck.core.types import Batch, Encoder
from limbeck.methods.base import Method
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.train.config import OptimConfig
from limbeck.train.optim import build_optimizer

IMAGES = 4


class Wrapped(nn.Module):
    """An encoder of ours as lightly-train's wrappers of networks are."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def feature_dim(self) -> int:
        """Return the width of the features."""
        return self.encoder.dim

    def forward_features(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pooled features as a map of one place."""
        return {"features": self.encoder(images).final[:, :, None, None]}

    def forward_pool(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return them as they are."""
        return {"pooled_features": found["features"]}


class Teacher(nn.Module):
    """The teacher of the other side, called as lightly-train calls its own."""

    embed_dim = 384

    def __init__(self) -> None:
        super().__init__()
        self.network = Big().eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors [B D] of images [B 3 H W]."""
        vectors: Tensor = self.network(images, False).vector
        return vectors


def simclr_step(encoder: Encoder, views: tuple[Tensor, ...]) -> Side:
    """Return a step of its SimCLR, whose heads are lightly's."""
    from lightly_train._methods.simclr.simclr import SimCLR, SimCLRArgs
    from lightly_train._models.embedding_model import EmbeddingModel

    method = SimCLR(SimCLRArgs(), None, EmbeddingModel(Wrapped(encoder)), len(views[0]), 3)
    return _step(method, views)


def distillation_step(encoder: Encoder, view: Tensor) -> Side:
    """Return a step of its distillation: mixed images, a linear head, similarities to a queue."""
    from lightly_train._methods.distillation import distillation
    from lightly_train._models.embedding_model import EmbeddingModel

    distillation.get_teacher = lambda *_, **__: Teacher()
    args = distillation.DistillationArgs(queue_size=64)
    method = distillation.Distillation(args, None, EmbeddingModel(Wrapped(encoder)), len(view), 3)
    return _step(method, (view,))


def _step(method: nn.Module, views: tuple[Tensor, ...]) -> Side:
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def run(number: int) -> None:
        method.training_step_impl({"views": list(views)}, number).loss.backward()  # type: ignore[operator]
        optimizer.step()
        optimizer.zero_grad()

    return run


def our_step(method: Method, batch: Batch, bf16: bool = False) -> Side:
    """Return a step of a method of Limbeck: loss, gradients, optimizer, updates."""
    optimizer = build_optimizer(method, OptimConfig())

    def run(_: int) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = method(batch, CLOCK)
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(loss, CLOCK)

    return run


def distillation_steps(rounds: int) -> Measurements:
    """Measure a step with a live teacher on both sides, and with kept answers, which lightly-train does not have."""
    torch.manual_seed(0)
    network = BackboneConfig(name="resnet18", image_size=224)
    theirs = distillation_step(build_backbone(network), torch.rand(IMAGES, 3, 224, 224))
    with TemporaryDirectory() as folder:
        arms = distillers(Path(folder), "fp32", IMAGES, IMAGES)
        ours = {name: our_step(method, batches()) for name, (method, batches) in arms.items()}
    found = paired({**ours, "lightly-train": theirs}, rounds, IMAGES)
    note = f"a ViT-S teaches a ResNet-18 at 224 px, {IMAGES} ready images, float32; SimReg beside lightly-train's"
    for arm, item in (("live", "distillation step, live teacher"), ("cached", "distillation step, kept answers")):
        kept = "; theirs asks its teacher in every step" if arm == "cached" else ""
        yield Measured(item, "ms per image", {OURS: found[arm], "lightly-train": found["lightly-train"]}, note + kept)
