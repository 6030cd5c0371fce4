"""A command: its help, its arguments, and the function that carries it out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from limbeck.core.errors import UserError


@dataclass(frozen=True)
class Output:
    """The result of a command.

    Attributes:
        data: the result as JSON values, for `--json`.
        text: what is printed on stdout without `--json`: strings and rich renderables.
        error: a mistake that the result shows; it is printed after the result and decides the exit status.
        next_commands: what one may type next, with the paths of this result; printed on stderr.
    """

    data: Mapping[str, Any]
    text: Sequence[Any] = field(default_factory=tuple)
    error: UserError | None = None
    next_commands: Sequence[str] = ()


class UsageError(UserError):
    """A command line that makes no sense, whatever the data: exit status 2."""


class Command(NamedTuple):
    """One verb of the command line."""

    group: str
    """Heading in `limbeck --help`."""
    help: str
    """Text that `--help` prints above the flags; the first line also stands in `limbeck --help`."""
    arguments: Callable[[Sequence[str]], type[Any]]
    """Return the dataclass of the arguments; the names in the command line decide which flags it has."""
    run: Callable[[Any], Output]
    essential: tuple[str, ...] = ()
    """Flags in `--help`, where `--help-all` has more; all of them if this is empty."""

    @property
    def summary(self) -> str:
        """The first line of the help, without its period."""
        return self.help.partition("\n")[0].removesuffix(".")
