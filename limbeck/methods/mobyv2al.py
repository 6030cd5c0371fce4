"""MoBYv2AL: a classifier of the images that have labels, trained jointly with MoBY on all images.

Caramalau, Bhattarai, Stoyanov, Kim, *MoBYv2AL: Self-supervised Active Learning for Image Classification*, BMVC 2022.
Defaults are those of the paper; in the losses, of razvancaramalau/MoBYv2AL 826dfd0 as well. Which images get labels
next is chosen in `limbeck.downstream.active`.
"""

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.classification import known_cross_entropy
from limbeck.methods.base import Method
from limbeck.methods.config.mobyv2al import MoBYv2ALConfig
from limbeck.methods.moby import MoBY
from limbeck.models.heads import Head


class LinearMoBY(MoBY):
    """MoBY with one linear layer as the projector, and one as the predictor."""

    def make_head(self, dim: int, hidden: int | None = None, trailing_norm: bool | None = None) -> Head:
        """Build the two layers for features of width `dim`."""
        return Head(nn.Linear(dim, self.cfg.dim), nn.Linear(self.cfg.dim, self.cfg.dim))


class MoBYv2AL(Method):
    """Cross-entropy of the weak view where there is a label + `contrast_weight` * MoBY's loss of both views.

    View 1 is the strong one and view 2 the weak one. A label of -1 is none.
    """

    def __init__(self, backbone: Encoder, cfg: MoBYv2ALConfig) -> None:
        super().__init__()
        assert cfg.num_classes is not None
        self.cfg = cfg
        self.host = LinearMoBY(backbone, cfg.host)
        self.classifier = nn.Linear(backbone.dim, cfg.num_classes)

    @property
    def backbone(self) -> Encoder:  # type: ignore[override]  # nn.Module would register it twice
        """The trained network."""
        return self.host.backbone

    @property
    def collapse_hint(self) -> str:
        """MoBY's hint."""
        return self.host.collapse_hint

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the terms `labels` and `contrast`, before its weight."""
        assert batch.labels is not None
        output = self.host.encode(batch)
        weak = output.features[1].final
        terms = {
            "labels": known_cross_entropy(self.classifier(weak), batch.labels),
            "contrast": self.host.loss(output),
        }
        total = terms["labels"] + self.cfg.contrast_weight * terms["contrast"]
        return LossOutput(total, {name: term.detach() for name, term in terms.items()}, output.memory)

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder and the queues."""
        self.host.after_step(loss, step_info)

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return MoBY's embeddings."""
        return self.host.embed(images)

    def target_encoder(self) -> Encoder:
        """Return the backbone of the EMA encoder."""
        return self.host.target_encoder()
