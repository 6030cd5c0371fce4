"""Laws over every kind of source, each given the same pictures, labels and stray files."""

import csv
import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from limbeck.data.check.scan import check
from limbeck.data.sources.labels import classify
from limbeck.data.sources.names import has_image_suffix
from limbeck.data.sources.open import open_source
from limbeck.data.store.open import build_store, open_store
from limbeck.data.store.store import Store
from tests.helpers.errors import raises
from tests.helpers.sources import numbered, png, write_folder, write_parquet, write_tar

NAMES = ["ant", "bee"]


class Items:
    """A map-style data set of (image, label)."""

    def __init__(self, labels: Sequence[Any], classes: list[str] | None = None) -> None:
        self.labels = labels
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Image.Image, Any]:
        if row >= len(self):
            raise IndexError
        return Image.open(io.BytesIO(png(row))), self.labels[row]


def hub_dataset(labels: Sequence[int], column: str = "img") -> datasets.Dataset:
    features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    cells = [{"bytes": png(row), "path": None} for row in range(len(labels))]
    return datasets.Dataset.from_dict({column: cells, "label": list(labels)}, features=features)


def in_folders(labels: Sequence[int]) -> list[tuple[str, bytes]]:
    return [(f"{NAMES[label]}/{row:02d}.png", png(row)) for row, label in enumerate(labels)]


def with_members(labels: Sequence[int], suffix: str, text: Callable[[str], str]) -> list[tuple[str, bytes]]:
    texts = [(f"{row:02d}.{suffix}", text(NAMES[label]).encode()) for row, label in enumerate(labels)]
    return [member for pair in zip(numbered(labels), texts, strict=True) for member in pair]


# every way to hand over images with the labels ant and bee
LABELED: dict[str, Callable[[Path, Sequence[int]], Any]] = {
    "folder": lambda path, labels: write_folder(path, in_folders(labels)),
    "splits": lambda path, labels: write_folder(
        path,
        [(f"{('train', 'val2017')[row % 3 == 0]}/{name}", data) for row, (name, data) in enumerate(in_folders(labels))],
    ),
    "tar of folders": lambda path, labels: write_tar(path.with_suffix(".tar"), in_folders(labels)),
    "tar with .cls": lambda path, labels: write_tar(path.with_suffix(".tar"), with_members(labels, "cls", str)),
    "tar with .json": lambda path, labels: write_tar(
        path.with_suffix(".tar"), with_members(labels, "json", '{{"caption": "x", "class": "{}"}}'.format)
    ),
    "tar with late labels": lambda path, labels: write_tar(
        path.with_suffix(".tar"), sorted(with_members(labels, "cls", str), key=lambda member: member[0][2:] == ".cls")
    ),
    "parquet": lambda path, labels: write_parquet(
        path.with_suffix(".parquet"), [png(row) for row in range(len(labels))], label=[NAMES[label] for label in labels]
    ),
    "parquet of categories": lambda path, labels: write_parquet(
        path.with_suffix(".parquet"),
        [png(row) for row in range(len(labels))],
        target=pa.array([NAMES[label] for label in labels]).dictionary_encode(),
    ),
    "parquet of datasets": lambda path, labels: (hub_dataset(labels).to_parquet(f"{path}.parquet"), f"{path}.parquet")[
        1
    ],
    "datasets": lambda path, labels: hub_dataset(labels),
    "torch": lambda path, labels: Items(labels, NAMES),
    "torch, named": lambda path, labels: Items([NAMES[label] for label in labels], NAMES),
    "subset": lambda path, labels: Subset(Items([*labels, 0], NAMES), range(len(labels))),  # type: ignore[arg-type]
    "joined": lambda path, labels: ConcatDataset([Items(labels[:5], NAMES), Items(labels[5:], NAMES)]),  # type: ignore[list-item]
    "arrays": lambda path, labels: (
        np.stack([np.asarray(Image.open(io.BytesIO(png(row)))) for row in range(len(labels))]),
        [NAMES[label] for label in labels],
    ),
}
LABELS = [0, 1, 1, 0, 1, 0, 0, 1, 1, 0]


@pytest.mark.parametrize("kind", LABELED)
def test_labels_are_found_whoever_hands_them_over(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    store = build_store(LABELED[kind](tmp_path / "source", LABELS), tmp_path / "store")
    assert store.label_names == NAMES
    assert sorted(store.labels.tolist()) == sorted(LABELS)
    (line,) = [message for message in caplog.messages if "labels: 2 classes" in message]
    assert "ant, bee" in line
    caplog.clear()
    open_store(tmp_path / "store")
    assert line in caplog.messages


class Messy(NamedTuple):
    """A source with pictures and other things, and the paths of all things with an image's suffix in it."""

    source: Path
    pictures: set[str]


STRAY = [
    ("README.md", b"hello"),
    ("._00.png", b"\0\5\26\7"),
    (".hidden/a.png", png(0)),
    ("__MACOSX/00.png", b"\0\5\26\7"),
    ("Thumbs.db", b"x"),
    ("broken.png", b"?"),
    ("shot_1.0.png", png(100)),
    ("shot_1.1.png", png(101)),
    ("both.jpg", png(102)),
    ("both.mask.png", png(103)),
]


def messy(path: Path) -> Iterator[Messy]:
    members = [*numbered(range(60)), *STRAY]
    pictures = {name for name, _ in members if has_image_suffix(name)}
    yield Messy(write_folder(path / "folder", members), pictures)
    yield Messy(write_tar(path / "archive.tar", members), pictures)
    with tarfile.open(path / "archive.tar", "a") as archive:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("device.png", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "00.png"
            archive.addfile(info)
    yield Messy(path / "archive.tar", pictures | {"link.png", "hard.png", "device.png"})
    cells = [{"bytes": data, "path": name} for name, data in members]
    yield Messy(write_parquet(path / "rows.parquet", cells), pictures)


def test_every_picture_is_used_or_listed(tmp_path: Path) -> None:
    for source, pictures in messy(tmp_path):
        found = check(source, tmp_path / "check", build_store=tmp_path / "store")
        stored = pq.read_table(tmp_path / "store" / "index.parquet")["path"].to_pylist()
        with (tmp_path / "check" / "check.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        listed = [line["path"] for line in lines if line["outcome"] != "used"]
        assert sorted(name for name in [*stored, *listed] if has_image_suffix(name)) == sorted(pictures), source
        assert {line["path"] for line in lines if line["outcome"] == "skipped"} == {"broken.png"}, source
        assert found.stats.bad == 1
        assert {"shot_1.0.png", "shot_1.1.png", "both.jpg"} <= {*stored}
        assert {"._00.png", "__MACOSX/00.png", "README.md"} <= {*listed}
        assert f"{found.stats.ignored} other files" in found.summary()


def test_nothing_is_invented_and_a_reason_is_given(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where there are no labels, one line says why."""
    caplog.set_level("INFO", "limbeck")
    images = [png(row) for row in range(4)]
    several = write_parquet(tmp_path / "several.parquet", images, label=[[0, 1]] * 4)
    half = write_parquet(tmp_path / "half.parquet", images, label=[0.5] * 4)
    none = write_parquet(tmp_path / "none.parquet", images, caption=["a"] * 4)
    flat = write_folder(tmp_path / "flat", numbered(range(4)))
    single = write_folder(tmp_path / "single", [(f"2024/{name}", data) for name, data in numbered(range(4))])
    splits = write_folder(
        tmp_path / "splits", [(f"{('train', 'test')[row % 2]}/{row}.png", png(row)) for row in range(4)]
    )
    tar = write_tar(tmp_path / "x.tar", numbered(range(4)))
    sources: list[tuple[Any, str]] = [
        (several, "several"), (half, "0.5"), (none, "caption"), (flat, "sub-folders"), (single, "2024"),
        (splits, "test, train"), (tar, ".cls"), (np.zeros((4, 8, 8), np.uint8), "arrays"), (Items([0.5] * 4), "0.5"),
    ]  # fmt: skip
    for source, reason in sources:
        caplog.clear()
        assert not build_store(source, tmp_path / "store").label_names
        (line,) = [message for message in caplog.messages if message.startswith("labels: none")]
        assert reason in line


@pytest.mark.parametrize(
    ("values", "names", "numbers"),
    [
        ([2, 0, None, -1], [], [2, 0, -1, -1]),
        ([1.0, 0.0, float("nan")], [], [1, 0, -1]),
        ([True, False], ["False", "True"], [1, 0]),
        ([np.bool_(True), np.False_], ["False", "True"], [1, 0]),
        (["bee", "ant", "", " bee "], ["ant", "bee"], [1, 0, -1, 1]),
        ([["bee"], ("ant",), []], ["ant", "bee"], [1, 0, -1]),
        ([np.int64(3), np.array([1]), np.array(2)], [], [3, 1, 2]),
        (["cafe\u0301", "caf\u00e9"], ["caf\u00e9"], [0, 0]),
        ([7, "x"], ["7", "x"], [0, 1]),
        ([b"x", b"y"], ["x", "y"], [0, 1]),
        ([0.5, {"a": 1}, [1, 2], 1], [], [-1, -1, -1, 1]),
    ],
)
def test_what_a_label_is(values: list[Any], names: list[str], numbers: list[int]) -> None:
    found = classify(values)
    assert (found.numbers.tolist(), found.names) == (numbers, names)


def test_class_names_of_several_files_are_joined_by_name(tmp_path: Path) -> None:
    for part, names in enumerate((["cat", "dog"], ["dog", "cat", "eel"])):
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        rows = {"image": [{"bytes": png(row), "path": None} for row in range(2)], "label": [0, 1]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{part}.parquet")
    source = open_source(tmp_path)
    assert source.label_names == ["cat", "dog", "eel"]
    assert [sample.label for sample in source.samples()] == [0, 1, 1, 0]
    with raises("labels-differ", "cat", "dog"):
        open_source(ConcatDataset([Items([0], ["cat", "dog"]), Items([0], ["dog", "cat"])]))  # type: ignore[list-item]


def test_parts_of_a_table_are_not_taken_to_be_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [png(row) for row in range(2)]
    first = write_parquet(tmp_path / "0.parquet", images, label=["ant", "bee"])
    lacking = write_parquet(tmp_path / "1.parquet", images)
    numbers = write_parquet(tmp_path / "2.parquet", images, label=[0, 1])
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "3.parquet")
    other = tmp_path / "4.parquet"
    pq.write_table(pa.table({"img": images, "class": ["bee", "ant"]}), other)
    store = build_store([first, lacking, other], tmp_path / "store")
    assert store.labels.tolist() == [0, 1, -1, -1, 1, 0]
    assert "1.parquet" in store.describe_labels()
    with raises("labels-differ", first, numbers):
        open_source([first, numbers])
    with raises("no-image-column", "3.parquet"):
        open_source([first, tmp_path / "3.parquet"])


def test_a_damaged_file_of_several_is_listed_and_the_rest_is_read(tmp_path: Path) -> None:
    images = [png(row) for row in range(200)]
    pq.write_table(pa.table({"image": images}), tmp_path / "0.parquet", row_group_size=50)
    (tmp_path / "1.parquet").write_bytes(b"PAR1")
    data = bytearray((tmp_path / "0.parquet").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = b"?" * 4000
    (tmp_path / "0.parquet").write_bytes(data)
    found = check(tmp_path, tmp_path / "check", allow_bad=1)
    assert found.stats.total == 200
    assert 0 < found.stats.used < 200
    assert found.stats.found["unreadable_part"] == 1
    assert "1.parquet" in found.summary()


@pytest.mark.parametrize("names", [("train-0", "test-0"), ("train/0", "val/0"), ("x_TRAIN", "x_dev")])
@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_files_of_several_splits_are_not_joined_without_a_word(
    suffix: str, names: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        file = tmp_path / f"{name}.{suffix}"
        write_tar(file, numbered([0])) if suffix == "tar" else write_parquet(file, [png(0)])
    open_source(tmp_path)
    open_source([tmp_path / f"{name}.{suffix}" for name in names])
    assert [record.levelname for record in caplog.records if "train" in record.message] == ["WARNING"] * 2


def test_files_of_another_kind_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_parquet(tmp_path / "0.PARQUET", [png(0)])
    write_tar(tmp_path / "1.tar", numbered([0]))
    write_tar(tmp_path / "._1.tar", [])
    rows = open_source(tmp_path)
    assert (rows.count, sorted(item.path for item in rows.left_out)) == (1, ["._1.tar", "1.tar"])
    write_folder(tmp_path, numbered([0]))
    assert not caplog.messages
    assert sorted(item.path for item in open_source(tmp_path).left_out) == ["._1.tar", "0.PARQUET", "1.tar"]
    assert [name for name in ("0.PARQUET", "1.tar") if name in caplog.text] == ["0.PARQUET", "1.tar"]


def test_shards_whose_labels_are_words_and_numbers_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mixed = [("0.png", png(0)), ("0.cls", b"7"), ("1.png", png(1)), ("1.cls", b"seven")]
    words = write_tar(tmp_path / "words.tar", mixed)
    assert open_source(words).label_names == ["7", "seven"]
    assert not caplog.messages
    numbers = write_tar(tmp_path / "numbers.tar", mixed[:2])
    open_source([numbers, words])
    assert (str(words) in caplog.text, str(numbers) in caplog.text) == (True, True)


def test_what_cannot_be_read_is_a_finding_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", numbered(range(50)))
    os.mkfifo(folder / "real.png")
    os.mkfifo(folder / "pipe.txt")
    (folder / "zero.png").symlink_to("/dev/zero")
    handle = os.open(folder, os.O_RDONLY)
    for _ in range(4000):  # deeper than a path may be long
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    found = check(folder, tmp_path / "check")
    assert (found.stats.used, found.stats.bad, found.stats.found["unreadable_part"]) == (50, 2, 1)
    with (tmp_path / "check" / "check.csv").open(newline="") as file:
        lines = {line["path"]: line for line in csv.DictReader(file)}
    assert {"real.png", "zero.png", "pipe.txt"} <= {*lines}
    subprocess.run(["rm", "-rf", folder / "d"], check=True)  # pytest's own clean-up is recursive
    cells = [
        {"bytes": png(0), "path": None},
        *({"bytes": None, "path": path} for path in ("a\0b.png", "photos/real.png")),
    ]
    rows = write_parquet(tmp_path / "rows.parquet", cells)
    assert check(rows, tmp_path / "check", allow_bad=1).stats.bad == 2


def test_images_in_memory_keep_their_labels() -> None:
    assert Store.from_arrays(np.zeros((2, 8, 8), np.uint8), [0, 1]).describe_labels().count("2 classes") == 1
