"""Train with a method of Limbeck in a plain PyTorch loop, and score the features by k-NN.

    python examples/own_training_loop.py

A method is a module that returns a loss. It needs the views of the images, which come from Limbeck's loader here and
could come from any other. Takes about half a minute on two CPU cores.
"""

import torch
from torch import Tensor

from limbeck.core.types import Encoder, StepInfo
from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.loader import Loader
from limbeck.data.samples import digits
from limbeck.data.store.store import Store
from limbeck.methods import MoCoV3Config
from limbeck.metrics.knn import knn_accuracy
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig

VIT = {"patch_size": 7, "embed_dim": 64, "depth": 4, "num_heads": 2, "global_pool": "avg", "class_token": False}


@torch.no_grad()
def features(encoder: Encoder, store: Store) -> Tensor:
    """Return the features [N D] of all images of a store."""
    pixels = torch.from_numpy(store.images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.cat([encoder(batch).final for batch in ((pixels - mean) / std).split(500)])


def main(steps: int = 150) -> float:
    """Return the k-NN accuracy after `steps` optimizer steps."""
    torch.manual_seed(0)
    images, labels = digits()
    train, test = (Store.from_arrays(images[rows], labels[rows]) for rows in (slice(0, None, 2), slice(1, None, 4)))
    config = MoCoV3Config(views="mocov2", hidden=256, dim=64)
    method = config.build(build_backbone(BackboneConfig(image_size=28, args=VIT)))
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=2e-3, weight_decay=0.1)
    loader = Loader(train, config.make_views(28), batch_size=128, seed=0, device=torch.device("cpu"))
    for step, batch in enumerate(loader.batches(0, steps)):
        info = StepInfo(step, steps)
        loss = method(batch, info)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        method.after_step(loss, info)  # the EMA encoder moves here
    encoder = method.encoder().eval()
    known, queries = (torch.from_numpy(store.labels) for store in (train, test))
    accuracy = knn_accuracy(features(encoder, train), known, features(encoder, test), queries)
    print(f"k-NN accuracy after {steps} steps: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
