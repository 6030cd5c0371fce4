"""Write an encoder for other programs, and prove the files before they appear."""

import copy
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from limbeck.classification.saved import LABELS
from limbeck.core.config import to_json
from limbeck.core.encoder_modality import encoder_modality
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_folder
from limbeck.core.portable_paths import without_absolute_paths
from limbeck.core.progress import progress_bar
from limbeck.data.sources.open import Source
from limbeck.exports.checks import check_request
from limbeck.exports.examples import PROOF, QUICK_PROOF, Examples, open_examples, own_examples, split_examples
from limbeck.exports.executorch import PROGRAM, open_executorch, write_executorch
from limbeck.exports.export_source import ExportSource, load_source
from limbeck.exports.keypoint_files import export_keypoints
from limbeck.exports.networks import Network, write_timm, write_torch
from limbeck.exports.onnx_file import open_onnx, write_onnx
from limbeck.exports.openvino import NOT_INSTALLED, open_openvino
from limbeck.exports.plain import README, largest_difference
from limbeck.exports.projection import Projection, fit_projection
from limbeck.exports.proof import Proof, features_of, prove
from limbeck.exports.provenance import label_names, provenance
from limbeck.exports.readme import readme
from limbeck.exports.reduced import KEEP, Reduction, reduce
from limbeck.exports.result import ExportResult, Format, Precision, Rotation
from limbeck.exports.series import export_series
from limbeck.exports.smooth import smooth
from limbeck.exports.timm_classifier import write_timm_classifier
from limbeck.metrics.cost import Latency, latencies
from limbeck.models.encoder_io import NOT_IN_TIMM, encoder_folder, timm_format

logger = logging.getLogger(__name__)

BATCHES = (1, 2, 5)  # batch sizes on which an export is compared; 2 is the one it is traced with


@dataclass(frozen=True, kw_only=True)
class _Request:
    """Request for an export: network, format and options."""

    source: ExportSource
    out: Path
    format: Format
    fold: bool
    examples: Examples | None
    reduction: Reduction
    projection: Projection | None
    rotation: Rotation


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    depth: int | None = None,
    format: Format = "timm",
    fold_preprocessing: bool = False,
    *,
    precision: Precision = "fp32",
    images: Source | None = None,
    keep: float | None = None,
    mixed: bool = False,
    image_size: int | None = None,
    align: bool = False,
    rotate: Rotation = "none",
) -> ExportResult:
    """Write the encoder of `run` (as for `load`), cut at `depth`, to the new folder `out`; docs/files.md has the files.

    Of a classifier it is the network with its head: the outputs are calibrated logits, in the order of labels.txt. What
    is written is read back and compared before it appears, and holds no path of this machine.

    Args:
        run: a run, an encoder, or a timm export of Limbeck; see `export_series` and `export_keypoints`, too.
        out: a folder, new or empty.
        depth: blocks or stages; by default all.
        format: "timm", "onnx", "torch" (a program that PyTorch reads with pickle: send strangers another one), or
            "executorch" (a program for phones, of one image at a time).
        fold_preprocessing: take uint8 images [B H W 3] and normalize inside the network (all but timm).
        precision: of onnx, "fp32", "fp16" (norms stay in float32) or "int8" (static QDQ, with SmoothQuant).
        images: for calibration, fits and proof, labeled or not; by default those of the run, if they are there.
        keep: share of the 10 nearest neighbors (of a classifier: of the classes) that a reduced precision must keep.
        mixed: leave as many layers in float32 as that takes, those first that lose most.
        image_size: side of the input in pixels; by default that of the training. Positions are resampled.
        align: map to the features of the whole network, so that its index of images can be searched (all but timm).
        rotate: "pca" or "half-whitening": order the features, so that the first k are the best k (all but timm).

    Raises:
        UserError: `out` is not empty, options contradict each other, packages are missing, the format cannot hold the
            network, there are too few images, or too few neighbors are kept.
        RuntimeError: a file in fp32 gives other features than the network; nothing is left at `out`.
    """
    if modality := encoder_modality(run):
        changed = precision != "fp32" or keep is not None or mixed or image_size is not None or align
        places = (Path(run), Path(out), depth, format, images)
        return _export_other(modality, *places, fold=fold_preprocessing, changed=changed or rotate != "none")
    reduction = Reduction(precision=precision, keep=KEEP.get(precision, 1.0) if keep is None else keep, mixed=mixed)
    check_request(Path(out), format, fold_preprocessing, reduction, keep, align, rotate)
    source = load_source(Path(run), depth, fold_preprocessing, image_size)
    request = _prepare(source, Path(out), format, fold_preprocessing, reduction, images, align, rotate)
    with atomic_folder(request.out.absolute()) as folder, torch.no_grad():
        return _write(request, folder)


def _export_other(
    modality: str,
    run: Path,
    out: Path,
    depth: int | None,
    format: Format,
    images: Source | None,
    *,
    fold: bool,
    changed: bool,
) -> ExportResult:
    """Export an encoder of other data; `changed` says whether its outputs or its precision shall be others."""
    if modality == "series":
        return export_series(run, out, depth, format, images, for_images=fold or changed)
    return export_keypoints(run, out, depth, format, fold, images, for_features=changed)


def _prepare(
    source: ExportSource,
    out: Path,
    format: Format,
    fold: bool,
    reduction: Reduction,
    images: Source | None,
    align: bool,
    rotate: Rotation,
) -> _Request:
    """Open the images and fit the last layer, where they are needed."""
    how, run, fitted = source.preprocessing, source.run, align or rotate != "none"
    needed = fitted or reduction.precision != "fp32"
    store = open_examples(run, images, how) if images is not None or needed else own_examples(run, how)
    if store is None and needed:
        raise UserError(
            f"'{run}' has no store of images to calibrate or fit the export on, and to prove it: give some with "
            "--images",
            code="no-images",
        )
    projection = fit_projection(source, store, align, rotate) if store is not None and fitted else None
    if projection:
        source = source.with_projection(projection.layer, fold)
    count = PROOF if images is not None or needed else QUICK_PROOF
    examples = None if store is None else split_examples(store, how, fold, count)
    return _Request(
        source=source,
        out=out,
        format=format,
        fold=fold,
        examples=examples,
        reduction=reduction,
        projection=projection,
        rotation=rotate,
    )


def _write(request: _Request, folder: Path) -> ExportResult:
    """Write the files of an export into `folder`, and return what they are."""
    network, precision, path = request.source.network, request.reduction.precision, folder / "model.onnx"
    batches = [_images(count, request.source.preprocessing.image_size, request.fold) for count in BATCHES]
    with progress_bar(4, f"writing {request.format}", unit="stages") as bar:
        full, layers = _write_full(request, batches[1], folder)
        bar.advance()
        difference = largest_difference(network, full, batches)
        exported, proof, in_float = full, _proof(request, full) if precision == "fp32" else None, tuple[str, ...]()
        bar.advance()
        if precision != "fp32":
            assert request.examples is not None, "they were opened for a reduced precision"
            exported, proof, in_float = reduce(
                path, layers, network, request.examples, request.reduction, logits=request.source.head is not None
            )
            difference = proof.largest_difference
        bar.advance()
        times = _times(request, {"file": exported, "torch": network, "fp32": full}, path, batches[0])
        every = latencies([_with_all_threads(request, exported, folder)], batches[0], threads=os.cpu_count() or 1)
        bar.advance()
    result = ExportResult(
        path=request.out,
        format=request.format,
        precision=precision,
        depth=len(request.source.backbone.taps),
        dim=request.source.dim,
        difference=difference,
        proof=proof,
        float_layers=in_float,
        recalls=_recalls(request, exported),
        rotation=request.rotation,
        aligned_to=request.projection.target if request.projection else None,
        file_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        latency_ms=times["file"].min_ms,
        latency_median_ms=times["file"].median_ms,
        latency_all_threads_ms=every[0].min_ms,
        torch_latency_ms=times["torch"].min_ms,
        fp32_latency_ms=None if precision == "fp32" else times["fp32"].min_ms,
        openvino_latency_ms=times["openvino"].min_ms if "openvino" in times else None,
    )
    _write_pages(request, result, folder)
    return result


def _write_full(request: _Request, images: Tensor, folder: Path) -> tuple[Network, dict[str, str]]:
    """Write a network in fp32; return what was read back and, of an ONNX file, the module of every node with weights.

    What will be quantized is smoothed first, and therefore compared with the network as it was.
    """
    source = request.source
    if request.format == "torch":
        return write_torch(source.network, images, folder), {}
    if request.format == "executorch":
        return write_executorch(source.network, images[:1], folder), {}
    if request.format == "timm":
        origin = provenance(encoder_folder(source.run))
        encoder = write_timm(source.backbone, source.preprocessing, origin, folder)
        if source.classifier and source.head:
            names = source.classifier.about.label_names
            return write_timm_classifier(source.backbone, source.head, names, folder), {}
        return encoder, {}
    network = source.network
    if request.reduction.precision == "int8" and request.examples is not None:
        network = copy.deepcopy(network)
        smooth(network, request.examples.calibration)
    layers = write_onnx(network, images, folder / "model.onnx", (source.output,))
    return open_onnx(folder / "model.onnx"), layers


def _times(request: _Request, networks: Mapping[str, Network], path: Path, image: Tensor) -> dict[str, Latency]:
    """Return the latencies of networks by name, and of an ONNX file in OpenVINO where that is installed."""
    timed = {name: network for name, network in networks.items() if name != "fp32" or network is not networks["file"]}
    if request.format == "onnx":
        compiled = open_openvino(path)
        if not isinstance(compiled, str):
            timed["openvino"] = compiled
        elif compiled != NOT_INSTALLED:
            logger.warning(compiled)
    return dict(zip(timed, latencies([*timed.values()], image), strict=True))


def _with_all_threads(request: _Request, exported: Network, folder: Path) -> Network:
    """Return the network of a file for all threads; PyTorch changes their number by itself."""
    threads = os.cpu_count() or 1
    if request.format == "executorch":
        return open_executorch(folder / PROGRAM, threads)
    return open_onnx(folder / "model.onnx", threads) if request.format == "onnx" else exported


def _proof(request: _Request, exported: Network) -> Proof | None:
    """Compare a file in fp32 with the network on real images, if there are some."""
    if request.examples is None:
        return None
    batches = request.examples.proof
    labels = torch.cat([labels for _, labels in batches])
    source = request.source
    expected = features_of(source.network, batches)
    return prove(features_of(exported, batches), expected, labels, logits=source.head is not None)


def _recalls(request: _Request, exported: Network) -> dict[int, float]:
    """Return the recall@10 of what a projection makes of the images of the proof, by the number of outputs."""
    if request.projection is None or request.examples is None:
        return {}
    return request.projection.recalls(features_of(exported, request.examples.proof))


def _write_pages(request: _Request, result: ExportResult, folder: Path) -> None:
    """Write the files for people and programs next to the network."""
    source, how = request.source, request.source.preprocessing
    content = {name: value for name, value in vars(result).items() if name != "path"}
    content |= {
        "input": "uint8 [B H W 3]" if request.fold else "float32 [B 3 H W], in [0, 1], then normalized",
        "preprocessing": how,
        "backbone": source.backbone.cfg,
        "provenance": provenance(encoder_folder(source.run)),
    }
    if source.classifier:
        content["classifier"] = without_absolute_paths(to_json(source.classifier.about))
        shutil.copyfile(source.classifier.folder / LABELS, folder / LABELS)
    if request.format != "timm":
        (folder / "model.json").write_text(json.dumps(to_json(content), indent=2) + "\n")
    page = readme(
        result,
        name=source.backbone.cfg.name,
        preprocessing=how,
        fold=request.fold,
        standalone=timm_format(source.backbone)[0] == NOT_IN_TIMM,
        label_names=label_names(source.run),
        threshold=source.classifier.about.threshold if source.classifier else None,
    )
    (folder / README).write_text(page, encoding="utf-8")


def _images(count: int, size: int, fold: bool) -> Tensor:
    """Return random images: uint8 [B H W 3] for a network that normalizes, else normalized [B 3 H W]."""
    generator = torch.Generator().manual_seed(count)
    if fold:
        return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)
    return torch.randn(count, 3, size, size, generator=generator)
