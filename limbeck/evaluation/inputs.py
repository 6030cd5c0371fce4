"""Inputs of metrics: features of one model, extracted when first used and shared by all metrics."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.evaluation.data import EvalData
from limbeck.evaluation.logistic_probe import LogisticHeads, LogisticProbe, fit_heads
from limbeck.evaluation.models import Bank, EvaluatedModel, Need
from limbeck.evaluation.probes import Predictions, probe_predictions
from limbeck.metrics.cost import count_operations


class MetricInputs:
    """Features, labels, networks and settings for the metrics of one model.

    Attributes:
        model: the network that is evaluated, and its depths.
        data: the images, labels and settings of the evaluation.
        teacher: features [M D] of the test images from a teacher, where a student is compared with one.
    """

    def __init__(self, model: EvaluatedModel, data: EvalData, teacher: Tensor | None = None) -> None:
        self.model, self.data, self.teacher = model, data, teacher
        self.depths = model.depths

    @property
    def offers(self) -> frozenset[Need]:
        """What is available here, to be compared with what a metric needs."""
        labels: set[Need] = {"labels"} if self.data.labels is not None else set()
        teacher: set[Need] = {"teacher"} if self.teacher is not None else set()
        return self.model.offers | labels | teacher

    @cached_property
    def test_bank(self) -> Bank:
        """Features of all test images: depth -> [M D], on the device or memory-mapped."""
        return self.model.features(self.data, self.data.test)

    @cached_property
    def train_bank(self) -> Bank:
        """Features of all training images: depth -> [N D], on the device or memory-mapped."""
        return self.model.features(self.data, self.data.train)

    @cached_property
    def probe_predictions(self) -> Predictions:
        """Classes that the linear probes give to the test images: depth -> [M]; none where there is no probe."""
        data = self.data
        if data.linear_probe is None or data.labels is None:
            return {}
        if data.linear_probe == "logistic":
            return dict(zip(self.heads.depths, self.confidences[1], strict=True))
        text = data.description(f"{self.model.name}: linear probe")
        return probe_predictions(
            data.linear_probe, self.train_bank, self.test_bank, data.labels, data.cfg, data.device, text
        )

    @cached_property
    def views(self) -> tuple[Bank, Bank]:
        """Features of two augmented views of a sample of the test images; needs "views"."""
        return self.model.views(self.data)

    @cached_property
    def networks(self) -> dict[int, nn.Module]:
        """The network cut at every depth, on the device."""
        return {depth: network.to(self.data.device) for depth, network in self.model.networks().items()}

    @cached_property
    def operations(self) -> dict[int, int]:
        """Arithmetic operations of the network cut at every depth, for one image of the input size."""
        return {depth: count_operations(network, self.image) for depth, network in self.networks.items()}

    @cached_property
    def heads(self) -> LogisticHeads:
        """The logistic regressions of all depths on the training features; needs "labels"."""
        labels, data = self.data.labels, self.data
        assert labels is not None, "the metric does not declare that it needs labels"
        text = data.description(f"{self.model.name}: linear probe")
        probe = LogisticProbe(seed=data.cfg.seed)
        return fit_heads(probe, self.train_bank, labels.train, labels.classes, data.device, text)

    @cached_property
    def confidences(self) -> tuple[Tensor, Tensor]:
        """The largest probability of every test image by these regressions, and its class: twice [L M]."""
        return self.heads.predict(self.test_bank)

    @property
    def image(self) -> Tensor:
        """One random input of the model's size, on the device: of images [1 3 H W]."""
        return self.model.example(self.data.device)

    def feature_maps(self, indices: NDArray[np.int64]) -> Bank:
        """Return the feature maps of the test images at `indices`: depth -> [B C H W]; needs "feature_maps"."""
        return self.model.feature_maps(self.data, indices)

    def test(self, depth: int) -> Tensor:
        """Return the features [M D] of the test images at `depth`, on the device."""
        return self.test_bank[depth].to(self.data.device)

    def labeled(self, depth: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return training features and labels, test features and labels, on the device; needs "labels"."""
        labels, device = self.data.labels, self.data.device
        assert labels is not None, "the metric does not declare that it needs labels"
        return (
            self.train_bank[depth].to(device),
            labels.train.to(device),
            self.test(depth),
            labels.test.to(device),
        )
