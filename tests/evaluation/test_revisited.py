"""Revisited Oxford and Paris: the authors' numbers from a JSON file, boxes, proportions, and files that do not fit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from limbeck.data.revisited import read_part, read_revisited
from limbeck.evaluation.data import EvalData
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metrics import revisited
from limbeck.evaluation.models import BackboneModel, Bank
from tests.helpers.commands import Run
from tests.helpers.errors import raises
from tests.helpers.golden import Golden, assert_allclose
from tests.helpers.shades import CFG, PLAIN, shades, tiny_resnet
from tests.helpers.tiny import tiny_vit


class Stored(BackboneModel):
    """Vectors by the number that the first pixel of an image holds."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__("net", tiny_vit(), PLAIN, [1])
        self.rows = rows

    def vectors(self, data: EvalData, image: Float[Tensor, "1 3 H W"]) -> Bank:
        """Return the vector of that number."""
        return {1: self.rows[round(255 * image[0, 0, 0, 0].item())]}


def write(folder: Path, names: list[str], truth: dict[str, Any]) -> Path:
    """Write images whose pixels hold their numbers, and the JSON file."""
    for number, name in enumerate(names):
        Image.fromarray(np.full((6, 9, 3), number, np.uint8)).save(folder / name)
    (folder / "gnd.json").write_text(json.dumps(truth))
    return folder / "gnd.json"


def data(file: Path) -> EvalData:
    return EvalData.of(shades(9, 0), shades(9, 1), replace(CFG, revisited=str(file)))


def test_the_authors_numbers_by_way_of_a_file(golden: Callable[[str], Golden], tmp_path: Path) -> None:
    truth = golden("retrieval")
    count, rows = len(truth["queries"]), len(truth["database"])
    names = [f"q{i}.png" for i in range(count)] + [f"{i}.png" for i in range(rows)]
    lists = [{part: np.flatnonzero(truth[part][i]).tolist() for part in ("easy", "hard", "junk")} for i in range(count)]
    queries = [{"image": f"q{i}.png", **found} for i, found in enumerate(lists)]
    file = write(tmp_path, names, {"database": names[count:], "queries": queries})
    vectors = torch.from_numpy(np.concatenate([truth["queries"], truth["database"]])).float()
    found = revisited.compute(MetricInputs(Stored(vectors), data(file)))[1]
    assert found.keys() == {column.name for column in revisited.METRIC.columns}
    for name in ("easy", "medium", "hard"):
        assert_allclose(found[f"revisited_{name}"], truth[f"{name}_map"], rtol=1e-6)
        precision = [found[f"revisited_{name}_p{k}"] for k in (1, 5, 10)]
        assert truth["kappas"].tolist() == [1, 5, 10]
        assert_allclose(np.array(precision, float), truth[f"{name}_precision"], rtol=1e-6)


def test_a_protocol_without_a_positive_has_no_value(tmp_path: Path) -> None:
    query = {"image": "q.png", "easy": [0], "hard": [], "junk": [1]}
    file = write(tmp_path, ["q.png", "a.png", "b.png"], {"database": ["a.png", "b.png"], "queries": [query]})
    found = revisited.compute(MetricInputs(Stored(torch.eye(3)), data(file)))[1]
    assert (found["revisited_easy"], found["revisited_medium"], found["revisited_hard"]) == (1, 1, None)


def test_a_part_is_what_is_in_the_box_and_keeps_its_proportions(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_part(tmp_path / "a.png", (4.0, 2.0, 14.2, 7.1), 10, 1), pixels[2:7, 4:14])
    np.testing.assert_array_equal(read_part(tmp_path / "a.png", (-3.0, -2.0, 31.0, 99.0), 30, 1), pixels)
    assert read_part(tmp_path / "a.png", None, 15, 1).shape == (10, 15, 3)
    assert read_part(tmp_path / "a.png", None, 16, 4).shape == (12, 16, 3)
    assert read_part(tmp_path / "a.png", (0, 0, 30, 1), 16, 4).shape == (4, 16, 3)


@pytest.mark.parametrize("build", [tiny_vit, tiny_resnet])
def test_vectors_of_a_square_are_those_of_the_network(build: Callable[[], Any]) -> None:
    model = BackboneModel("net", build(), PLAIN)
    store = shades(4, 0)
    given = EvalData.of(store, store, CFG)
    features = model.features(given, store)
    for row in range(2):
        image = torch.from_numpy(np.array(store.images[row])).permute(2, 0, 1)[None] / 255
        for depth, vector in model.vectors(given, image).items():
            torch.testing.assert_close(vector, features[depth][row], rtol=1e-4, atol=1e-5)
    wide = model.vectors(given, F.pad(image, (0, 4 * model.unit)))
    assert {depth: len(vector) for depth, vector in wide.items()} == {d: f.shape[1] for d, f in features.items()}


def test_files_that_do_not_fit_are_refused_before_any_work(tmp_path: Path) -> None:
    query = {"image": "q.png", "box": [1, 1, 8, 5], "easy": [0], "hard": [1], "junk": []}
    good = {"database": ["a.png", "b.png"], "queries": [query]}
    assert read_revisited(write(tmp_path, ["q.png", "a.png", "b.png"], good)).queries[0].box == (1, 1, 8, 5)
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"database": []}, "not-queries", "0 to -1"),
        ({"queries": [{**query, "easy": [2]}]}, "not-queries", "0 to 1"),
        ({"queries": [{**query, "easy": [True]}]}, "not-queries", "True"),
        ({"queries": [{**query, "junk": [1]}]}, "not-queries", "row 1"),
        ({"queries": [{**query, "easy": [], "hard": []}]}, "not-queries", "easy"),
        ({"queries": [{"image": "q.png"}]}, "not-queries", "query 0"),
        ({"queries": []}, "not-queries", "easy"),
        ({"queries": [{**query, "box": [8, 1, 1, 5]}]}, "not-queries", "[8, 1, 1, 5]"),
        ({"queries": [{**query, "box": [1, 1, 8]}]}, "not-queries", "[1, 1, 8]"),
        ({"queries": [{**query, "image": "../q.png"}]}, "not-queries", "../q.png"),
        ({"database": ["a.png", "/etc/hostname"]}, "not-queries", "/etc/hostname"),
        ({"database": ["a.png", "none.png"]}, "image-missing", "none.png"),
        ({"queries": {}}, "not-queries", "database"),
    ]
    for change, code, value in cases:
        (tmp_path / "gnd.json").write_text(json.dumps(good | change))
        with raises(code, value):
            data(tmp_path / "gnd.json")
    (tmp_path / "gnd.json").write_bytes(b"\x80\x04}.")  # a pickle
    with raises("not-json", "gnd.json"):
        data(tmp_path / "gnd.json")
    (tmp_path / "q.png").write_bytes(b"no image")
    (tmp_path / "gnd.json").write_text(json.dumps(good))
    with raises("unreadable-image", "q.png"):
        data(tmp_path / "gnd.json")


def test_the_command_measures_pasted_crops(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query whose box is a photograph of the database, on a canvas of noise, is found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = [photos / "test" / str(digit) / f"{number}.png" for digit in range(10) for number in (16, 17)]
    queries = []
    for number, file in enumerate(files):
        image = Image.open(file).convert("RGB")
        image.save(tmp_path / f"d{number}.png")
        canvas = Image.fromarray(np.random.default_rng(number).integers(0, 256, (80, 80, 3), np.uint8))
        canvas.paste(image, (20, 30))
        canvas.save(tmp_path / f"q{number}.png")
        easy, hard = ([number], []) if number % 2 else ([], [number])
        box = [20, 30, 20 + image.width, 30 + image.height]
        queries.append({"image": f"q{number}.png", "box": box, "easy": easy, "hard": hard, "junk": []})
    truth = {"database": [f"d{number}.png" for number in range(len(files))], "queries": queries}
    (tmp_path / "gnd.json").write_text(json.dumps(truth))
    command = ("evaluate", trained, "--train", photos / "train", "--test", photos / "test", "--linear", "none")
    status, out, err = limbeck(*command, "--no-latency", "--revisited", tmp_path / "gnd.json", "--json")
    assert status == 0, err
    result = json.loads(out)
    for layer in result["layers"]:
        assert [layer["values"][f"revisited_{name}"] for name in ("easy", "medium", "hard")] == [1, 1, 1]
        assert layer["values"]["revisited_hard_p1"] == 1
    pixels = next(found for found in result["references"] if found["name"] == "raw pixels")
    assert pixels["values"]["revisited_medium"] == 1
