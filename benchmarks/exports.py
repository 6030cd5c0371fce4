"""What networks lose and gain as exports: every family in miniature, or whole networks on real images.

    python -m benchmarks.exports families
    python -m benchmarks.exports networks photos/ --encoders models/lite0 vit_tiny_patch16_224 --image-size 96

`families` writes a narrow network of each family of timm, with random weights, at half and at its whole depth, for
timm, PyTorch and ONNX in three precisions, and prints the largest difference of a feature in fp32, and the share of the
10 nearest digits that fp16 and int8 keep. `networks` prints size, latency (one thread, ONNX Runtime and OpenVINO),
neighbors kept and accuracies (if the images have labels) of encoders, or of timm's networks with random weights; "int8,
plain" is what ONNX Runtime makes of the file by itself (`quantize_static`: extremes over the same images, one scale for
all channels, no smoothing).
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from limbeck.core.errors import UserError, one_line
from limbeck.data.samples import digits
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.exports import ExportResult, Format, Precision, Proof, export
from limbeck.exports.examples import split_examples
from limbeck.exports.onnx_file import open_onnx, quiet
from limbeck.exports.openvino import open_openvino
from limbeck.exports.proof import ExampleBatch, features_of, prove
from limbeck.exports.source import load_source
from limbeck.metrics.cost import latencies
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.models.encoder_io import Preprocessing, save_encoder
from limbeck.models.pretrained import stock_form

HALF = (0.5, 0.5, 0.5)
IMAGES = 300
VIT = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("vit_tiny_patch16_224", VIT),
    "DeiT": ("deit_tiny_patch16_224", VIT),
    "EVA-02": ("eva02_tiny_patch14_224", VIT),
    "ResNet": ("resnet18", {"channels": [8, 8, 12, 12], "layers": [1, 1, 1, 1]}),
    "ConvNeXt": ("convnext_atto", {"dims": [8, 8, 12, 12], "depths": [1, 1, 1, 1]}),
    "EfficientNet": ("efficientnet_b0", {}),
    "EfficientNet-Lite": ("tf_efficientnet_lite0", {}),
    "MobileNetV3": ("mobilenetv3_small_050", {}),
    "MobileNetV4": ("mobilenetv4_conv_small_035", {}),
    "RegNet": ("regnety_002", {}),
    "RepViT": ("repvit_m0_9", {"embed_dim": (8, 8, 16, 16), "depth": (1, 1, 1, 1)}),
    "FastViT": ("fastvit_t8", {"embed_dims": (8, 8, 16, 16), "layers": (1, 1, 1, 1)}),
}
FORMS: tuple[tuple[Format, Precision], ...] = (
    ("timm", "fp32"),
    ("torch", "fp32"),
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
)


def random_encoder(form: BackboneConfig, folder: Path, batches: int = 20) -> int:
    """Write a network with random weights and the BatchNorm statistics of some batches of noise; return its depth."""
    torch.manual_seed(0)
    backbone, size = build_backbone(form), form.image_size or 32
    with torch.no_grad():
        for _ in range(batches):
            backbone(torch.randn(16, 3, size, size))
    how = Preprocessing(image_size=size, store_size=size, mean=HALF, std=HALF)
    save_encoder(backbone.eval(), folder, how, {"weights": "random"})
    return backbone.taps[-1]


def family_rows(name: str) -> Iterator[str]:
    """Yield a row per depth of a family."""
    architecture, args = FAMILIES[name]
    form = stock_form(architecture, 32, args)
    pixels = np.repeat(digits()[0][:: 5000 // IMAGES, ..., None], 3, axis=3)
    with TemporaryDirectory() as folder:
        depth = random_encoder(form, Path(folder) / "encoder")
        for cut in dict.fromkeys((max(1, depth // 2), depth)):
            cells = [_family_cell(Path(folder), cut, pixels, *form) for form in FORMS]
            yield f"| {name} | {architecture} | {cut} of {depth} | {' | '.join(cells)} |"


def _family_cell(folder: Path, cut: int, pixels: Any, format: Format, precision: Precision) -> str:
    """Return the largest difference of a file in fp32, the neighbors that another one keeps, or why there is none."""
    images, keep = (None, None) if precision == "fp32" else (pixels, 0.0)
    out = folder / f"{cut}-{format}-{precision}"
    try:
        found = export(folder / "encoder", out, cut, format, precision=precision, images=images, keep=keep)
    except (UserError, RuntimeError) as error:
        return one_line(error)
    return f"{found.difference:.0e}" if found.proof is None else f"{found.proof.neighbors:.1%}"


def network_rows(name: str, source: str, image_size: int) -> Iterator[str]:
    """Yield a row per precision of an encoder, or of timm's network of that name with random weights."""
    with TemporaryDirectory() as temporary:
        folder, run = Path(temporary), Path(name)
        if not run.is_dir():
            run = folder / "encoder"
            random_encoder(stock_form(name, image_size), run)
        loaded = load_source(run, None, fold=False)
        store = open_store(source, None, loaded.preprocessing.store_size)
        for precision in ("fp32", "fp16", "int8"):
            keep = None if precision == "fp32" else 0.0
            out = folder / precision
            yield _row(name, precision, export(run, out, None, "onnx", precision=precision, images=source, keep=keep))  # type: ignore[arg-type]
        yield _plain(name, folder, loaded, store)


def _row(name: str, precision: str, found: ExportResult) -> str:
    assert found.proof is not None
    openvino = found.openvino_latency_ms
    return _cells(name, precision, found.file_bytes, found.latency_ms, openvino, found.proof)


def _cells(name: str, precision: str, file_bytes: int, runtime: float, openvino: float | None, proof: Proof) -> str:
    shares = (proof.neighbors, proof.knn, proof.linear)
    cells = [
        Path(name).name,
        precision,
        f"{file_bytes / 1e6:.1f}",
        f"{runtime:.2f}",
        "-" if openvino is None else f"{openvino:.2f}",
        *("-" if share is None else f"{share:.1%}" for share in shares),
    ]
    return f"| {' | '.join(cells)} |"


def _plain(name: str, folder: Path, loaded: Any, store: Store) -> str:
    """Return the row of what ONNX Runtime makes of the file in fp32."""
    from onnxruntime.quantization import quantize_static

    examples = split_examples(store, loaded.preprocessing, fold=False)
    target = folder / "plain.onnx"
    with quiet():
        quantize_static(str(folder / "fp32" / "model.onnx"), str(target), _Reader(examples.calibration))
    network, compiled = open_onnx(target), open_openvino(target)
    times = latencies([network, *([] if compiled is None else [compiled])], examples.proof[0][0][:1])
    labels = torch.cat([labels for _, labels in examples.proof])
    proof = prove(features_of(network, examples.proof), features_of(loaded.network, examples.proof), labels)
    openvino = times[1].min_ms if compiled is not None else None
    return _cells(name, "int8, plain", target.stat().st_size, times[0].min_ms, openvino, proof)


class _Reader:
    """Calibration images, in the form that ONNX Runtime reads."""

    def __init__(self, batches: Sequence[ExampleBatch]) -> None:
        self._feeds = iter([{"images": images.numpy()} for images, _ in batches])

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch, then None."""
        return next(self._feeds, None)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("families").add_argument("--only", nargs="+", default=[*FAMILIES], choices=[*FAMILIES])
    networks = kinds.add_parser("networks")
    networks.add_argument("source")
    networks.add_argument("--encoders", nargs="+", required=True)
    networks.add_argument("--image-size", type=int, default=96, help="of networks with random weights, pixels")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    if args.kind == "families":
        print("| family | network | depth | timm | torch | onnx | fp16 | int8 |\n|---|---|---|---|---|---|---|---|")
        rows = (row for name in args.only for row in family_rows(name))
    else:
        print("| network | precision | MB | ms | ms, OpenVINO | neighbors kept | 20-NN | linear |")
        print("|---|---|---|---|---|---|---|---|")
        rows = (row for name in args.encoders for row in network_rows(name, args.source, args.image_size))
    for row in rows:
        print(row, flush=True)


if __name__ == "__main__":
    main()
