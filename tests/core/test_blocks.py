"""Blocks may come in any order and from anyone; what was written stays, and nothing counts before it is complete."""

from pathlib import Path

import numpy as np

from limbeck.core.blocks import BlockArrays

SHAPES = {"vector": (3,), "map": (2, 2)}


def values(rows: slice) -> dict[str, np.ndarray]:
    numbers = np.arange(rows.start, rows.stop, dtype=np.float32)
    return {"vector": np.outer(numbers, [1, 2, 3]), "map": numbers[:, None, None] * np.ones((2, 2), np.float32)}


def test_blocks_of_several_writers_become_whole_arrays(tmp_path: Path) -> None:
    one, other = (BlockArrays(tmp_path / "pass", 10, SHAPES, 4) for _ in range(2))
    one.create()
    assert one.missing() == [slice(0, 4), slice(4, 8), slice(8, 10)]
    one.write(slice(8, 10), values(slice(8, 10)))
    other.create()
    assert other.missing() == [slice(0, 4), slice(4, 8)]
    other.write(slice(4, 8), values(slice(4, 8)))
    other.write(slice(0, 4), values(slice(0, 4)))
    assert one.missing() == []
    one.move_to(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.npy", "vector.npy"]
    for name, expected in values(slice(0, 10)).items():
        found = np.load(tmp_path / f"{name}.npy", allow_pickle=False)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_processes_share_the_blocks_and_take_over_what_is_given_up(tmp_path: Path) -> None:
    """Two writers take turns; a third gave up the block that it had claimed; the last one waits for nobody."""
    arrays = [BlockArrays(tmp_path / "pass", 10, {"vector": (3,)}, 2, np.float16) for _ in range(3)]
    arrays[0].create()
    given_up = arrays[2].claimed()
    assert next(given_up) == slice(0, 2)
    first, second = arrays[0].claimed(), arrays[1].claimed()
    done = [next(first), next(second)]
    assert done == [slice(2, 4), slice(4, 6)]
    given_up.close()
    for writer, rows in zip(arrays, done, strict=False):
        writer.write(rows, values(rows))
    for rows in first:
        arrays[0].write(rows, values(rows))
        done.append(rows)
    assert list(second) == []
    assert sorted(rows.start for rows in done) == [0, 2, 4, 6, 8]
    arrays[0].move_to(tmp_path)
    found = np.load(tmp_path / "vector.npy", allow_pickle=False)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, values(slice(0, 10))["vector"])
    assert list(arrays[1].claimed()) == []


def test_rows_without_their_mark_are_written_again(tmp_path: Path) -> None:
    arrays = BlockArrays(tmp_path / "pass", 4, {"vector": (3,)}, 2)
    arrays.create()
    arrays.write(slice(0, 2), values(slice(0, 2)))
    (tmp_path / "pass" / "0.done").unlink()  # as after a kill between the rows and the mark
    assert arrays.missing() == [slice(0, 2), slice(2, 4)]
