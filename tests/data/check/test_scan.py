"""The doctor finds what is there, and what it says is what a store does."""

import csv
import io
import re
import struct
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from limbeck.core.errors import UserError
from limbeck.data.check.issues import ISSUE_TYPES, OPTIONAL_ISSUES, Choice, Name
from limbeck.data.check.scan import Check, check, check_store
from limbeck.data.decode import image_format
from limbeck.data.store.open import build_store, open_store
from limbeck.data.store.store import Store

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
    return encoded(Image.new("RGBA", (16, 16), (9, 9, 9, 60)), "PNG")


SICK: dict[str, tuple[bytes, Name]] = {
    "a/empty.jpg": (b"", "empty"),
    "a/cut.jpg": (encoded(noise(200, 100))[:-300], "truncated"),
    "a/cut.png": (encoded(noise(200, 100), "PNG")[:-3000], "truncated"),
    "a/page.jpg": (b"<html>404</html>", "unreadable"),
    "a/bomb.png": (bomb(), "bomb"),
    "b/really.png": (encoded(noise()), "misnamed"),
    "b/dot.png": (encoded(noise(40, 7), "PNG"), "tiny"),
    "b/film.gif": (encoded(noise(), "GIF", save_all=True, append_images=[noise()]), "animated"),
    "b/film.png": (encoded(noise(), "PNG", save_all=True, append_images=[noise()]), "animated"),
    "b/cmyk.jpg": (encoded(noise().convert("CMYK")), "mode"),
    "b/deep.png": (encoded(Image.fromarray(np.full((16, 16), 999, np.uint16)), "PNG"), "mode"),
    "b/glass.png": (transparent(), "mode"),
    "b/side.jpg": (turned(), "turned"),
    "c/IMG_0001": (encoded(noise()), "nameless"),
    "c/list.txt": (b"1 2 3", "ignored"),
    "c/.hidden": (b"", "ignored"),
}
HEALTHY = {
    "b/plain.JPG": encoded(noise()),
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


def test_every_kind_is_found_where_it_is_and_nowhere_else(sick: Path, tmp_path: Path) -> None:
    found = check(sick, tmp_path / "check")
    told = {(line["path"], line["finding"]) for line in lines(found)}
    expected = {(path, kind) for path, (_, kind) in SICK.items()}
    expected |= {("b/again.png", "duplicate"), ("b/once more.png", "duplicate"), ("none/x.png", "empty")}
    assert told == expected | {("lonely/one.png", "alone"), ("none", "alone")}
    assert (found.counts.rows, found.counts.used, found.counts.bad, found.ignored) == (142, 136, 6, 3)
    assert found.sentence() == (
        f"136 of 142 images of '{sick}' will be used; 6 not used (2 truncated, 2 empty, 1 too many pixels, "
        "1 unreadable); 3 other files are ignored"
    )
    assert {line["used"] for line in lines(found) if ISSUE_TYPES[line["finding"]].action != "used"} == {"no"}  # type: ignore[index]


def test_an_image_at_the_root_beside_classes(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", {f"{name}.png": encoded(noise(), "PNG") for name in ("a/1", "b/1", "1", "2")})
    strays = [line["path"] for line in lines(check(folder, tmp_path / "check")) if line["finding"] == "stray"]
    assert strays == ["1.png", "2.png"]
    flat = write(tmp_path / "flat", {f"{name}.png": encoded(noise(), "PNG") for name in ("a/1", "1", "2")})
    assert lines(check(flat, tmp_path / "check")) == []


def test_the_store_holds_exactly_what_the_check_says(sick: Path, tmp_path: Path) -> None:
    """In the same scan, in a build of its own, and with choices."""
    for leave_out in ((), ("duplicate", "tiny")):
        found = check(sick, tmp_path / "check", build_store=tmp_path / "one", leave_out=leave_out)
        assert found.store == tmp_path / "one"
        one = Store.open(tmp_path / "one")
        other = build_store(sick, tmp_path / "two", leave_out=leave_out)
        assert one.digest == other.digest
        assert len(one) == found.counts.used == 136 - (3 if leave_out else 0)
        stored = set(pq.read_table(tmp_path / "one" / "index.parquet")["path"].to_pylist())
        refused = {line["path"] for line in lines(found) if line["used"] == "no"}
        assert not stored & refused
        with (tmp_path / "one" / "skipped.csv").open(newline="") as file:
            skipped = {line["path"] for line in csv.DictReader(file)}
        assert skipped | set(SICK) >= refused
        assert len(stored) + len(skipped) == found.counts.rows


def test_too_many_bad_files_are_an_error_everywhere_unless_allowed(tmp_path: Path) -> None:
    good = {f"{number}.png": encoded(noise(), "PNG") for number in range(9)}
    folder = write(tmp_path / "photos", good | {"bad.png": b"?"})
    sentence = r"1 of the 10 images .* more than the 5 % .*bad\.png: not an image.*--allow-bad 0\.11"
    found = check(folder, tmp_path / "check", build_store=tmp_path / "store")
    with pytest.raises(UserError, match=sentence):
        found.require()
    with pytest.raises(UserError, match=sentence):
        build_store(folder, tmp_path / "store")
    assert found.store is None
    assert not (tmp_path / "store").exists()
    assert len(build_store(folder, tmp_path / "store", allow_bad=0.1)) == 9
    check(folder, tmp_path / "check", allow_bad=0.1).require()


def test_a_store_in_the_cache_is_judged_by_who_opens_it(tmp_path: Path) -> None:
    folder, cache = write(tmp_path / "photos", {"good.png": encoded(noise(), "PNG"), "bad.png": b"?"}), tmp_path / "c"
    lax = open_store(folder, cache, allow_bad=0.5)
    assert "1 not used: see" in lax.account()
    with pytest.raises(UserError, match=r"1 of the 2 images .* more than the 40 % that is allowed.*--allow-bad 0\.51"):
        open_store(folder, cache, allow_bad=0.4)
    assert open_store(folder, cache, allow_bad=0.5).digest == lax.digest
    assert lax.path
    assert len(open_store(lax.path)) == 1  # who names a store has said what is in it


def test_a_source_without_one_image_still_gets_its_table(tmp_path: Path) -> None:
    found = check(write(tmp_path / "photos", {"a.jpg": b"", "b.jpg": b"?"}), tmp_path / "check")
    assert [line["finding"] for line in lines(found)] == ["empty", "unreadable"]
    with pytest.raises(UserError, match="holds no image that can be used"):
        found.require()


def test_a_check_that_builds_goes_on_with_all_its_findings(sick: Path, tmp_path: Path) -> None:
    """The rows that are kept of a killed build are in the table, the counts and the page as well."""
    whole = check(sick, tmp_path / "whole", build_store=tmp_path / "a")
    with pytest.raises(UserError, match="more than the 1 %"):
        build_store(sick, tmp_path / "b", allow_bad=0.01)
    resumed = check(sick, tmp_path / "resumed", build_store=tmp_path / "b")
    for name in ("check.csv", "check.html"):
        assert (whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes()
    assert whole.counts == resumed.counts


def test_the_page_needs_nothing_else_and_believes_no_name(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>.jpg".replace("/", "_")
    files = {f"{number}.png": encoded(noise(4, 4), "PNG") for number in range(40)}
    found = check(write(tmp_path / "photos", files | {name: b""}), tmp_path / "check")
    page = (found.folder / "check.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:image/jpeg;base64,)', page)
    assert page.count("<img") == 24
    assert "and 16 more" in page


def test_parquet_and_arrays_are_checked_alike(tmp_path: Path) -> None:
    images = np.stack([np.full((16, 16, 3), shade, np.uint8) for shade in (1, 2, 2, 3)])
    found = check(images, tmp_path / "check")
    assert [(line["path"], line["finding"]) for line in lines(found)] == [("2", "duplicate")]


def test_a_store_is_checked_against_itself_and_its_source(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", {f"{number}.png": encoded(noise(), "PNG") for number in range(3)})
    store = build_store(folder, tmp_path / "store")
    assert store.path is not None
    assert "has not changed" in check_store(store.path)[1]
    (folder / "1.png").write_bytes(encoded(noise(), "PNG"))
    (folder / "9.png").write_bytes(encoded(noise(), "PNG"))
    assert "1 added (9.png), 1 modified (1.png)" in check_store(store.path)[1]
    (folder).rename(tmp_path / "elsewhere")
    assert "is not here to compare with" in check_store(store.path)[1]
    data = bytearray((store.path / "images.npy").read_bytes())
    data[-1] ^= 1
    (store.path / "images.npy").write_bytes(data)
    with pytest.raises(UserError, match="is damaged"):
        check_store(store.path)


def test_a_choice_that_is_none() -> None:
    with pytest.raises(UserError, match=r"'tinny' cannot be left out .did you mean 'tiny'"):
        build_store(np.zeros((2, 8, 8), np.uint8), "nowhere", leave_out=["tinny"])  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"5\.0 is no share"):
        build_store(np.zeros((2, 8, 8), np.uint8), "nowhere", allow_bad=5.0)


def test_the_lists_of_kinds_agree() -> None:
    assert set(get_args(Name)) == set(ISSUE_TYPES)
    assert get_args(Choice) == OPTIONAL_ISSUES
    assert all(ISSUE_TYPES[kind].action == "used" for kind in OPTIONAL_ISSUES)


def test_anything_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (b"", b"\0" * 100, DRAW.bytes(100)):
        path.write_bytes(data)
        assert image_format(path) is None
