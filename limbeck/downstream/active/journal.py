"""Journal of the cycles, from which a command that was stopped goes on."""

from dataclasses import dataclass
from pathlib import Path

from limbeck.core.config import Json, from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.rank import is_rank0
from limbeck.train.checkpoint import first_difference

JOURNAL = "journal.json"


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """One cycle: what was learnt from which number of labels, and what was chosen then."""

    labels: int
    """Images with a label when the classifier was fitted; 0: there was none yet, and the first images were chosen."""
    accuracy: float | None = None
    """Share of the held-out images that are classified as the oracle does."""
    stderr: float | None = None
    random: float | None = None
    """Mean accuracy where as many images were chosen at random."""
    chosen: tuple[int, ...] = ()
    """Rows, best first."""
    reasons: tuple[str, ...] = ()
    near_duplicates: int = 0
    """Images that were left out as near-duplicates of a labeled or chosen one."""


class Journal:
    """The cycles so far, in a file that is replaced whole after every one.

    Args:
        folder: of the cycles; None: they are kept in memory alone.
        settings: everything that the cycles are a function of.

    Raises:
        UserError: the folder has the cycles of other settings, or something else.
    """

    def __init__(self, folder: Path | None, settings: Json) -> None:
        self.file, self.settings = folder and folder / JOURNAL, settings
        self.cycles: list[Cycle] = self._read(self.file) if self.file and self.file.is_file() else []

    def add(self, cycle: Cycle) -> None:
        """Write one more cycle."""
        self.cycles.append(cycle)
        if self.file and is_rank0():
            write_json(self.file, {"settings": to_json(self.settings), "cycles": to_json(self.cycles)})

    def _read(self, file: Path) -> list[Cycle]:
        found = read_json(file, "delete its folder, or choose another name with --out")
        if not isinstance(found, dict) or not isinstance(found.get("cycles"), list):
            raise UserError(
                f"'{file}' is no journal of `limbeck select`: choose another name with --out", code="not-a-journal"
            )
        if difference := first_difference(found.get("settings"), to_json(self.settings)):
            raise UserError(
                f"'{file.parent}' has the cycles of another command: {difference}; repeat that one, or choose "
                "another name with --out",
                code="other-cycles",
            )
        return [from_json(Cycle, cycle, file.name) for cycle in found["cycles"]]
