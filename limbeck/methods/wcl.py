"""WCL: SimCLR plus a second head that draws together connected components of the batch's nearest-neighbor graph.

Zheng, Wang, You, Qian, Zhang, Wang, Xu, *Weakly Supervised Contrastive Learning*, ICCV 2021. Defaults are those of
mingkai-zheng/WCL 9a6a273.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import gather, local_indices
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.contrastive import info_nce, sup_con
from limbeck.losses.graph import nearest_neighbor_components
from limbeck.methods.base import Method, MethodCard, MethodConfig
from limbeck.models.heads import mlp


@dataclass(frozen=True, kw_only=True)
class WCLConfig(MethodConfig):
    """WCL: contrast within the batch that does not separate similar images; for large batches."""

    name: ClassVar[str] = "wcl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="identify the other view, and draw together neighbors of neighbors in the batch",
        state="-",
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
        """Build WCL with two new heads around `backbone`."""
        return WCL(backbone, self)


class WCL(Method):
    """NT-Xent of one head plus a supervised contrast of the other, with labels from the graph of the other view."""

    def __init__(self, backbone: Encoder, cfg: WCLConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.backbone = backbone
        widths = [backbone.dim, cfg.hidden, cfg.hidden, cfg.dim]
        self.instance_head, self.graph_head = mlp(widths, bias=True), mlp(widths, bias=True)

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the terms `instance` and `graph`, which sum to the total; BatchNorm runs per view."""
        features = [self.backbone(view).final for view in batch.views]
        instance = self._instance(torch.cat([self.instance_head(h) for h in features]))
        graph = self._graph([self.graph_head(h) for h in features])
        return LossOutput(instance + graph, {"instance": instance.detach(), "graph": graph.detach()}, {})

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the embeddings of the instance head."""
        return self.instance_head(self.backbone(images).final)

    def _instance(self, z: Float[Tensor, "rows D"]) -> Float[Tensor, ""]:
        """Compute NT-Xent of the 2B rows [view 1; view 2] against those of all processes."""
        rows = local_indices(len(z), z.device)
        return info_nce(z, gather(z), rows.roll(len(z) // 2), self.cfg.temperature, exclude=rows)

    def _graph(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Compare each view with itself; positives are the images of its component in the other view's graph."""
        gathered = [gather(view) for view in views]
        labels = [nearest_neighbor_components(rows) for rows in gathered]
        rows = local_indices(len(views[0]), views[0].device)
        losses = []
        for view, keys, label in zip(views, gathered, reversed(labels), strict=True):
            candidates = keys.detach() if self.cfg.detach_keys else keys
            same = label[rows][:, None] == label
            losses.append(sup_con(view, candidates, same, self.cfg.temperature, exclude=rows))
        return torch.stack(losses).mean()
