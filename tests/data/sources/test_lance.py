"""Lance data sets are tables: their rows, labels and damage; without the library one sentence names the extra."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from limbeck.core import packages
from limbeck.core.errors import UserError
from limbeck.data.check.scan import check
from limbeck.data.sources.open import open_source
from limbeck.data.store.open import build_store
from limbeck.data.store.store import read_paths
from tests.helpers.sources import png, write_parquet

LABELS = ["ant", "bee", "bee", "ant", "ant", "bee", "bee"]
IMAGES = [png(row) for row in range(len(LABELS))]


@pytest.fixture
def lance() -> Any:
    return pytest.importorskip("lance")


def write_lance(lance: Any, folder: Path, **columns: Any) -> Path:
    lance.write_dataset(pa.table(columns), folder, max_rows_per_file=3, mode="append" if folder.exists() else "create")
    return folder


def test_rows_are_those_of_parquet_in_their_order(lance: Any, tmp_path: Path) -> None:
    folder = write_lance(lance, tmp_path / "a.lance", image=IMAGES, label=LABELS)
    store = build_store(folder, tmp_path / "store")
    rows = build_store(write_parquet(tmp_path / "a.parquet", IMAGES, label=LABELS), tmp_path / "rows")
    assert store.digest == rows.digest
    assert store.label_names == ["ant", "bee"]
    assert [path.partition("#")[2] for path in read_paths(store)] == ["0", "1", "2", "0", "1", "2", "0"]
    webp = build_store(folder, tmp_path / "webp", keep="webp", workers=1)
    assert (webp.images[:] == store.images[:]).all()


def test_blobs_are_images(lance: Any, tmp_path: Path) -> None:
    kind = pa.field("image", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
    folder = tmp_path / "a.lance"
    lance.write_dataset(pa.table([pa.array(IMAGES, pa.large_binary())], pa.schema([kind])), folder)
    source = open_source(folder)
    assert [sample.content for sample in source.samples()] == IMAGES


def test_a_change_is_noticed_and_the_newest_version_is_read(lance: Any, tmp_path: Path) -> None:
    folder = write_lance(lance, tmp_path / "a.lance", image=IMAGES, label=LABELS)
    before = open_source(folder)
    lance.dataset(folder).delete("label = 'ant'")
    after = open_source(folder)
    assert (after.count, after.fingerprint == before.fingerprint) == (4, False)
    assert [sample.content for sample in after.samples()] == [IMAGES[row] for row in (1, 2, 5, 6)]


def test_a_damaged_fragment_costs_its_own_rows(lance: Any, tmp_path: Path) -> None:
    folder = write_lance(lance, tmp_path / "a.lance", image=IMAGES)
    damaged = folder / "data" / lance.dataset(folder).get_fragments()[1].data_files()[0].path
    damaged.write_bytes(damaged.read_bytes()[:500])
    found = check(folder, tmp_path / "check", allow_bad=1)
    assert (found.stats.used, found.stats.bad) == (4, 3)
    for file in (folder / "_versions").iterdir():
        file.write_bytes(b"?" * 40)
    with pytest.raises(UserError, match=r"a\.lance") as error:
        open_source(folder)
    assert error.value.code == "bad-lance"


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.lance" / "_versions").mkdir(parents=True)
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"limbeck\[lance\]"):
        open_source(tmp_path / "a.lance")
