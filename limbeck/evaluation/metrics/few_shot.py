"""Few-shot accuracy: five classes from one or five images of each."""

from functools import lru_cache

import numpy as np
import torch

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, share_column
from limbeck.metrics.few_shot import Episodes, draw_episodes, episode_accuracies, few_shot

SHOTS = (1, 5)


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Draw 600 episodes of test images, the same for every depth and every network."""
    labels = inputs.data.labels
    assert labels is not None
    found: dict[int, Values] = {depth: {} for depth in inputs.depths}
    for shot in SHOTS:
        episodes = _episodes(labels.test.numpy().tobytes(), shot, inputs.data.cfg.seed)
        for depth in inputs.depths:
            names = (f"few_shot_{shot}", f"few_shot_{shot}_half_width")
            if episodes is None:
                found[depth] |= dict.fromkeys(names)
                continue
            features = inputs.test(depth)
            rows = torch.from_numpy(episodes).to(features.device)
            found[depth] |= dict(zip(names, few_shot(episode_accuracies(features, rows, shot)), strict=True))
    return found


@lru_cache(maxsize=len(SHOTS))
def _episodes(labels: bytes, shot: int, seed: int) -> Episodes | None:
    """Draw once for all networks that are evaluated on the same images; `labels` are of int64."""
    return draw_episodes(np.frombuffer(labels, np.int64), shot, seed=seed)


def _columns(shot: int) -> tuple[Column, Column]:
    images = "one image" if shot == 1 else f"{shot} images"
    return (
        share_column(
            name=f"few_shot_{shot}",
            label=f"{shot}-shot",
            better="higher",
            priority=2,
            help=f"accuracy of the nearest centroid by cosine, with {images} of each of 5 classes: mean of 600 "
            "episodes of test images with 15 queries per class (fewer where there are fewer)",
        ),
        share_column(
            name=f"few_shot_{shot}_half_width",
            label="±",
            priority=3,
            reference=True,
            help=f"half the width of the 95 % interval of `few_shot_{shot}` over the episodes",
        ),
    )


METRIC = Metric(
    group="accuracy",
    columns=(*_columns(1), *_columns(5)),
    needs=frozenset({"labels"}),
    untrained=True,
    compute=compute,
)
