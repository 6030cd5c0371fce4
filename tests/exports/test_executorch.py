"""A program for ExecuTorch is the network, and the lines in its README run it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.exports import export
from limbeck.models.encoder_io import load, load_preprocessing
from tests.helpers.errors import raises
from tests.helpers.folders import limbeck_run


@pytest.mark.slow
@pytest.mark.skipif(find_spec("executorch") is None, reason="executorch is not installed")
def test_the_lines_in_the_readme_of_a_program_compute_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limbeck_run(tmp_path / "run", name="resnet18")
    result = export(tmp_path / "run", tmp_path / "out", 2, "executorch")
    assert sorted(file.name for file in result.path.iterdir()) == ["README.md", "model.json", "model.pte"]
    assert result.difference < 1e-4
    assert str(Path(__file__).parents[2]).encode() not in (result.path / "model.pte").read_bytes()
    how, pixels = load_preprocessing(tmp_path / "run"), np.zeros((32, 32, 3), np.uint8)
    pixels[:] = 10, 200, 90
    monkeypatch.chdir(result.path)
    Image.fromarray(pixels).save("photo.jpg", quality=100)
    names: dict[str, Any] = {}
    exec((result.path / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0], names)
    with torch.no_grad():
        expected = load(tmp_path / "run", 2).eval()(torch.from_numpy(names["pixels"])).final
    torch.testing.assert_close(names["features"], expected, atol=1e-4, rtol=1e-4)
    assert names["pixels"].shape == (1, 3, how.image_size, how.image_size)


def test_a_program_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.core.packages.find_spec", lambda name: None)
    with raises("missing-package", "limbeck[executorch]"):
        export(tmp_path, tmp_path / "out", format="executorch")
