"""Send a network to the Hugging Face hub, or write what would be sent into a folder."""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from limbeck.classification.saved import LABELS, is_classifier, load_classifier
from limbeck.core.errors import UserError, one_line
from limbeck.core.files import atomic_folder
from limbeck.core.run_folder import RESULT
from limbeck.evaluation.results import EvaluationResult
from limbeck.exports import export
from limbeck.exports.checks import check_out
from limbeck.exports.hub.card import CardFacts, write_card
from limbeck.exports.plain import README
from limbeck.models.encoder_io import STANDALONE, STANDALONE_CNN, STANDALONE_FILTERS, load_preprocessing

logger = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
STALE = ["*.safetensors", STANDALONE, STANDALONE_CNN, STANDALONE_FILTERS, LABELS]
"""Files of an earlier network in a repository, which are removed where the new one has none of the name."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """Result of a push: what was sent, or written."""

    name: str
    """OWNER/NAME on the hub."""
    place: str
    """Address of the repository, or the folder."""
    files: dict[str, int]
    """Their sizes in bytes."""


def push(
    run: str | os.PathLike[str],
    name: str,
    *,
    to: str | os.PathLike[str] | None = None,
    depth: int | None = None,
    license: str | None = None,
    data: Sequence[str] = (),
    private: bool = False,
    replace: bool = False,
) -> Pushed:
    """Send a network to the Hugging Face hub, in timm's format and with a card.

    There, `timm.create_model("hf-hub:OWNER/NAME", pretrained=True)` opens it if it is a network of timm, the model.py
    beside the weights if not, and Limbeck wherever it takes a network.
    Nothing that is sent has a path of this machine. The token is that of `hf auth login`, or HF_TOKEN.

    Args:
        run: a run, an encoder, a classifier, or a timm export of Limbeck.
        name: OWNER/NAME on the hub.
        to: write exactly what would be sent into this folder, new or empty, and send nothing.
        depth: blocks or stages; by default all.
        license: of the network, by its identifier on the hub, such as "apache-2.0".
        data: names on the hub of the data sets that it was trained on.
        private: make the repository private.
        replace: allow a repository that exists; its history keeps what was there.

    Raises:
        UserError: there is no network; a name is none of the hub's; `to` is not empty; the repository exists; the hub
            refuses what is sent, or cannot be reached.
    """
    _check(name, data)
    if to is not None:
        check_out(Path(to))
    else:
        _check_hub(name, replace)
    with TemporaryDirectory(prefix="limbeck-") as temporary:
        folder = Path(temporary) / "network"
        facts = _write(Path(run), name, folder, depth, license, data)
        place = _copy(folder, Path(to)) if to is not None else _send(folder, name, private)
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    if license is None:
        logger.warning("the card states no license, without which nobody may use the network: give one with --license")
    if facts.result is None:
        logger.warning("the card has no results, since the network was not evaluated: `limbeck evaluate` measures them")
    return Pushed(name=name, place=place, files=files)


def _check(name: str, data: Sequence[str]) -> None:
    """Raise UserError for a name that the hub does not allow."""
    for kind, given in [("network", name), *(("data set", found) for found in data)]:
        if not NAME.fullmatch(given):
            raise UserError(
                f"'{given}' cannot be the name of a {kind} on the hub: give OWNER/NAME, of letters, digits and '-_.'",
                code="hub-name",
            )


def _write(
    run: Path, name: str, folder: Path, depth: int | None, license: str | None, data: Sequence[str]
) -> CardFacts:
    """Write the network and its card into `folder`; return the contents of the card."""
    written = export(run, folder, depth)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    classifier = load_classifier(run) if is_classifier(run) else None
    facts = CardFacts(
        name=name,
        architecture=config["architecture"],
        network=config["limbeck"]["backbone"]["name"],
        depth=written.depth,
        dim=written.dim,
        preprocessing=load_preprocessing(folder),
        label_names=classifier.about.label_names if classifier else (),
        accuracy=classifier.about.quality() if classifier else "",
        config=_run_config(config["limbeck"]["provenance"]),
        result=EvaluationResult.load(run / RESULT) if (run / RESULT).is_file() else None,
        license=license,
        data=data,
    )
    try:
        (folder / README).write_text(write_card(facts), encoding="utf-8")
    except ValueError as error:
        raise UserError(f"the hub does not allow this card: {one_line(error)}", code="hub-card") from error
    return facts


def _run_config(provenance: Any) -> dict[str, Any]:
    found = provenance.get("run") if isinstance(provenance, dict) else None
    return found if isinstance(found, dict) else {}


def _copy(folder: Path, to: Path) -> str:
    """Make `to` a copy of a folder, whole or not at all."""
    with atomic_folder(to.absolute()) as unfinished:
        shutil.copytree(folder, unfinished, dirs_exist_ok=True)
    return str(to)


def _check_hub(name: str, replace: bool) -> None:
    """Raise UserError unless a network may be sent to `name`; nothing of the user's is sent for that."""
    from huggingface_hub import HfApi

    with _errors_as_user_error(name):
        HfApi().whoami()
        exists = HfApi().repo_exists(name)
    if exists and not replace:
        raise UserError(
            f"'{name}' is on the hub already: choose another name, or send a new version of it with --replace",
            code="hub-exists",
        )


def _send(folder: Path, name: str, private: bool) -> str:
    """Send the files of a folder as one commit; return the address."""
    from huggingface_hub import HfApi

    with _errors_as_user_error(name):
        address = HfApi().create_repo(name, private=private, exist_ok=True)
        HfApi().upload_folder(
            repo_id=name, folder_path=folder, commit_message="A network from Limbeck", delete_patterns=STALE
        )
    return str(address)


@contextmanager
def _errors_as_user_error(name: str) -> Iterator[None]:
    """Raise UserError for whatever the hub, its library or the library's HTTP client raises."""
    from huggingface_hub.errors import LocalTokenNotFoundError

    try:
        yield
    except Exception as error:  # the client and its errors differ between versions of huggingface_hub
        way = (
            "log in with `hf auth login`"
            if isinstance(error, LocalTokenNotFoundError)
            else "check the name, the login (`hf auth whoami`) and the connection; --to FOLDER needs none of them"
        )
        message = f"'{name}' cannot be sent to the hub ({one_line(error):.300}): {way}"
        raise UserError(message, code="hub-refused") from error
