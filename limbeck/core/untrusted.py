"""Configurations from strangers: find the keys that make a library read files, open addresses or run code."""

from collections.abc import Callable, Iterator
from typing import Any

from limbeck.core.errors import UserError

PATH_MARKS = ("/", "\\", ":", "~")
# Keys of timm: where weights are, and constructors of other objects than the network
TIMM_KEYS = frozenset(
    {
        *("architecture", "arch", "model_name", "model_args", "model_cfg", "source", "url", "file", "state_dict"),
        *("hf_hub_id", "hf_hub_filename", "checkpoint_path", "cache_dir", "custom_load", "filter_fn", "kwargs_filter"),
        *("features_only", "feature_cls", "feature_cfg"),
    }
)
# Keys of Hugging Face: code, weights and networks that are elsewhere
HUGGING_FACE_KEYS = frozenset(
    {
        *("auto_map", "trust_remote_code", "custom_pipelines", "kernel_config", "quantization_config"),
        *("transformers_weights", "checkpoint_path", "base_model_name_or_path", "adapter_kwargs"),
        *("backbone", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone", "architecture", "model_args"),
    }
)


def refuse_keys(config: Any, refused: Callable[[str, Any], bool], where: str) -> None:
    """Raise UserError at the first key, at any depth, for which `refused(key, value)`; `where` names the file."""
    for name, key, value in _entries(config):
        if refused(key, value):
            raise UserError(
                f"'{name}' ({value!r:.80}) in {where} can make a library read files, open addresses or run code: "
                "remove it, if you know that the rest describes the network",
                code="unsafe-config",
            )


def is_unsafe_for_timm(key: str, value: Any) -> bool:
    """Return whether timm could read weights because of an argument; no argument of a network is a path."""
    if key.startswith("pretrained") or key in TIMM_KEYS:
        return True
    return isinstance(value, str) and any(mark in value for mark in PATH_MARKS)


def is_unsafe_for_hugging_face(key: str, value: Any) -> bool:
    """Return whether transformers could load something else than the network and the weights of the folder."""
    if key == "model_type":
        return "timm" in str(value)
    if "implementation" in key:  # the name of a kernel of the hub, which is code
        return any(mark in str(value) for mark in PATH_MARKS)
    return key.startswith("pretrained") or (key in HUGGING_FACE_KEYS and bool(value))


def _entries(config: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield (dotted name, key, value) of everything in nested objects and lists; without recursion."""
    waiting = [("", config)]
    while waiting:
        where, value = waiting.pop()
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
        )
        for key, inner in items:
            name = f"{where}.{key}" if where else str(key)
            yield name, str(key), inner
            waiting.append((name, inner))
