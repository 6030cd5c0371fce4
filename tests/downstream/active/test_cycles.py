"""Cycles of `limbeck select`: who sees which label, a killed cycle, the table, and mistakes."""

import csv
import json
import signal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from limbeck.api.select import select, select_in_cycles
from limbeck.data.samples import digits
from limbeck.data.store.store import Store
from limbeck.downstream.active.config import CyclesConfig, JointConfig
from limbeck.downstream.active.cycles import run_cycles
from limbeck.downstream.active.joint import JointLearner
from limbeck.downstream.active.journal import Journal
from limbeck.downstream.active.oracle import Labels, Oracle, hold_out
from limbeck.downstream.active.source import LabelingCycles, work_folder
from limbeck.downstream.selection.choice import Rows
from limbeck.downstream.selection.config import SelectConfig
from limbeck.downstream.selection.covering import Covering
from limbeck.downstream.selection.select import Selected, select_rows
from limbeck.embeddings.config import EmbedConfig
from limbeck.train.step import StepRunner
from tests.helpers.commands import Run
from tests.helpers.errors import raises

BUDGET, CYCLES = 8, 2
SETTINGS = [
    "--strategy",
    "moby",
    "--budget",
    BUDGET,
    "--cycles",
    CYCLES,
    "--pool",
    24,
    "--moby.backbone",
    "test_resnet",
]
SETTINGS += ["--moby.epochs", 2, "--moby.batch-size", 4]


class Found(NamedTuple):
    """What a command left."""

    result: LabelingCycles | None
    chosen: list[dict[str, str]]
    weights: bytes


def read(out: Path, result: LabelingCycles | None = None) -> Found:
    with out.open(newline="", encoding="utf-8") as file:
        chosen = list(csv.DictReader(file))
    encoder = work_folder(out) / f"cycle-{CYCLES}" / "encoder" / "model.safetensors"
    return Found(result, chosen, encoder.read_bytes())


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Return what two cycles find that nothing stops."""
    out = tmp_path_factory.mktemp("whole") / "a.csv"
    joint = JointConfig(backbone="test_resnet", epochs=2, batch_size=4)
    found = select_in_cycles(
        photos / "train", out, None, BUDGET, "moby", oracle=photos / "train", cycles=CYCLES, joint=joint, pool=24
    )
    return read(out, found)


def test_the_list_and_the_folder(whole: Found) -> None:
    assert whole.result is not None
    assert [cycle.labels for cycle in whole.result.cycles] == [0, BUDGET, 2 * BUDGET]
    assert all(cycle.random is None for cycle in whole.result.cycles)
    paths = [row["path"] for row in whole.chosen]
    assert len({*paths}) == len(paths) == 2 * BUDGET
    assert [row["label"] for row in whole.chosen] == [path.split("/")[0] for path in paths]
    assert "distance" in whole.chosen[-1]["reason"]
    assert not list(whole.result.folder.rglob("*.ckpt"))


def test_a_killed_cycle_goes_on_to_the_same_bits(
    whole: Found, limbeck: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the second training."""
    step, steps = StepRunner.train_step, []

    def stopping(*args: Any, **options: Any) -> Any:
        steps.append(1)
        if len(steps) == 2 * 4 + 3:
            signal.raise_signal(signal.SIGTERM)
        return step(*args, **options)

    command = ("select", photos / "train", *SETTINGS, "--oracle", photos / "train", "--out", tmp_path / "a.csv")
    with monkeypatch.context() as patch:
        patch.setattr(StepRunner, "train_step", stopping)
        status, _, messages = limbeck(*command)
    assert status == 128 + signal.SIGTERM
    assert "cycle 2" in messages
    assert not (tmp_path / "a.csv").exists()
    assert limbeck(*command)[0] == 0
    again = read(tmp_path / "a.csv")
    assert again.chosen == whole.chosen
    assert again.weights == whole.weights


def test_labels_that_were_not_chosen_change_nothing(whole: Found, limbeck: Run, photos: Path, tmp_path: Path) -> None:
    """All others are permuted at random, those of the held-out images included: the weights have the same bits."""
    chosen = {row["path"]: row["label"] for row in whole.chosen}
    folder = photos / "train"
    others = [p for p in (f.relative_to(folder).as_posix() for f in folder.rglob("*.png")) if p not in chosen]
    wrong = np.random.default_rng(1).permutation([path.split("/")[0] for path in others])
    with (tmp_path / "oracle.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows([*chosen.items(), *zip(others, wrong, strict=True)])
    text = (tmp_path / "oracle.csv").read_text()
    (tmp_path / "oracle.csv").write_text("\n".join(line for line in text.splitlines() if "broken" not in line))
    status, _, _ = limbeck(
        "select", folder, *SETTINGS, "--oracle", tmp_path / "oracle.csv", "--out", tmp_path / "a.csv"
    )
    assert status == 0
    found = read(tmp_path / "a.csv")
    assert found.chosen == whole.chosen
    assert found.weights == whole.weights


def test_measuring_and_choosing_move_neither_queue_nor_average(tmp_path: Path) -> None:
    images, labels = digits()
    store, known = Store.from_arrays(images[::100]), np.where(np.arange(50) < 20, labels[::100], -1)
    joint = JointConfig(backbone="test_resnet", epochs=1, batch_size=4)
    learner = JointLearner(store, np.arange(50), 10, SelectConfig(budget=5), joint, EmbedConfig(), tmp_path)
    learner.fit(known, 1)
    assert learner.method is not None
    before = {name: value.clone() for name, value in learner.method.state_dict().items()}
    learner.predict(np.arange(50))
    found = learner.choose(known, 1)
    assert all(torch.equal(before[name], value) for name, value in learner.method.state_dict().items())
    assert set(found.rows.tolist()).isdisjoint(range(20))


class Ordered:
    """A learner that chooses the first rows without a label, and writes down what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Labels] = []

    def start(self, known: Labels) -> Selected:
        return self.choose(known, 0)

    def fit(self, known: Labels, cycle: int) -> None:
        self.seen.append(known.copy())

    def predict(self, rows: Rows) -> Labels:
        return rows % 2

    def choose(self, known: Labels, cycle: int) -> Selected:
        rows = np.flatnonzero(known < 0)[:3]
        return Selected(rows, ["first"] * 3, Covering(radius=0, mean=0, random_radius=0, random_mean=0), 3, 0)

    def close(self, cycle: int) -> None:
        pass


def test_the_oracle_tells_the_labels_of_chosen_images_alone(tmp_path: Path) -> None:
    labels = np.arange(20) % 4
    oracle, held_out = Oracle(labels, list("abcd")), np.array([16, 17, 18, 19])
    learner = Ordered()
    found = run_cycles(learner, oracle, np.full(20, -1), held_out, 3, Journal(tmp_path, {"a": 1}))
    for number, known in enumerate(learner.seen, start=1):
        assert known.tolist() == [*labels[: 3 * number], *[-1] * (20 - 3 * number)]
    assert [cycle.labels for cycle in found] == [0, 3, 6, 9]
    assert [cycle.accuracy for cycle in found] == [None, 0.5, 0.5, 0.5]
    assert found[-1].chosen == ()
    again = Ordered()
    assert run_cycles(again, oracle, np.full(20, -1), held_out, 3, Journal(tmp_path, {"a": 1})) == found
    assert not again.seen
    with raises("other-cycles", "a was 1"):
        Journal(tmp_path, {"a": 2})


def test_held_out_images_have_no_known_label() -> None:
    known = np.where(np.arange(40) < 10, 0, -1)
    rows = hold_out(known, 0.5, 0)
    assert len(rows) == 15
    assert (rows >= 10).all()
    assert hold_out(known, 0.5, 1).tolist() != rows.tolist()


def test_cycles_of_a_frozen_network_are_beside_random_choices(
    limbeck: Run, trained: Path, photos: Path, tmp_path: Path
) -> None:
    same = f"{photos}/train/"  # the oracle is the source, however it is spelled
    status, printed, _ = limbeck(
        *("select", photos / "train", "--with", trained, "--oracle", same, "--strategy", "margin"),
        *("--budget", 15, "--cycles", 3, "--out", tmp_path / "a.csv", "--json"),
    )
    assert status == 0
    cycles = json.loads(printed)["cycles"]
    assert [cycle["labels"] for cycle in cycles] == [15, 30, 45]
    assert all(0 < cycle["random"] < 1 for cycle in cycles)
    assert all(0 < cycle["accuracy"] < 1 for cycle in cycles)


def test_a_network_is_trained_with_a_list_of_labels(limbeck: Run, photos: Path, tmp_path: Path) -> None:
    rows = [f"{digit}/{number:02d}.png,{digit}" for digit in (0, 1, 2) for number in range(3)]
    (tmp_path / "rows.csv").write_text("\n".join(["path,label", *rows]))
    settings = ["--strategy", "moby", "--budget", 5, "--pool", 20, "--moby.backbone", "test_resnet", "--moby.epochs", 1]
    status, printed, _ = limbeck(
        *("select", photos / "train", *settings, "--labeled", tmp_path / "rows.csv", "--out", tmp_path / "a.csv"),
        "--json",
    )
    found = json.loads(printed)
    assert status == 0
    assert (found["labeled"], found["pool"], len(found["images"])) == (9, 20, 5)


def test_mistakes(limbeck: Run, trained: Path, photos: Path, tmp_path: Path) -> None:
    def code(*argv: object) -> str:
        status, printed, _ = limbeck("select", photos / "train", *map(str, argv), "--out", tmp_path / "a.csv", "--json")
        assert status != 0
        return str(json.loads(printed)["error"]["code"])

    own = ("--oracle", photos / "train")
    (tmp_path / "some.csv").write_text("path,label\n0/00.png,0\n1/00.png,1\n")
    assert code("--with", trained, "--oracle", tmp_path / "some.csv") == "oracle-misses-images"
    assert code("--with", trained, *own, "--budget", 100, "--cycles", 3) == "budget-out-of-range"
    assert code("--with", trained, *own, "--strategy", "moby") == "network-not-used"
    assert code("--with", trained, "--cycles", 3) == "cycles-without-oracle"
    assert code("--with", trained, *own, "--labeled", tmp_path / "some.csv", "--budget", 2) == "nothing-to-choose"
    assert code("--with", trained, "--oracle", tmp_path) == "oracle-is-folder"
    assert code("--with", trained, "--oracle", tmp_path / "nowhere.csv") == "not-readable"
    assert code(*own) == "no-network"
    assert code("--strategy", "moby") == "strategy-needs-labels"
    assert code("--strategy", "moby", "--moby.backbone", "resnet19", *own) == "unknown-backbone"
    assert code("--with", trained, *own, "--held-out", 0.001, "--budget", 2) == "nothing-held-out"
    assert not (tmp_path / "a.csv").exists()
    with raises("no-out", "moby"):
        select(photos / "train", None, 2, "moby")
    with raises("strategy-trains", "moby"):
        select_rows(np.eye(4, dtype=np.float32), SelectConfig(budget=1, strategy="moby"))
    with raises("out-of-range", "held_out"):
        CyclesConfig(held_out=1.0)
    with raises("out-of-range", "epochs"):
        JointConfig(epochs=0)
