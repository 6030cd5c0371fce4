"""`limbeck select` writes a list that a person fills in, and that the next call and `limbeck classify` read."""

import csv
import json
from pathlib import Path

import pytest

import limbeck as library
from limbeck.core.text import csv_cell
from limbeck.data.label_list import ListedLabels, read_label_list
from limbeck.embeddings.config import EmbedConfig
from tests.helpers.commands import Run
from tests.helpers.errors import raises


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def fill_in(file: Path, out: Path, count: int) -> None:
    """Write the folder of each image as its label, of the first `count` of a list."""
    with out.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["path", "label"])
        for number, row in enumerate(rows_of(file)):
            writer.writerow([row["path"], row["path"].split("/")[0] if number < count else ""])


@pytest.fixture(scope="module")
def chosen(trained: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a list of 30 of the 160 digits, by the default strategy."""
    file = tmp_path_factory.mktemp("chosen") / "rows.csv"
    library.select(photos / "train", trained, 30, out=file)
    return file


def test_the_list_and_what_is_printed(limbeck: Run, trained: Path, photos: Path, chosen: Path, tmp_path: Path) -> None:
    rows = rows_of(chosen)
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 31)]
    assert {*rows[0]} == {"path", "label", "rank", "reason"}
    assert all((photos / "train" / row["path"]).is_file() and not row["label"] for row in rows)
    assert "cluster" in rows[0]["reason"]
    out = tmp_path / "again.csv"
    status, printed, _ = limbeck("select", photos / "train", "--with", trained, "--budget", 30, "--out", out, "--json")
    found = json.loads(printed)
    assert status == 0
    assert out.read_bytes() == chosen.read_bytes()
    assert found["strategy"] == "typical"
    assert [image["path"] for image in found["images"]] == [row["path"] for row in rows]
    assert 0 < found["covering"]["mean"] < found["covering"]["radius"]
    assert found["covering"]["random_mean"] > found["covering"]["mean"]


def test_the_filled_list_leads_to_the_next_one(
    limbeck: Run, trained: Path, photos: Path, chosen: Path, tmp_path: Path
) -> None:
    fill_in(chosen, tmp_path / "filled.csv", 25)
    status, printed, messages = limbeck(
        *("select", photos / "train", "--with", trained, "--budget", 10, "--strategy", "margin"),
        *("--labeled", tmp_path / "filled.csv", "--out", tmp_path / "more.csv"),
    )
    assert status == 0
    assert "25 labels" in printed
    assert "5 images" in messages
    before = {row["path"] for row in rows_of(chosen)[:25]}
    assert before.isdisjoint(row["path"] for row in rows_of(tmp_path / "more.csv"))


def test_mistakes(limbeck: Run, trained: Path, photos: Path, chosen: Path, tmp_path: Path) -> None:
    def code(*argv: str | Path) -> str:
        status, printed, _ = limbeck("select", photos / "train", "--with", trained, *argv, "--json")
        assert status != 0
        return str(json.loads(printed)["error"]["code"])

    assert code("--out", chosen) == "out-exists"
    assert code("--out", tmp_path / "a.csv", "--budget", "161") == "budget-out-of-range"
    assert code("--out", tmp_path / "a.csv", "--depth", "9") == "depth-out-of-range"
    assert code("--out", tmp_path / "a.csv", "--labeled", tmp_path / "none.csv") == "not-readable"
    assert code("--out", tmp_path / "a.csv", "--labelled", tmp_path / "none.csv") == "unknown-option"
    assert not (tmp_path / "a.csv").exists()


def test_what_needs_no_features_is_refused_before_they_are_computed(
    trained: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.selection.source.embed_source", lambda *args, **options: pytest.fail("a pass began"))
    for code, options in (
        ("budget-out-of-range", {"budget": 161}),
        ("strategy-needs-labels", {"strategy": "margin"}),
        ("unusable-device", {"embedding": EmbedConfig(device="tpu9")}),
    ):
        with raises(code):
            library.select(photos / "train", trained, **options)


def test_lists_of_labels(tmp_path: Path) -> None:
    file, paths = tmp_path / "rows.csv", ["a/1.png", "=b.png", "c.png", "'+d\n.png"]

    def read(*lines: str) -> ListedLabels:
        file.write_text("path,label\n" + "\n".join(lines), encoding="utf-8")
        return read_label_list(file, paths)

    found = read("a/1.png,zebra", "'=b.png, ape ", "c.png,")
    assert found.labels.tolist() == [1, 0, -1, -1]
    assert (found.names, found.unfilled) == (["ape", "zebra"], 1)
    written = [f"{csv_cell(path)},{csv_cell(label)}" for path, label in zip(paths, ["=x", "y", "=x", "z"], strict=True)]
    found = read(*written)
    assert (found.labels.tolist(), found.names) == ([0, 1, 0, 2], ["=x", "y", "z"])
    with raises("unknown-image", "d.png", "line 3"):
        read("a/1.png,zebra", "d.png,zebra")
    with raises("two-labels", "a/1.png", "ape"):
        read("a/1.png,zebra", "a/1.png,ape")
    with raises("labels-collide", "Ape", "ape"):
        read("a/1.png,Ape", "c.png,ape")
    file.write_text("file,label\nx,y\n")
    with raises("not-a-list", "path", "file"):
        read_label_list(file, paths)
