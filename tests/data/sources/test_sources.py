"""Every kind of source gives the same rows; what is no source gives one sentence."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from limbeck.data.decode import UndecodableError, decode
from limbeck.data.sources.base import ImageSource, Sample
from limbeck.data.sources.open import Source, open_source
from tests.helpers.errors import raises

SHADES = [10, 60, 110, 160]
LABELS = [1, 0, 1, 0]


def image(shade: int) -> Image.Image:
    return Image.new("RGB", (6, 4), (shade, shade, shade))


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    image(shade).save(buffer, "PNG")
    return buffer.getvalue()


def save(path: Path, shade: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(shade))
    return path


def shade(sample: Sample) -> int:
    return int(decode(sample.content, 4).pixels[0, 0, 0])


def shades(source: ImageSource) -> list[int]:
    return [shade(sample) for sample in source.samples()]


def labels(source: ImageSource) -> list[int]:
    return [sample.label for sample in source.samples()]


def paths(source: ImageSource) -> list[str]:
    return [sample.path for sample in source.samples()]


def left_out(source: ImageSource) -> list[str]:
    return [item.path for item in source.left_out]


def write_parquet(path: Path, metadata: dict[bytes, bytes] | None = None, **columns: list[object]) -> Path:
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def cells() -> list[object]:
    return [{"bytes": png(value), "path": f"{value}.png"} for value in SHADES]


# folders


def test_a_folder_of_classes(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "2.PNG", 60)
    save(tmp_path / "dog" / "deep" / "1.Jpeg", 110)
    save(tmp_path / "cat" / "1.webp", 10)
    (tmp_path / "empty").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("good dog")
    rows = open_source(tmp_path)
    assert paths(rows) == ["cat/1.webp", "dog/2.PNG", "dog/deep/1.Jpeg"]
    assert (labels(rows), rows.label_names) == ([0, 1, 1], ["cat", "dog"])
    assert (rows.count, left_out(rows), shades(rows)) == (3, ["dog/notes.txt"], [10, 60, 110])


def test_an_image_at_the_root_means_no_classes(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.png", "z.png"):
        save(tmp_path / name)
    rows = open_source(tmp_path)
    assert (labels(rows), rows.label_names) == ([-1] * 3, [])


def test_a_single_sub_folder_is_no_class(tmp_path: Path) -> None:
    save(tmp_path / "2024" / "1.png")
    assert labels(open_source(tmp_path)) == [-1]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "._a.png", ".thumbnails/a.png"):
        save(tmp_path / name)
    rows = open_source(tmp_path)
    assert (paths(rows), left_out(rows)) == (["a.png"], ["._a.png", ".thumbnails/a.png"])


def test_links_are_followed_and_cycles_end(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "1.png", 60)
    folder = tmp_path / "photos"
    save(folder / "a" / "1.png", 10)
    (folder / "a" / "up").symlink_to(folder)
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    (folder / "c").symlink_to(tmp_path / "elsewhere")  # the same directory again
    (folder / "d.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (folder / "e.png").symlink_to(folder / "e.png")  # to itself
    (folder / "f.png").symlink_to(tmp_path / "nowhere.png")
    rows = open_source(folder)
    assert paths(rows) == ["a/1.png", "b/1.png", "d.png", "e.png", "f.png"]
    *good, cycle, broken = rows.samples()
    assert [shade(sample) for sample in good] == [10, 60, 60]
    for sample in (cycle, broken):
        with pytest.raises(UndecodableError):
            decode(sample.content, 4)


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    path = save(tmp_path / "1.png")
    before = open_source(tmp_path).fingerprint
    assert before == open_source(tmp_path).fingerprint
    os.utime(path, (1, 1))
    changed = open_source(tmp_path).fingerprint
    save(tmp_path / "2.png")
    assert len({before, changed, open_source(tmp_path).fingerprint}) == 3


def test_the_sample_of_a_folder_is_spread_over_it(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number:03d}.png").touch()
    paths_ = [sample.path for sample in open_source(tmp_path).preview()]
    assert paths_[:2] == ["000.png", "002.png"]
    assert paths_[-1] == "598.png"


# tables


def test_parquet_with_the_features_of_hugging_face(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}, "image": {"_type": "Image"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    path = write_parquet(tmp_path / "x.parquet", metadata, label=list(LABELS), image=cells())
    rows = open_source(path)
    assert (rows.count, labels(rows), rows.label_names) == (4, LABELS, ["no", "yes"])
    assert (shades(rows), paths(rows)[0]) == (SHADES, "10.png")


def test_parquet_of_bytes_with_strings_as_labels_in_several_files(tmp_path: Path) -> None:
    files = [
        write_parquet(tmp_path / f"{part}.parquet", img=[png(shade)], label=[name])
        for part, (shade, name) in enumerate([(10, "wolf"), (60, "bear")])
    ]
    for source in (files, str(tmp_path / "*.parquet"), tmp_path):
        rows = open_source(source)
        assert (shades(rows), labels(rows), rows.label_names) == ([10, 60], [1, 0], ["bear", "wolf"])
        assert paths(rows) == ["0.parquet#0", "1.parquet#0"]


def test_parquet_rows_without_image_or_label(tmp_path: Path) -> None:
    save(tmp_path / "there.png", 60)
    images: list[object] = [None, {"bytes": None, "path": str(tmp_path / "there.png")}]
    rows = open_source(write_parquet(tmp_path / "x.parquet", image=images, label=[None, 3]))
    missing, named = rows.samples()
    assert (missing.label, named.label, shade(named)) == (-1, 3, 60)
    with pytest.raises(UndecodableError, match="no image"):
        decode(missing.content, 4)


def test_parquet_that_holds_no_images(tmp_path: Path) -> None:
    with raises("no-image-column", "text, label"):
        open_source(write_parquet(tmp_path / "x.parquet", text=["a"], label=[1]))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    with raises("bad-parquet", broken):
        open_source(broken)


def test_the_hub_is_asked_only_for_names_that_are_no_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    asked = []

    def load(name: str, split: str) -> datasets.Dataset:
        asked.append((name, split))
        if name == "no/where":
            raise datasets.exceptions.DatasetNotFoundError("not found\non the hub")
        features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["no", "yes"]))
        return datasets.Dataset.from_dict({"image": cells(), "label": LABELS}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    rows = open_source("owner/name:test")
    assert (shades(rows), labels(rows), rows.label_names, rows.count) == (SHADES, LABELS, ["no", "yes"], 4)
    open_source("owner/name")
    save(tmp_path / "photos" / "cats" / "1.png")
    open_source("photos/cats")
    with raises("hub-failed", "'no/where'", "not found on the hub"):
        open_source("no/where")
    for name in ("photos", "photos/missing.png", "photos/", "./a/b", "a/b/c", "a/missing.parquet"):
        if not (tmp_path / name).is_dir():
            with raises("source-missing", name):
                open_source(name)
    assert asked == [("owner/name", "test"), ("owner/name", "train"), ("no/where", "train")]


# shards


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_shards(tmp_path: Path, mode: str) -> None:
    first = {"a/1.JPG": png(10), "a/1.cls": b"3\n", "a/1.txt": b"caption", "a/2.png": png(60)}
    second = {"b/3.cls": b"0", "b/3.seg.txt": b"x", "b/3.webp": png(110), "b/4.txt": b"no image"}
    files = [write_tar(tmp_path / f"{part}.tar", members, mode) for part, members in enumerate([first, second])]
    for source in (files, tmp_path):
        rows = open_source(source)
        assert paths(rows) == ["a/1.JPG", "a/2.png", "b/3.webp"]
        assert (labels(rows), shades(rows)) == ([3, -1, 0], [10, 60, 110])
        assert left_out(rows) == ["a/1.txt", "b/3.seg.txt", "b/4.txt"]


@pytest.mark.parametrize("cut", [1000, 4 * 512 + 100, 5 * 512 + 10])  # in an image, in a header, in the second image
def test_a_shard_that_is_cut_short_gives_what_it_has(tmp_path: Path, cut: int) -> None:
    path = write_tar(tmp_path / "x.tar", {"1.png": png(10) + bytes(1000), "2.png": png(60)})
    whole = write_tar(tmp_path / "y.tar", {"3.png": png(110)})
    path.write_bytes(path.read_bytes()[:cut])
    rows = open_source([path, whole])
    assert [(item.path, item.issue.name) for item in rows.left_out] == [(str(path), "unreadable_part")]
    *first, last = rows.samples()
    assert (last.path, shade(last), len(first) + 1) == ("3.png", 110, rows.count)
    path.write_bytes(path.read_bytes()[:100])
    with raises("bad-shard", path):
        open_source(path)


def test_damage_in_the_middle_of_a_shard_and_several_archives_in_one(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{number}.png": png(shade) for number, shade in enumerate(SHADES)})
    data = bytearray(path.read_bytes())
    path.write_bytes(data + data)
    assert shades(open_source(path)) == SHADES * 2
    data[1024:1500] = b"?" * 476  # the header of the second image
    path.write_bytes(data)
    rows = open_source(path)
    assert (shades(rows), left_out(rows)) == ([10, 110, 160], [str(path)])


# arrays and data sets


class Pairs(torch.utils.data.Dataset[object]):
    """A map-style data set that makes its rows with a function."""

    classes = ("no", "yes")

    def __init__(self, make: object) -> None:
        self.make = make

    def __len__(self) -> int:
        return len(SHADES)

    def __getitem__(self, index: int) -> object:
        return self.make(index)  # type: ignore[operator]


def grayscale(shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([np.full(shape, shade, np.uint8) for shade in SHADES])


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3)])
def test_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = grayscale(shape)
    np.save(tmp_path / "x.npy", images)
    np.savez(tmp_path / "x.npz", images=images, labels=np.array(LABELS))
    sources: list[Source] = [images, (images, LABELS), tmp_path / "x.npy", tmp_path / "x.npz"]
    for source, expected in zip(sources, [[-1] * 4, LABELS, [-1] * 4, LABELS], strict=True):
        rows = open_source(source)
        assert (rows.count, shades(rows), labels(rows)) == (4, SHADES, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda row: (image(SHADES[row]), LABELS[row]),
        lambda row: (np.asarray(image(SHADES[row])), np.int64(LABELS[row])),
        lambda row: (torch.full((3, 4, 6), SHADES[row], dtype=torch.uint8), torch.tensor(LABELS[row])),
        lambda row: [torch.full((1, 4, 6), SHADES[row] / 255), LABELS[row], "more"],
        lambda row: {"image": image(SHADES[row]), "label": LABELS[row]},
    ],
    ids=["pil", "array", "tensor", "float", "dict"],
)
def test_map_style_data_sets(make: object) -> None:
    rows = open_source(Pairs(make))
    assert (rows.count, shades(rows), labels(rows), rows.label_names) == (4, SHADES, LABELS, ["no", "yes"])
    assert rows.fingerprint is None


@pytest.mark.parametrize("label", [None, {"boxes": [1]}, torch.zeros(2), 0.5, float("nan"), -1, [], ""])
def test_what_is_no_label_counts_as_none(label: object) -> None:
    assert labels(open_source([(image(10), label)])) == [-1]


def test_a_row_that_the_data_set_cannot_give_is_a_reason() -> None:
    def make(row: int) -> object:
        if row == 1:
            raise OSError("disk on fire")
        return "a string" if row == 2 else image(SHADES[row])

    _, raised, strange, _ = open_source(Pairs(make)).samples()
    for sample, reason in ((raised, "disk on fire"), (strange, "a str is not an image")):
        with pytest.raises(UndecodableError, match=reason):
            decode(sample.content, 4)


# mistakes


def test_missing_and_empty(tmp_path: Path) -> None:
    with raises("source-missing", tmp_path / "nowhere", ".parquet"):
        open_source(tmp_path / "nowhere")
    with raises("no-images", tmp_path):
        open_source(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with raises("no-images", "1 file", ".txt"):
        open_source(tmp_path)


def test_unknown_kinds(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("x")
    for source in (text, [text, save(tmp_path / "1.png")]):
        with raises("unknown-source", text):
            open_source(source)
    for wrong, kind in ((3, "int"), ({"train": [1]}, "dict"), (None, "NoneType"), (b"x", "bytes")):
        with raises("unknown-source", kind):
            open_source(wrong)  # type: ignore[arg-type]


def test_arrays_that_are_no_source(tmp_path: Path) -> None:
    with raises("bad-image-shape", "(4, 6)"):
        open_source(grayscale((6,)))
    with raises("bad-labels", 4, "int64", "(3,)"):
        open_source((grayscale((6, 6)), [0, 1, 2]))
    np.savez(tmp_path / "x.npz", pictures=grayscale((6, 6)))
    with raises("no-images", "pictures"):
        open_source(tmp_path / "x.npz")
    np.save(tmp_path / "pickled.npy", np.array([object()]))
    with raises("bad-array-file", tmp_path / "pickled.npy"):
        open_source(tmp_path / "pickled.npy")


def test_a_shard_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with tarfile.open(tmp_path / f"{name}.tar", "w"):
            pass
    (tmp_path / "link.tar").symlink_to(tmp_path / "a.tar")
    with raises("listed-twice", "a.tar"):
        open_source([tmp_path / "b.tar", tmp_path / "a.tar", tmp_path / "link.tar"])


def test_several_array_files_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", grayscale((6, 6)))
    with raises("several-files", 2):
        open_source(str(tmp_path / "*.npy"))
    with raises("no-images", tmp_path):
        open_source(tmp_path)


def test_files_that_go_or_come_after_the_listing_are_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [save(tmp_path / f"{number}.png") for number in range(4)]
    source = open_source(tmp_path)
    assert [len(list(source.samples())), caplog.text] == [4, ""]
    files[2].unlink()
    assert len(list(source.samples())) == 3
    assert "4 images" in caplog.text
    assert caplog.records[-1].levelname == "WARNING"
    caplog.clear()
    started = source.samples()
    next(started)
    files[3].unlink()  # named already: it is listed as unreadable
    with pytest.raises(UndecodableError):
        [decode(sample.content, 4) for sample in started]
