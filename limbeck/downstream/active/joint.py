"""A network that is trained anew in every cycle, from the labeled images and some of the others, and chooses itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.core.config import to_json
from limbeck.core.devices import local_device, resolve_bf16
from limbeck.core.rank import is_rank0
from limbeck.core.run_folder import CHECKPOINT, ENCODER
from limbeck.core.types import DataContext
from limbeck.data.fingerprint import fingerprint
from limbeck.data.loader import fitting_batch
from limbeck.data.sampling import SamplingPlan
from limbeck.data.store.store import Store
from limbeck.downstream.active.config import JointConfig
from limbeck.downstream.active.learner import cycle_seed
from limbeck.downstream.active.oracle import Labels
from limbeck.downstream.selection.choice import Rows
from limbeck.downstream.selection.config import SelectConfig
from limbeck.downstream.selection.select import Selected, choose, pool_indices
from limbeck.embeddings.config import EmbedConfig
from limbeck.features.extract import extract
from limbeck.features.images import eval_images
from limbeck.methods.config.mobyv2al import MoBYv2ALConfig
from limbeck.methods.mobyv2al import MoBYv2AL
from limbeck.modalities.images import MODALITY
from limbeck.modalities.images.resolve import input_size
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.neighbors.near_duplicates import thumbnails
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.interrupt import Interrupted
from limbeck.train.loop import train

DROPS = (0.6, 0.8)
"""Shares of the epochs after which the learning rate is a tenth of what it was."""
WEIGHT_DECAY = 5e-4


class JointLearner:
    """MoBYv2AL (Caramalau et al., BMVC 2022): the classifier and the features that choose are those of one network.

    Args:
        store: the images.
        rows: images that may be chosen, and with which the network is trained.
        classes: number of classes.
        cfg: budget, pool and seed.
        joint: how to train.
        embed: device, processes and precision.
        folder: of the cycles; each has a folder in it.
    """

    def __init__(
        self,
        store: Store,
        rows: Rows,
        classes: int,
        cfg: SelectConfig,
        joint: JointConfig,
        embed: EmbedConfig,
        folder: Path,
    ) -> None:
        self.store, self.rows, self.classes, self.cfg = store, rows, classes, cfg
        self.joint, self.embed, self.folder = joint, embed, folder
        self.backbone = MODALITY.resolve_encoder(BackboneConfig(name=joint.backbone), store).value
        self.method: MoBYv2AL | None = None

    @property
    def depth(self) -> int:
        """The depth of the features."""
        assert self.method is not None, "`fit` comes first"
        return self.method.backbone.taps[-1]

    def start(self, known: Labels) -> Selected:
        """Choose at random: there is no network yet."""
        pool = self._pool(known, 0)
        return self._choose(torch.zeros(len(pool), 1), pool, known, self.cfg.for_start())

    def fit(self, known: Labels, cycle: int) -> None:
        """Train a new network on the images with a known label and on the pool, in turn.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
        """
        pool = self._pool(known, cycle)
        labels = np.full_like(known, -1)
        labels[pool] = known[pool]
        groups = tuple(rows for rows in (pool[known[pool] >= 0], pool[known[pool] < 0]) if len(rows))
        training = self._training(cycle, min(map(len, groups)))
        cfg = self._method_config(groups, training)
        torch.manual_seed(training.seed)
        self.method = MoBYv2AL(build_backbone(self.backbone), cfg)
        learnt_from = fingerprint(
            [self.store.digest, ",".join(map(str, labels.tolist())), ",".join(map(str, pool.tolist()))]
        )
        parts = {"method": cfg, "backbone": self.backbone, "optim": self._optim(), "training": training}
        settings = {**{name: to_json(part) for name, part in parts.items()}, "images": learnt_from}
        views, sampling = MODALITY.make_views(cfg, self.backbone), SamplingPlan(labels=labels, groups=groups)
        place = self._folder(cycle)
        try:
            train(
                *(self.method, self.store, views, training, self._optim(), place),
                config=settings,
                sampling=sampling,
                resume=True,
            )
        except Interrupted as stop:
            raise Interrupted(f"stopped in cycle {cycle}: repeat the command to go on", stop.code) from None
        if is_rank0():
            MODALITY.save_encoder(self.method.encoder(), place / ENCODER, self.store, self.backbone, {})

    def predict(self, rows: Rows) -> Labels:
        """Return the classes of unaugmented images."""
        assert self.method is not None, "`fit` comes first"
        weight, bias = (parameter.detach().cpu() for parameter in self.method.classifier.parameters())
        found: Labels = (self._features(rows) @ weight.T + bias).argmax(dim=1).numpy()
        return found

    def choose(self, known: Labels, cycle: int) -> Selected:
        """Choose from the pool of the training, by the features of unaugmented images as they are."""
        pool, seed = self._pool(known, cycle), cycle_seed(self.cfg.seed, cycle)
        cfg = replace(self.cfg, strategy=self.joint.choice, seed=seed)
        return self._choose(self._features(pool), pool, known, cfg)

    def _choose(self, points: Float[Tensor, "M D"], pool: Rows, known: Labels, cfg: SelectConfig) -> Selected:
        return choose(points, pool, known[pool], cfg, lambda rows: thumbnails(self.store, rows))

    def close(self, cycle: int) -> None:
        """Remove the checkpoint; the encoder and the curves stay."""
        if is_rank0():
            (self._folder(cycle) / CHECKPOINT).unlink(missing_ok=True)

    def _pool(self, known: Labels, cycle: int) -> Rows:
        """Return, increasing, the images with a label and the pool of the others."""
        most, seed = max(self.cfg.pool, self.cfg.budget), cycle_seed(self.cfg.seed, cycle)
        return self.rows[pool_indices(known[self.rows], most, seed)]

    def _training(self, cycle: int, images: int) -> TrainConfig:
        """Return the settings of a training where the smaller group has so many images."""
        processes, batch = self.embed.devices, self.joint.batch_size
        accelerator: Any = local_device(self.embed.device).type
        return TrainConfig(
            epochs=self.joint.epochs,
            batch_size=fitting_batch(batch, images, processes, 1) or batch,
            warmup_epochs=0.0,
            seed=cycle_seed(self.cfg.seed, cycle),
            precision=self.embed.precision,
            accelerator=accelerator,
            devices=processes,
            loggers=(),
            log_every_steps=21,  # odd, so that rows are of batches of both kinds
            stop_on_collapse=False,
        )

    def _optim(self) -> OptimConfig:
        drops = tuple(share * self.joint.epochs for share in DROPS)
        return OptimConfig(name="sgd", lr=self.joint.lr, weight_decay=WEIGHT_DECAY, milestone_epochs=drops)

    def _method_config(self, groups: tuple[Rows, ...], training: TrainConfig) -> MoBYv2ALConfig:
        steps = len(groups) * (min(map(len, groups)) // training.batch_size)
        context = DataContext(
            num_images=sum(map(len, groups)),
            batch_size=training.batch_size,
            forward_batch_size=training.batch_size,
            num_classes=self.classes,
            total_steps=training.total_steps(steps),
        )
        return MoBYv2ALConfig(contrast_weight=self.joint.contrast_weight).resolve(context)

    def _features(self, rows: Rows) -> Float[Tensor, "M D"]:
        """Return the features of unaugmented images, on the CPU."""
        assert self.method is not None, "`fit` comes first"
        network, device = self.method.backbone, local_device(self.embed.device)
        images = eval_images(self.store, input_size(self.backbone), *self.backbone.normalization, device)
        last, bf16 = network.taps[-1], resolve_bf16(self.embed.precision, device)
        size = self.embed.batch_size
        found = extract(network, images, rows, taps=[last], device=device, batch_size=size, bf16=bf16, show="features")
        return found[last].cpu()

    def _folder(self, cycle: int) -> Path:
        return self.folder / f"cycle-{cycle}"
