"""Series that nothing can be learned from are refused by the command line: one sentence, the value, a stable code."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.commands import Run
from tests.helpers.tiny_series import waves


def spoiled(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file with one mistake."""
    values = waves(16).values.copy()
    if name == "constant":
        values[:] = 7.5
    if name == "missing":
        values[3] = np.nan
    if name == "infinite":
        values[5, 2, 1] = np.inf
    if name == "measurements":
        return {"series": values, "labels": np.linspace(0.5, 2.25, 16)}
    if name == "labels":
        return {"series": values, "labels": np.zeros(9, np.int64)}
    return {"series": values[:, :4] if name == "short" else values}


@pytest.mark.parametrize(
    ("name", "words", "code", "value"),
    [
        ("constant", [], "series-constant", "7.5"),
        ("missing", [], "series-all-missing", "1 series has no step"),
        ("infinite", [], "series-not-finite", "series 5"),
        ("measurements", [], "labels-not-classes", "0.5"),
        ("labels", [], "bad-labels", "9 labels"),
        ("short", [], "series-too-short", "4 steps"),
        ("", ["--backbone.depth", "6"], "series-too-short", "block 6"),
        ("", ["--method.mask-span", "20"], "span-too-long", "mask_span is 20"),
        ("", ["--method.mask-span", "0"], "out-of-range", "mask_span is 0"),
        ("", ["--method.mask-share", "9"], "out-of-range", "mask_share is 9"),
        ("", ["--method", "simclr", "--method.local-crop-size", "8"], "method-not-for-data", "local_crop_size"),
        ("", ["--backbone.kernel-features", "5"], "out-of-range", "5: take at least 84"),
        ("", ["--from", "RUN"], "no-encoder", "RUN"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_value(
    limbeck: Run, tmp_path: Path, name: str, words: list[str], code: str, value: str
) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=False, **spoiled(name))
    number, out, err = limbeck("pretrain", tmp_path / "a.npz", "--out", tmp_path / "run", *words, "--json")
    found = json.loads(out)["error"]
    assert number > 0
    assert found["code"] == code
    assert value in found["message"]
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "config.json").exists()


def test_files_of_other_channels_are_refused(limbeck: Run, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for row, channels in enumerate((2, 3)):
        np.savetxt(folder / f"{row}.csv", np.arange(20.0 * channels).reshape(20, channels), delimiter=",")
    number, out, _ = limbeck("check", folder, "--json")
    found = json.loads(out)["error"]
    assert (number, found["code"]) == (1, "channels-differ")
    assert "3 channels" in found["message"]
