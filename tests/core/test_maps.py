"""A map that gives its pages back has the values of the file, and holds no more of it than it may."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limbeck.core import maps
from limbeck.core.maps import MappedArray, map_array
from limbeck.data.store.encoded import read_rows
from limbeck.data.store.store import Store


def test_what_is_read_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "RELEASE", 100)
    values = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    found = map_array(tmp_path / "a.npy")
    assert isinstance(found, MappedArray)
    part = found[10:20]
    for rows in (slice(3, 30), np.array([7, 2, 49]), 5):
        np.testing.assert_array_equal(found[rows], values[rows])
    np.testing.assert_array_equal(part, values[10:20])
    out = np.empty((4, 4, 4, 3), np.uint8)
    read_rows(found, np.array([1, 40, 3, 3]), out)
    np.testing.assert_array_equal(out, values[[1, 40, 3, 3]])


def test_another_order_of_the_values_is_read_as_it_is(tmp_path: Path) -> None:
    values = np.asfortranarray(np.arange(24).reshape(2, 3, 4))
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(map_array(tmp_path / "a.npy"), values)


READ = """
import sys
import numpy as np
from limbeck.core import maps
from pathlib import Path

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

maps.RELEASE = 2**22
found = maps.map_array(Path(sys.argv[1]))
before = resident()
for start in range(0, len(found), 64):
    np.array(found[start : start + 64])
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_a_pass_over_a_file_holds_little_of_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1024, 2**16), np.uint8))  # 64 MiB
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path / "a.npy")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 24 * 1024  # KiB


def test_a_store_goes_to_another_process_as_a_map(tmp_path: Path) -> None:
    from limbeck.data.store.open import build_store

    np.save(tmp_path / "a.npy", np.zeros((9, 16, 16, 3), np.uint8))
    sent = pickle.dumps(build_store(tmp_path / "a.npy", tmp_path / "store"))
    found: Store = pickle.loads(sent)
    assert isinstance(found.images, MappedArray)
    assert len(sent) < 8000
