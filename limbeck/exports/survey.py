"""Measure every depth, input size and precision of a network.

One file per input size and precision has the features of all depths as outputs. It is compared on real images once;
the file of a depth is the part of it that this output needs.
"""

import logging
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from limbeck.core.config import from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.packages import require
from limbeck.core.progress import Bar, progress_bar
from limbeck.core.text import plural
from limbeck.data.fingerprint import fingerprint
from limbeck.data.sources.open import Source
from limbeck.data.store.open import cache_folder
from limbeck.data.store.store import Store
from limbeck.exports.examples import Examples, open_examples, split_examples
from limbeck.exports.export_source import ExportSource, load_source
from limbeck.exports.onnx_file import open_session, write_onnx
from limbeck.exports.openvino import open_openvino
from limbeck.exports.proof import features_of, half_knn
from limbeck.exports.quantize import activation_ranges, to_fp16, to_int8
from limbeck.exports.result import Precision
from limbeck.exports.smooth import smooth
from limbeck.exports.variants import Survey, Variant
from limbeck.metrics.cost import latencies
from limbeck.metrics.fidelity import nearest_images, neighbor_agreement
from limbeck.models.backbone import Backbone
from limbeck.models.surgery import timm_defaults, timm_network
from limbeck.models.weights import digest

logger = logging.getLogger(__name__)

VERSION = 2  # of what is measured and how: numbers of another one are not read from the cache
FRACTIONS = (1, 3 / 4, 1 / 2)  # of the input size of the training
PROOF = 256  # images, at most
SECONDS = 1.0  # for the latencies of a depth
GRID = 8  # pixels; sizes of a network without patches are multiples of it
Files = Mapping[Precision, Path]


class _Reference(NamedTuple):
    """Reference of the variants: the whole network in fp32, at the input size of its training."""

    nearest: Tensor  # the 10 nearest images of each image [N 10]
    labels: Tensor  # [N], -1 where there is none


class AllDepths(nn.Module):
    """A backbone that returns its features at every depth, from the first to the last."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images [B 3 H W] to the features [B D_depth] of every depth."""
        taps = self.backbone.taps
        found = self.backbone(images, taps).taps
        return tuple(found[tap] for tap in taps)


def survey(run: Path, images: Source | None = None, image_sizes: Sequence[int] = ()) -> Survey:
    """Measure every depth of the network at `run`, at several input sizes, in fp32, fp16 and int8, as ONNX files.

    What was measured is in the cache, a file per input size, so that a survey that was stopped goes on there.

    Args:
        run: a run, an encoder, or a timm export of Limbeck.
        images: images to calibrate on and to compare with, labeled or not; by default those of the run.
        image_sizes: in pixels; by default that of the training, and three quarters and half of it.

    Raises:
        UserError: there is no network or it is a classifier, there are too few images, the network cannot have a size,
            or packages are missing.
    """
    require("export", "onnx", "onnxruntime", "onnxscript", purpose="a survey of exports")
    source = load_source(run, None, fold=False)
    if source.classifier:
        raise UserError(
            f"'{run}' is a classifier, whose head fits one depth and one input size: survey its encoder, or export it "
            "as it is",
            code="classifier-has-one-depth",
        )
    own = source.preprocessing.image_size
    sources = _at_sizes(run, image_sizes) if image_sizes else _at_default_sizes(source)
    store = open_examples(run, images, source.preprocessing)
    if store is None:
        raise UserError(
            f"'{run}' has no store of images to compare its exports on: give some with --images", code="no-images"
        )
    variants = _measure_sizes(source, {**sources, own: source}, store)
    listed = [variant for variant in variants if variant.image_size in sources]
    whole = next(v for v in variants if (v.depth, v.image_size, v.precision) == (source.backbone.taps[-1], own, "fp32"))
    return Survey(listed, whole, len(torch.cat([labels for _, labels in _split(store, source).proof])))


def _at_sizes(run: Path, image_sizes: Sequence[int]) -> dict[int, ExportSource]:
    return {size: load_source(run, None, False, size) for size in image_sizes}


def _at_default_sizes(source: ExportSource) -> dict[int, ExportSource]:
    """Return the network at those of the usual sizes that it can have: windows of attention may not fit some."""
    found = dict[int, ExportSource]()
    for size in default_sizes(source):
        with suppress(UserError):
            found |= _at_sizes(source.run, [size])
    return found


def default_sizes(source: ExportSource) -> list[int]:
    """Return the input size of a network, and three quarters and half of it in whole patches, largest first."""
    network, own = timm_network(source.backbone.model), source.preprocessing.image_size
    fixed = timm_defaults(source.backbone.cfg.name).fixed_input_size
    if fixed and not callable(getattr(network, "set_input_size", None)):
        return [own]
    step = network.patch_embed.patch_size[0] if fixed else GRID
    sizes = [own, *(round(own * fraction / step) * step for fraction in FRACTIONS[1:])]
    return sorted({size for size in sizes if 2 * step <= size <= own} | {own}, reverse=True)


def _measure_sizes(whole: ExportSource, sources: Mapping[int, ExportSource], store: Store) -> list[Variant]:
    """Return the variants of all sizes: those of the cache, and the others measured and put into it."""
    files = {size: _cache_file(source, whole, store) for size, source in sources.items()}
    found = {size: _read(file) for size, file in files.items() if file and file.is_file()}
    missing = {size: source for size, source in sources.items() if found.get(size) is None}
    if missing:
        reference = _reference(whole, store)
        steps = len(missing) * (len(whole.backbone.taps) + len(get_args(Precision)) + 1)
        with progress_bar(steps, "measuring exports", unit="steps") as bar:
            for size, source in missing.items():
                bar.describe(f"measuring exports at {size} pixels")
                found[size] = _measure(source, _split(store, source), reference, bar)
                if file := files[size]:
                    write_json(file, to_json(found[size]))
    else:
        logger.info("%s as measured before", plural(len(sources), "input size"))
    return [variant for size in sources for variant in found[size] or ()]


def _split(store: Store, source: ExportSource) -> Examples:
    return split_examples(store, source.preprocessing, fold=False, proof=PROOF)


def _reference(whole: ExportSource, store: Store) -> _Reference:
    batches = _split(store, whole).proof
    features = features_of(whole.network, batches)
    return _Reference(nearest_images(features), torch.cat([labels for _, labels in batches]))


@torch.no_grad()
def _measure(source: ExportSource, examples: Examples, reference: _Reference, bar: Bar) -> list[Variant]:
    """Measure the variants of one input size; the network of `source` is changed."""
    with TemporaryDirectory(prefix="limbeck-") as folder:
        files = _write_files(source, examples, Path(folder))
        bar.advance()
        features = dict[Precision, list[Tensor]]()
        for precision, file in files.items():
            features[precision] = _features(file, examples)
            bar.advance()
        variants = list[Variant]()
        for depth in source.backbone.taps:
            variants += _measure_depth(source, files, depth, features, reference)
            bar.advance()
        return variants


def _write_files(source: ExportSource, examples: Examples, folder: Path) -> Files:
    """Write the network with an output per depth in every precision."""
    files: Files = {precision: folder / f"{precision}.onnx" for precision in get_args(Precision)}
    backbone = source.backbone
    smooth(backbone.model, examples.calibration)  # computes the same, and is needed for int8
    outputs = [_output(depth) for depth in backbone.taps]
    layers = write_onnx(AllDepths(backbone).eval(), examples.proof[0][0][:2], files["fp32"], outputs)
    to_fp16(files["fp32"], files["fp16"])
    to_int8(files["fp32"], files["int8"], activation_ranges(files["fp32"], examples.calibration), layers)
    return files


def _output(depth: int) -> str:
    return f"depth_{depth}"


def _features(file: Path, examples: Examples) -> list[Tensor]:
    """Return the features [N D_depth] of all images, at every depth."""
    session = open_session(file, os.cpu_count() or 1)
    found = [session.run(None, {"images": images.numpy()}) for images, _ in examples.proof]
    return [torch.cat([torch.from_numpy(part) for part in parts]) for parts in zip(*found, strict=True)]


def _measure_depth(
    source: ExportSource, files: Files, depth: int, features: Mapping[Precision, list[Tensor]], reference: _Reference
) -> list[Variant]:
    contents = {precision: _part(file, depth) for precision, file in files.items()}
    side = source.preprocessing.image_size
    calls: dict[tuple[str, str], Any] = {("onnx", precision): _call(content) for precision, content in contents.items()}
    compiled = {precision: open_openvino(content) for precision, content in contents.items()}
    missing = {precision: found if isinstance(found, str) else "" for precision, found in compiled.items()}
    calls |= {("openvino", precision): call for precision, call in compiled.items() if not missing[precision]}
    measured = latencies([*calls.values()], torch.zeros(1, 3, side, side), seconds=SECONDS)
    times = dict(zip(calls, measured, strict=True))
    return [
        Variant(
            depth=depth,
            image_size=side,
            precision=precision,
            dim=source.backbone.tap_dims[depth],
            file_bytes=len(content),
            latency_ms=times["onnx", precision].min_ms,
            latency_median_ms=times["onnx", precision].median_ms,
            openvino_latency_ms=None if missing[precision] else times["openvino", precision].min_ms,
            openvino_missing=missing[precision],
            neighbors=neighbor_agreement(nearest_images(features[precision][depth - 1]), reference.nearest),
            knn=half_knn(features[precision][depth - 1], reference.labels),
        )
        for precision, content in contents.items()
    ]


def _part(file: Path, depth: int) -> bytes:
    """Return the content of a file with one depth of all those in `file`."""
    import onnx

    part: bytes = (
        onnx.utils.Extractor(onnx.load(str(file))).extract_model(["images"], [_output(depth)]).SerializeToString()
    )
    return part


def _call(content: bytes) -> Any:
    session = open_session(content, 1)
    return lambda image: session.run(None, {"images": image.numpy()})


def _cache_file(source: ExportSource, whole: ExportSource, store: Store) -> Path | None:
    """Return the folder that caches the variants of one size, compared with `whole`; None where none can be."""
    versions = [_version(package) for package in ("onnxruntime", "openvino", "torch")]
    machine = [platform.node(), platform.machine(), str(os.cpu_count()), *versions]
    network = digest(source.backbone, {"preprocessing": to_json(source.preprocessing)})
    key = fingerprint([str(VERSION), network, str(whole.preprocessing.image_size), store.digest, *machine])[:16]
    try:
        return cache_folder(None) / f"exports-{key}.json"
    except UserError as error:
        logger.warning("what is measured of exports is not cached: %s", error)
        return None


def _version(package: str) -> str:
    """Return the version of a package, or "" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read(file: Path) -> list[Variant] | None:
    """Return the variants in a file of the cache; None where it is damaged."""
    try:
        return [from_json(Variant, found, str(file)) for found in read_json(file)]
    except (UserError, TypeError):
        return None
