"""Refuse an unknown option before anything is parsed, with the one that was meant."""

from collections.abc import Sequence

from limbeck.cli.command import UsageError
from limbeck.cli.flags import Flag
from limbeck.cli.words import is_option
from limbeck.core.suggest import meaning, suggest
from limbeck.series.recognize import ARRAY

FOR_SERIES = ("--window", "--stride")
"""Options that training on series has."""
TRAINS = ("pretrain", "distill")


def check_flags(argv: Sequence[str], flags: Sequence[Flag], verb: str) -> None:
    """Raise UsageError for the first word of `argv` that looks like an option and is none.

    Suggestions include names in other tools; an argument that has no name is explained by its place.
    """
    known = {spelling.replace("_", "-") for flag in flags for spelling in flag.spellings}
    for word in argv:
        name = word.partition("=")[0].replace("_", "-")
        if is_option(name) and name not in known and not name.startswith("--tyro-"):
            raise UsageError(f"unknown option '{name}'{_meant(name, flags, verb, argv)}", code="unknown-option")


def _meant(name: str, flags: Sequence[Flag], verb: str, argv: Sequence[str]) -> str:
    if name in FOR_SERIES and verb in TRAINS and argv and not is_option(argv[0]):
        return (
            f": it cuts series, and '{argv[0]}' has none: .npz and .parquet files have them as `{ARRAY}`, a .csv file "
            "or a folder of such files has numbers only, .ts and .tsv files are series"
        )
    if name in FOR_SERIES:
        return (
            ": it is for training on series, which are named first (`limbeck pretrain recording.csv --window 200`); "
            "their encoder keeps it for other commands, so leave it out"
        )
    places = [flag.name for flag in flags if flag.positional]
    names = {flag.name.removeprefix("--"): flag.name for flag in flags}
    found = [names[option] for option in suggest(name.removeprefix("--"), names)]
    if found and found[0] in places:
        return f": {found[0]} has no name, type `limbeck {verb} {' '.join(places)}`"
    return meaning(found) or f"; `limbeck {verb} --help-all` lists all"
