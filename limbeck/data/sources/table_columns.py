"""Find the columns of a table that hold images and labels; one rule for parquet files, the hub and `datasets`."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from limbeck.core.errors import UserError
from limbeck.core.text import first_names
from limbeck.data.sources.labels import IMAGE_NAMES, LABEL_NAMES, pick


class Columns(NamedTuple):
    """The columns of images and labels, and the names that the schema gives to labels."""

    image: str
    label: str | None
    label_names: list[str]
    other_images: list[str]  # columns that hold images as well, and are not read


def find_columns(schema: Any, name: str) -> Columns:
    """Find the columns by their Hugging Face features, else by name and type; UserError when none holds images."""
    if twice := [column for column, count in Counter(schema.names).items() if count > 1]:
        raise UserError(f"'{name}' has several columns called {first_names(twice)}: rename them", code="same-columns")
    features = column_features(schema, name)
    kinds = {column: kind["_type"] for column, kind in features.items() if isinstance(kind, dict) and "_type" in kind}
    encoded = [field.name for field in schema if holds_bytes(field.type)]  # whatever the features say: not numbers
    declared = [column for column in encoded if kinds.get(column) == "Image"]
    image = pick(declared, IMAGE_NAMES) or _first(declared) or pick(encoded, IMAGE_NAMES) or _first(encoded)
    if image is None:
        raise UserError(
            f"'{name}' has no column of images (bytes), only {', '.join(schema.names)}", code="no-image-column"
        )
    label = _first(column for column in schema.names if kinds.get(column) == "ClassLabel")
    others = [field for field in schema if field.name != image]
    label = label or pick((field.name for field in others if holds_labels(field.type)), LABEL_NAMES)
    label = label or pick((field.name for field in others), LABEL_NAMES)  # the values will say why they are no labels
    names = features[label].get("names") if label and kinds.get(label) == "ClassLabel" else None
    names = [str(label_name) for label_name in names] if isinstance(names, list) else []
    return Columns(image, label, names, [column for column in declared if column != image])


def column_features(schema: Any, name: str) -> dict[str, Any]:
    """Return the features that Hugging Face's `datasets` stored in the metadata; empty where there are none."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return dict(features)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"'{name}' has broken metadata of Hugging Face datasets: write the file again", code="bad-metadata"
        ) from error


def holds_bytes(kind: Any) -> bool:
    """Return whether a column can hold encoded images: bytes, or the {bytes, path} of Hugging Face."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def holds_labels(kind: Any) -> bool:
    """Return whether a column can hold labels: numbers, booleans, words, categories, or lists of one of these."""
    kind = _element(kind)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or _is_words(kind) or pa.types.is_null(kind)


def label_kind(schema: Any, columns: Columns) -> str:
    """Return "words" or "numbers" for the type of a label column, "" where there is none."""
    if columns.label is None or pa.types.is_null(schema.field(columns.label).type):
        return ""
    return "words" if columns.label_names or _is_words(_element(schema.field(columns.label).type)) else "numbers"


def _element(kind: Any) -> Any:
    """Return the type of the values in lists and categories."""
    while pa.types.is_dictionary(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return kind


def _is_words(kind: Any) -> bool:
    tests = ("string", "large_string", "string_view", "boolean", "binary", "large_binary", "fixed_size_binary")
    return any(getattr(pa.types, f"is_{test}")(kind) for test in tests)


def _first(names: Iterable[str]) -> str | None:
    return next(iter(names), None)
