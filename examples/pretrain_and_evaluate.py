"""Pretrain a small ViT on digits without labels, and measure every layer against the untrained network.

    python examples/pretrain_and_evaluate.py

Takes about half a minute on two CPU cores. After 5 epochs the last layer has about 66 % k-NN accuracy on 1,000 held-out
digits (seed 0); before training it has 58 %.
"""

from pathlib import Path

import limbeck
from limbeck.data.samples import write_digits

VIT = {"patch_size": 7, "embed_dim": 64, "depth": 4, "num_heads": 2, "global_pool": "avg", "class_token": False}


def main(out: Path = Path("out/pretrain"), epochs: float = 5) -> None:
    """Write the digits, a run and its evaluation into the folder `out`."""
    write_digits(out / "digits")  # train/DIGIT/*.png and test/DIGIT/*.png, as a folder of your own could be
    run = limbeck.pretrain(
        out / "digits" / "train",
        out / "run",
        method="simclr",
        method_views="mocov2",
        method_hidden=256,
        backbone="vit_tiny_patch16_224",
        backbone_image_size=28,
        backbone_args=VIT,
        optim_lr=4e-3,
        epochs=epochs,
        batch_size=128,
        precision="fp32",
    )
    result = run.evaluate(out / "digits" / "train", out / "digits" / "test", linear="none", latency=False)
    for layer in result.layers:
        trained, untrained = layer.values["knn"], layer.values["untrained_knn"]
        print(f"layer {layer.depth}: k-NN {trained:.1%}, before training {untrained:.1%}")


if __name__ == "__main__":
    main()
