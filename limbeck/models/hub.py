"""Networks on the Hugging Face hub: what their config.json holds, and the files of an encoder of Limbeck's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_session, hf_hub_download, snapshot_download, try_to_load_from_cache

from limbeck.core.errors import UserError, one_line
from limbeck.core.files import read_json

HUB = "hf-hub:"
"""Prefix of the name of a network on the hub, as in timm: hf-hub:OWNER/NAME, or hf-hub:OWNER/NAME@REVISION."""
FILES = ("config.json", "*.safetensors", "README.md")
"""Files of an encoder that are downloaded: none that can be executed."""
TIMM_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Files of which timm downloads one for a network."""
PATIENCE = 5.0
"""Seconds in which the hub answers, if it can be reached."""

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
    repository, revision = split_name(name)
    try:
        check_obtainable(name, repository, revision, ("config.json",))
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
    repository, revision = split_name(name)
    try:
        check_obtainable(name, repository, revision)
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=[*FILES], local_files_only=_KNOWN_ONLY.get()
            )
        )
    except (OSError, ValueError) as error:
        raise unreachable(name, error) from error


def check_obtainable(
    name: str, repository: str | None, revision: str | None = None, files: Sequence[str] = TIMM_FILES
) -> None:
    """Ask once whether the hub answers, unless one of the `files` is in its cache; its client would ask for a minute.

    Of a network that has no `repository`, its weights are not on the hub.

    Raises:
        UserError: none of the files is in the cache, in a block of `known_only`.
        ConnectionError: the hub does not answer.
    """
    if repository and any(
        isinstance(try_to_load_from_cache(repository, file, revision=revision), str) for file in files
    ):
        return
    if _KNOWN_ONLY.get():
        raise _not_here(name)
    if repository:
        _check_answers()


def _check_answers() -> None:
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # the client and its errors differ between versions of huggingface_hub
        raise ConnectionError(f"{constants.ENDPOINT} does not answer: {one_line(error)}") from error


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


def split_name(name: str) -> tuple[str, str | None]:
    """Return the repository and the revision, if there is one, of a name on the hub."""
    repository, _, revision = name.removeprefix(HUB).partition("@")
    return repository, revision or None
