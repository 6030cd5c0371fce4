"""Cut a trained network, export it to ONNX with the preprocessing inside, and run it on raw pixels with onnxruntime.

    python examples/export_to_onnx.py

Takes about half a minute on two CPU cores, most of it for the training.
"""

from pathlib import Path

import numpy as np
import onnxruntime

import limbeck
from limbeck.data.samples import digits
from limbeck.methods import BYOLConfig, SDSSLConfig

VIT = {"patch_size": 7, "embed_dim": 64, "depth": 4, "num_heads": 2}


def main(out: Path = Path("out/export"), epochs: float = 2) -> None:
    """Write a store, a run and the exported network into the folder `out`."""
    images, labels = digits()
    store = limbeck.build_store((images, labels), out / "store")
    run = limbeck.pretrain(
        store.path or out,
        out / "run",
        method=SDSSLConfig(host=BYOLConfig(views="mocov2", hidden=256, dim=64), hidden=256),  # every layer is usable
        backbone="vit_tiny_patch16_224",
        backbone_image_size=28,
        backbone_args=VIT,
        epochs=epochs,
        batch_size=128,
        precision="fp32",
    )
    result = run.export(out / "onnx", depth=2, format="onnx", fold_preprocessing=True)
    print(f"2 of 4 blocks, {result.file_bytes / 1e6:.1f} MB, largest difference from PyTorch {result.difference:.0e}")

    session = onnxruntime.InferenceSession(out / "onnx" / "model.onnx")
    pixels = np.repeat(images[::50, :, :, None], 3, axis=3)  # uint8 [B H W 3]: no normalization outside the network
    (features,) = session.run(None, {"images": pixels})
    print(f"{len(pixels)} images -> features {features.shape}")


if __name__ == "__main__":
    main()
