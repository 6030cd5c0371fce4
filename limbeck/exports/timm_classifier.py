"""A classifier in timm's format: its head takes the place of timm's own."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import NOT_IN_TIMM, timm_format
from limbeck.models.surgery import timm_network


def write_timm_classifier(
    backbone: Backbone, head: nn.Linear, label_names: Sequence[str], folder: Path
) -> Callable[[Tensor], Tensor]:
    """Add `head` to the encoder of `backbone` that `folder` holds, and return the classifier that timm makes of it.

    Raises:
        UserError: timm has no name for the network, or ends it in another layer than a linear one.
    """
    name, args = timm_format(backbone)
    if name == NOT_IN_TIMM:
        raise UserError(
            f"timm has no name for this cut of '{backbone.cfg.name}', so it cannot hold its head: choose format onnx "
            "or torch",
            code="not-in-timm",
        )
    with torch.random.fork_rng(devices=[]):  # the random start is overwritten
        model = timm.create_model(name, **{**args, "num_classes": head.out_features})
    layer = model.get_classifier()
    if not isinstance(layer, nn.Linear) or layer.in_features != head.in_features:
        raise UserError(
            f"timm ends '{name}' in another layer than the linear one of a classifier: choose format onnx or torch",
            code="not-in-timm",
        )
    model.load_state_dict(timm_network(backbone.model).state_dict(), strict=False)  # all but the head
    layer.load_state_dict(head.state_dict())
    weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (config, config["model_args"], config["pretrained_cfg"]):
        part["num_classes"] = head.out_features
    config["label_names"] = config["pretrained_cfg"]["label_names"] = list(label_names)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return network
