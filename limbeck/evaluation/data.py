"""Inputs that all models of one evaluation share: images, labels, settings, device."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from limbeck.core.devices import choose_device
from limbeck.core.errors import UserError
from limbeck.core.types import Dataset
from limbeck.data.annotated import AnnotatedPair
from limbeck.data.copydays import Copydays, find_copydays
from limbeck.data.masks import MaskPair
from limbeck.data.revisited import Revisited, read_revisited
from limbeck.data.store.store import Store
from limbeck.data.videos import Video, open_videos
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.labels import Labels, match_labels

LinearProbe = Literal["logistic", "sgd", "adam", "lbfgs", "one-vs-rest"]


@dataclass(frozen=True, kw_only=True, eq=False)
class EvalData:
    """Training and test images with their labels, and how to compute on them."""

    train: Dataset
    """The images that k-NN and probes are fitted on."""
    test: Dataset
    """The images that everything is measured on."""
    labels: Labels | None
    linear_probe: LinearProbe | None
    """The protocol of the linear probe; None without labels or where it is switched off."""
    k: int
    """Neighbors of the weighted k-NN: those of the settings, or as many as the smallest class has training images."""
    cfg: EvaluateConfig
    device: torch.device
    keypoints: AnnotatedPair | None = None
    """The annotated keypoints of the images, in an evaluation of keypoint detectors."""

    @classmethod
    def of(cls, train: Dataset, test: Dataset, cfg: EvaluateConfig) -> "EvalData":
        """Match the labels of the two stores and resolve the probe and the device.

        Raises:
            UserError: labels that do not match, a store without labels, fewer than two test images, an unknown
                device.
        """
        if len(test) < 2 and not cfg.forecast:
            raise UserError(
                f"the test images{f' in {test.path}' if test.path else ''} are {len(test)} in number; "
                "an evaluation needs at least 2",
                code="too-few-images",
            )
        labels = match_labels(train, test) if train.labeled or test.labeled else None
        found = cls(
            train=train,
            test=test,
            labels=labels,
            linear_probe=cfg.linear if labels and cfg.linear != "none" else None,
            k=_num_neighbors(cfg.k, labels),
            cfg=cfg,
            device=choose_device(cfg.device),
        )
        _ = found.masks, found.videos, found.copydays, found.revisited  # what is wrong with them is found first
        return found

    @cached_property
    def masks(self) -> MaskPair | None:
        """The masks of the training and the test images; None where no folders are named."""
        train, test = self.cfg.train_masks, self.cfg.test_masks
        if train is None or test is None:
            return None
        return MaskPair.read((Path(train), as_store(self.train)), (Path(test), as_store(self.test)))

    @cached_property
    def videos(self) -> tuple[Video, ...]:
        """The videos with masks; none where no folder is named."""
        return open_videos(Path(self.cfg.videos)) if self.cfg.videos else ()

    @cached_property
    def copydays(self) -> Copydays | None:
        """The files of Copydays; None where no folder is named."""
        return find_copydays(Path(self.cfg.copydays)) if self.cfg.copydays else None

    @cached_property
    def revisited(self) -> Revisited | None:
        """Queries and database; None where no file is named."""
        return read_revisited(Path(self.cfg.revisited)) if self.cfg.revisited else None

    def description(self, text: str) -> str:
        """Return the text of a progress bar; empty where bars are switched off."""
        return text if self.cfg.progress else ""


def as_store(data: Dataset) -> Store:
    """Return the data of an evaluation of images, which are a store."""
    assert isinstance(data, Store), "only the models of images read pixels"
    return data


def _num_neighbors(k: int, labels: Labels | None) -> int:
    """Return `k`, or the size of the smallest class that has training images, if that is smaller."""
    if labels is None:
        return k
    counts = labels.train.bincount()
    return min(k, int(counts[counts > 0].min()))
