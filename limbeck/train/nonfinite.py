"""Where the first number that is not finite came from: the module, the images and the views.

Found by repeating the steps since the last checkpoint under watch, so that the steps of a healthy run pay nothing.
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
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.core.run_folder import CHECKPOINT, NONFINITE
from limbeck.core.types import Batch, LossOutput
from limbeck.data.store.layout import INDEX
from limbeck.data.store.store import Store
from limbeck.train.checkpoint import save_checkpoint
from limbeck.train.optim import clip_gradients
from limbeck.train.step import Steps

OUTPUT = "the output of"
SHOWN = 5  # rows that a sentence names; the file has all of them


def trace(steps: Steps, start: int, stop: int, run: Path, config: Json) -> NoReturn:
    """Ends a run in which a number was not finite after `stop` steps: repeats those from `start` on, under watch.

    The method and the optimiser are those of `start`. Batch, weights and what was found are written to `run`/nan.

    Raises:
        UserError: always; it names the step, the module, the rows and the views.
    """
    folder, method = run / NONFINITE, steps.method
    advice = f"learning rate {steps.optim.lr}: {method.nonfinite_hint}"

    def look(loss: LossOutput) -> None:
        total, norm = float(loss.total), float(clip_gradients(method.parameters(), None))
        if not math.isfinite(total + norm):
            where = report(witness.cause(loss.total), folder, step + 1, steps.loader.store)
            save_checkpoint(folder / CHECKPOINT, step, method, steps.optimizer, config)
            what = f"gradient's norm is {norm:g}" if math.isfinite(total) else f"loss is {total:g}"
            raise UserError(
                f"the {what} at step {step + 1}, first in {where}; batch and weights are in {folder}; {advice}"
            )

    with FiniteCheckHooks(method) as witness, closing(steps.loader.batches(start, stop)) as batches:
        watched = witness.follow(batches)
        for step in range(start, stop):
            steps.take(watched, step, before_update=look)
    raise UserError(
        f"a number is not finite at step {stop}, and all are when the steps from {start} on are repeated; {advice}"
    )


class NonFinite(NamedTuple):
    """The first number of a step that is not finite. Images and views are empty where they cannot be told apart."""

    where: str  # as in "the output of backbone.model.blocks.3 (Block)"
    images: list[int]  # positions in the batch
    views: list[int]  # from 0
    batch: Batch


class FiniteCheckHooks:
    """Watches every module of a method, forward and backward, while steps are repeated.

    It waits for the device at every module.
    """

    def __init__(self, method: nn.Module) -> None:
        self.method = method
        self.trouble: NonFinite | None = None
        self._batch: Batch | None = None
        self._view: list[int] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        for name, module in self.method.named_modules():
            if name:
                named = f"{name} ({type(module).__name__})"
                self._hooks.append(module.register_forward_pre_hook(self._enter))
                self._hooks.append(module.register_forward_hook(self._watch(named)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def follow(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, looked at and remembered."""
        for batch in batches:
            self._batch, self._view = batch, []
            for index, view in enumerate(batch.views):
                self._look(f"{OUTPUT} the augmentations", view, [index])
            yield batch

    def cause(self, loss: Tensor) -> NonFinite:
        """What went wrong first in a step whose loss or gradients are not finite."""
        found = self.trouble
        if found and (found.where.startswith(OUTPUT) or bool(loss.isfinite())):
            return found
        assert self._batch is not None
        if not bool(loss.isfinite()):
            batch = found.batch if found else self._batch
            return NonFinite("the loss itself, from finite outputs of every module", [], [], batch)
        named = self.method.named_parameters()
        broken = [name for name, p in named if p.grad is not None and not bool(p.grad.isfinite().all())]
        return NonFinite(f"the gradient of {broken[-1]}", [], [], self._batch)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Notes which view comes in; modules further inside belong to the same."""
        assert self._batch is not None
        pointer = next((x.data_ptr() for x in inputs if isinstance(x, Tensor)), None)
        views = [index for index, view in enumerate(self._batch.views) if view.data_ptr() == pointer]
        self._view = views or self._view

    def _watch(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            view = list(self._view)
            for tensor in _tensors(output):
                self._look(f"{OUTPUT} {name}", tensor, view)
                if tensor.requires_grad:
                    tensor.register_hook(lambda grad: self._look(f"the gradient at the output of {name}", grad, view))

        return hook

    def _look(self, where: str, tensor: Tensor, view: list[int]) -> None:
        """Rows are the images in their order: once, in `view`, or once in each of several stacked views."""
        if self.trouble is not None or bool(tensor.isfinite().all()):
            return
        assert self._batch is not None
        count = len(self._batch.indices)
        stacked = tensor.shape[0] // count if tensor.ndim and tensor.shape[0] % count == 0 else 0
        if not stacked:
            self.trouble = NonFinite(where, [], view, self._batch)
            return
        bad = (~tensor.detach().flatten(1).isfinite().all(dim=1)).nonzero().flatten().tolist()
        views = sorted({row // count for row in bad}) if stacked > 1 else view
        self.trouble = NonFinite(where, sorted({row % count for row in bad}), views, self._batch)


def report(trouble: NonFinite, folder: Path, step: int, store: Store) -> str:
    """Writes what caused the trouble, batch.safetensors and where.json, and says it in the middle of a sentence."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = trouble.batch.indices.cpu()
    bad = [int(rows[index]) for index in trouble.images]
    tensors = {f"view{index}": view.cpu().contiguous() for index, view in enumerate(trouble.batch.views, 1)}
    with atomic_write(folder / "batch.safetensors") as path:
        save_file({"rows": rows, **tensors}, path)
    views = [index + 1 for index in trouble.views]
    found = {"step": step, "where": trouble.where, "rows": bad, "views": views, "images": _paths(store, bad)}
    with atomic_write(folder / "where.json") as path:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    shown = ", ".join(map(str, bad[:SHOWN])) + (f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")
    whose = f", rows {shown} of the store" if 0 < len(bad) < len(rows) else ", all rows of the batch" if bad else ""
    seen = f", view {' and '.join(map(str, views))}" if views else ""
    return f"{trouble.where}{whose}{seen}"


def _paths(store: Store, rows: list[int]) -> list[str]:
    """Where the images of a store on a disk came from."""
    if store.path is None:
        return []
    found: list[str] = pq.read_table(store.path / INDEX, columns=["path"]).column("path").take(rows).to_pylist()
    return found


def _tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors of what a module returned."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, tuple | list):
        for part in output:
            yield from _tensors(part)
    elif isinstance(output, dict):
        yield from _tensors(tuple(output.values()))
