"""A number that is not finite: the step, the module, the rows and the views are named and saved."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from limbeck.core.types import Batch, LossOutput, StepInfo
from limbeck.data.loader import Loader
from limbeck.data.store.open import build_store
from limbeck.train.checkpoint import load_checkpoint
from limbeck.train.config import OptimConfig
from limbeck.train.nonfinite import NonFinite, write_findings
from limbeck.train.optim import build_optimizer
from tests.helpers.errors import raises
from tests.helpers.toy import VIEWS, Toy, fit, noise, toy

STEP = 6  # the seventh, in the second epoch, which no row of the log follows at once


class Break(nn.Module):
    """The identity, except that it can spoil rows in the forward pass, or the whole gradient."""

    forward_rows: tuple[int, ...] = ()
    backward = False

    def forward(self, x: Tensor) -> Tensor:
        if self.forward_rows:
            factors = torch.ones(len(x), 1)
            factors[list(self.forward_rows)] = torch.nan
            x = x * factors
        if self.backward:
            x.register_hook(lambda gradient: gradient / 0)
        return x


class Breaking(Toy):
    """A toy that fails in one step, in its second view or in both at once."""

    stacked = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__(norm=False)
        self.backbone.insert(1, Break())
        self.backbone.insert(3, Break())
        self.spoil: dict[str, Any] = arguments

    def forward(self, batch: Batch, step_info: StepInfo) -> LossOutput:
        wrong, breaks = step_info.step == STEP, (self.backbone[1], self.backbone[3])
        if self.stacked:
            self._set(breaks, wrong)
            first, second = self.backbone(torch.cat(batch.views)).final.chunk(2)
        else:
            first = self.backbone(batch.views[0]).final
            self._set(breaks, wrong)
            second = self.backbone(batch.views[1]).final
        self._set(breaks, False)
        return LossOutput((first - second).square().mean() + 1, {}, {"rows": batch.indices})

    def _set(self, breaks: tuple[Any, ...], wrong: bool) -> None:
        for module in breaks:
            module.forward_rows, module.backward = (), False
        if wrong:
            breaks[self.spoil["at"]].forward_rows = self.spoil.get("rows", ())
            breaks[self.spoil["at"]].backward = self.spoil.get("backward", False)


class Stacked(Breaking):
    stacked = True


def broken(run: Path, kind: type[Breaking] = Breaking, **spoil: Any) -> tuple[str, dict[str, Any]]:
    """Return the sentence that the run ends with, and where.json."""
    with raises("not-finite", f"at step {STEP + 1}", run / "nan") as caught:
        fit(run, toy(kind=kind, **spoil), log_every_steps=3, config={"a": 1})
    return str(caught.value), json.loads((run / "nan" / "where.json").read_text())


def rows_of_the_step() -> Tensor:
    return torch.from_numpy(Loader(noise(), VIEWS, 8, seed=0, device=torch.device("cpu")).indices(STEP))


def test_layer_rows_and_view_of_a_forward_pass_are_named_and_saved(tmp_path: Path) -> None:
    sentence, where = broken(tmp_path, at=1, rows=(2, 5))
    rows = rows_of_the_step()
    bad = [int(rows[2]), int(rows[5])]
    assert [value for value in ("backbone.3 (Break)", f"rows {bad[0]}, {bad[1]}", "nan") if value not in sentence] == []
    assert where["rows"] == bad
    assert where["views"] == [2]
    assert where["step"] == STEP + 1
    batch = load_file(tmp_path / "nan" / "batch.safetensors")
    assert torch.equal(batch["rows"], rows)
    assert set(batch) == {"rows", "view1", "view2"}


def test_of_stacked_views_the_right_one_is_named(tmp_path: Path) -> None:
    sentence, where = broken(tmp_path, Stacked, at=0, rows=(1, 8 + 4))
    assert "backbone.1 (Break)" in sentence
    rows = rows_of_the_step()
    assert where["rows"] == [int(rows[1]), int(rows[4])]
    assert where["views"] == [1, 2]


def test_a_gradient_that_breaks_is_found_although_the_loss_is_finite(tmp_path: Path) -> None:
    sentence, where = broken(tmp_path, at=1, backward=True)
    assert re.search(r"norm of the gradient is (nan|inf)", sentence)
    assert where["where"] == "the gradient at the output of backbone.3 (Break)"
    assert where["views"] == [2]


def test_the_weights_before_the_step_are_saved_and_the_checkpoint_is_untouched(tmp_path: Path) -> None:
    broken(tmp_path, at=1, rows=(2,))
    method = toy(kind=Breaking, at=1)
    optimizer = build_optimizer(method, OptimConfig())
    assert load_checkpoint(tmp_path / "nan" / "checkpoint.ckpt", method, optimizer, {"a": 1}) == STEP
    assert all(bool(value.isfinite().all()) for value in method.state_dict().values())
    assert load_checkpoint(tmp_path / "checkpoint.ckpt", method, optimizer, {"a": 1}) == 0


def test_a_number_that_is_finite_when_repeated_is_reported_as_such(tmp_path: Path) -> None:
    class Once(Breaking):
        """Fail once, like memory that was hit by a ray: not when the step is repeated."""

        def _set(self, breaks: tuple[Any, ...], wrong: bool) -> None:
            super()._set(breaks, wrong)
            if wrong:
                self.spoil = {"at": 0}

    with raises("not-finite", "step 9", "from 0"):
        fit(tmp_path, toy(kind=Once, at=1, rows=(0,)), log_every_steps=3)


def test_a_number_of_no_image_in_particular_is_reported_of_a_store_on_a_disk(tmp_path: Path) -> None:
    store = build_store(np.zeros((4, 8, 8, 3), np.uint8), tmp_path / "store")
    found = NonFinite("the loss", [], [], Batch((torch.zeros(4, 3, 8, 8),), torch.arange(4)))
    assert write_findings(found, tmp_path / "nan", 1, store) == "the loss"
    assert json.loads((tmp_path / "nan" / "where.json").read_text())["images"] == []
