"""`limbeck select` writes a list that a person fills in, and that the next call and `limbeck classify` read."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import limbeck as library
from limbeck.core.text import csv_cell
from limbeck.data.label_list import ListedLabels, read_label_list
from limbeck.data.store.store import read_paths
from limbeck.embeddings.config import EmbedConfig
from tests.helpers.commands import Run
from tests.helpers.errors import raises
from tests.helpers.sources import png, write_folder


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
    monkeypatch.setattr(
        "limbeck.downstream.selection.source.embed_source", lambda *_, **__: pytest.fail("a pass began")
    )
    for code, options in (
        ("budget-out-of-range", {"budget": 161}),
        ("strategy-needs-labels", {"strategy": "margin"}),
        ("unusable-device", {"embedding": EmbedConfig(device="tpu9")}),
    ):
        with raises(code):
            library.select(photos / "train", trained, **options)


def build(folder: Path, names: Sequence[str]) -> library.Store:
    """Return a store of a new folder with so many images."""
    return library.build_store(
        write_folder(folder, [(name, png(row)) for row, name in enumerate(names)]), f"{folder}.s"
    )


def test_lists_of_labels(tmp_path: Path) -> None:
    file, paths = tmp_path / "rows.csv", ["a/1.png", "=b.png", "c.png", "'+d\n.png"]
    paths = read_paths(store := build(tmp_path / "photos", paths))
    order = [paths.index(path) for path in ("a/1.png", "=b.png", "c.png", "'+d\n.png")]

    def read(*lines: str) -> ListedLabels:
        file.write_text("path,label\n" + "\n".join(lines), encoding="utf-8")
        return read_label_list(file, store)

    found = read("a/1.png,zebra", "'=b.png, ape ", "c.png,")
    assert found.labels[order].tolist() == [1, 0, -1, -1]
    assert (found.names, found.unfilled) == (["ape", "zebra"], 1)
    texts = dict(zip(order, ["=x", "y", "=x", "z"], strict=True))
    found = read(*(f"{csv_cell(path)},{csv_cell(texts[row])}" for row, path in enumerate(paths)))
    assert (found.labels[order].tolist(), found.names) == ([0, 1, 0, 2], ["=x", "y", "z"])
    with raises("unknown-image", "d.png", "line 3"):
        read("a/1.png,zebra", "d.png,zebra")
    with raises("unknown-image", "d.png", "line 5"):  # an empty line is one, and a quoted name may have two
        read("", '"\'+d\n.png",zebra', "d.png,zebra")
    with raises("unknown-image", "did you mean 'a/1.png'"):
        read("/home/me/photos/a/1.png,zebra")
    with raises("two-labels", "a/1.png", "ape"):
        read("a/1.png,zebra", "a/1.png,ape")
    with raises("labels-collide", "Ape", "ape"):
        read("a/1.png,Ape", "c.png,ape")
    file.write_text("file,label\nx,y\n")
    with raises("not-a-list", "path", "file"):
        read_label_list(file, store)
    file.write_bytes("path,label\na/1.png,caf\u00e9\n".encode("cp1252"))
    with raises("not-a-list", "UTF-8"):
        read_label_list(file, store)


def test_images_that_were_not_drawn_are_no_mistake(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(4)]
    folder = write_folder(tmp_path / "photos", [*zip(names, map(png, range(4)), strict=True)])
    store = library.build_store(folder, tmp_path / "store", max_images=2)
    (file := tmp_path / "rows.csv").write_text("path,label\n" + "\n".join(f"{name},a" for name in names))
    assert read_label_list(file, store).labels.tolist() == [0, 0]


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-8")])
def test_lists_are_read_as_spreadsheets_write_them(delimiter: str, encoding: str, tmp_path: Path) -> None:
    """With other delimiters, cases of letters, forms of Unicode; images that are not used are no mistake."""
    names = ["cafe\u0301.png", " b.png", "d.png"]
    folder = write_folder(tmp_path / "photos", [*zip(names, map(png, range(3)), strict=True), ("broken.png", b"x")])
    store = library.build_store(folder, tmp_path / "store", exclude=["d.png"], allow_bad=0.5)
    rows = [("Path ", "LABEL"), ("./caf\u00e9.png", "a"), ("b.png", "b"), ("broken.png", "a"), ("d.png", "a"), ("", "")]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(delimiter.join(row) for row in rows), encoding=encoding)
    found = read_label_list(file, store)
    assert [found.names[label] for label in found.labels] == ["b", "a"]
