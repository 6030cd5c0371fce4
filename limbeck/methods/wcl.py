"""WCL: SimCLR, and a second head that also draws together images that hang together in a graph of nearest neighbours.

Zheng, Wang, You, Qian, Zhang, Wang, Xu, *Weakly Supervised Contrastive Learning*, ICCV 2021. Defaults are those of
mingkai-zheng/WCL 9a6a273.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.core.distributed import gather, rank
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.contrastive import info_nce, sup_con
from limbeck.losses.graph import neighbour_components
from limbeck.methods.base import Method, MethodCard, MethodConfig
from limbeck.models.heads import mlp


@dataclass(frozen=True, kw_only=True)
class WCLConfig(MethodConfig):
    """Contrastive learning within the batch that lets similar images be; wants large batches."""

    name: ClassVar[str] = "wcl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="find the other view, and the images that are neighbours of neighbours",
        state="nothing",
        use_when="large batches in which many images resemble each other",
        cost=2.4,
    )
    not_a_host_reason: ClassVar[str] = "its loss takes two projections of every image, and a layer has one"
    views: str = "simclr"
    """Preset of augmentations (docs/data.md)."""
    dim: int = 256
    """Width of both embeddings."""
    hidden: int = 4096
    """Width of the hidden layers of both projectors."""
    temperature: float = 0.1
    """Divides the cosines, in both losses."""
    detach_keys: bool = True
    """Stop the gradient of the graph loss at the candidates, as the authors' code does."""

    def build(self, backbone: Encoder) -> "WCL":
        """WCL with two fresh heads around `backbone`."""
        return WCL(backbone, self)


class WCL(Method):
    """NT-Xent of one head and, of the other, a supervised contrast with the labels of the other view's graph."""

    def __init__(self, backbone: Encoder, cfg: WCLConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.backbone = backbone
        widths = [backbone.dim, cfg.hidden, cfg.hidden, cfg.dim]
        self.instance_head, self.graph_head = mlp(widths, bias=True), mlp(widths, bias=True)

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Terms: `instance` and `graph`, whose sum is the total. One scope of BatchNorm per view."""
        features = [self.backbone(view).final for view in batch.views]
        instance = self._instance(torch.cat([self.instance_head(h) for h in features]))
        graph = self._graph([self.graph_head(h) for h in features])
        return LossOutput(instance + graph, {"instance": instance.detach(), "graph": graph.detach()}, {})

    def embed(self, images: Tensor) -> Tensor:
        """The projections that tell images apart, [B C H W] -> [B D]."""
        return self.instance_head(self.backbone(images).final)

    def _instance(self, z: Tensor) -> Tensor:
        """NT-Xent of the 2B rows [view 1; view 2] against those of all processes."""
        rows = torch.arange(len(z), device=z.device)
        own = rows + rank() * len(z)
        partners = rows.roll(len(z) // 2) + rank() * len(z)
        return info_nce(z, gather(z), partners, self.cfg.temperature, exclude=own)

    def _graph(self, views: list[Tensor]) -> Tensor:
        """Each view finds, within itself, the images of its component in the other view's graph."""
        everybody = [gather(view) for view in views]
        labels = [neighbour_components(rows) for rows in everybody]
        own = torch.arange(len(views[0]), device=views[0].device) + rank() * len(views[0])
        losses = []
        for view, keys, label in zip(views, everybody, reversed(labels), strict=True):
            candidates = keys.detach() if self.cfg.detach_keys else keys
            same = label[own][:, None] == label
            losses.append(sup_con(view, candidates, same, self.cfg.temperature, exclude=own))
        return torch.stack(losses).mean()
