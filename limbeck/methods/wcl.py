"""WCL: SimCLR plus a second head that draws together connected components of the batch's nearest-neighbor graph.

Zheng, Wang, You, Qian, Zhang, Wang, Xu, *Weakly Supervised Contrastive Learning*, ICCV 2021. Defaults are those of
mingkai-zheng/WCL 9a6a273.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.distributed import gather, local_indices
from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.contrastive import info_nce, sup_con
from limbeck.losses.graph import nearest_neighbor_components
from limbeck.methods.base import Method
from limbeck.methods.config.wcl import WCLConfig
from limbeck.models.heads import mlp


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
