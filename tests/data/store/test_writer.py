"""A build that is killed continues to the store of one that was not; of several builders one builds."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.data import decoded_sample
from limbeck.data.check.stats import AcceptPolicy
from limbeck.data.decoded_sample import DecodedSample
from limbeck.data.fingerprint import FileState, what_changed
from limbeck.data.sources.base import ImageSource, Sample
from limbeck.data.store import writer
from limbeck.data.store.build import write_store
from limbeck.data.store.open import build_store
from limbeck.data.store.store import Store
from tests.helpers.errors import raises

PIXELS = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
BROKEN = (3, 50, 97)


class Killed(BaseException):
    """As sudden as a power cut: nothing in the library catches it."""


def source(stop: int | None = None, fingerprint: str | None = "the same") -> ImageSource:
    """100 samples with labels, three of them broken, that end in a kill before number `stop`."""

    def samples() -> Iterator[Sample]:
        for row in range(100):
            if row == stop:
                raise Killed
            yield Sample(f"{row}.png", b"broken" if row in BROKEN else PIXELS[row], row % 5)

    return ImageSource(name="photos", samples=samples, count=100, fingerprint=fingerprint)


def build(out: Path, images: ImageSource, leave_out: tuple[str, ...] = (), allow_bad: float = 0.05) -> None:
    write_store(images, out, 8, 1, AcceptPolicy(leave_out=leave_out, allow_bad=allow_bad))


@pytest.fixture
def whole(tmp_path: Path) -> Store:
    build(tmp_path / "whole", source())
    return Store.open(tmp_path / "whole")


def partial(out: Path) -> Path:
    return out.with_name(f".{out.name}.partial")


def same(out: Path, whole: Store) -> bool:
    """Every file of a store, but for the names in it."""
    store = Store.open(out)
    store.verify()
    assert whole.path is not None
    for name in ("images.npy", "index.parquet", "skipped.csv", "manifest.json"):
        assert (out / name).read_bytes() == (whole.path / name).read_bytes(), name
    return store.digest == whole.digest


def test_a_killed_build_continues_where_it_was(
    tmp_path: Path, whole: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "limbeck")
    out = tmp_path / "store"
    with pytest.raises(Killed):
        build(out, source(stop=70))
    assert not out.exists()
    assert caplog.messages[-1].startswith("31 decoded images")  # of two chunks of 16, one of them broken
    decoded: list[str] = []
    decode = decoded_sample.decode_sample

    def watched(sample: Sample, size: int) -> DecodedSample:
        decoded.append(sample.path)
        return decode(sample, size)

    monkeypatch.setattr(decoded_sample, "decode_sample", watched)
    build(out, source())
    assert decoded == [f"{row}.png" for row in range(32, 100)]
    assert same(out, whole)
    assert not partial(out).exists()


@pytest.mark.parametrize("cut", range(0, 4000, 211))
def test_it_continues_from_whatever_a_kill_left(tmp_path: Path, whole: Store, cut: int) -> None:
    """Files cut at any byte, as writes that were lost; pixels may be ahead of the journal, and behind it."""
    out = tmp_path / "store"
    with pytest.raises(Killed):
        build(out, source(stop=70))
    for name in ("journal.jsonl", "store/images.npy"):
        path = partial(out) / name
        os.truncate(path, max(0, path.stat().st_size - (cut if name.startswith("j") == (cut % 2 == 0) else cut // 7)))
    build(out, source())
    assert same(out, whole)


def test_bytes_of_a_journal_that_are_none(tmp_path: Path, whole: Store) -> None:
    out = tmp_path / "store"
    with pytest.raises(Killed):
        build(out, source(stop=70))
    journal = partial(out) / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:20]) + b'["half a li\n' + b"".join(lines[20:]))
    build(out, source())
    assert same(out, whole)


@pytest.mark.parametrize(("images", "leave_out"), [(source(fingerprint="another"), ()), (source(), ("duplicate",))])
def test_a_build_of_something_else_starts_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, images: ImageSource, leave_out: tuple[str, ...]
) -> None:
    with pytest.raises(Killed):
        build(tmp_path / "store", source(stop=70))
    build(tmp_path / "store", images, leave_out=leave_out)
    assert [record.levelname for record in caplog.records if "starting over" in record.message] == ["WARNING"]
    assert len(Store.open(tmp_path / "store")) == 97


def test_arrays_in_memory_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        build(tmp_path / "store", source(stop=70, fingerprint=None))
    assert list(tmp_path.iterdir()) == []


def test_too_many_bad_ones_keep_the_work_and_show_no_store(tmp_path: Path, whole: Store) -> None:
    out = tmp_path / "store"
    with raises("too-many-bad-images", "3 of the 100", "1 %", "3.png", "--allow-bad 0.04"):
        build(out, source(), allow_bad=0.01)
    assert not out.exists()
    build(out, source(), allow_bad=0.04)
    assert same(out, whole)


SCRIPT = """
import sys, time
from pathlib import Path
from limbeck.data import decoded_sample
from limbeck.data.store import writer
from limbeck.data.store.open import build_store
writer.COMMIT_SECONDS = 0.0
decode = decoded_sample.decode_sample
def slow(sample, size):
    time.sleep(0.002)
    return decode(sample, size)
decoded_sample.decode_sample = slow
build_store(sys.argv[1], sys.argv[2], store_size=8, workers=1)
"""


def write_photos(folder: Path) -> Path:
    folder.mkdir()
    for row, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{row:03d}.png")
    return folder


def test_kill_9(tmp_path: Path) -> None:
    """The real signal, again and again, until a build comes through."""
    photos, out = write_photos(tmp_path / "photos"), tmp_path / "store"
    whole = build_store(photos, tmp_path / "whole", store_size=8)
    kills, done = 0, 0
    while not out.exists():
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(photos), str(out)], stderr=subprocess.DEVNULL)
        journal = partial(out) / "journal.jsonl"
        while process.poll() is None and kills < 3:
            lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
            if lines > done:
                kills, done = kills + 1, lines
                process.send_signal(signal.SIGKILL)
        assert process.wait() in (0, -signal.SIGKILL)
    assert kills == 3
    assert Store.open(out).digest == whole.digest


def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    """What torchrun does with a raw folder."""
    photos = write_photos(tmp_path / "photos")
    code = (
        "import sys; from limbeck.data.store.open import open_store; print(open_store(sys.argv[1], sys.argv[2]).digest)"
    )
    words = [sys.executable, "-c", code, str(photos), str(tmp_path / "cache")]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=120) for process in started]
    assert len({out for out, _ in answers}) == 1
    assert answers[0][0].strip() == build_store(photos, tmp_path / "alone").digest
    assert sum("images stored" in err for _, err in answers) == 1


def test_what_changed() -> None:
    before = [FileState("a", 1, 1), FileState("b", 1, 1), FileState("c", 1, 1)]
    assert what_changed(before, reversed(before)) == ""
    after = [FileState("b", 1, 2), FileState("c", 1, 1), *(FileState(f"n{i}", 1, 1) for i in range(5))]
    assert what_changed(before, after) == "5 added (n0, n1, n2, 2 more), 1 removed (a), 1 modified (b)"


def test_a_build_reports_what_changed_in_its_source(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "limbeck")
    photos = write_photos(tmp_path / "photos")
    build_store(photos, tmp_path / "store", store_size=8)
    caplog.clear()
    shutil.copy(photos / "000.png", photos / "new.png")
    (photos / "001.png").unlink()
    build_store(photos, tmp_path / "store", store_size=8)
    changes, *_ = caplog.messages
    for part in (str(photos), "1 added (new.png)", "1 removed (001.png)"):
        assert part in changes


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": {"size": 8}, "rows": 3}'])
def test_a_damaged_manifest_starts_over(tmp_path: Path, whole: Store, text: str) -> None:
    out = tmp_path / "store"
    with pytest.raises(Killed):
        build(out, source(stop=70))
    (partial(out) / "build.json").write_text(text)
    build(out, source())
    assert same(out, whole)


def test_a_build_that_was_killed_before_its_first_image_continues(tmp_path: Path, whole: Store) -> None:
    out = tmp_path / "store"
    with pytest.raises(Killed):
        build(out, source(stop=70))
    for path in partial(out).rglob("*.npy"):
        path.unlink()
    build(out, source())
    assert same(out, whole)


def test_skipped_samples_at_the_start_are_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal has lines before there is an image."""

    def broken(stop: int | None) -> ImageSource:
        samples = [Sample(f"{row}.png", b"broken" if row < 70 else PIXELS[row]) for row in range(100)]
        return ImageSource(name="photos", samples=lambda: iter(samples[:stop]), count=100, fingerprint="x")

    def killed(*args: object) -> None:
        raise Killed

    out = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(writer.StoreWriter, "finish", killed)
        with pytest.raises(Killed):
            build(out, broken(80), allow_bad=1.0)
    build(out, broken(None), allow_bad=1.0)
    build(tmp_path / "other", broken(None), allow_bad=1.0)
    assert same(out, Store.open(tmp_path / "other"))
