"""Resume a run from its last checkpoint, to the numbers of a run that never stopped."""

from pathlib import Path
from typing import Unpack

from torch import nn

from limbeck.core.logs import ensure_visible, log_file
from limbeck.core.run_folder import LOG
from limbeck.runs.config import Place, at_place, read_config
from limbeck.runs.resolve import reopen_run
from limbeck.runs.training import train_run
from limbeck.train.launch import check_launch


def resume(
    run: str | Path,
    *,
    stop_on_collapse: bool = True,
    teacher_module: nn.Module | None = None,
    **place: Unpack[Place],
) -> Path:
    """Continue a run from its last checkpoint, to the same numbers as if it had never stopped.

    Args:
        run: folder of the run.
        stop_on_collapse: stop the run if its representations have collapsed, unless it was started without
            (docs/health.md).
        teacher_module: the teacher of a distillation, if it is a module of your own.
        **place: `store` and `teacher`, where they have moved; `devices`, `num_nodes`, `accelerator`, `precision`,
            `attention` and `memory_format`, to continue on another machine.

    Raises:
        UserError: the folder is not a run, or its data, its teacher or its configuration have changed.
    """
    ensure_visible()
    folder = Path(run)
    with log_file(folder / LOG) as begin_log:
        check_launch(at_place(read_config(folder), place).training)
        setup = reopen_run(folder, teacher_module, place)
        return train_run(setup, folder, begin_log, resume=True, stop_on_collapse=stop_on_collapse)
