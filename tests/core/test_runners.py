"""Shards are done by any runner and any number of workers, and a worker that is killed costs its shard alone."""

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from limbeck.core.runners import slurm, worker
from limbeck.core.runners.run import TRIES, RunnerConfig, RunnerName, ShardWork, check_runner, run_shards
from tests.helpers.errors import raises
from tests.helpers.shards import write


def work(folder: Path, **how: Any) -> ShardWork:
    spec = {"folder": str(folder)} | how
    return ShardWork(
        task="tests.helpers.shards:write",
        spec=spec,
        here=lambda shard, advance: write(spec, shard),
        size=lambda shard: 1,
        journal=folder / "journal.jsonl",
        description="squares",
    )


def results(folder: Path) -> list[str]:
    return [(folder / f"{shard}.txt").read_text() for shard in range(len(list(folder.glob("[0-9]*.txt"))))]


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("runner", "workers"), [(None, 1), ("local", 2)])
def test_every_shard_is_done_once(tmp_path: Path, runner: RunnerName | None, workers: int) -> None:
    run_shards(work(tmp_path), range(5), RunnerConfig(runner=runner, workers=workers))
    assert results(tmp_path) == ["0", "1", "4", "9", "16"]
    assert len(list(tmp_path.glob("try-*"))) == 5
    assert sorted(line["shard"] for line in journal(tmp_path)) == [0, 1, 2, 3, 4]
    assert len({line["worker"] for line in journal(tmp_path)}) <= workers


def test_a_worker_that_is_lost_costs_its_shard(tmp_path: Path) -> None:
    run_shards(work(tmp_path, dies=2, fails=3, times=TRIES - 1), range(4), RunnerConfig(runner="local", workers=2))
    assert results(tmp_path) == ["0", "1", "4", "9"]
    tries = [len(list(tmp_path.glob(f"try-{shard}-*"))) for shard in range(4)]
    assert tries == [1, 1, TRIES, TRIES]
    assert sorted(line["shard"] for line in journal(tmp_path) if line["error"]) == [2] * (TRIES - 1) + [3] * (TRIES - 1)


def test_what_fails_for_good_names_shard_and_worker_and_leaves_the_rest(tmp_path: Path) -> None:
    config = RunnerConfig(runner="local", workers=1)
    with raises("disk-full", "shard 1 of squares", socket.gethostname(), "'/full'"):
        run_shards(work(tmp_path, refuses=1), range(3), config)
    assert (tmp_path / "0.txt").is_file()
    with raises("shard-failed", "shard 2", "RuntimeError: out of memory"):
        run_shards(work(tmp_path, fails=2, times=9), [2], config)


def test_a_worker_of_another_version_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = worker.Order("tests.helpers.shards:write", {"folder": str(tmp_path)}, 0, str(tmp_path), "9.9")
    monkeypatch.chdir(tmp_path)
    outcome = json.loads(worker.perform(json.dumps(order._asdict())))
    assert outcome["code"] == "other-version"
    assert "9.9" in outcome["error"]
    assert not results(tmp_path)


def test_a_runner_without_its_library_or_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.core import packages

    monkeypatch.setenv("PATH", "/nowhere")
    with raises("no-slurm", "sbatch"):
        check_runner(RunnerConfig(runner="slurm"))
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    for runner in ("slurm", "ray"):
        with raises("missing-package", f"limbeck[{runner}]"):
            check_runner(RunnerConfig(runner=runner))
    with raises("bad-workers", 0):
        RunnerConfig(workers=0)
    with raises("no-runner-args", "slurm_partition"):
        RunnerConfig(runner="local", args={"slurm_partition": "cpu"})


def test_jobs_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Submitit's executor for this machine stands for a cluster; one of its jobs is killed."""
    submitit = pytest.importorskip("submitit", reason="the runner slurm needs submitit")
    monkeypatch.setattr(slurm, "CLUSTER", "local")
    monkeypatch.setattr(slurm, "SECONDS", 0.05)
    monkeypatch.setattr(slurm, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0)  # this machine's files need no seconds to be seen
    run_shards(work(tmp_path, dies=1, times=1), range(2), RunnerConfig(runner="slurm", workers=2))
    assert results(tmp_path) == ["0", "1"]
    assert [line["shard"] for line in journal(tmp_path) if line["error"]] == [1]


def test_what_slurm_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="the runner slurm needs submitit")
    monkeypatch.setattr(slurm, "LOGS", tmp_path / "logs")
    for program in ("sbatch", "srun"):
        (tmp_path / program).write_text("#!/bin/sh\necho invalid partition specified >&2\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for args, words in (({"slurm_partition": "x"}, "invalid partition"), ({"slurm_partitio": "x"}, "slurm_partitio")):
        with raises("slurm-failed", words):
            run_shards(work(tmp_path), range(2), RunnerConfig(runner="slurm", args=args))


@pytest.mark.slow
def test_a_cluster_of_ray_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the runner ray needs ray")
    for args, words in (({"address": "127.0.0.1:1"}, "refused"), ({"adress": "auto"}, "adress")):
        with raises("ray-failed", words):
            run_shards(work(tmp_path), range(2), RunnerConfig(runner="ray", args=args))


@pytest.mark.slow
def test_tasks_of_ray(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the runner ray needs ray")
    args = {"num_cpus": 2, "runtime_env": {"env_vars": {"PYTHONPATH": str(Path.cwd())}}}
    before = signal.getsignal(signal.SIGTERM)
    try:
        run_shards(work(tmp_path, dies=1, times=1), range(3), RunnerConfig(runner="ray", workers=2, args=args))
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        ray.shutdown()
    assert results(tmp_path) == ["0", "1", "4"]
    assert [line["shard"] for line in journal(tmp_path) if line["error"]] == [1]
