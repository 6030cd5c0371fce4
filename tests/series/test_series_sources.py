"""Sources of series: every format gives the same data; what cannot be used is refused with its value."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limbeck.modalities import find_modality
from limbeck.series.data import SeriesData
from limbeck.series.recognize import is_series
from limbeck.series.sources import open_series
from tests.helpers.errors import raises

NAN = float("nan")
VALUES = np.array([[[1, 5], [2, 6], [3, NAN]], [[1.5, 0], [NAN, NAN], [NAN, NAN]]], np.float32)
HEAD = "# a comment\n@problemName x\n@timeStamps false\n@classLabel true 2 10\n@data\n"


def ts(path: Path, text: str, head: str = HEAD) -> Path:
    path.write_text(head + text)
    return path


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Write the same two series in every format that holds two channels."""
    np.savez(tmp_path / "a.npz", series=VALUES, labels=np.array([10, 2]))
    folder = tmp_path / "folder"
    for label, text in (("10", "left,right\n1,5\n2,6\n3,\n"), ("2", "1.5,0\n")):
        (folder / label).mkdir(parents=True)
        (folder / label / "a.csv").write_text(text)
    steps = [[[1, 5], [2, 6], [3, None]], [[1.5, 0]]]
    pq.write_table(pa.table({"series": steps, "label": [10, 2], "path": ["x", "y"]}), tmp_path / "a.parquet")
    return [ts(tmp_path / "a.ts", "1,2,3:5,6,?:10\n1.5:0:2\n"), tmp_path / "a.npz", tmp_path / "a.parquet", folder]


def test_every_format_gives_the_same_data(sources: list[Path]) -> None:
    for source in sources:
        assert find_modality(str(source)).name == "series"
        data = open_series(source)
        assert np.array_equal(data.values, VALUES, equal_nan=True)
        assert ([data.label_names[label] for label in data.labels], data.label_names) == (["10", "2"], ["2", "10"])
        assert (data.lengths.tolist(), data.present.sum(), data.channels, data.labeled) == ([3, 1], 3, 2, True)
    assert len({open_series(source).digest for source in sources}) == 1


def test_capitals_in_the_ends_of_names_do_not_matter(sources: list[Path]) -> None:
    renamed = [source.rename(source.with_suffix(source.suffix.upper())) for source in sources[:3]]
    for file in sources[3].rglob("*.csv"):
        file.rename(file.with_suffix(".CSV"))
    for source in (*renamed, sources[3]):
        assert find_modality(str(source)).name == "series"
        assert np.array_equal(open_series(source).values, VALUES, equal_nan=True)


def test_other_formats_and_other_labels(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("b\t1\t2\t3\na\t4\t5\tNaN\n")
    data = open_series(tmp_path / "a.tsv")
    assert (data.label_names, data.labels.tolist(), data.lengths.tolist()) == (["a", "b"], [1, 0], [3, 2])
    without = ts(tmp_path / "b.ts", "1,2\n3,4\n", "@classLabel false\n@data\n")
    assert not open_series(without).labeled
    np.savez(tmp_path / "c.npz", series=np.eye(5))
    assert open_series(tmp_path / "c.npz").values.shape == (5, 5, 1)
    assert open_series(data) is data
    assert find_modality(data).name == "series"
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 4, 4, 3), np.uint8))
    (tmp_path / "notes").mkdir()
    for source in (tmp_path / "images.npz", tmp_path / "notes", tmp_path / "missing", np.eye(3)):
        assert find_modality(source).name == "images"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with raises("source-missing", "no.ts"):
        open_series(tmp_path / "no.ts")
    with raises("unknown-source", "a.txt"):
        open_series(ts(tmp_path / "a.txt", "1"))
    with raises("bad-series-file", "line 7", "x9"):
        open_series(ts(tmp_path / "a.ts", "1,2:2\n1,x9:2\n"))
    with raises("bad-series-file", "time stamps"):
        open_series(ts(tmp_path / "b.ts", "(0,1):2\n", "@timeStamps true\n@data\n"))
    with raises("channels-differ", 2, 1):
        open_series(ts(tmp_path / "c.ts", "1,2:2\n1,2:3,4:2\n"))
    with raises("no-series", "d.ts"):
        open_series(ts(tmp_path / "d.ts", ""))
    (tmp_path / "e.npz").write_bytes(b"PK")
    with raises("bad-series-file", "e.npz"):
        open_series(tmp_path / "e.npz")
    np.savez(tmp_path / "f.npz", images=np.eye(3))
    with raises("bad-series-file", "series"):
        open_series(tmp_path / "f.npz")
    for name, text, code in (
        ("one", "1,2\n3\n", "line 2"),
        ("none", "a,b\n", "no values"),
        ("gaps", "1,\n,2\n", "no step"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.csv").write_text(text)
        with raises("bad-series-file", code):
            open_series(tmp_path / name)


def test_parquet_files_have_steps_of_one_channel_or_several(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"

    def write(**columns: list[object]) -> Path:
        pq.write_table(pa.table(columns), file)
        return file

    one = open_series(write(series=[[1, 2, None], [4]], path=["x", "y"]))
    assert np.array_equal(one.values[:, :, 0], np.array([[1, 2, NAN], [4, NAN, NAN]]), equal_nan=True)
    assert (one.names, one.labeled) == (["x", "y"], False)
    gap = open_series(write(series=[[[1, 2], None, [3, 4]]])).values
    assert np.array_equal(gap, np.array([[[1, 2], [NAN, NAN], [3, 4]]]), equal_nan=True)
    for columns, value in (
        ({"series": ["a"]}, "series"),
        ({"series": pa.array([[], None], pa.list_(pa.float64()))}, "row 0"),
        ({"series": [[[1, 2], [3]]]}, "channels"),
        ({"series": [[1, 2], None, [3, 4]], "label": ["a", "b", None]}, "row 2"),
    ):
        with raises("bad-series-file", value, file):
            open_series(write(**columns))
    file.write_bytes(b"PAR1")
    with raises("bad-parquet", file):
        open_series(file)
    pq.write_table(pa.table({"image": [b""]}), file)
    assert find_modality(str(file)).name == "images"


def test_rows_that_are_no_series_are_left_out_and_named(tmp_path: Path) -> None:
    rows: list[Any] = [
        [[1, 2], [3, 4]],
        None,
        [],
        [[5, 6], [7]],
        [[1, 2], [3, float("inf")]],
        [None, [1, None]],
        [[5, 6], [7, 8]],
    ]
    columns = {"series": rows, "label": ["b", None, "x", "x", "x", None, "a"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    data = open_series(tmp_path / "a.parquet")
    assert (data.names, data.label_names, data.labels.tolist()) == (["0", "6"], ["a", "b"], [1, 0])
    assert np.array_equal(data.values, [rows[0], rows[6]])
    assert [text.split()[1] for text in data.left_out] == list("12345")
    assert any("row 1" in remark for remark in data.remarks())


def test_files_that_are_no_series_are_left_out_and_named(tmp_path: Path) -> None:
    for name, text in (("a", "1,2\n3,4\n"), ("b", "u,v\n"), ("c", "1,2\n3,x\n"), ("d", "5,6\n7,8\n")):
        (tmp_path / f"{name}.csv").write_text(text)
    data = open_series(tmp_path)
    assert (data.names, len(data), len(data.left_out)) == (["a.csv", "d.csv"], 2, 2)
    assert all(any(word in remark for remark in data.remarks()) for word in ("b.csv", "c.csv", "'x'"))


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    with raises("labels-not-classes", 0.25):
        open_series(ts(tmp_path / "a.ts", "1,2:0.25\n", "@targetLabel true\n@data\n"))
    np.savez(tmp_path / "b.npz", series=np.eye(3), labels=np.array([1.0, 2.5, 2.0]))
    with raises("labels-not-classes", 2.5):
        open_series(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", series=np.eye(3), labels=np.eye(3))
    with raises("labels-not-classes", "(3, 3)"):
        open_series(tmp_path / "c.npz")
    with raises("bad-labels", 3, 2):
        SeriesData(np.eye(3), [0, 1], ["a", "b"])


@pytest.mark.parametrize(
    ("values", "code", "value"),
    [
        (np.full((3, 8), 2.5), "series-constant", 2.5),
        (np.array([[1, 2], [NAN, NAN]]), "series-all-missing", "1 series"),
        (np.array([[[1, NAN], [2, NAN]]]), "series-all-missing", "channel"),
        (np.array([[1, np.inf]]), "series-not-finite", "series 0"),
        (np.zeros((2, 3, 4, 5)), "not-series", "(2, 3, 4, 5)"),
        (np.zeros((0, 3)), "not-series", 0),
        (np.array([["a", "b"]]), "not-series", "numbers"),
    ],
)
def test_values_that_are_no_series_are_refused(values: np.ndarray, code: str, value: object) -> None:
    with raises(code, value):
        SeriesData(values)


def test_remarks_name_the_series() -> None:
    rows = np.array([[1, 2, 3], [4, 4, 4], [1, 2, 3], [1, NAN, 2]])
    data = SeriesData(rows, [0, 0, 1, 1], ["a", "b"], names=list("wxyz"))
    found = data.remarks()
    assert [text.rpartition(": ")[2] for text in found] == ["z", "x", "y"]
    assert "2 classes" in data.summary()
    assert data.classes() == ["classes: a (2), b (2)"]
    assert np.allclose(data.normalization(), [[np.nanmean(rows)], [np.nanstd(rows)]])


def test_recordings_of_spreadsheets_are_separated_by_semicolons_or_tabs(tmp_path: Path) -> None:
    values = np.arange(24.0).reshape(8, 3)
    for number, delimiter in enumerate(",;\t"):
        lines = [delimiter.join("abc"), *(delimiter.join(map(str, row)) for row in values)]
        (tmp_path / f"{number}.csv").write_text("\n".join(lines), encoding="utf-8")
        assert is_series(tmp_path / f"{number}.csv")
    np.testing.assert_array_equal(open_series(tmp_path).values, [values] * 3)
    (tmp_path / "0.csv").write_text("t,a\n2024-01-01,3\n", encoding="utf-8")
    with raises("bad-series-file", "2024-01-01", "column"):
        open_series(tmp_path / "0.csv")
    np.savez(tmp_path / "other.npz", values=values)
    with raises("bad-series-file", "values"):
        open_series(tmp_path / "other.npz")
