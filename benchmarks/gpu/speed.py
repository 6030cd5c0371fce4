"""Speed of views, of steps against the backbone's bare arithmetic, and of the neighbor search."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.checks import random_store
from benchmarks.gpu.record import Findings, Machine
from limbeck.core.types import Batch
from limbeck.data.augment.apply import augment
from limbeck.data.augment.draw_parameters import sample_params
from limbeck.data.augment.views import View, preset
from limbeck.data.sampling import view_specs
from limbeck.data.store.store import Store
from limbeck.methods import MethodConfig, method_config
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.neighbors.graph import build_graph
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.step import StepRunner
from tests.helpers.tiny import shrink

NETWORKS = {
    "resnet18-32": (BackboneConfig(name="resnet18", image_size=32), 512, 32),
    "vit_small-224": (BackboneConfig(name="vit_small_patch16_224", image_size=224), 256, 256),
    "vit_tiny_patch4-32": (BackboneConfig(name="vit_tiny_patch16_224", image_size=32, args={"patch_size": 4}), 512, 32),
}
TOY = {"toy": (BackboneConfig(name="resnet18", image_size=32, args={"channels": [8, 8, 8, 8]}), 16, 32)}


def simclr(machine: Machine) -> MethodConfig:
    """Return SimCLR with the release's head, or a tiny one."""
    config: MethodConfig = method_config("simclr")()
    return shrink(config) if machine.toy else config


def views(machine: Machine) -> Findings:
    """Return the views per second, drawing included, from a batch on the device."""
    for store_size, size, batch in ((32, 32, 1024), (256, 224, 256)) if not machine.toy else ((32, 32, 16),):
        images = torch.from_numpy(random_store(batch, store_size).images).to(machine.device)
        for name in ("simclr", "byol", "weak") if not machine.toy else ("simclr",):
            view = preset(name, size)[0]
            yield {"preset": name, "size": size, "batch": batch, **rates(images, view, machine)}


def rates(images: Tensor, view: View, machine: Machine) -> dict[str, float]:
    """Return the views per second with their draw, and the milliseconds of either for a batch."""
    count, store_size = len(images), images.shape[1]
    rows, sides = torch.arange(count), torch.full((count,), store_size)

    def one(epoch: int) -> None:
        params = sample_params(view, 0, rows, sides, sides, store_size, 0, epoch)
        augment(images, view, params, view.mean, view.std)

    spent = per_call(one, machine, 2 if machine.toy else 30)
    drawn = per_call(
        lambda e: sample_params(view, 0, rows, sides, sides, store_size, 0, e), machine, 2 if machine.toy else 30
    )
    return {"views_per_s": round(count / spent), "ms": round(1e3 * spent, 2), "draw_ms": round(1e3 * drawn, 2)}


def per_call(call, machine: Machine, repeats: int) -> float:  # type: ignore[no-untyped-def]
    """Return the wall seconds of one call."""
    for epoch in range(2):
        call(epoch)
    wait(machine)
    start = time.perf_counter()
    for epoch in range(repeats):
        call(epoch)
    wait(machine)
    return (time.perf_counter() - start) / repeats


def wait(machine: Machine) -> None:
    """Wait for the device."""
    if machine.device.type == "cuda":
        torch.cuda.synchronize()


def efficiency(machine: Machine) -> Findings:
    """Measure the images per second of SimCLR's step, and the backbone's share of its time."""
    for name, (cfg, batch, store_size) in (TOY if machine.toy else NETWORKS).items():
        for compiled in (False,) if machine.toy else (False, True):
            yield {
                "network": name,
                "batch": batch,
                "compile": compiled,
                **one_network(machine, cfg, batch, store_size, compiled),
            }
            if machine.device.type == "cuda":
                torch.cuda.empty_cache()


def one_network(machine: Machine, cfg: BackboneConfig, batch: int, store_size: int, compiled: bool) -> dict[str, float]:
    """Return the seconds of a step, of the bare backbone, and of the views."""
    torch.manual_seed(0)
    store = random_store(batch * 2, store_size)
    method = simclr(machine).build(build_backbone(cfg))
    settings = TrainConfig(epochs=100, batch_size=batch, eval_every_epochs=0, compile=compiled)
    runner = StepRunner(method, store, view_specs(preset("simclr", cfg.image_size or 224)), settings, OptimConfig())
    count = 1 if machine.toy else 20
    if machine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    batches: Iterator[Batch] = runner.loader.batches(0, 3 + count)
    for step in range(3):
        runner.train_step(batches, step)
    wait(machine)
    start = time.perf_counter()
    for step in range(3, 3 + count):
        runner.train_step(batches, step)
    wait(machine)
    whole = (time.perf_counter() - start) / count
    ready = next(runner.loader.batches(0, 1))
    bare = bare_seconds(machine, method.backbone, ready, count)
    peak = torch.cuda.max_memory_allocated() / 2**30 if machine.device.type == "cuda" else 0.0
    made = per_call(lambda e: next(runner.loader.batches(e, e + 1)), machine, count)
    return {
        "step_ms": round(1e3 * whole, 2),
        "images_per_s": round(batch / whole),
        "bare_ms": round(1e3 * bare, 2),
        "efficiency": round(bare / whole, 3),
        "views_ms": round(1e3 * made, 2),
        "peak_gib": round(peak, 2),
    }


def bare_seconds(machine: Machine, backbone, batch: Batch, count: int) -> float:  # type: ignore[no-untyped-def]
    """Run forward and backward on ready tensors, in the precision of the run."""
    images = torch.cat(batch.views)

    def one(_: int) -> None:
        with torch.autocast(machine.device.type, torch.bfloat16):
            value = backbone(images).final.float().square().mean()
        value.backward()
        backbone.zero_grad()

    return per_call(one, machine, count)


def graph(machine: Machine) -> Findings:
    """Measure the search of ten exact neighbors of unit rows in clusters."""
    for rows, width in ((100_000, 768), (400_000, 768), (1_281_167, 768)) if not machine.toy else ((500, 16),):
        generator = np.random.default_rng(0)
        centres = generator.standard_normal((rows // 50 + 1, width), np.float32)
        vectors = centres[np.arange(rows) % len(centres)] + generator.standard_normal((rows, width), np.float32)
        start = time.perf_counter()
        build_graph(vectors, 10, device=machine.device)
        spent = time.perf_counter() - start
        yield {"rows": rows, "width": width, "seconds": round(spent, 1)}


def profile(machine: Machine) -> Findings:
    """Return the operators that take most of the time of a SimCLR step, and how often the CPU launches one."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    cfg, batch, store_size = TOY["toy"] if machine.toy else NETWORKS["resnet18-32"]
    store: Store = random_store(batch * 2, store_size)
    method = simclr(machine).build(build_backbone(cfg))
    runner = StepRunner(
        method,
        store,
        view_specs(preset("simclr", 32)),
        TrainConfig(epochs=100, batch_size=batch, eval_every_epochs=0),
        OptimConfig(),
    )
    batches = runner.loader.batches(0, 10)
    for step in range(5):
        runner.train_step(batches, step)
    wait(machine)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if machine.device.type == "cuda" else [])]
    with profiler(activities=activities) as found:
        for step in range(5, 8):
            runner.train_step(batches, step)
        wait(machine)
    rows = found.key_averages()
    launches = (
        sum(r.count for r in rows if r.key in ("cudaLaunchKernel", "cuLaunchKernelEx", "cudaLaunchKernelExC")) / 3
    )
    busiest = sorted(rows, key=lambda r: -r.self_device_time_total)[:25]
    yield {"launches": launches, "device_ms": round(sum(r.self_device_time_total for r in rows) / 3e3, 2)}
    for row in busiest:
        yield {"kernel": row.key[:90], "calls": row.count / 3, "ms": round(row.self_device_time_total / 3e3, 3)}
