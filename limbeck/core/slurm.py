"""A job of SLURM: which one this process is in, whether it was requeued, and how it is requeued.

SLURM warns a job before its end where it was asked to (`#SBATCH --signal=USR1@120`), and requeues jobs that it
pre-empts.
"""

import os
import signal
import subprocess

from limbeck.core.errors import one_line

WARNING = getattr(signal, "SIGUSR1", None)
"""Signal that `--signal=USR1@SECONDS` sends before the end of a job; Windows has no such signal."""
SECONDS = 60.0  # within which scontrol answers


def job_id() -> str:
    """Return the job that this process is in; "" outside of SLURM. A job of an array has an id of its own."""
    return os.environ.get("SLURM_JOB_ID", "")


def is_requeued() -> bool:
    """Return whether the job has run before."""
    return bool(job_id()) and os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def requeue() -> str:
    """Ask SLURM to start the job again, and return what became of that."""
    command = ["scontrol", "requeue", job_id()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        reason = "" if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = one_line(error)
    if reason:
        return f"`{' '.join(command)}` failed ({' '.join(reason.split())}): submit the job again"
    return f"job {job_id()} of SLURM is requeued and goes on from there"
