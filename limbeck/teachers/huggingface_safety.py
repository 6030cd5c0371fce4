"""Folders of Hugging Face models: reject what would make transformers load more than network and weights."""

from pathlib import Path
from typing import Any

from limbeck.core.errors import UserError, one_line
from limbeck.core.files import read_json
from limbeck.core.untrusted import is_unsafe_for_hugging_face, refuse_keys

ADAPTER, INDEX = "adapter_config.json", "model.safetensors.index.json"


def check_folder(folder: Path, config: dict[str, Any]) -> None:
    """Raise UserError unless the folder holds one network of transformers with its weights, and names nothing else.

    `config` is the content of config.json. The configuration that transformers makes of it is checked as well, because
    its defaults can name networks too.
    """
    where = f"'{folder / 'config.json'}'"
    refuse_keys(config, is_unsafe_for_hugging_face, where)
    _check_model_types(config, where)
    if (folder / ADAPTER).exists():
        raise UserError(
            f"'{folder}' is an adapter ({ADAPTER}) to a network elsewhere: merge the two and save the network",
            code="unsafe-config",
        )
    if (folder / INDEX).exists():
        _check_index(folder / INDEX)
    refuse_keys(_resolved(folder), is_unsafe_for_hugging_face, where)


def _check_model_types(config: dict[str, Any], where: str) -> None:
    """Raise UserError for an inner network of a type that transformers would have to look for elsewhere."""
    from transformers import CONFIG_MAPPING

    inner = {key: value for key, value in config.items() if isinstance(value, dict | list)}
    refuse_keys(inner, lambda key, value: key == "model_type" and value not in CONFIG_MAPPING, where)


def _check_index(file: Path) -> None:
    """Raise UserError where the index of a split model names files outside its folder."""
    index = read_json(file)
    names = index.get("weight_map") if isinstance(index, dict) else None
    refuse_keys(names, lambda _, value: not isinstance(value, str) or Path(value).name != value, f"'{file}'")


def _resolved(folder: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).to_dict()
    except Exception as error:  # transformers validates a thousand configurations in as many ways
        raise UserError(
            f"transformers cannot read the model in '{folder}': {one_line(error)}", code="weights-unreadable"
        ) from error
