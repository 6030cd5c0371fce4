"""The folder of a new run: nothing in it is anybody else's."""

from pathlib import Path

from limbeck.core import slurm
from limbeck.core.disk import check_writable
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.locks import LOCK
from limbeck.core.rank import is_rank0
from limbeck.core.run_folder import CONFIG, JOB, START, TEACHER
from limbeck.core.unfinished import remove_abandoned


def default_folder(method: str, source: object) -> Path:
    """Return the folder of a run that names none: runs/METHOD-SOURCE."""
    name = Path(source).expanduser().resolve().stem if isinstance(source, str | Path) else "images"
    return Path("runs") / f"{method}-{name}"


def record_job(run: Path) -> None:
    """Write down which job of SLURM the run is in, if it is in one."""
    if slurm.job_id():
        write_json(run / JOB, {"slurm": slurm.job_id()})


def began_in_this_job(run: Path) -> bool:
    """Return whether this job of SLURM was requeued and has begun the run in this folder before."""
    if not slurm.is_requeued() or not (run / CONFIG).is_file() or not (run / JOB).is_file():
        return False
    return bool(read_json(run / JOB) == {"slurm": slurm.job_id()})


def check_new_run(run: Path) -> None:
    """Raise UserError unless a new run can be written to `run`: a new or an empty folder.

    Called before the work and again under the lock, since another command may have started in between. Features of a
    teacher and the weights to start from may be there, from a run that ended before its first step.
    """
    if not is_rank0():
        return
    check_writable(run)
    if not run.exists():
        return
    if (run / CONFIG).exists():
        raise UserError(
            f"'{run}' already contains a run; resume it with `limbeck resume {run}`, or choose another folder with "
            "--out",
            code="run-exists",
        )
    remove_abandoned(run)
    names = {path.name for path in run.iterdir()} - {LOCK}
    if (run / TEACHER / "cache.json").is_file():
        names.discard(TEACHER)
    if (run / START / CONFIG).is_file():
        names.discard(START)
    if names:
        raise UserError(
            f"'{run}' holds other files, such as '{min(names)}': choose a new folder for the run with --out",
            code="folder-not-empty",
        )
