"""Recipes of fine-tuning: SwAV's for few labels, facebookresearch/swav 57eac59 `eval_semisup.py` and its README."""

import math
from dataclasses import replace

from limbeck.train.config import OptimConfig, TrainConfig

EPOCHS, LEAST_STEPS = 20, 500
FEW_LABELS = 0.01
"""Share of the labels up to which a fine-tuning has SwAV's learning rates for 1 %, else those for 10 %."""

FINETUNE_TRAINING = TrainConfig(warmup_epochs=0.0, eval_every_epochs=0, health_every_steps=0)
"""Without a warm-up. Nothing is measured on the way: the k-NN accuracy would read labels outside the share, and the
logits of a classifier have the rank of a collapse."""


def finetune_training(training: TrainConfig, images: int) -> TrainConfig:
    """Return the settings with the epochs filled in: 20, or as many as make 500 steps, which is ours."""
    from limbeck.data.loader import fitting_batch

    batch = fitting_batch(training.batch_size, images, training.num_processes, training.accumulate_steps)
    epochs = training.epochs
    if epochs == "auto":
        epochs = float(max(EPOCHS, math.ceil(LEAST_STEPS / max(1, images // max(1, batch)))))
    return replace(training, epochs=epochs)


def finetune_optim(share: float, epochs: float) -> OptimConfig:
    """Return SGD with two drops for a share of the labels: the new classifier learns 20 or 250 times as fast.

    SwAV drops the learning rate to a fifth after 12 and 16 of 20 epochs, and has no weight decay.
    """
    lr, head = (0.02, 5.0) if share <= FEW_LABELS else (0.01, 0.2)
    return OptimConfig(
        name="sgd",
        lr=lr,
        weight_decay=0.0,
        milestone_epochs=(0.6 * epochs, 0.8 * epochs),
        gamma=0.2,
        head_lr_scale=head / lr,
    )
