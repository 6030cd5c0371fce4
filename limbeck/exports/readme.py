"""README.md of an export: what the files are, and the lines that use them."""

import json
from collections.abc import Sequence

from limbeck.core.text import format_bytes, plural
from limbeck.exports.result import ExportResult
from limbeck.exports.snippets import other_languages
from limbeck.models.encoder_io import Preprocessing

_TIMM = """import timm
import torch
from PIL import Image

model = timm.create_model("{source}", pretrained=True).eval(){comment}
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
image = Image.open("photo.jpg").convert("RGB")
with torch.no_grad():
    {output} = model(transform(image)[None])  # [1 {dim}]
"""
_NAMES = """print(model.pretrained_cfg["label_names"][logits.argmax()])
"""
_STANDALONE = """import json
from pathlib import Path

import timm
import torch
from PIL import Image

from model import load  # model.py of this folder: stock timm does not build this network

model = load(".")  # "." is this folder
config = json.loads(Path("config.json").read_text())["pretrained_cfg"]
transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config))
image = Image.open("photo.jpg").convert("RGB")
with torch.no_grad():
    features = model(transform(image)[None])  # [1 {dim}]
"""
_PIXELS = """from PIL import Image
{imports}
image = Image.open("photo.jpg").convert("RGB").resize(({side}, {side}), Image.Resampling.{filter})
image = image.crop(({left}, {left}, {right}, {right}))  # the center, {size} x {size}
pixels = np.asarray(image)[None]  # uint8, [1 {size} {size} 3]
"""
_NORMALIZE = """mean, std = np.float32({mean}), np.float32({std})
pixels = ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)  # float32, [1 3 {size} {size}]
"""
_CLASS = """
from math import exp

names = open("labels.txt", encoding="utf-8").read().splitlines()
weights = [exp(logit - max(logits[0])) for logit in logits[0]]
probability, name = max(zip((weight / sum(weights) for weight in weights), names))
print(name if probability >= {threshold:.4f} else "none of these", probability)
"""
_ONNX = """session = onnxruntime.InferenceSession("model.onnx")
(features,) = session.run(None, {{"images": pixels}})  # [1 {dim}]
"""
_EXECUTORCH = """program = Runtime.get().load_program("model.pte")  # Android and iOS take the same file
method = program.load_method("forward")
(features,) = method.execute([torch.from_numpy(pixels.copy())])  # [1 {dim}]
"""
_TORCH = """model = torch.export.load("model.pt2").module()
with torch.no_grad():
    features = model(torch.from_numpy(pixels.copy()))  # [1 {dim}]
"""

_RUNTIMES = {
    "onnx": ("import onnxruntime", _ONNX),
    "torch": ("import torch", _TORCH),
    "executorch": ("import torch\nfrom executorch.runtime import Runtime", _EXECUTORCH),
}
"""By format: what the lines import, and the lines from pixels to features."""


def readme(
    result: ExportResult,
    *,
    name: str,
    preprocessing: Preprocessing,
    fold: bool,
    standalone: bool,
    label_names: Sequence[str],
    threshold: float | None = None,
) -> str:
    """Return the page of an export, in Markdown.

    Args:
        result: what was written.
        name: the network.
        preprocessing: of its input.
        fold: whether the normalization is inside the network.
        standalone: whether timm cannot build the network, so that model.py loads it.
        label_names: those of the images that it was trained on; empty without labels.
        threshold: of a classifier, the probability below which an image is of none of its classes; else None.
    """
    size = preprocessing.image_size
    code = _code(result.format, result.dim, preprocessing, fold=fold, standalone=standalone)
    output = "features" if threshold is None else "logits"
    others = other_languages(preprocessing, result.dim, output, fold=fold) if result.format == "onnx" else ""
    if threshold is not None:
        return _of_classifier(result, name, size, code, threshold) + others
    labels = f"\nLabels of the images that it was trained on: {', '.join(label_names)}.\n" if label_names else ""
    return (
        f"# {name}, {_depth(result)}\n\nA vision backbone: images of {size} x {size} pixels to "
        f"{result.dim} features. {format_bytes(result.file_bytes)}{_precision(result)}. Images are squeezed to a "
        f"square, whatever their aspect ratio.{_projection(result)}\n"
        f"{labels}\n```python\n{code}```\n\nCosine similarity compares features; a linear classifier or k-NN on them "
        f"makes labels of them. Written by Limbeck.\n{others}"
    )


def timm_code(dim: int, source: str, *, classifier: bool, comment: str = "") -> str:
    """Return the lines that load a network with timm and use it.

    Args:
        dim: number of outputs.
        source: the network, as timm names it: local-dir:FOLDER or hf-hub:OWNER/NAME.
        classifier: whether the outputs are logits, and the name of the class is to be printed.
        comment: on the line that loads the network.
    """
    output = "logits" if classifier else "features"
    lines = _TIMM.format(source=source, dim=dim, output=output, comment=comment and f"  # {comment}")
    return lines + (_NAMES if classifier else "")


def _of_classifier(result: ExportResult, name: str, size: int, code: str, threshold: float) -> str:
    lines = code.replace("features", "logits") + _CLASS.format(threshold=threshold)
    return (
        f"# {name}, {_depth(result)}, a classifier of {result.dim} classes\n\nImages of {size} x {size} "
        f"pixels to logits, in the order of labels.txt. {format_bytes(result.file_bytes)}{_precision(result)}. Images "
        f"are squeezed to a square, whatever their aspect ratio.\n\n```python\n{lines}```\n\nThe softmax of the "
        f"logits is calibrated. An image with a probability below {threshold:.3f} is of none of the classes. "
        "Written by Limbeck.\n"
    )


def _depth(result: ExportResult) -> str:
    return plural(result.depth, "block or stage", "blocks or stages")


def _precision(result: ExportResult) -> str:
    if result.precision == "fp32":
        return ""
    assert result.proof is not None, "a reduced precision is proven on images"
    proof = result.proof
    what = "of the 10 nearest neighbors" if proof.same_class is None else "of the classes"
    shared = f"{proof.fidelity:.1%} {what} of {proof.images} images are those of fp32"
    rest = f", {plural(len(result.float_layers), 'layer')} in float32" if result.float_layers else ""
    return f", in {result.precision}{rest}: {shared}"


def _projection(result: ExportResult) -> str:
    """Describe the last layer of the network, if it is aligned or rotated."""
    if result.aligned_to is not None:
        return (
            f" The features are aligned with those of all {result.aligned_to.depth} blocks or stages: an index of those"
            f" can be searched with them, and {result.recalls[result.dim]:.1%} of the 10 nearest images are found."
        )
    if result.rotation == "none":
        return ""
    counts = ", ".join(f"{count} ({recall:.1%})" for count, recall in result.recalls.items())
    return (
        " The features are in the order of their importance, so that the first ones can be used alone; in brackets the "
        f"share of the 10 nearest images that so many find: {counts}."
    )


def _code(format: str, dim: int, how: Preprocessing, *, fold: bool, standalone: bool) -> str:
    if format == "timm":
        here = timm_code(dim, "local-dir:.", classifier=False, comment='"." is this folder')
        return _STANDALONE.format(dim=dim) if standalone else here
    imports, lines = _RUNTIMES[format]
    side = int(how.image_size / how.crop_pct)
    left = (side - how.image_size) // 2
    values = {
        "imports": f"import numpy as np\n{imports}\n",
        "side": side,
        "left": left,
        "right": left + how.image_size,
        "size": how.image_size,
        "filter": how.interpolation.upper(),
        "mean": json.dumps(how.mean),
        "std": json.dumps(how.std),
        "dim": dim,
    }
    steps = [_PIXELS, *([] if fold else [_NORMALIZE]), lines]
    return "".join(step.format(**values) for step in steps)
