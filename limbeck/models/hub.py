"""Networks on the Hugging Face hub: what their config.json holds, and the files of an encoder of Limbeck's."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache

from limbeck.core.errors import UserError, one_line
from limbeck.core.files import read_json

HUB = "hf-hub:"
"""What the name of a network on the hub begins with, as in timm: hf-hub:OWNER/NAME, or hf-hub:OWNER/NAME@REVISION."""
FILES = ("config.json", "*.safetensors", "README.md")
"""What is downloaded of an encoder: nothing that can be executed."""
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm downloads of a network, one of them."""


_KNOWN_ONLY = ContextVar("known_only", default=False)


@contextmanager
def known_only() -> Iterator[None]:
    """Let the hub be asked for nothing in the block: its networks must be in the cache of `huggingface_hub`.

    For a name that a file holds, which may be a stranger's.
    """
    token = _KNOWN_ONLY.set(True)
    try:
        yield
    finally:
        _KNOWN_ONLY.reset(token)


def is_on_hub(name: str | PathLike[str]) -> bool:
    """Return whether a name is one of the hub's."""
    return fspath(name).startswith(HUB)


def hub_config(name: str) -> dict[str, Any]:
    """Return the config.json of a network on the hub, from the cache of `huggingface_hub` where it is there.

    Raises:
        UserError: the hub has no such network, or cannot be reached.
    """
    repository, revision = _split(name)
    try:
        config = read_json(
            Path(hf_hub_download(repository, "config.json", revision=revision, local_files_only=_KNOWN_ONLY.get()))
        )
    except (OSError, ValueError) as error:  # the hub's errors, those of the network, and names that it refuses
        raise unreachable(name, error) from error
    if not isinstance(config, dict):
        raise UserError(f"'{name}' is not a network: its config.json holds no object", code="not-a-network")
    return config


def hub_encoder(name: str) -> Path:
    """Return the folder, in the cache of `huggingface_hub`, with the encoder of a network of Limbeck's on the hub.

    Raises:
        UserError: as `hub_config`; or the network was not written by Limbeck.
    """
    if "limbeck" not in hub_config(name):
        raise UserError(
            f"'{name}' was not written by Limbeck; load it with timm, or start a run from it with --from",
            code="not-a-limbeck-encoder",
        )
    repository, revision = _split(name)
    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=[*FILES], local_files_only=_KNOWN_ONLY.get()
            )
        )
    except (OSError, ValueError) as error:
        raise unreachable(name, error) from error


def check_downloaded(name: str, repository: str) -> None:
    """Raise UserError in a block of `known_only` unless timm's weights of a network are in the cache."""
    found = (try_to_load_from_cache(repository, file) for file in TIMM_FILES)
    if _KNOWN_ONLY.get() and not any(isinstance(path, str) for path in found):
        raise _not_here(name)


def unreachable(name: str, error: BaseException) -> UserError:
    """Return the error for a network that the hub does not provide."""
    if _KNOWN_ONLY.get():
        return _not_here(name)
    return UserError(f"'{name}' cannot be read from the hub: {one_line(error)}", code="hub-unreachable")


def _not_here(name: str) -> UserError:
    return UserError(
        f"'{name}' is not on this machine, and a file that names it may not download it: name it yourself",
        code="hub-unreachable",
    )


def _split(name: str) -> tuple[str, str | None]:
    repository, _, revision = name.removeprefix(HUB).partition("@")
    return repository, revision or None
