"""A linear segmentation probe: a 1 x 1 convolution on frozen feature maps, bilinear to the mask.

Ours, in the form of the linear segmentation of DINOv2 and iBOT: channels are brought to mean 0 and variance 1 with the
statistics of the training maps, then SGD as in SDSSL's linear probe.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.core.schedules import cosine
from limbeck.data.masks import IGNORED
from limbeck.metrics.segmentation import confusion_matrix, mean_iou

Maps = Float[Tensor, "N C h w"]
"""On any device, also a memory map."""


@dataclass(frozen=True, kw_only=True)
class SegmentationProbe:
    """Momentum 0.9, no weight decay, the learning rate along a cosine to 0, from zero weights."""

    epochs: int = 20
    batch_size: int = 32
    lr: float = 0.1
    """Learning rate of a batch, whatever its size."""
    seed: int = 0

    def fit(
        self, maps: Maps, masks: UInt8[Tensor, "N S S"], classes: int, device: torch.device, description: str = ""
    ) -> "SegmentationHead":
        """Train a head on the maps of training images, and return it."""
        head = SegmentationHead.fresh(maps, classes, self.batch_size, device)
        parameters = [head.weight.requires_grad_(), head.bias.requires_grad_()]
        optimizer = torch.optim.SGD(parameters, lr=self.lr, momentum=0.9)
        steps = self.epochs * -(-len(maps) // self.batch_size)
        for step, rows in enumerate(progress(list(self._batches(len(maps))), description, unit="steps")):
            optimizer.param_groups[0]["lr"] = cosine(self.lr, 0.0, step / steps)
            truth = masks[rows].to(device).long()
            loss = F.cross_entropy(head.logits(maps[rows].to(device), truth.shape[-1]), truth, ignore_index=IGNORED)
            optimizer.zero_grad()
            if bool((truth != IGNORED).any()):
                loss.backward()
                optimizer.step()
        return head

    def _batches(self, count: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            yield from torch.randperm(count, generator=generator).split(self.batch_size)


class SegmentationHead:
    """Logits of every pixel from a feature map.

    Attributes:
        mean, scale: [C 1 1], of the channels of the training maps.
        weight: [classes C 1 1].
        bias: [classes].
    """

    def __init__(self, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.mean, self.scale, self.weight, self.bias = mean, scale, weight, bias

    @classmethod
    def fresh(cls, maps: Maps, classes: int, batch_size: int, device: torch.device) -> "SegmentationHead":
        """Return a head with zero weights for maps with the statistics of these."""
        count, channels = maps.shape[0] * maps.shape[2] * maps.shape[3], maps.shape[1]
        blocks = torch.arange(len(maps)).split(batch_size)
        mean = torch.stack([maps[rows].to(device).double().sum((0, 2, 3)) for rows in blocks]).sum(0) / count
        centered = ((maps[rows].to(device).double() - mean[:, None, None]).square().sum((0, 2, 3)) for rows in blocks)
        scale = (torch.stack(list(centered)).sum(0) / count + 1e-12).rsqrt()
        weight, bias = torch.zeros(classes, channels, 1, 1, device=device), torch.zeros(classes, device=device)
        return cls(mean.float()[:, None, None], scale.float()[:, None, None], weight, bias)

    def logits(self, maps: Float[Tensor, "B C h w"], size: int) -> Float[Tensor, "B classes S S"]:
        """Return the logits at `size` pixels, interpolated bilinearly."""
        coarse = F.conv2d((maps - self.mean) * self.scale, self.weight, self.bias)
        return F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)

    @torch.no_grad()
    def mean_iou(self, maps: Maps, masks: UInt8[Tensor, "N S S"], batch_size: int) -> float:
        """Return the mean IoU over the pixels of all masks."""
        classes, device = len(self.bias), self.bias.device
        total = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        for rows in torch.arange(len(maps)).split(batch_size):
            truth = masks[rows].to(device)
            predicted = self.logits(maps[rows].to(device), truth.shape[-1]).argmax(dim=1)
            total += confusion_matrix(predicted, truth, classes)
        return mean_iou(total)
