"""A trained encoder for use elsewhere: timm, ONNX or PyTorch, whole or cut at any depth.

Every export is read back and compared with the network in memory before it appears under its name.
"""

import contextlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import timm
import torch
from torch import Tensor, nn

from limbeck.core.config import to_json
from limbeck.core.errors import UserError, did_you_mean
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import (
    Preprocessing,
    encoder_folder,
    load,
    load_preprocessing,
    read_encoder_config,
    save_encoder,
)

__all__ = ["ExportResult", "Folded", "Preprocessing", "export", "load", "load_preprocessing", "save_encoder"]

Format = Literal["timm", "onnx", "torch"]
Network = Callable[[Tensor], Tensor]  # images -> features [B D]

TOLERANCE = 1e-4  # largest difference that an export may show, relative to the largest feature (at least 1)
BATCHES = (1, 2, 5)  # batch sizes on which an export is compared; 2 is the one it is traced with
WARM_UP, TIMED = 3, 15  # calls per latency


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was written, and how it compares with the network in memory."""

    path: Path
    format: Format
    depth: int
    dim: int
    difference: float  # largest absolute difference of a feature over the batches tried
    file_bytes: int
    latency_ms: float  # median of one image, on this machine's CPU
    torch_latency_ms: float  # the same for the network in memory


class Folded(nn.Module):
    """A network that takes uint8 images [B H W 3] in [0, 255] and normalises them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", 255 * torch.tensor(preprocessing.mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocessing.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """[B H W 3] uint8 -> [B D]."""
        features: Tensor = self.model((images.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        return features


def export(
    run: str | Path,
    out: str | Path,
    depth: int | None = None,
    format: Format = "timm",
    fold_preprocessing: bool = False,
) -> ExportResult:
    """Write the encoder of `run` (as for `load`), cut at `depth`, to the new folder `out`, checked before it appears.

    "timm" is a folder for `timm.create_model`; "onnx" is `model.onnx`; "torch" is `model.pt2`, a `torch.export` program
    (its own reader uses pickle, so strangers are better served with the other two). The latter two take any batch size,
    have `model.json` beside them, and with `fold_preprocessing` take uint8 images [B H W 3] and normalise them inside.

    Raises:
        UserError: an `out` that is not empty, an unknown format, a network that the format cannot hold.
        RuntimeError: the file answers differently from the network; nothing is left at `out`.
    """
    out = Path(out)
    _check_request(out, format, fold_preprocessing)
    backbone, preprocessing = load(run, depth).eval(), load_preprocessing(run)
    note = read_encoder_config(encoder_folder(run))["provenance"]
    model = Folded(backbone.model, preprocessing).eval() if fold_preprocessing else backbone.model
    batches = [_images(count, preprocessing.image_size, fold_preprocessing) for count in BATCHES]
    with _appearing(out) as folder, torch.no_grad():
        if format == "timm":
            read = _write_timm(backbone, preprocessing, note, folder)
        else:
            read = (_write_onnx if format == "onnx" else _write_torch)(model, batches[1], folder)
        result = ExportResult(
            path=out,
            format=format,
            depth=len(backbone.taps),
            dim=backbone.dim,
            difference=_difference(model, read, batches),
            file_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            latency_ms=_latency(read, batches[0]),
            torch_latency_ms=_latency(model, batches[0]),
        )
        if format != "timm":
            inputs = "uint8 [B H W 3]" if fold_preprocessing else "float32 [B 3 H W], in [0, 1], then normalised"
            about = {"input": inputs, "preprocessing": preprocessing, "backbone": backbone.cfg, "note": note}
            _describe(result, about, folder / "model.json")
    return result


def _check_request(out: Path, format: str, fold: bool) -> None:
    if format not in get_args(Format):
        raise UserError(f"Unknown format '{format}'{did_you_mean(format, get_args(Format))}: choose timm, onnx or torch.")
    if fold and format == "timm":
        raise UserError("A timm folder cannot hold the normalisation; use format onnx or torch to fold it in.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is already there and not an empty folder; choose another or remove it.")


def _write_timm(backbone: Backbone, preprocessing: Preprocessing, note: Mapping[str, Any], folder: Path) -> Network:
    save_encoder(backbone, folder, preprocessing, note)
    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return model


def _write_onnx(model: nn.Module, images: Tensor, folder: Path) -> Network:
    import onnxruntime

    path = folder / "model.onnx"
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    try:
        torch.onnx.export(
            model,
            (images,),
            path,
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=parameters > 1.8e9,  # protobuf holds 2 GB
        )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"This network cannot be written as ONNX ({error}); try format torch.") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])


def _write_torch(model: nn.Module, images: Tensor, folder: Path) -> Network:
    path = folder / "model.pt2"
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, path)
    return torch.export.load(path).module()  # reads pickles, but this one was written a line ago


def _difference(model: Network, read: Network, batches: Sequence[Tensor]) -> float:
    """Largest absolute difference of a feature; RuntimeError when that is more than rounding."""
    pairs = [(model(batch), read(batch)) for batch in batches]
    difference = torch.cat([(ours - theirs).abs().flatten() for ours, theirs in pairs]).max().item()
    scale = max(1.0, *(ours.abs().max().item() for ours, _ in pairs))
    if not difference <= TOLERANCE * scale:  # also when one of them is not a number
        raise RuntimeError(f"The exported file differs from the network by {difference:.1e} and was not kept.")
    return difference


def _images(count: int, size: int, fold: bool) -> Tensor:
    """Random images: uint8 [B H W 3] for a network that normalises, else normalised [B 3 H W]."""
    generator = torch.Generator().manual_seed(count)
    if fold:
        return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)
    return torch.randn(count, 3, size, size, generator=generator)


def _latency(network: Network, image: Tensor) -> float:
    """Median time of one call, in milliseconds."""
    times = []
    for _ in range(WARM_UP + TIMED):
        start = time.perf_counter()
        network(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[WARM_UP:])


def _describe(result: ExportResult, about: Mapping[str, Any], path: Path) -> None:
    content = {name: value for name, value in asdict(result).items() if name != "path"}
    path.write_text(json.dumps(to_json(content | dict(about)), indent=2) + "\n")


@contextlib.contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` when all went well, and is gone when not."""
    folder = out.absolute().with_name(f".{out.absolute().name}.half-{os.getpid()}")
    folder.mkdir(parents=True)
    try:
        yield folder
        if out.exists():
            out.rmdir()  # empty
        os.replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
