"""Supervised training: cross-entropy of a linear classifier on the features.

Fine-tuning with few labels as in facebookresearch/swav 57eac59 `eval_semisup.py`: the classifier is drawn with a
deviation of 0.01, and may have a learning rate of its own (`--optim.head-lr-scale`).
"""

from typing import Self

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.core.types import Batch, Encoder, LossOutput, StepInfo
from limbeck.losses.classification import known_cross_entropy
from limbeck.methods.base import Method
from limbeck.methods.config.classifier import ClassifierConfig


class ClassifierMethod(Method):
    """Cross-entropy of the images with a label; -1 is none.

    Where the classifier alone is trained, the network is frozen and in evaluation mode.
    """

    def __init__(self, backbone: Encoder, cfg: ClassifierConfig) -> None:
        super().__init__()
        assert cfg.num_classes is not None
        self.cfg = cfg
        self.backbone = backbone.requires_grad_(False) if cfg.layers == "head" else backbone
        self.classifier = nn.Linear(backbone.dim, cfg.num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def train(self, mode: bool = True) -> Self:
        """Change the mode, but of a frozen network."""
        super().train(mode)
        if self.cfg.layers == "head":
            self.backbone.eval()
        return self

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Compute the term `labels`."""
        assert batch.labels is not None
        (view,) = batch.views
        total = known_cross_entropy(self.embed(view), batch.labels, self.cfg.label_smoothing)
        return LossOutput(total, {"labels": total.detach()}, {})

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B Q"]:
        """Return the logits."""
        logits: Tensor = self.classifier(self.backbone(images).final)
        return logits

    def classifier_layer(self) -> nn.Linear:
        """Return the classifier."""
        return self.classifier
