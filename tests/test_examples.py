"""The examples run: on an eighth of the digits, with fewer steps than they take by themselves."""

import inspect
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from limbeck.data import samples

EXAMPLES = sorted(Path(__file__).parents[1].joinpath("examples").glob("*.py"))
NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_look.ipynb"
SHORT = {"epochs": 0.5, "steps": 4}


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = samples.digits()
    rows = np.flatnonzero(np.arange(5000) % 500 < 60)

    def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return images[rows], labels[rows]

    monkeypatch.setattr(samples, "digits", digits)
    monkeypatch.setattr(samples, "TRAIN_PER_CLASS", 40)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs(script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(script))["main"]
    parameters = inspect.signature(main).parameters
    given = {name: value for name, value in SHORT.items() if name in parameters}
    if "out" in parameters:
        main(out=tmp_path / "out", **given)
        assert any((tmp_path / "out").iterdir())
    else:
        assert 0 < main(**given) < 1
    capsys.readouterr()


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for cell in cells:
        assert cell["outputs"] == []
        exec("".join(cell["source"]).replace("EPOCHS = 5", "EPOCHS = 0.5"), names)
    pyplot = matplotlib.pyplot
    assert len(pyplot.get_fignums()) == 4
    pyplot.close("all")
    assert any((tmp_path / "out" / "first_look" / "model").iterdir())


def test_there_are_six_short_examples() -> None:
    lengths = {script.name: len(script.read_text().splitlines()) for script in EXAMPLES}
    assert len(lengths) >= 6
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}
