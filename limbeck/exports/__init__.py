"""Export a trained encoder, whole or cut at any depth, for timm, ONNX or PyTorch.

Every export is read back and compared with the network in memory before it appears under its name.
"""

import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, get_args

import timm
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from limbeck.core.config import Json, to_json
from limbeck.core.disk import check_writable
from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.files import atomic_folder, read_json
from limbeck.core.packages import require
from limbeck.core.progress import progress_bar
from limbeck.core.run_folder import CONFIG, ENCODER
from limbeck.data.store.layout import read_manifest
from limbeck.exports.readme import readme
from limbeck.metrics.cost import latencies
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import (
    NOT_IN_TIMM,
    Preprocessing,
    encoder_folder,
    load,
    load_preprocessing,
    read_encoder_config,
    save_encoder,
    timm_format,
)
from limbeck.models.standalone import load as load_standalone

__all__ = ["ExportResult", "FoldedPreprocessing", "Format", "export"]

Format = Literal["timm", "onnx", "torch"]
Network = Callable[[Tensor], Tensor]  # images -> features [B D]

README = "README.md"
TOLERANCE = 1e-4  # largest difference that an export may have, relative to the largest feature (at least 1)
BATCHES = (1, 2, 5)  # batch sizes on which an export is compared; 2 is the one it is traced with


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was written, and how it compares with the network in memory."""

    path: Path
    format: Format
    depth: int
    dim: int
    difference: float  # largest absolute difference of a feature over the batches tried
    file_bytes: int
    latency_ms: float  # of one image on this machine's CPU with one thread, the minimum of repeated calls
    torch_latency_ms: float  # the same for the network in memory


class FoldedPreprocessing(nn.Module):
    """A network that takes uint8 images [B H W 3] in [0, 255] and normalizes them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", 255 * torch.tensor(preprocessing.mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocessing.std).view(3, 1, 1))

    def forward(self, images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Normalize the images and return their features."""
        features: Tensor = self.model((images.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        return features


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    depth: int | None = None,
    format: Format = "timm",
    fold_preprocessing: bool = False,
) -> ExportResult:
    """Write the encoder of `run` (as for `load`), cut at `depth`, to the new folder `out`.

    "timm" writes a folder for `timm.create_model`, with `model.py` where that cannot build the network; "onnx" writes
    `model.onnx`; "torch" writes `model.pt2`, a `torch.export` program (its own reader uses pickle, so send the other
    two to strangers). The latter two take any batch size, come with `model.json`, and with `fold_preprocessing` take
    uint8 images [B H W 3] and normalize them inside. No file contains an absolute path of this machine.

    Raises:
        UserError: `out` is not empty, the format is unknown or lacks its packages, or it cannot hold the network.
        RuntimeError: the file gives other features than the network; nothing is left at `out`.
    """
    out = Path(out)
    _check_request(out, format, fold_preprocessing)
    backbone, preprocessing = load(run, depth).eval(), load_preprocessing(run)
    model = FoldedPreprocessing(backbone.model, preprocessing).eval() if fold_preprocessing else backbone.model
    batches = [_images(count, preprocessing.image_size, fold_preprocessing) for count in BATCHES]
    provenance, shown = _provenance(encoder_folder(run)), progress_bar(3, f"writing {format}", unit="stages")
    with atomic_folder(out.absolute()) as folder, torch.no_grad(), shown as bar:
        if format == "timm":
            exported = _write_timm(backbone, preprocessing, provenance, folder)
        else:
            exported = (_write_onnx if format == "onnx" else _write_torch)(model, batches[1], folder)
        bar.advance()
        difference = _difference(model, exported, batches)
        bar.advance()
        times = latencies([exported, model], batches[0])
        result = ExportResult(
            path=out,
            format=format,
            depth=len(backbone.taps),
            dim=backbone.dim,
            difference=difference,
            file_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            latency_ms=times[0].min_ms,
            torch_latency_ms=times[1].min_ms,
        )
        if format != "timm":
            about = {"input": _input(fold_preprocessing), "preprocessing": preprocessing, "backbone": backbone.cfg}
            _write_description(result, about | {"provenance": provenance}, folder / "model.json")
        page = _readme(result, backbone, preprocessing, fold_preprocessing, Path(run))
        (folder / README).write_text(page, encoding="utf-8")
    return result


def _input(fold: bool) -> str:
    return "uint8 [B H W 3]" if fold else "float32 [B 3 H W], in [0, 1], then normalized"


def _readme(result: ExportResult, backbone: Backbone, how: Preprocessing, fold: bool, run: Path) -> str:
    return readme(
        format=result.format,
        name=backbone.cfg.name,
        depth=result.depth,
        dim=result.dim,
        file_bytes=result.file_bytes,
        preprocessing=how,
        fold=fold,
        standalone=timm_format(backbone)[0] == NOT_IN_TIMM,
        label_names=_label_names(run),
    )


def _label_names(run: Path) -> tuple[str, ...]:
    """Return the label names of the store of a run folder, if both are there; an encoder alone names no store."""
    with contextlib.suppress(UserError, OSError):
        config = read_json(run / CONFIG) if (run / ENCODER).is_dir() else None
        store = config.get("store") if isinstance(config, dict) else None
        return read_manifest(Path(store)).label_names if isinstance(store, str) and store else ()
    return ()


def _provenance(encoder: Path) -> dict[str, Json]:
    provenance = without_absolute_paths(read_encoder_config(encoder)["provenance"])
    assert isinstance(provenance, dict)
    return provenance


def without_absolute_paths(value: Json) -> Json:
    """Return JSON in which every path that leaves the current folder is replaced by its last part."""
    if isinstance(value, dict):
        return {key: without_absolute_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_absolute_paths(inner) for inner in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if (path := kind(value)).is_absolute() or path.parts[:1] in (("~",), ("..",)):
                return path.name
    return value


def _check_request(out: Path, format: str, fold: bool) -> None:
    if format not in get_args(Format):
        raise UserError(
            f"unknown format '{format}'{did_you_mean(format, get_args(Format))}; choose timm, onnx or torch",
            code="unknown-format",
        )
    if fold and format == "timm":
        raise UserError(
            "a timm folder cannot hold the normalization; choose format onnx or torch to fold it in",
            code="fold-needs-onnx-or-torch",
        )
    if format == "onnx":
        require("export", "onnx", "onnxruntime", "onnxscript", purpose="the format onnx")
    check_writable(out.absolute().parent)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"'{out}' already exists and is not an empty folder; choose another or remove it", code="out-not-empty"
        )


def _write_timm(
    backbone: Backbone, preprocessing: Preprocessing, provenance: Mapping[str, Any], folder: Path
) -> Network:
    save_encoder(backbone, folder, preprocessing, provenance)
    if timm_format(backbone)[0] == NOT_IN_TIMM:
        return load_standalone(folder)
    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return model


def _write_onnx(model: nn.Module, images: Tensor, folder: Path) -> Network:
    import onnxruntime

    path = folder / "model.onnx"
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    try:
        program = torch.onnx.export(
            model,
            (images,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(
            f"this network cannot be written as ONNX ({error}); choose format torch", code="not-exportable"
        ) from error
    assert program is not None, "without a path and with dynamo torch returns the program"
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with paths of this machine
    program.save(path, external_data=parameters > 1.8e9)  # protobuf holds 2 GB
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as the latency is measured
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])


def _write_torch(model: nn.Module, images: Tensor, folder: Path) -> Network:
    path = folder / "model.pt2"
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds paths of this machine
    content = io.BytesIO()  # on a full disk torch would end the process by itself
    torch.export.save(program, content)
    path.write_bytes(content.getbuffer())
    return torch.export.load(path).module()  # reads pickles, but this one was written a line ago


def _difference(model: Network, exported: Network, batches: Sequence[Tensor]) -> float:
    """Return the largest absolute difference of a feature; raise RuntimeError when that is more than rounding."""
    pairs = [(model(batch), exported(batch)) for batch in batches]
    difference = torch.cat([(expected - found).abs().flatten() for expected, found in pairs]).max().item()
    scale = max(1.0, *(expected.abs().max().item() for expected, _ in pairs))
    if not difference <= TOLERANCE * scale:  # also when one of them is not a number
        raise RuntimeError(f"the exported file differs from the network by {difference:.1e} and was removed")
    return difference


def _images(count: int, size: int, fold: bool) -> Tensor:
    """Return random images: uint8 [B H W 3] for a network that normalizes, else normalized [B 3 H W]."""
    generator = torch.Generator().manual_seed(count)
    if fold:
        return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)
    return torch.randn(count, 3, size, size, generator=generator)


def _write_description(result: ExportResult, about: Mapping[str, Any], path: Path) -> None:
    content = {name: value for name, value in asdict(result).items() if name != "path"}
    path.write_text(json.dumps(to_json(content | dict(about)), indent=2) + "\n")
