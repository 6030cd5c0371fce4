"""What networks lose and gain as exports: every family in miniature, or whole networks on real images.

    python -m benchmarks.exports families
    python -m benchmarks.exports networks photos/ --encoders models/lite0 vit_tiny_patch16_224 --image-size 96

`families` writes a narrow network of each family of timm, with random weights, for PyTorch and for ONNX in three
precisions (for timm it is a test, tests/exports/test_families.py). At half and at its whole depth it prints the largest
difference of a feature in fp32, and the share of the 10 nearest digits that fp16 and int8 keep.

`networks` prints size, latencies (one thread, ONNX Runtime and OpenVINO), neighbors kept and, if the images have
labels, accuracies of encoders, or of timm's networks with random weights. "int8, plain" is what ONNX Runtime makes of
the file by itself (`quantize_static`: extremes over the same images, one scale for all channels, no smoothing).
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from limbeck.core.errors import UserError, one_line
from limbeck.data.samples import digits
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.exports import ExportResult, Precision, Proof, export
from limbeck.exports.examples import Examples, split_examples
from limbeck.exports.export_source import load_source
from limbeck.exports.networks import write_torch
from limbeck.exports.onnx_file import open_onnx, open_session, quiet, write_onnx
from limbeck.exports.openvino import open_openvino
from limbeck.exports.proof import ExampleBatch, features_of, prove
from limbeck.exports.quantize import activation_ranges, to_fp16, to_int8
from limbeck.exports.smooth import smooth
from limbeck.exports.survey import AllDepths
from limbeck.metrics.cost import latencies
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import load, load_preprocessing
from limbeck.models.pretrained import stock_form
from tests.helpers.families import FAMILIES, random_encoder

AllDepthsNetwork = Callable[[Tensor], tuple[Tensor, ...]]
IMAGES = 300


@torch.no_grad()
def family_rows(name: str) -> Iterator[str]:
    """Yield a row per depth of a family: one file per format has all depths as outputs."""
    architecture, args = FAMILIES[name]
    pixels = np.repeat(digits()[0][:: 5000 // IMAGES, ..., None], 3, axis=3)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        random_encoder(stock_form(architecture, 32, args), folder)
        backbone = load(folder).eval()
        examples = split_examples(open_store(pixels, None, 32), load_preprocessing(folder), fold=False)
        expected = _of_all_depths(AllDepths(backbone).eval(), examples)
        try:
            found = [_of_all_depths(network, examples) for network in _files(backbone, examples, folder)]
        except (UserError, RuntimeError) as error:
            yield f"| {name} | {architecture} | {one_line(error)} |"
            return
    last = backbone.taps[-1]
    for depth in dict.fromkeys((max(1, last // 2), last)):
        whole = expected[depth - 1]
        proofs = [prove(features[depth - 1], whole, torch.full([len(whole)], -1)) for features in found]
        cells = [f"{proof.largest_difference:.0e}" for proof in proofs[:2]]
        cells += [f"{proof.neighbors:.1%}" for proof in proofs[2:]]
        yield f"| {name} | {architecture} | {depth} of {last} | {' | '.join(cells)} |"


def _files(backbone: Backbone, examples: Examples, folder: Path) -> Iterator[AllDepthsNetwork]:
    """Yield the networks of a PyTorch program and of ONNX files in fp32, fp16 and int8, which return every depth."""
    network, images = AllDepths(backbone).eval(), examples.proof[0][0][:2]
    yield write_torch(network, images, folder)  # type: ignore[misc]
    smooth(backbone.model, examples.calibration)
    paths = {precision: folder / f"{precision}.onnx" for precision in get_args(Precision)}
    layers = write_onnx(network, images, paths["fp32"], [f"depth_{depth}" for depth in backbone.taps])
    to_fp16(paths["fp32"], paths["fp16"])
    to_int8(paths["fp32"], paths["int8"], activation_ranges(paths["fp32"], examples.calibration), layers)
    yield from map(_opened, paths.values())


def _opened(path: Path) -> AllDepthsNetwork:
    session = open_session(path, 1)
    return lambda batch: tuple(map(torch.from_numpy, session.run(None, {"images": batch.numpy()})))


def _of_all_depths(network: AllDepthsNetwork, examples: Examples) -> list[Tensor]:
    """Return the features [N D_depth] of the images of the proof, at every depth."""
    return [torch.cat(parts) for parts in zip(*(network(images) for images, _ in examples.proof), strict=True)]


def network_rows(name: str, source: str, image_size: int) -> Iterator[str]:
    """Yield a row per precision of an encoder, or of timm's network of that name with random weights."""
    with TemporaryDirectory() as temporary:
        folder, run = Path(temporary), Path(name)
        if not run.is_dir():
            run = folder / "encoder"
            random_encoder(stock_form(name, image_size), run)
        loaded = load_source(run, None, fold=False)
        store = open_store(source, None, loaded.preprocessing.store_size)
        for precision in get_args(Precision):
            keep = None if precision == "fp32" else 0.0
            found = export(run, folder / precision, None, "onnx", precision=precision, images=source, keep=keep)
            yield _row(name, precision, found)
        yield _plain(name, folder, loaded, store)


def _row(name: str, precision: str, found: ExportResult) -> str:
    assert found.proof is not None
    times = (found.latency_ms, found.fp32_latency_ms, found.openvino_latency_ms)
    return _cells(name, precision, found.file_bytes, times, found.proof)


def _cells(name: str, precision: str, file_bytes: int, times: Sequence[float | None], proof: Proof) -> str:
    shares = (proof.neighbors, proof.knn, proof.linear)
    cells = [
        Path(name).name,
        precision,
        f"{file_bytes / 1e6:.1f}",
        *("-" if time is None else f"{time:.2f}" for time in times),
        *("-" if share is None else f"{share:.1%}" for share in shares),
    ]
    return f"| {' | '.join(cells)} |"


def plain_int8(fp32: Path, target: Path, examples: Examples) -> None:
    """Write what ONNX Runtime makes of a file in fp32 by itself."""
    from onnxruntime.quantization import quantize_static

    with quiet():
        quantize_static(str(fp32), str(target), _Reader(examples.calibration))


def _plain(name: str, folder: Path, loaded: Any, store: Store) -> str:
    """Return the row of what ONNX Runtime makes of the file in fp32."""
    examples = split_examples(store, loaded.preprocessing, fold=False)
    target = folder / "plain.onnx"
    plain_int8(folder / "fp32" / "model.onnx", target, examples)
    network, compiled = open_onnx(target), open_openvino(target)
    timed = [network, open_onnx(folder / "fp32" / "model.onnx"), *([] if isinstance(compiled, str) else [compiled])]
    times = [latency.min_ms for latency in latencies(timed, examples.proof[0][0][:1])]
    labels = torch.cat([labels for _, labels in examples.proof])
    proof = prove(features_of(network, examples.proof), features_of(loaded.network, examples.proof), labels)
    return _cells(name, "int8, plain", target.stat().st_size, [*times, None][:3], proof)


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
        print("| family | network | depth | torch | onnx | fp16 | int8 |\n|---|---|---|---|---|---|---|")
        rows = (row for name in args.only for row in family_rows(name))
    else:
        print("| network | precision | MB | ms | fp32 in turn | OpenVINO | neighbors kept | 20-NN | linear |")
        print("|---|---|---|---|---|---|---|---|---|")
        rows = (row for name in args.encoders for row in network_rows(name, args.source, args.image_size))
    for row in rows:
        print(row, flush=True)


if __name__ == "__main__":
    main()
