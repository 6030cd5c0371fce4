"""Video segmentation: the masks of the first frame, propagated through a video by the similarity of feature maps.

The protocol of DAVIS-2017 as facebookresearch/dino 7c446df computes it (`eval_video_segmentation.py`).
"""

from collections import defaultdict, deque
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from limbeck.core.progress import progress
from limbeck.data.masks import IGNORED, Masks
from limbeck.data.videos import Video
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Metric, Values, share_column
from limbeck.metrics.label_propagation import hard_labels, propagate
from limbeck.metrics.regions import boundary_accuracy, region_similarity, statistics

MEMORY = 7  # frames before the present one that labels come from, besides the first
UNIT = 64  # pixels: the long side is cut to a multiple of about so many


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Segment every video at every depth; the scores are means over all objects."""
    videos, text = inputs.data.videos, inputs.data.description(f"{inputs.model.name}: videos")
    scores: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for video in progress(videos, text, unit="frames", size=lambda video: len(video.frames)):
        for depth, found in _score(inputs, video).items():
            scores[depth] += list(found.transpose(2, 1, 0))
    return {depth: _means(found) for depth, found in scores.items()}


def _means(objects: list[NDArray[np.float64]]) -> Values:
    """Return the columns from the two scores of the frames of each object, [2 frames]."""
    region, boundary = (np.mean([statistics(scores[kind]) for scores in objects], axis=0).tolist() for kind in (0, 1))
    columns = ("video_j", "video_j_recall", "video_j_decay", "video_f", "video_f_recall", "video_f_decay")
    return {"video_jf": (region[0] + boundary[0]) / 2, **dict(zip(columns, region + boundary, strict=True))}


def _score(inputs: MetricInputs, video: Video) -> dict[int, Float[NDArray[np.float64], "frames 2 objects"]]:
    """Return J and F of every object at every depth; the first and the last frame are not scored."""
    found: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for index, labels in enumerate(_segment(inputs, video), start=1):
        truth = video.mask(index)
        for depth, predicted in labels.items():
            found[depth].append(_compare(predicted, truth, video.objects))
    return {depth: np.stack(scores) for depth, scores in found.items()}


def _compare(predicted: Masks, truth: Masks, objects: int) -> Float[NDArray[np.float64], "2 objects"]:
    counts = truth != IGNORED
    pairs = [((predicted == number) & counts, truth == number) for number in range(1, objects + 1)]
    return np.array([[score(*pair) for pair in pairs] for score in (region_similarity, boundary_accuracy)])


def _segment(inputs: MetricInputs, video: Video) -> Iterator[dict[int, Masks]]:
    """Yield the objects at every pixel, by depth, of all frames but the first and the last."""
    first, shape = _first(inputs, video), video.mask(0).shape
    memory = {depth: deque[tuple[Tensor, Tensor]](maxlen=MEMORY) for depth in inputs.depths}
    for index in range(1, len(video.frames) - 1):
        frame, masks = _frame(inputs, video, index), {}
        for depth, target in inputs.model.frame_maps(inputs.data, frame).items():
            maps, labels = (torch.stack(parts) for parts in zip(first[depth], *memory[depth], strict=True))
            soft = propagate(target, maps, labels)
            memory[depth].append((target, soft))
            found = hard_labels(soft, (frame.shape[2], frame.shape[3])).byte()
            masks[depth] = F.interpolate(found[None, None], size=shape, mode="nearest")[0, 0].cpu().numpy()
        yield masks


def _first(inputs: MetricInputs, video: Video) -> dict[int, tuple[Tensor, Tensor]]:
    """Return the feature map of the first frame at every depth, and its objects at the places of the map, one-hot."""
    mask = video.mask(0)
    objects = torch.from_numpy(np.where(mask == IGNORED, 0, mask))[None, None]
    maps = inputs.model.frame_maps(inputs.data, _frame(inputs, video, 0))
    return {depth: (found, _one_hot(objects, video.objects, found)) for depth, found in maps.items()}


def _one_hot(objects: Int[Tensor, "1 1 H W"], count: int, maps: Float[Tensor, "D h w"]) -> Float[Tensor, "C h w"]:
    coarse = F.interpolate(objects, size=maps.shape[1:], mode="nearest")[0, 0].long()
    return F.one_hot(coarse, count + 1).permute(2, 0, 1).to(maps)


def _frame(inputs: MetricInputs, video: Video, index: int) -> Float[Tensor, "1 3 H W"]:
    pixels = torch.from_numpy(video.frame(index)).permute(2, 0, 1)[None] / 255
    size = frame_size(pixels.shape[2], pixels.shape[3], inputs.data.cfg.video_side, inputs.model.patch)
    return F.interpolate(pixels, size=size, mode="bilinear", antialias=True).clamp(0, 1)


def frame_size(height: int, width: int, side: int, patch: int) -> tuple[int, int]:
    """Return the size of a frame for a network: the short side as near to `side` from below as its patches allow.

    The long side is cut to a multiple of 64 pixels, or of as many patches as there are in 64 pixels.
    """
    short, unit = side // patch * patch, max(UNIT // patch, 1) * patch
    long = max(short, side * max(height, width) // min(height, width) // unit * unit)
    return (short, long) if height <= width else (long, short)


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="video_jf",
            label="J&F",
            help="mean of `video_j` and `video_f` (`--videos`)",
            better="higher",
            priority=1,
        ),
        share_column(
            name="video_j",
            label="J",
            help="intersection over union of the objects of videos, of which the first masks are given: mean over the "
            "frames, then over the objects",
            better="higher",
            priority=2,
        ),
        share_column(
            name="video_j_recall",
            label="J, recall",
            help="share of the frames with an intersection over union above one half",
            better="higher",
            priority=3,
        ),
        share_column(
            name="video_j_decay",
            label="J, decay",
            help="what the last quarter of a video has lost",
            better="lower",
            priority=3,
        ),
        share_column(
            name="video_f",
            label="F",
            help="harmonic mean of precision and recall of the boundaries of the objects, within 0.8 % of the diagonal",
            better="higher",
            priority=2,
        ),
        share_column(
            name="video_f_recall",
            label="F, recall",
            help="share of the frames with a value above one half",
            better="higher",
            priority=3,
        ),
        share_column(
            name="video_f_decay",
            label="F, decay",
            help="what the last quarter of a video has lost",
            better="lower",
            priority=3,
        ),
    ),
    needs=frozenset({"frames"}),
    untrained=True,
    compute=compute,
)
