"""Read labels and the names of their classes: one rule for columns, archives, arrays, items and folders."""

import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.core.text import first_names, plural, printable
from limbeck.data.store.layout import LARGEST_LABEL, check_labels

IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "pixels", "jpg", "jpeg", "png", "webp", "pixel_values")
LABEL_NAMES = (
    "label", "labels", "class", "cls", "target", "targets", "category", "class_label", "class_name", "label_name",
    "class_id", "category_id", "label_id", "class_idx", "fine_label", "coarse_label", "y", "lbl", "classes",
)  # fmt: skip
"""Names of columns, keys and members that hold images and labels, the most usual first."""


class Classes(NamedTuple):
    """The labels of all rows."""

    numbers: NDArray[np.int64]  # [N], -1 where there is none
    names: list[str]  # empty where the labels are numbers without names
    problems: Counter[str]  # why some rows have none


def pick(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Return the name that comes first in `wanted`, in any case; None where there is none."""
    by_name = {name.lower(): name for name in reversed(list(names))}
    return next((by_name[name] for name in wanted if name in by_name), None)


def class_name(text: str) -> str:
    """Return the name of a class in composed Unicode (NFC), as macOS does not write it; printable."""
    return printable(unicodedata.normalize("NFC", text))


def label_value(raw: Any) -> int | str | None:
    """Return a label as a number or a name, None where there is none; ValueError where it is neither."""
    if isinstance(raw, list | tuple) or (getattr(raw, "ndim", None) == 1):
        if len(raw) > 1:
            raise ValueError("several labels in one row")
        return label_value(raw[0]) if len(raw) else None
    if hasattr(raw, "item") and getattr(raw, "ndim", 0) == 0:  # of numpy or torch
        raw = raw.item()
    if raw is None or raw != raw:  # not a number
        return None
    if isinstance(raw, bytes):
        raw = raw.decode(errors="replace")
    if isinstance(raw, str | bool):
        return class_name(str(raw).strip()) or None
    if isinstance(raw, float | Decimal) and float(raw).is_integer():
        raw = int(raw)
    if isinstance(raw, int):
        return None if raw < 0 else min(raw, LARGEST_LABEL)
    raise ValueError(
        f"{raw} is not a whole number" if isinstance(raw, float | Decimal) else f"a {type(raw).__name__} is no label"
    )


def classify(values: Iterable[Any], names: Sequence[str] = ()) -> Classes:
    """Turn the labels of all rows into class numbers.

    Numbers stay as they are and may have `names`. Where there are words, numbers count as words too, and classes are
    in the order of `names`, if these contain them all, or in alphabetical order.

    Raises:
        UserError: as `check_labels`.
    """
    codes: dict[int | str, int] = {}
    rows, problems = array("q"), Counter[str]()
    for raw in values:
        try:
            value = label_value(raw)
        except ValueError as error:
            value, problems[str(error)] = None, problems[str(error)] + 1
        rows.append(-1 if value is None else codes.setdefault(value, len(codes)))
    names = [class_name(str(name)) for name in names]
    if any(isinstance(value, str) for value in codes):
        texts = {str(value): code for value, code in codes.items()}
        names = names if set(texts) <= set(names) else sorted(texts)
        numbers = {texts[name]: number for number, name in enumerate(names) if name in texts}
    else:
        numbers = {code: int(value) for value, code in codes.items()}
    check_labels(max(numbers.values(), default=-1), names)
    table = np.array([*(numbers[code] for code in range(len(codes))), -1])  # the last entry is that of -1
    return Classes(table[np.asarray(rows, dtype=np.int64)], names, problems)


class ClassReader:
    """Class numbers of items that are read one by one: numbers as they are, words in the order of their appearance."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = [class_name(str(name)) for name in names]
        self.problems = Counter[str]()
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._kinds: set[type] = set()

    def number(self, raw: Any) -> int:
        """Return the class of a label, -1 where it has none; UserError where words and numbers mix, or too many."""
        try:
            value = label_value(raw)
        except ValueError as error:
            self.problems[str(error)] += 1
            return -1
        if value is None:
            return -1
        self._kinds.add(type(value))
        if len(self._kinds) > 1:
            raise UserError(f"the label {value!r} follows labels of another type: use one type", code="labels-differ")
        number = value if isinstance(value, int) else self._number_of(value)
        check_labels(number, self.names)
        return number

    def _number_of(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]


def describe_labels(
    labeled: int, images: int, names: Sequence[str], origin: str, problems: Mapping[str, int] = MappingProxyType({})
) -> str:
    """Return a sentence on which labels there are and where they come from, or why there are none."""
    reasons = first_names([f"{reason} ({count:,})" if count < images else reason for reason, count in problems.items()])
    if not labeled:
        return f"labels: none ({reasons or 'none were found'})"
    classes = f"{plural(len(names), 'class', 'classes')} from {origin or 'the store'} ({first_names(names)})"
    missing = f"; {images - labeled:,} of {plural(images, 'image')} have none" if labeled < images else ""
    return f"labels: {classes}{missing}{missing and reasons and ': ' + reasons}"
