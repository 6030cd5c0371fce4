"""A job of SLURM that is warned of its end saves, is requeued, and ends as if it had not been interrupted."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from limbeck import cli
from limbeck.core import slurm
from limbeck.runs.folder import began_in_this_job, record_job
from limbeck.train.interrupt import StopRequest
from tests.helpers.forks import FORKS
from tests.helpers.kills import METHODS, differences, write_store

JOB = "4711"
OPTIONS = [word.replace(', "drop_path_rate": 0.2', "") for word in METHODS["byol"]]


def write_scontrol(folder: Path, status: int = 0) -> Path:
    """Write a program `scontrol` that records its words, and return its folder."""
    program = folder / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol.log\necho refused >&2\nexit {status}\n')
    program.chmod(0o755)
    return program.parent


def warn_in_step_3(seed: int, step: int, fabric: Any) -> None:
    if step == 3:
        os.kill(os.getpid(), signal.SIGUSR1)


def task(variables: dict[str, str], command: list[str], warned: bool) -> None:
    """Run one of the tasks that srun starts; the first one may get SLURM's warning."""
    os.environ.update(variables | {"OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    out = Path(command[command.index("--out") + 1])
    with out.with_name(f"{out.name}.stderr").open("a") as stderr:
        os.dup2(stderr.fileno(), sys.stderr.fileno())
    if warned and variables["SLURM_PROCID"] == "0":
        mock.patch("limbeck.train.step.seed_step", warn_in_step_3).start()
    cli.main(command)


def srun(
    command: list[str], path: Path, tasks: int = 2, *, restarts: int = 0, warned: bool = False
) -> list[int | None]:
    """Start processes with the variables that srun sets, and return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared: dict[str, Any] = {"SLURM_JOB_ID": JOB, "SLURM_JOB_NAME": "train", "SLURM_NTASKS": tasks, "SLURM_NNODES": 1}
    shared |= {"SLURM_STEP_NUM_TASKS": tasks, "SLURM_NTASKS_PER_NODE": tasks, "SLURM_NODEID": 0}
    shared |= {"SLURM_NODELIST": "localhost", "SLURM_JOB_NODELIST": "localhost", "SLURM_RESTART_COUNT": restarts}
    shared |= {"MASTER_PORT": port, "PATH": f"{path}:{os.environ['PATH']}"}
    started = []
    for rank in range(tasks):
        variables = {
            name: str(value) for name, value in (shared | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}).items()
        }
        started.append(FORKS.Process(target=task, args=(variables, command, warned)))
        started[-1].start()
    for process in started:
        process.join()
    return [process.exitcode for process in started]


def test_two_tasks_are_requeued_and_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    store, path = write_store(tmp_path), write_scontrol(tmp_path)

    def command(name: str) -> list[str]:
        return ["pretrain", str(store), "--out", str(tmp_path / name), *OPTIONS, "--devices", "2"]

    assert srun(command("whole"), path) == [0, 0]
    warned = srun(command("requeued"), path, warned=True)
    assert warned[0] == 128 + signal.SIGUSR1
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {JOB}\n"
    assert f"job {JOB}" in (tmp_path / "requeued.stderr").read_text()
    assert (tmp_path / "requeued" / "metrics.csv").read_text().count("\n") < 5
    assert srun(command("requeued"), path, restarts=1) == [0, 0]
    assert differences(tmp_path / "whole", tmp_path / "requeued") == []


def test_a_warning_is_a_request_only_in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with StopRequest():
        assert signal.getsignal(signal.SIGUSR1) == before
    monkeypatch.setenv("SLURM_JOB_ID", JOB)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGUSR1)
        assert (stop.requested, stop.is_warning, stop.code) == (True, True, 128 + signal.SIGUSR1)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)  # also what scancel sends
        assert not stop.is_warning


def test_what_scontrol_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", JOB)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert f"scontrol requeue {JOB}" in slurm.requeue()
    monkeypatch.setenv("PATH", f"{write_scontrol(tmp_path, 1)}:/bin:/usr/bin")
    assert "refused" in slurm.requeue()


def test_only_the_job_that_began_a_run_resumes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    record_job(tmp_path)  # outside of SLURM
    monkeypatch.setenv("SLURM_JOB_ID", JOB)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not began_in_this_job(tmp_path)
    record_job(tmp_path)
    assert began_in_this_job(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert not began_in_this_job(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert not began_in_this_job(tmp_path)
