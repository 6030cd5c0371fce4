"""Labels of every type that a column may have, and files that hold no rows."""

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from limbeck.data.sources.labels import label_value
from limbeck.data.sources.open import open_source
from tests.helpers.errors import raises
from tests.helpers.sources import write_tar


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), shade).save(file, "PNG")
    return file.getvalue()


def test_columns_of_labels_of_every_type(tmp_path: Path) -> None:
    """Bytes and views of words are labels; what is none is named with its reason; twice the same name is refused."""
    words = {"binary": pa.binary(), "large": pa.large_binary(), "fixed": pa.binary(1), "view": pa.string_view()}
    pictures = pa.array([png(1), png(2)])
    for name, kind in words.items():
        pq.write_table(pa.table({"image": pictures, "label": pa.array(["b", "a"]).cast(kind)}), tmp_path / "x.parquet")
        rows = open_source(tmp_path / "x.parquet")
        assert ([sample.label for sample in rows.samples()], rows.label_names) == ([1, 0], ["a", "b"]), name
    dates, structs = pa.array([1, 2], pa.timestamp("s")), pa.array([{"id": 1}, {"id": 2}])
    for column, reason in ((dates, "a datetime is no label"), (structs, "a dict is no label")):
        pq.write_table(pa.table({"image": pictures, "label": column}), tmp_path / "x.parquet")
        rows = open_source(tmp_path / "x.parquet")
        assert ([sample.label for sample in rows.samples()], dict(rows.label_problems)) == ([-1, -1], {reason: 2})
    pq.write_table(pa.table([pictures, pictures], names=["image", "image"]), tmp_path / "x.parquet")
    with raises("same-columns", "image"):
        open_source(tmp_path / "x.parquet")


def test_labels_that_are_identifiers_are_refused_before_an_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every kind of source, as numbers and as words; of data sets at the first item that has one."""
    monkeypatch.setattr("limbeck.data.store.layout.MAX_CLASSES", 3)
    pixels = np.zeros((4, 8, 8), np.uint8)

    def sources(labels: list[Any]) -> list[Any]:
        np.savez(tmp_path / "x.npz", images=pixels, labels=labels)
        members = [(f"{row}.{kind}", data) for row in range(4) for kind, data in _of_row(row, labels[row])]
        pq.write_table(pa.table({"image": [png(row) for row in range(4)], "label": labels}), tmp_path / "x.parquet")
        return [tmp_path / "x.npz", write_tar(tmp_path / "x.tar", members), tmp_path / "x.parquet"]

    for source in sources([0, 1, 2, 7]):
        with raises("label-too-large", 7):
            open_source(source)
    for source in sources(list("abcd")):
        with raises("too-many-labels", 4, "'a'"):
            open_source(source)
    for last, code in ((7, "label-too-large"), (2**70, "label-too-large")):
        rows = open_source([(pixel, label) for pixel, label in zip(pixels, [0, 1, last, 1], strict=True)]).samples()
        assert [next(rows).label, next(rows).label] == [0, 1]
        with raises(code):
            next(rows)


def _of_row(row: int, label: Any) -> list[tuple[str, bytes]]:
    return [("png", png(row)), ("cls", str(label).encode())]


def test_whole_decimals_are_labels() -> None:
    assert [label_value(Decimal(text)) for text in ("3", "3.0", "NaN", "-1")] == [3, 3, None, None]
    with pytest.raises(ValueError, match=r"2\.5 is not a whole number"):
        label_value(Decimal("2.5"))


def test_files_without_content_and_arrays_of_objects(tmp_path: Path) -> None:
    (tmp_path / "x.tar").touch()
    with raises("bad-shard", tmp_path / "x.tar", "empty"):
        open_source(tmp_path / "x.tar")
    np.savez(tmp_path / "x.npz", images=np.array([None, 1], object))
    with raises("bad-array-file", "Python objects"):
        open_source(tmp_path / "x.npz")
