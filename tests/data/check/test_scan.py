"""A check finds every issue where it is and nowhere else, and predicts what a store does."""

import csv
import io
import json
import re
import struct
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from limbeck.data.check.issues import ISSUE_TYPES, OPTIONAL_ISSUES, IssueName, OptionalIssue
from limbeck.data.check.scan import Check, check, check_store
from limbeck.data.decode import image_format
from limbeck.data.store.open import build_store, open_store
from limbeck.data.store.store import Store
from tests.helpers.commands import Run
from tests.helpers.errors import raises

DRAW = np.random.default_rng(0)


def noise(width: int = 24, height: int = 16) -> Image.Image:
    return Image.fromarray(DRAW.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    data = bytearray(encoded(Image.new("L", (4, 4)), "PNG"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(), exif=exif)


def transparent() -> bytes:
    image = noise().convert("RGBA")
    image.putalpha(60)
    return encoded(image, "PNG")


def two_tone(left: int) -> Image.Image:
    image = Image.new("L", (24, 16))
    image.paste(255, (left, 4, 20, 12))
    return image


SICK: dict[str, tuple[bytes, IssueName]] = {
    "a/empty.jpg": (b"", "empty"),
    "a/cut.jpg": (encoded(noise(200, 100))[:-300], "truncated"),
    "a/cut.png": (encoded(noise(200, 100), "PNG")[:-3000], "truncated"),
    "a/page.jpg": (b"<html>404</html>", "unreadable"),
    "a/bomb.png": (bomb(), "too_many_pixels"),
    "b/really.png": (encoded(noise()), "wrong_extension"),
    "b/dot.png": (encoded(noise(20, 7), "PNG"), "tiny"),
    "b/film.gif": (encoded(noise(), "GIF", save_all=True, append_images=[noise()]), "animated"),
    "b/film.png": (encoded(noise(), "PNG", save_all=True, append_images=[noise()]), "animated"),
    "b/cmyk.jpg": (encoded(noise().convert("CMYK")), "unusual_mode"),
    "b/deep.png": (
        encoded(Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 9), "PNG"),
        "unusual_mode",
    ),
    "b/glass.png": (transparent(), "unusual_mode"),
    "b/side.jpg": (turned(), "exif_rotated"),
    "b/black.png": (encoded(Image.new("L", (24, 16)), "PNG"), "constant"),
    "b/night.png": (encoded(noise().point(lambda value: value // 10), "PNG"), "dark"),
    "b/strip.png": (encoded(noise(60, 16), "PNG"), "elongated"),
    "b/plain_mask.png": (encoded(two_tone(2), "PNG"), "mask"),
    "b/plain.png": (encoded(two_tone(3), "PNG"), "mask"),  # beside plain.JPG
    "c/IMG_0001": (encoded(noise()), "no_extension"),
    "c/list.txt": (b"1 2 3", "not_an_image"),
    "c/.hidden": (b"", "not_an_image"),
}
HEALTHY = {
    "b/plain.JPG": encoded(noise()),
    "b/letter.png": encoded(two_tone(4), "PNG"),
    "b/opaque.png": encoded(noise().convert("RGBA"), "PNG"),
    "b/palette.gif": encoded(noise().quantize(8), "GIF"),
    "b/grey.tif": encoded(noise().convert("L"), "TIFF"),
    "b/phone.jpg": encoded(noise(), "MPO", save_all=True, append_images=[noise()]),  # a depth map behind the photograph
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    """Classes a and b with 60 good images each, one of everything above, a class of one, one of none, duplicates."""
    folder = write(tmp_path / "photos", {name: data for name, (data, _) in SICK.items()} | HEALTHY)
    good = {f"{label}/{number:02d}.png": encoded(noise(), "PNG") for label in "ab" for number in range(60)}
    again = {"b/again.png": good["a/07.png"], "b/once more.png": good["a/07.png"]}
    return write(folder, good | again | {"lonely/one.png": encoded(noise(), "PNG"), "none/x.png": b""})


def lines(found: Check) -> list[dict[str, str]]:
    with (found.folder / "check.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def page_of(found: Check) -> str:
    return (found.folder / "check.html").read_text(encoding="utf-8")


def test_every_issue_is_found_where_it_is_and_nowhere_else(sick: Path, tmp_path: Path) -> None:
    found = check(sick, tmp_path / "check")
    listed = {(line["path"], line["issue"]) for line in lines(found)}
    expected = {(path, kind) for path, (_, kind) in SICK.items()}
    expected |= {("b/again.png", "duplicate"), ("b/once more.png", "duplicate"), ("none/x.png", "empty")}
    assert listed == expected | {("lonely/one.png", "singleton_class"), ("none", "singleton_class")}
    assert (found.stats.total, found.stats.used, found.stats.bad, found.stats.ignored) == (148, 142, 6, 3)
    counts = "6 skipped (empty: 2, truncated: 2, unreadable: 1, too many pixels: 1)"
    for part in ("142 of 148 images", str(sick), counts, "3 other files ignored"):
        assert part in found.summary()


def test_one_word_per_outcome_everywhere(sick: Path, tmp_path: Path) -> None:
    """In the table of files, on the page and in the terminal, with and without issues that are left out."""
    for leave_out in ((), ("tiny", "duplicate")):
        found = check(sick, tmp_path / "check", leave_out=leave_out)
        actions = {name: kind.action for name, kind in ISSUE_TYPES.items()} | dict.fromkeys(leave_out, "skipped")
        assert all(line["outcome"] == actions[line["issue"]] for line in lines(found))  # type: ignore[index]
        on_page = re.findall(r'<h2>([^:]+): \d+, <span class="(\w+)">\2</span></h2>', page_of(found))
        assert {title.lower(): action for title, action in on_page} == {
            ISSUE_TYPES[name].title.lower(): actions[name] for name in found.stats.by_harm()
        }
        in_terminal = dict(zip(found.table().columns[0]._cells, found.table().columns[2]._cells, strict=True))
        assert in_terminal == {ISSUE_TYPES[name].title: actions[name] for name in found.stats.by_harm()}


def test_issues_are_in_the_order_of_harm(sick: Path, tmp_path: Path) -> None:
    order = check(sick, tmp_path / "check").stats.by_harm()
    assert order == [name for name in ISSUE_TYPES if name in order]
    kinds = [kind.action for kind in ISSUE_TYPES.values()]
    lost = kinds.index("used")
    assert "skipped" not in kinds[lost:]  # images that are lost come first
    assert kinds[-1] == "ignored"


def test_an_image_at_the_root_beside_classes(tmp_path: Path) -> None:
    names = [*(f"{label}/{number}" for label in "ab" for number in range(20)), "1", "2"]
    folder = write(tmp_path / "photos", {f"{name}.png": encoded(noise(), "PNG") for name in names})
    found = [line["path"] for line in lines(check(folder, tmp_path / "check")) if line["issue"] == "root_image"]
    assert found == ["1.png", "2.png"]
    for top in (("a/1", "1", "2"), ("a/1", "b/1", "1", "2")):  # folders that are hardly meant as classes
        flat = write(tmp_path / f"{len(top)}", {f"{name}.png": encoded(noise(), "PNG") for name in top})
        assert lines(check(flat, tmp_path / "check")) == []


def test_the_store_holds_exactly_what_the_check_says(sick: Path, tmp_path: Path) -> None:
    """In the same scan, in a build of its own, and with choices."""
    for leave_out in ((), ("duplicate", "tiny")):
        found = check(sick, tmp_path / "check", build_store=tmp_path / "one", leave_out=leave_out)
        assert found.store == tmp_path / "one"
        one = Store.open(tmp_path / "one")
        other = build_store(sick, tmp_path / "two", leave_out=leave_out)
        assert one.digest == other.digest
        assert len(one) == found.stats.used == 142 - (3 if leave_out else 0)
        stored = set(pq.read_table(tmp_path / "one" / "index.parquet")["path"].to_pylist())
        refused = {line["path"] for line in lines(found) if line["outcome"] != "used"}
        assert not stored & refused
        with (tmp_path / "one" / "skipped.csv").open(newline="") as file:
            skipped = {line["path"] for line in csv.DictReader(file)}
        assert skipped | set(SICK) >= refused
        assert len(stored) + len(skipped) == found.stats.total


def test_too_many_bad_files_are_an_error_everywhere_unless_allowed(tmp_path: Path) -> None:
    good = {f"{number}.png": encoded(noise(), "PNG") for number in range(9)}
    folder = write(tmp_path / "photos", good | {"bad.png": b"?"})
    values = ("1 of the 10", "5 %", "bad.png", "--allow-bad 0.11")
    found = check(folder, tmp_path / "check", build_store=tmp_path / "store")
    with raises("too-many-bad-images", *values, str(tmp_path / "check" / "check.csv")):
        found.raise_if_unacceptable()
    with raises("too-many-bad-images", *values, "limbeck store"):
        build_store(folder, tmp_path / "store")
    assert found.store is None
    assert not (tmp_path / "store").exists()
    assert len(build_store(folder, tmp_path / "store", allow_bad=0.1)) == 9
    check(folder, tmp_path / "check", allow_bad=0.1).raise_if_unacceptable()


def test_a_store_in_the_cache_must_satisfy_whoever_opens_it(tmp_path: Path) -> None:
    folder, cache = write(tmp_path / "photos", {"good.png": encoded(noise(), "PNG"), "bad.png": b"?"}), tmp_path / "c"
    lax = open_store(folder, cache, allow_bad=0.5)
    assert "1 skipped" in lax.summary()
    with raises("too-many-bad-images", "1 of the 2", "40 %", "--allow-bad 0.51"):
        open_store(folder, cache, allow_bad=0.4)
    assert open_store(folder, cache, allow_bad=0.5).digest == lax.digest
    assert lax.path
    assert len(open_store(lax.path)) == 1  # a store that is named is taken as it is


def test_a_source_without_one_image_still_gets_its_table(tmp_path: Path) -> None:
    found = check(write(tmp_path / "photos", {"a.jpg": b"", "b.jpg": b"?"}), tmp_path / "check")
    assert [line["issue"] for line in lines(found)] == ["empty", "unreadable"]
    with raises("no-usable-image", "photos", "a.jpg"):
        found.raise_if_unacceptable()


def test_a_check_that_continues_a_build_reports_all_issues(sick: Path, tmp_path: Path) -> None:
    """The samples of the interrupted build are in the table, the counts and the page as well."""
    whole = check(sick, tmp_path / "whole", build_store=tmp_path / "a")
    with raises("too-many-bad-images", "1 %"):
        build_store(sick, tmp_path / "b", allow_bad=0.01)
    resumed = check(sick, tmp_path / "resumed", build_store=tmp_path / "b")
    for name in ("check.csv", "check.html"):
        assert (whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes()
    assert whole.stats == resumed.stats


def test_the_page_needs_no_other_file_and_escapes_names(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>.jpg".replace("/", "_")
    files = {f"{number}.png": encoded(noise(4, 4), "PNG") for number in range(40)}
    found = check(write(tmp_path / "photos", files | {name: b""}), tmp_path / "check")
    page = page_of(found)
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:image/jpeg;base64,)', page)
    assert page.count("<img") == 24
    assert "and 16 more" in page
    assert "<code>--leave-out" in page
    assert "`" not in page.partition("<main")[2]


def test_arrays_are_checked(tmp_path: Path) -> None:
    images = np.stack([np.asarray(noise(16, 16)) for _ in range(4)])
    images[2] = images[1]
    found = check(images, tmp_path / "check")
    assert [(line["path"], line["issue"]) for line in lines(found)] == [("2", "duplicate")]


def test_rows_of_one_table_are_no_masks_of_each_other(tmp_path: Path) -> None:
    file = tmp_path / "letters.parquet"
    pq.write_table(pa.table({"image": [encoded(two_tone(left), "PNG") for left in (2, 3)]}), file)
    assert not lines(check(file, tmp_path / "check"))


def test_a_store_is_checked_against_itself_and_its_source(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", {f"{number}.png": encoded(noise(), "PNG") for number in range(3)})
    store = build_store(folder, tmp_path / "store")
    assert store.path is not None
    assert "has not changed" in check_store(store.path)[1]
    (folder / "1.png").write_bytes(encoded(noise(), "PNG"))
    (folder / "9.png").write_bytes(encoded(noise(), "PNG"))
    assert "1 added (9.png), 1 modified (1.png)" in check_store(store.path)[1]
    (folder).rename(tmp_path / "elsewhere")
    assert "is not available" in check_store(store.path)[1]
    data = bytearray((store.path / "images.npy").read_bytes())
    data[-1] ^= 1
    (store.path / "images.npy").write_bytes(data)
    with raises("damaged-store", store.path):
        check_store(store.path)


def test_options_that_do_not_exist() -> None:
    with raises("unknown-issue", "'tinny'", "'tiny'"):
        build_store(np.zeros((2, 8, 8), np.uint8), "nowhere", leave_out=["tinny"])  # type: ignore[list-item]
    with raises("bad-share", 5.0):
        build_store(np.zeros((2, 8, 8), np.uint8), "nowhere", allow_bad=5.0)


def test_the_lists_of_issues_agree() -> None:
    assert get_args(IssueName) == tuple(ISSUE_TYPES)
    assert get_args(OptionalIssue) == OPTIONAL_ISSUES == tuple(n for n in ISSUE_TYPES if n in OPTIONAL_ISSUES)
    assert all(ISSUE_TYPES[kind].action == "used" for kind in OPTIONAL_ISSUES)


def test_anything_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (b"", b"\0" * 100, DRAW.bytes(100)):
        path.write_bytes(data)
        assert image_format(path) is None


def test_labels_are_the_classes_of_a_store(limbeck: Run, photos: Path, tmp_path: Path) -> None:
    commands = (("check", photos / "test", "--out", tmp_path / "check"), ("store", photos / "test", tmp_path / "store"))
    for command in commands:
        assert json.loads(limbeck(*command, "--json")[1])["labels"] == [str(digit) for digit in range(10)]
    assert json.loads(limbeck("check", photos / "test" / "3", "--out", tmp_path / "flat", "--json")[1])["labels"] == []
