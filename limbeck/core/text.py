"""Numbers as people write them: sizes in bytes, durations, counts of things, and long lists cut short."""

import math
import re
from collections.abc import Sequence

from rich.filesize import decimal

# smaller unit, larger unit, how many of one make the other, seconds of the smaller, seconds up to which the pair serves
_UNITS = (("s", "min", 60, 1, 3600), ("min", "h", 60, 60, 86400), ("h", "d", 24, 3600, math.inf))

# control characters, bytes that are not UTF-8 (as surrogates), line separators and changes of the writing direction
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    """Return names as they are safe to print: what a terminal would obey, or cannot show, becomes an escape."""
    return _UNSAFE.sub(lambda found: _escape(found.group()), text)


def printable_lines(text: str) -> str:
    """Return printable text that keeps its line breaks and tabs."""
    return re.sub(r"[^\n\t]+", lambda found: printable(found.group()), text)


def csv_cell(text: str) -> str:
    """Return printable text that no spreadsheet takes for a formula."""
    safe = printable(text)
    return f"'{safe}" if safe.startswith(_FORMULA) else safe


def plain_cell(cell: str) -> str:
    """Return a cell without the apostrophe that `csv_cell` puts before a formula."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code & 0xFF:02x}" if code < 0x100 or 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def format_bytes(count: float) -> str:
    """Return a size in units of 1000 bytes: `"512 bytes"`, `"3.1 GB"`."""
    return decimal(round(count))


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units: `"0.4 s"`, `"42 s"`, `"3 min 20 s"`, `"2 h 5 min"`, `"4 d 0 h"`."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    small, large, ratio, width, _ = next(unit for unit in _UNITS if round(seconds / unit[3]) * unit[3] < unit[4])
    count = round(seconds / width)
    return f"{count // ratio:,} {large} {count % ratio} {small}"


def plural(count: float, noun: str, nouns: str = "") -> str:
    """Return a count with its noun: `"1 image"`, `"2,500 images"`, `"0.5 epochs"`, `"2 classes"` with `nouns`."""
    number = f"{count:g}" if isinstance(count, float) else f"{count:,}"
    return f"{number} {noun if count == 1 else nouns or noun + 's'}"


def first_names(names: Sequence[str], most: int = 3, separator: str = ", ") -> str:
    """Return the first names of a list and how many more there are: `"a.png, b.png, c.png, 7 more"`."""
    more = [f"{len(names) - most:,} more"] if len(names) > most else []
    return separator.join([*map(printable, names[:most]), *more])


def csv_delimiter(text: str) -> str:
    """Return what separates the cells of a CSV file, by its first line: a comma, a semicolon or a tab.

    Spreadsheets write one or the other, by the language that they are set to.
    """
    return max(",;\t", key=text.partition("\n")[0].count)
