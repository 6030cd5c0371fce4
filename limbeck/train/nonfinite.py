"""Locate the first number that is not finite: the module, the images and the views.

The steps since the last checkpoint are repeated with hooks on every module, so that healthy runs pay nothing.
"""

import json
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self

import pyarrow.parquet as pq
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.core.config import Json
from limbeck.core.disk import make_folder
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.core.run_folder import CHECKPOINT, NONFINITE
from limbeck.core.types import Batch, Dataset, LossOutput
from limbeck.data.store.layout import INDEX
from limbeck.train.checkpoint import save_checkpoint
from limbeck.train.optim import clip_gradients
from limbeck.train.step import StepRunner

OUTPUT = "the output of"
MAX_ROWS_SHOWN = 5  # in the message; the file has all of them


def locate_nonfinite(runner: StepRunner, start: int, stop: int, run: Path, config: Json) -> NoReturn:
    """End a run in which a number was not finite after `stop` steps: repeat those from `start` on with hooks.

    Method and optimizer must be in the state after `start` steps. Batch, weights and findings are written to `run`/nan.

    Raises:
        UserError: always; it names the step, the module, the rows and the views.
    """
    folder, method = run / NONFINITE, runner.method
    advice = f"learning rate {runner.optim.lr}: {method.nonfinite_hint}"

    def check(loss: LossOutput) -> None:
        total, norm = float(loss.total), float(clip_gradients(method.parameters(), None))
        if not math.isfinite(total + norm):
            where = write_findings(hooks.cause(loss.total), folder, step + 1, runner.loader.store)
            save_checkpoint(folder / CHECKPOINT, step, method, runner.optimizer, config)
            what = f"norm of the gradient is {norm:g}" if math.isfinite(total) else f"loss is {total:g}"
            raise UserError(
                f"the {what} at step {step + 1}, first in {where}; batch and weights are in {folder}; {advice}",
                code="not-finite",
            )

    with FiniteCheckHooks(method) as hooks, closing(runner.batches(start, stop)) as batches:
        checked = hooks.check_views(batches)
        for step in range(start, stop):
            runner.train_step(checked, step, before_update=check)
    raise UserError(
        f"a number is not finite at step {stop}, but all are when the steps from {start} on are repeated; {advice}",
        code="not-finite",
    )


class NonFinite(NamedTuple):
    """The first value of a step that is not finite. Images and views are empty if it belongs to no single one."""

    where: str  # as in "the output of backbone.model.blocks.3 (Block)"
    images: list[int]  # positions in the batch
    views: list[int]  # from 0
    batch: Batch


class FiniteCheckHooks:
    """Hooks on every module of a method, forward and backward, while steps are repeated.

    They wait for the device at every module.
    """

    def __init__(self, method: nn.Module) -> None:
        self.method = method
        self.found: NonFinite | None = None
        self._batch = Batch((), Tensor())
        self._view: list[int] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for name, module in self.method.named_modules():
            if name:
                named = f"{name} ({type(module).__name__})"
                self._handles.append(module.register_forward_pre_hook(self._note_view))
                self._handles.append(module.register_forward_hook(self._output_hook(named)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def check_views(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the same batches after checking their views."""
        for batch in batches:
            self._batch, self._view = batch, []
            for index, view in enumerate(batch.views):
                self._check(f"{OUTPUT} the augmentations", view, [index])
            yield batch

    def cause(self, loss: Tensor) -> NonFinite:
        """Locate the first value that is not finite in a step whose loss or gradients are not."""
        found = self.found
        if found and (found.where.startswith(OUTPUT) or bool(loss.isfinite())):
            return found
        if not bool(loss.isfinite()):
            batch = found.batch if found else self._batch
            return NonFinite("the loss itself, from finite outputs of every module", [], [], batch)
        named = self.method.named_parameters()
        broken = [name for name, p in named if p.grad is not None and not bool(p.grad.isfinite().all())]
        return NonFinite(f"the gradient of {broken[-1]}", [], [], self._batch)

    def _note_view(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Remember which view enters; modules further inside process the same one."""
        pointer = next((x.data_ptr() for x in inputs if isinstance(x, Tensor)), None)
        views = [index for index, view in enumerate(self._batch.views) if view.data_ptr() == pointer]
        self._view = views or self._view

    def _output_hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            view = list(self._view)
            for tensor in _tensors(output):
                self._check(f"{OUTPUT} {name}", tensor, view)
                if tensor.requires_grad:
                    tensor.register_hook(lambda grad: self._check(f"the gradient at the output of {name}", grad, view))

        return hook

    def _check(self, where: str, tensor: Tensor, view: list[int]) -> None:
        """Record the first tensor that is not finite; its rows are the images, once or once per stacked view."""
        if self.found is not None or bool(tensor.isfinite().all()):
            return
        count = len(self._batch.indices)
        stacked = tensor.shape[0] // count if tensor.ndim and tensor.shape[0] % count == 0 else 0
        if not stacked:
            self.found = NonFinite(where, [], view, self._batch)
            return
        bad = (~tensor.detach().flatten(1).isfinite().all(dim=1)).nonzero().flatten().tolist()
        views = sorted({row // count for row in bad}) if stacked > 1 else view
        self.found = NonFinite(where, sorted({row % count for row in bad}), views, self._batch)


def write_findings(found: NonFinite, folder: Path, step: int, store: Dataset) -> str:
    """Write batch.safetensors and where.json, and return the findings as the middle of a sentence."""
    make_folder(folder)
    rows = found.batch.indices.cpu()
    bad = [int(rows[index]) for index in found.images]
    tensors = {f"view{index}": view.cpu().contiguous() for index, view in enumerate(found.batch.views, 1)}
    with atomic_write(folder / "batch.safetensors") as path:
        save_file({"rows": rows, **tensors}, path)
    views = [index + 1 for index in found.views]
    where = {"step": step, "where": found.where, "rows": bad, "views": views, "images": _image_paths(store, bad)}
    with atomic_write(folder / "where.json") as path:
        path.write_text(json.dumps(where, indent=2) + "\n", encoding="utf-8")
    more = f" and {len(bad) - MAX_ROWS_SHOWN} more" if len(bad) > MAX_ROWS_SHOWN else ""
    some = f", rows {', '.join(map(str, bad[:MAX_ROWS_SHOWN]))}{more} of the store"
    rows_text = some if 0 < len(bad) < len(rows) else ", all rows of the batch" if bad else ""
    view_text = f", view {' and '.join(map(str, views))}" if views else ""
    return f"{found.where}{rows_text}{view_text}"


def _image_paths(store: Dataset, rows: list[int]) -> list[str]:
    """Return the files that the rows of a store on a disk came from."""
    if not rows or store.path is None or not (store.path / INDEX).is_file():
        return []
    found: list[str] = pq.read_table(store.path / INDEX, columns=["path"]).column("path").take(rows).to_pylist()
    return found


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in what a module returned."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, tuple | list):
        for part in output:
            yield from _tensors(part)
    elif isinstance(output, dict):
        yield from _tensors(tuple(output.values()))
