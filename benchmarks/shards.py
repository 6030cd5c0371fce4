"""What runners cost: seconds per shard beyond the work, the same bytes, and how long a step waits for its images.

    python -m benchmarks.shards overhead --work build/shards
    python -m benchmarks.shards wait --work build/shards

`overhead` builds an encoded store of made photographs by this process, by one local worker, by SLURM (submitit's
executor for one machine, which starts all jobs at once) and by Ray, and compares every file. `wait` takes steps of
SimCLR with a ResNet-18 at 224 px from an encoded store of 256 px, and from a raw one.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from unittest import mock

import torch

from limbeck.core.runners.run import RunnerConfig, RunnerName, ShardWork, run_shards
from limbeck.data.store.open import build_store
from limbeck.runs.scale.sample import made_photographs

SHARDS, IMAGES = 8, 20  # of a shard
RUNNERS: tuple[RunnerName | None, ...] = (None, "local", "slurm", "ray")
STEPS, BATCH = 2, 8


def write_photographs(folder: Path, count: int) -> Path:
    """Write JPEGs, unless they are there."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for sample in made_photographs(count):
            assert isinstance(sample.content, bytes), "an encoded photograph"
            (folder / sample.path).write_bytes(sample.content)
    return folder


def overhead(work: Path) -> None:
    """Build one store by every runner."""
    photographs, digests = write_photographs(work / "photographs", SHARDS * IMAGES), set()
    for runner in RUNNERS:
        out, seconds = work / f"store-{runner}", list[float]()
        shutil.rmtree(out, ignore_errors=True)
        ray = {"runtime_env": {"env_vars": {"PYTHONPATH": os.getcwd()}}, "num_cpus": 2}

        def timed(
            shard_work: ShardWork, missing: list[int], cfg: RunnerConfig, measured: list[float] = seconds
        ) -> None:
            began = time.perf_counter()
            run_shards(shard_work, missing, cfg)
            measured.append(time.perf_counter() - began)
            measured.append(sum(json.loads(line)["seconds"] for line in shard_work.journal.read_text().splitlines()))

        writer = "limbeck.data.store.encoded_writer"
        with (
            mock.patch(f"{writer}.check_runner"),  # there is no sbatch, and none is needed
            mock.patch(f"{writer}.run_shards", timed),
            mock.patch.multiple("limbeck.core.runners.slurm", CLUSTER="local", SECONDS=0.1),
            mock.patch("limbeck.data.store.shards.SHARD", IMAGES),
        ):
            arguments = ray if runner == "ray" else {}
            build_store(photographs, out, keep="jpeg", store_size=128, runner=runner, workers=1, runner_args=arguments)
        digest = blake2b(digest_size=8)
        for file in sorted(out.iterdir()):
            digest.update(file.name.encode() + file.read_bytes())
        digests.add(digest.hexdigest())
        found = {"runner": runner or "this process", "wall_s": round(seconds[0], 2), "work_s": round(seconds[1], 2)}
        print(json.dumps(found | {"shards": SHARDS, "load": round(os.getloadavg()[0], 1)}), flush=True)
    print("same bytes" if len(digests) == 1 else f"{len(digests)} different stores")


def wait(work: Path) -> None:
    """Take steps from an encoded and from a raw store."""
    from contextlib import closing

    from limbeck.data.store.store import Store
    from limbeck.methods import method_config
    from limbeck.models.config import BackboneConfig
    from limbeck.runs.request import RunRequest
    from limbeck.runs.resolve import resolve_run
    from limbeck.runs.training import build_method
    from limbeck.train.config import TrainConfig
    from limbeck.train.step import StepRunner

    photographs = write_photographs(work / "photographs", SHARDS * IMAGES)
    for keep in ("jpeg", "raw"):
        store = work / f"wait-{keep}"
        if not store.is_dir():
            build_store(photographs, store, keep="jpeg" if keep == "jpeg" else "raw", store_size=256, workers=1)
        training = TrainConfig(batch_size=BATCH, epochs=1.0)
        backbone = BackboneConfig(name="resnet18", image_size=224)
        simclr = method_config("simclr")()
        setup = resolve_run(RunRequest(source=str(store), method=simclr, backbone=backbone, training=training))
        method, views, sampling = build_method(setup, Path())
        assert isinstance(setup.data, Store), "images"
        runner = StepRunner(method, setup.data, views, training, setup.cfg.optim, sampling)
        with closing(runner.loader.batches(0, STEPS + 1)) as batches:
            runner.train_step(batches, 0)  # warms up
            waited, began, cpu = runner.loader.wait_seconds, time.perf_counter(), time.process_time()
            for step in range(1, STEPS + 1):
                runner.train_step(batches, step)
            seconds = time.perf_counter() - began
        share = (runner.loader.wait_seconds - waited) / seconds
        found = {"store": keep, "wait_share": round(share, 5), "s_per_step": round(seconds / STEPS, 2)}
        found |= {"cpu_s_per_step": round((time.process_time() - cpu) / STEPS, 2), "threads": torch.get_num_threads()}
        print(json.dumps(found | {"load": round(os.getloadavg()[0], 1)}), flush=True)


def main() -> None:
    """Measure one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts: dict[str, Callable[[Path], None]] = {"overhead": overhead, "wait": wait}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--work", type=Path, default=Path("build/shards"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    parts[args.part](args.work)


if __name__ == "__main__":
    main()
