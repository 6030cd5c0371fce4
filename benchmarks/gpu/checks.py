"""Checks that must hold on a GPU before a measurement means anything."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.record import Findings, Machine
from limbeck.core.config import to_json
from limbeck.core.types import Batch, StepInfo
from limbeck.data import loader as loading
from limbeck.data.augment.apply import augment
from limbeck.data.augment.draw_parameters import sample_params
from limbeck.data.augment.views import PRESETS, preset
from limbeck.data.loader import Loader
from limbeck.data.sampling import view_specs
from limbeck.data.store.store import Store
from limbeck.methods import Method, MethodConfig, method_config
from limbeck.models.backbone import build_backbone
from limbeck.models.config import BackboneConfig
from limbeck.train.config import OptimConfig, TrainConfig
from limbeck.train.loop import train
from tests.helpers import tiny

STEP = StepInfo(3, 10)


def versions(machine: Machine) -> Findings:
    """Report names, and the two ceilings: a large copy and a large product."""
    yield {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if machine.device.type != "cuda":
        return
    yield {"gpu": torch.cuda.get_device_name(), "memory_gib": round(torch.cuda.mem_get_info()[1] / 2**30, 1)}
    a, b = (torch.randn(8192, 8192, device=machine.device, dtype=torch.bfloat16) for _ in range(2))
    yield {"bf16_tflops": round(2 * 8192**3 / seconds(lambda: a @ b) / 1e12)}
    x, y = (torch.randn(2**29, device=machine.device) for _ in range(2))
    yield {"copy_tb_per_s": round(2 * 4 * 2**29 / seconds(lambda: y.copy_(x)) / 1e12, 2)}


def seconds(call: Any, repeats: int = 10) -> float:
    """Return the seconds of one call, on a CUDA device by events."""
    for _ in range(3):
        call()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def views_equal(machine: Machine) -> Findings:
    """Compare the pixels of every preset with those of the CPU."""
    store = random_store(48, 64)
    rows = torch.arange(48)
    images = torch.from_numpy(store.images)
    sides = torch.full((48,), 64)
    for name in PRESETS[: 1 if machine.toy else None]:
        worst = 0.0
        for size in (32, 96):
            for index, view in enumerate(preset(name, size)):
                params = sample_params(view, index, rows, sides, sides, 64, 0, 0)
                here = augment(images, view, params, view.mean, view.std)
                there = augment(images.to(machine.device), view, params, view.mean, view.std).cpu()
                worst = max(worst, float((here - there).abs().max()))
        yield {"preset": name, "largest_difference": worst}


def methods_equal(machine: Machine) -> Findings:
    """Check every method: loss and gradients in float32 as on the CPU, finite under bf16, and `after_step`."""
    for name, config in list(tiny.configs().items())[: 2 if machine.toy else None]:
        try:
            here, there = (step(config, device) for device in (torch.device("cpu"), machine.device))
            loss = abs(float(here[0] - there[0])) / abs(float(here[0]))
            worst = relative(*(torch.cat([g.flatten() for g in found[1]]) for found in (here, there)))
            yield {"method": name, "loss": loss, "gradient": worst, "bf16": half(config, machine.device)}
        except Exception as error:
            yield {"method": name, "error": f"{type(error).__name__}: {error}"}


def build(config: MethodConfig) -> Method:
    """Return a tiny method, the same on every device."""
    torch.manual_seed(0)
    return tiny.build(config, tiny.encoder_for(config))


def step(config: MethodConfig, device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """Return loss and gradients of a step, on the CPU."""
    method, batch = build(config).to(device), on(tiny.batch_for(config), device)
    torch.manual_seed(STEP.step)
    loss = method(batch, STEP)
    loss.total.backward()
    with torch.no_grad():
        method.after_step(loss, STEP)
    return loss.total.detach().cpu(), [p.grad.cpu() for p in method.parameters() if p.grad is not None]


def half(config: MethodConfig, device: torch.device) -> bool:
    """Return whether the loss and the gradients are finite under autocast to bf16."""
    method = build(config).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        loss = method(on(tiny.batch_for(config), device), STEP)
    loss.total.backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    return bool(loss.total.isfinite()) and all(bool(g.isfinite().all()) for g in gradients)


def on(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device."""
    views, masks = (tuple(part.to(device) for part in parts) for parts in (batch.views, batch.masks))
    labels, partners = (None if t is None else t.to(device) for t in (batch.labels, batch.partner_indices))
    return Batch(views, batch.indices.to(device), labels, partners, masks=masks)


def relative(a: Tensor, b: Tensor) -> float:
    """Return the norm of the difference over the norm."""
    return float((a - b).norm() / a.norm().clamp(min=1e-6))


def runs_resume(machine: Machine) -> Findings:
    """Compare a run with one that was stopped after half of its steps, and with a repeat."""
    store = random_store(64, 32)
    whole, again, halves = (weights(store, machine, "whole"), weights(store, machine, "again"), stopped(store, machine))
    yield {"repeat": difference(whole, again), "resumed": difference(whole, halves)}


def resident_is_streamed(machine: Machine) -> Findings:
    """Compare batches from a store on the device with those that are read through pinned memory."""
    store, views = random_store(256, 32), view_specs(preset("simclr", 32))
    fits, batches = loading._fits, []
    for resident in (True, False):
        loading._fits = lambda images, device, fits=resident: fits  # type: ignore[misc]
        loader = Loader(store, views, 64, seed=0, device=machine.device)
        batches.append([v for batch in loader.batches(0, 6) for v in batch.views])
    loading._fits = fits
    yield {"equal": all(torch.equal(a, b) for a, b in zip(*batches, strict=True))}


def one_process_group(machine: Machine) -> Findings:
    """Compare the gradient of a step under DDP, in a group of one process, with that of the method alone."""
    config = tiny.configs()["simclr"]
    alone = torch.cat([gradient.flatten() for gradient in step(config, machine.device)[1]])
    backend, meeting = "nccl" if machine.device.type == "cuda" else "gloo", machine.baseline / "process-group"
    torch.distributed.init_process_group(backend, init_method=f"file://{meeting.absolute()}", rank=0, world_size=1)
    try:
        method = build(config).to(machine.device)
        wrapped = torch.nn.parallel.DistributedDataParallel(method)
        torch.manual_seed(STEP.step)
        wrapped(on(tiny.batch_for(config), machine.device), STEP).total.backward()
        joined = torch.cat([p.grad.cpu().flatten() for p in method.parameters() if p.grad is not None])
    finally:
        torch.distributed.destroy_process_group()
    yield {"backend": backend, "gradient": relative(alone, joined)}


def compiled_is_eager(machine: Machine) -> Findings:
    """Compare the losses of a compiled backbone with those of an eager one."""
    if machine.toy:
        yield {"skipped": "a CPU compiles for minutes"}
        return
    store = random_store(64, 32)
    eager, compiled = (losses(store, machine, f"compile-{on}", compile=on) for on in (False, True))
    yield {"eager": eager, "compiled": compiled}


def random_store(count: int, size: int) -> Store:
    """Return a labeled store of smooth random images."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    side = size // 8
    return Store.from_arrays(coarse.repeat(side, axis=1).repeat(side, axis=2), np.arange(count) % 10)


QUARTER = BackboneConfig(
    name="resnet18", image_size=32, args={"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}
)


def fresh() -> Method:
    """Return SimCLR with a small head around the quarter-width ResNet-18."""
    torch.manual_seed(0)
    method: Method = tiny.shrink(method_config("simclr")()).build(build_backbone(QUARTER))
    return method


def go(store: Store, run: Path, cfg: TrainConfig, *, resume: bool = False) -> Method:
    """Train and return the method."""
    method = fresh()
    train(
        method,
        store,
        view_specs(preset("simclr", 32)),
        cfg,
        OptimConfig(lr=1e-3),
        run,
        config=to_json(QUARTER),
        resume=resume,
    )
    return method


CFG = TrainConfig(
    epochs=2, batch_size=16, eval_every_epochs=0, log_every_steps=1, health_every_steps=0, checkpoint_every_minutes=0
)


def weights(store: Store, machine: Machine, name: str) -> dict[str, Tensor]:
    """Return the weights of a whole run."""
    return go(store, machine.baseline / name, CFG).state_dict()


class _StopError(Exception):
    """End a run at a step."""


def stopped(store: Store, machine: Machine) -> dict[str, Tensor]:
    """Return the weights of a run that is resumed from the checkpoint of its half."""
    folder = machine.baseline / "stopped"
    method = fresh()
    views = view_specs(preset("simclr", 32))

    after, count = method.after_step, iter(range(10**6))

    def stop(loss: Any, step_info: StepInfo) -> None:
        after(loss, step_info)
        if next(count) == 4:
            raise _StopError

    method.after_step = stop  # type: ignore[method-assign]
    with suppress(_StopError):
        train(method, store, views, CFG, OptimConfig(lr=1e-3), folder, config=to_json(QUARTER))
    return go(store, folder, CFG, resume=True).state_dict()


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Return the largest difference of any tensor."""
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


def losses(store: Store, machine: Machine, name: str, compile: bool) -> list[float]:
    """Return what metrics.csv has."""
    run = Path(tempfile.mkdtemp(dir=machine.baseline)) / name
    go(store, run, replace(CFG, compile=compile))
    lines: Iterator[str] = iter((run / "metrics.csv").read_text().splitlines())
    column = next(lines).split(",").index("loss")
    return [round(float(line.split(",")[column]), 5) for line in lines]
