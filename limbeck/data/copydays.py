"""Folders in the layout of Copydays: originals, and blocks of copies of them."""

from pathlib import Path
from typing import NamedTuple

from limbeck.core.errors import UserError
from limbeck.core.text import plural
from limbeck.data.sources.names import has_image_suffix

ORIGINALS, STRONG = "original", "strong"
BY_PLACE = ("crops", "jpegqual")
"""Folders of blocks whose i-th image is a copy of the i-th original."""
STEM = 4  # first characters of its name that a strong copy shares with its original


class Block(NamedTuple):
    """Copies of one kind."""

    name: str
    """Such as "strong" or "crops/50"."""
    paths: tuple[str, ...]
    """Below the folder of the data set."""
    originals: tuple[int, ...]
    """The original of each copy, by its place among the originals."""


class Copydays(NamedTuple):
    """Originals and copies; paths are below the folder."""

    folder: Path
    originals: tuple[str, ...]
    blocks: tuple[Block, ...]


def find_copydays(folder: Path) -> Copydays:
    """Return the files of `folder`: `original`, `strong`, and the folders in `crops` and `jpegqual` that are there.

    Raises:
        UserError: there are no originals or no strong copies; a strong copy has no original with the first four
            characters of its name; or another block has another number of images than there are originals.
    """
    originals, strong = (_images(folder, name) for name in (ORIGINALS, STRONG))
    places = {Path(path).name[:STEM]: place for place, path in enumerate(originals)}
    if lost := [path for path in strong if Path(path).name[:STEM] not in places]:
        raise UserError(
            f"'{folder / lost[0]}' has no original: none in '{folder / ORIGINALS}' begins with "
            f"'{Path(lost[0]).name[:STEM]}'",
            code="no-original",
        )
    blocks = [Block(STRONG, strong, tuple(places[Path(path).name[:STEM]] for path in strong))]
    for name in _block_names(folder):
        paths = _images(folder, name)
        if len(paths) != len(originals):
            raise UserError(
                f"'{folder / name}' has {plural(len(paths), 'image')} for {plural(len(originals), 'original')}: "
                "it must have a copy of each",
                code="copies-do-not-fit",
            )
        blocks.append(Block(name, paths, tuple(range(len(paths)))))
    return Copydays(folder, originals, tuple(blocks))


def _block_names(folder: Path) -> list[str]:
    kinds = [folder / kind for kind in BY_PLACE if (folder / kind).is_dir()]
    return sorted(f"{kind.name}/{block.name}" for kind in kinds for block in kind.iterdir() if block.is_dir())


def _images(folder: Path, name: str) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UserError(f"the folder of Copydays '{folder}' does not exist", code="no-copies")
    files = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
    found = tuple(f"{name}/{file.name}" for file in files if has_image_suffix(file.name))
    if not found:
        raise UserError(
            f"'{folder}' has no images in '{name}': the layout of Copydays is {ORIGINALS}, {STRONG}, crops/50, "
            "jpegqual/3 ...",
            code="no-copies",
        )
    return found
