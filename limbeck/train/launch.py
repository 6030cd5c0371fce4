"""Where and how precisely to compute: Fabric's settings, chosen from the configuration and the machine."""

import json
import logging
import os
import warnings
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core.config import Json
from limbeck.core.devices import supports_bf16
from limbeck.core.distributed import gather, sync_batchnorm
from limbeck.core.errors import UserError
from limbeck.models.backbone import Backbone
from limbeck.train.config import TrainConfig

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Precision = Literal["bf16", "fp32"]


def choose_accelerator(cfg: TrainConfig) -> Literal["cpu", "cuda"]:
    """CUDA if there is any, unless the configuration says which."""
    if cfg.accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if cfg.accelerator == "cuda" and not torch.cuda.is_available():
        raise UserError("accelerator is 'cuda' and torch finds no CUDA device here; take 'auto' or 'cpu'")
    return cfg.accelerator


def choose_precision(cfg: TrainConfig, accelerator: Literal["cpu", "cuda"]) -> Precision:
    """bf16 where the hardware computes in it, unless the configuration says which."""
    if cfg.precision != "auto":
        return cfg.precision
    return "bf16" if supports_bf16(accelerator) else "fp32"


def launch(cfg: TrainConfig) -> "Fabric":
    """The processes of the run, started and connected; every one of them returns from here with its own Fabric."""
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    accelerator = choose_accelerator(cfg)
    if accelerator == "cuda" and cfg.devices > torch.cuda.device_count():
        raise UserError(f"devices is {cfg.devices} and torch finds {torch.cuda.device_count()} CUDA device(s) here")
    for name in ("lightning.fabric", "lightning.pytorch"):  # what they tell, `describe` says in our words
        logging.getLogger(name).setLevel(logging.WARNING)
    processes = cfg.devices * cfg.num_nodes
    if (started := _started() or processes) != processes:
        raise UserError(
            f"{started} processes were started for {cfg.devices} device(s) on {cfg.num_nodes} machine(s): "
            "say --devices and --num-nodes as the launcher does"
        )
    fabric = Fabric(
        accelerator=accelerator,
        devices=cfg.devices,
        num_nodes=cfg.num_nodes,
        # Averages and queues are buffers, equal everywhere by construction: nothing to broadcast at each step.
        strategy=DDPStrategy(broadcast_buffers=False) if processes > 1 else "auto",
        precision="bf16-mixed" if choose_precision(cfg, accelerator) == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def _started() -> int:
    """Processes that torchrun or srun started for this run; 0 where this one may start others itself."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # 1 also in an interactive shell
    return int(os.environ.get("WORLD_SIZE", tasks if tasks > 1 else 0))


def check_alike(fabric: "Fabric", start: int, config: Json) -> None:
    """UserError unless every process begins at the same step of the same run; otherwise they would mix two of them."""
    digest = blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=7).digest()
    ours = torch.tensor([[start, int.from_bytes(digest)]], device=fabric.device)
    steps, settings = (set(column) for column in gather(ours).T.tolist())
    if len(settings) > 1:
        raise UserError("the processes were started with different settings: give all of them the same command")
    if len(steps) > 1:
        raise UserError(
            f"the processes would go on from different steps ({', '.join(map(str, sorted(steps)))}): "
            "give all machines the same run folder"
        )


def prepare(method: nn.Module, fabric: "Fabric", cfg: TrainConfig) -> None:
    """In place: BatchNorms joined over processes, weights on the device in channels-last order, backbones compiled."""
    sync_batchnorm(method, fabric.device)
    method.to(fabric.device).to(memory_format=torch.channels_last)
    if fabric.device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # shapes never change within a run
    if cfg.compile:
        for backbone in [module for module in method.modules() if isinstance(module, Backbone)]:
            backbone.compile()


def connect(fabric: "Fabric", method: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
    """The method behind autocast and, with several processes, DDP; and its optimiser."""
    with warnings.catch_warnings():
        # torch 2.15 prefers a newer name, which older ones do not know and which would also copy buffers at the start.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        module, wrapped = fabric.setup(method, optimizer)
    return module, wrapped


def describe(fabric: "Fabric") -> str:
    """Where the run computes, and how precisely, as in `2 x cuda, bf16-mixed`."""
    return f"{fabric.world_size} x {fabric.device.type}, {fabric.strategy.precision.precision}"


def mean_over_processes(fabric: "Fabric", values: Tensor) -> Tensor:
    """Elementwise; waits for every process."""
    mean = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean


def seed_step(seed: int, step: int, fabric: "Fabric") -> None:
    """Makes torch's random numbers a function of seed, step and process: there is no generator's state to save."""
    word = int(np.random.SeedSequence((seed, step, fabric.global_rank)).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(word)
    if fabric.device.type == "cuda":
        torch.cuda.manual_seed(word)
