"""Segmentation: mean IoU of a linear probe on the feature maps."""

import torch
from torch import Tensor

from limbeck.data.augment.apply import central_side
from limbeck.data.masks import Masks
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Metric, Values, share_column
from limbeck.evaluation.segmentation_probe import SegmentationProbe


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Fit a probe on the maps of every depth of the training images, and measure it on the test images."""
    data, masks = inputs.data, inputs.data.masks
    if masks is None:
        return {}
    probe, size = SegmentationProbe(seed=data.cfg.seed), inputs.model.image_size
    train, test = (_central(truth, size) for truth in (masks.train, masks.test))
    found: dict[int, Values] = {}
    for depth in inputs.depths:
        maps = [inputs.model.maps(data, store, depth) for store in (data.train, data.test)]
        text = data.description(f"{inputs.model.name}: segmentation at depth {depth}")
        head = probe.fit(maps[0], train, masks.classes, data.device, text)
        found[depth] = {"mean_iou": head.mean_iou(maps[1], test, probe.batch_size)}
    return found


def _central(masks: Masks, image_size: int) -> Tensor:
    """Crop masks [N S S], uint8, to the input of the network."""
    side = central_side(masks.shape[1], image_size)
    start = (masks.shape[1] - side) // 2
    return torch.from_numpy(masks[:, start : start + side, start : start + side])


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="mean_iou",
            label="mean IoU",
            better="higher",
            priority=1,
            help="mean intersection over union of the classes, by a 1 x 1 convolution fitted to feature maps of the "
            "training images (`--train-masks`, `--test-masks`)",
        ),
    ),
    needs=frozenset({"feature_maps"}),
    untrained=True,
    compute=compute,
)
