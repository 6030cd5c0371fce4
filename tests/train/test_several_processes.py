"""`devices=2` as a user starts it: one script, that Fabric starts a second time; and processes of torchrun."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file

from limbeck import cli
from tests.helpers.forks import FORKS
from tests.helpers.kills import METHODS, write_store
from tests.helpers.toy import fit, toy

ROOT = Path(__file__).parents[2]


def test_two_processes_divide_the_rows_and_get_the_weights_of_one(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests/helpers/two_processes.py"), str(tmp_path / "two")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True) for rank in range(2))
    for epoch in range(2):
        seen = torch.cat([part["rows"][5 * epoch : 5 * epoch + 5].flatten() for part in (first, second)])
        assert sorted(seen.tolist()) == list(range(40))
    assert torch.equal(first["weight"], second["weight"])
    one = fit(tmp_path / "one", toy(norm=False, noise=0.0))
    torch.testing.assert_close(first["weight"], one.state_dict()["backbone.1.weight"], rtol=1e-4, atol=1e-4)
    assert (tmp_path / "two" / "metrics.csv").read_text().count("\n") == 7  # the header, steps 2, 4, 5, 6, 8 and 10


def one_of_torchruns(variables: dict[str, str], command: list[str]) -> None:
    os.environ.update(variables | {"OMP_NUM_THREADS": "1"})  # or Fabric divides the cores among a machine's processes
    torch.set_num_threads(1)
    cli.main(command)


def kill_in_step_3(seed: int, step: int, fabric: Any) -> None:
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def one_that_a_kill_ends(variables: dict[str, str], command: list[str]) -> None:
    """Run a process of two; rank 1 is killed in its fourth step, the other one writes its stderr into `stderr`."""
    out = Path(command[command.index("--out") + 1])
    with out.with_name("stderr").open("a") as stderr:
        os.dup2(stderr.fileno(), sys.stderr.fileno())
    if variables["RANK"] == "1":
        mock.patch("limbeck.train.step.seed_step", kill_in_step_3).start()
    one_of_torchruns(variables, command)


def launch(
    store: Path, run: Path, machines: int, per_machine: int, target: Callable[..., None] = one_of_torchruns
) -> list[int | None]:
    """Run `limbeck pretrain` in processes with the variables that torchrun sets, and return their exit codes."""
    processes = machines * per_machine
    options = [word.replace(', "drop_path_rate": 0.2', "") for word in METHODS["simclr, 2 micro-batches, SGD"]]
    command = ["pretrain", str(store), "--out", str(run), *options]  # without the random numbers of each process
    command += ["--devices", str(per_machine), "--num-nodes", str(machines)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "test"}
    started = []
    for rank in range(processes):
        machine, local = divmod(rank, per_machine)
        own = {"RANK": rank, "LOCAL_RANK": local, "GROUP_RANK": machine, "WORLD_SIZE": processes}
        variables = shared | {name: str(value) for name, value in own.items()} if processes > 1 else {}
        started.append(FORKS.Process(target=target, args=(variables, command)))
        started[-1].start()
    for process in started:
        process.join()
    return [process.exitcode for process in started]


def trained_weights(store: Path, run: Path, machines: int, per_machine: int) -> dict[str, torch.Tensor]:
    """Return the weights after these processes have trained."""
    assert set(launch(store, run, machines, per_machine)) == {0}
    return load_file(run / "encoder" / "model.safetensors")


def test_torchrun_on_one_machine_and_on_two_gives_the_weights_of_one_process(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    one, two, machines = (trained_weights(store, tmp_path / f"{m}x{n}", m, n) for m, n in ((1, 1), (1, 2), (2, 1)))
    for name, weights in one.items():
        assert torch.equal(two[name], machines[name])
        torch.testing.assert_close(two[name], weights, rtol=1e-3, atol=1e-5)
    logs = [(tmp_path / run / "metrics.csv").read_text().count("\n") for run in ("1x1", "1x2", "2x1")]
    assert len(set(logs)) == 1  # one process alone writes


def test_the_end_of_a_process_is_reported_by_the_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert launch(write_store(tmp_path), run, 1, 2, one_that_a_kill_ends) == [1, -signal.SIGKILL]
    stderr = (tmp_path / "stderr").read_text()
    last = stderr.splitlines()[-1]
    assert last.startswith("limbeck: another process")
    assert last.endswith(f"`limbeck resume {run}`")
    assert "Traceback" not in stderr
