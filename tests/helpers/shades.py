"""For tests of evaluation: images that are easy to classify, a tiny CNN, a quick configuration."""

import numpy as np

from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.models.backbone import Backbone, build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing
from tests.helpers.tiny import SIZE

CFG = EvaluateConfig(
    batch_size=16,
    alignment_images=12,
    linear_epochs=3,
    latency=False,
    references=False,
    precision="fp32",
    device="cpu",
    progress=False,
)

PLAIN = Preprocessing(image_size=SIZE, store_size=SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def shades(rows: int, seed: int, labeled: bool = True) -> Store:
    """Noisy images of three brightnesses, labeled by them."""
    labels = np.arange(rows) % 3
    noise = np.random.default_rng(seed).integers(0, 40, (rows, SIZE, SIZE, 3))
    images = (noise + 90 * labels[:, None, None, None]).astype(np.uint8)
    return Store.from_arrays(images, labels, ["dark", "gray", "light"]) if labeled else Store.from_arrays(images)


def tiny_resnet() -> Backbone:
    """Return a ResNet of two narrow stages and two more."""
    args = {"channels": [8, 8, 12, 12], "layers": [1, 1, 1, 1]}
    return build_backbone(BackboneConfig(name="resnet18", image_size=SIZE, args=args))
