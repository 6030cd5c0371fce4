"""Masked self-distillation: predict features that an EMA encoder has of the whole input at the positions hidden.

The objective is data2vec's: Baevski et al., *data2vec: A General Framework for Self-supervised Learning in Speech,
Vision and Language*, ICML 2022; `Data2VecAudioModel` in facebookresearch/fairseq 3d262bb. Its application to series
follows the abstract of Pieper et al., *Self-Distilled Representation Learning for Time Series*, arXiv 2311.11335, which
has no published code; what goes beyond data2vec and TS2Vec is a reconstruction.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.core.distributed import mean_over_processes
from limbeck.core.types import Batch, LossOutput, StepInfo, TokenEncoder
from limbeck.losses.masked import masked_prediction, masked_targets, spread
from limbeck.methods.base import Method
from limbeck.methods.config.masked import MaskedConfig
from limbeck.models.ema import EMA


class Masked(Method):
    """The trained network sees a learned token at hidden positions, the EMA encoder everything.

    The EMA encoder averages the whole encoder, its map of the inputs included; fairseq's averages the blocks alone.
    """

    backbone: TokenEncoder
    collapse_hint = "raise the momentum of the EMA encoder, lower the learning rate or set target_norm to instance"

    def __init__(self, backbone: TokenEncoder, cfg: MaskedConfig) -> None:
        super().__init__()
        self.cfg, self.backbone = cfg, backbone
        self.mask_token = nn.Parameter(torch.rand(backbone.token_dim))
        self.head = nn.Linear(backbone.dim, backbone.token_dim)
        self.ema_encoder = EMA(backbone)

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        """Predict the targets at the hidden positions of the only view."""
        (view,), (hidden,) = batch.views, batch.masks
        tokens = self.backbone.tokens(view)
        tokens = torch.where(hidden[:, :, None], self.mask_token.to(tokens.dtype), tokens)
        predictions = self.head(self.backbone.encode_tokens(tokens)[-1].output)
        targets = self.targets(view)
        count = mean_over_processes(hidden.sum().to(targets.dtype)).clamp(min=1)
        total = masked_prediction(predictions, targets, hidden, self.cfg.beta) / count
        terms = {"target_std": spread(targets, hidden), "prediction_std": spread(predictions.detach(), hidden)}
        return LossOutput(total, terms, {})

    @torch.no_grad()
    def targets(self, view: Tensor) -> Float[Tensor, "B P D"]:
        """Return the averaged features of the EMA encoder's last blocks but the output block."""
        cfg, encoder = self.cfg, self.ema_encoder.module
        blocks = encoder.encode_tokens(encoder.tokens(view))[-1 - cfg.target_blocks : -1]
        features = [block.branch if cfg.target_of == "branch" else block.output for block in blocks]
        present: Bool[Tensor, "B P"] = encoder.present(view)
        return masked_targets(torch.stack(features), present, cfg.target_norm, cfg.mean_norm)

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        """Update the EMA encoder."""
        self.ema_encoder.update(self.backbone, self.cfg.momentum(step_info.progress))

    def encoder(self) -> TokenEncoder:
        """Return the trained network, or the EMA encoder if that is to be evaluated."""
        return self.ema_encoder.module if self.cfg.evaluate_ema else self.backbone

    def target_encoder(self) -> TokenEncoder:
        """Return the EMA encoder."""
        return self.ema_encoder.module

    def embed(self, images: Float[Tensor, "B *item"]) -> Float[Tensor, "B D"]:
        """Return the head's predictions from the features."""
        return self.head(self.backbone(images).final)
