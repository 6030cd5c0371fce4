"""A Hugging Face hub without a network: what it would send is in the cache of `huggingface_hub` already."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

REVISION = "0123456789abcdef0123456789abcdef01234567"


def put_on_hub(folder: Path, name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the files of a folder those of the model repository `name`, at its revision main."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
