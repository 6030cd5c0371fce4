"""Time and peak memory of evaluating all 12 layers of a ViT-Tiny on two stores.

    limbeck store cifar10/train.parquet runs/c10/train
    limbeck store cifar10/test.parquet runs/c10/test
    python benchmarks/evaluation.py runs/c10/train runs/c10/test

Features of all images are extracted at every layer in one pass; then follow 20-NN, 5-NN, the joint linear probe by SGD,
geometry and cost.
"""

import argparse
import resource
import time

import torch

from limbeck.data.augment.views import IMAGENET_MEAN, IMAGENET_STD
from limbeck.data.store.store import Store
from limbeck.evaluation.config import EvaluateConfig
from limbeck.evaluation.evaluator import evaluate
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing

VIT = BackboneConfig(name="vit_tiny_patch16_224", image_size=32, args={"patch_size": 8})


def peak_gib() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Evaluate, and print time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--linear-epochs", type=int, default=100)
    args = parser.parse_args()
    backbone = build_backbone(VIT)
    train, test = Store.open(args.train), Store.open(args.test)
    before, start = peak_gib(), time.perf_counter()
    cfg = EvaluateConfig(linear="sgd", linear_epochs=args.linear_epochs)
    how = Preprocessing(image_size=32, store_size=train.size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    result = evaluate(backbone, train, test, cfg, preprocessing=how)
    seconds = time.perf_counter() - start
    print(f"{len(train):,} + {len(test):,} images, {len(result.layers)} layers of width {backbone.dim}")
    print(f"{seconds:.0f} s on {torch.get_num_threads()} threads, peak {peak_gib():.2f} GiB ({before:.2f} GiB before)")


if __name__ == "__main__":
    main()
