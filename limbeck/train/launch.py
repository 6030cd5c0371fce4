"""Devices, precision and processes of a run: Fabric's settings, chosen from the configuration and the machine."""

import json
import logging
import os
import sys
import warnings
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core.config import Json
from limbeck.core.devices import choose_device, resolve_precision
from limbeck.core.distributed import gather, sync_batchnorm
from limbeck.core.errors import UserError, one_line
from limbeck.core.types import Encoder
from limbeck.train.config import TrainConfig
from limbeck.train.kernels import Kernels, fused_attentions, set_attention, set_memory_format

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.precision import Precision

logger = logging.getLogger(__name__)


def launch(cfg: TrainConfig) -> "Fabric":
    """Start and connect the processes of the run; every one of them returns from here with its own Fabric."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    device = check_launch(cfg)
    for name in ("lightning_fabric", "pytorch_lightning"):  # `describe` has the same information
        logging.getLogger(name).setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device.type,
        devices=cfg.devices,
        num_nodes=cfg.num_nodes,
        # Averages and queues are buffers, equal everywhere by construction: nothing to broadcast at each step.
        strategy=DDPStrategy(broadcast_buffers=False) if cfg.num_processes > 1 else "auto",
        plugins=[_precision(resolve_precision(cfg.precision, device), device)],
    )
    fabric.launch()
    return fabric


def _precision(precision: Literal["bf16", "fp16", "fp32"], device: torch.device) -> "Precision":
    """Return Fabric's plugin; that for fp16 scales the loss, so that small gradients do not vanish."""
    from lightning_fabric.plugins.precision import MixedPrecision, Precision

    if precision == "fp32":
        return Precision()
    return MixedPrecision("bf16-mixed" if precision == "bf16" else "16-mixed", device.type)


def scaler_of(fabric: "Fabric") -> torch.amp.GradScaler | None:
    """Return the loss scaler of a run in fp16; None in any other precision."""
    scaler: torch.amp.GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)
    return scaler


def check_launch(cfg: TrainConfig) -> torch.device:
    """Return the device of the run; raise UserError unless its processes can be started, which costs nothing to ask."""
    device = choose_device(cfg.accelerator)
    if device.type == "cuda" and cfg.devices > torch.cuda.device_count():
        raise UserError(
            f"devices is {cfg.devices} and torch finds {torch.cuda.device_count()} CUDA device(s) here",
            code="too-few-devices",
        )
    if device.type == "mps" and cfg.num_processes > 1:
        raise UserError(
            f"a Mac has one GPU, and {cfg.num_processes} processes were requested: leave devices out",
            code="too-few-devices",
        )
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # 1 also in an interactive shell
    started = int(os.environ.get("WORLD_SIZE", tasks if tasks > 1 else 0))  # 0: this process may start the others
    if started not in (0, cfg.num_processes):
        raise UserError(
            f"the launcher started {started} processes, and the settings are {cfg.devices} device(s) on "
            f"{cfg.num_nodes} machine(s): set --devices and --num-nodes as in the launcher's command",
            code="launcher-mismatch",
        )
    script = getattr(sys.modules["__main__"], "__file__", None) or ""  # "<stdin>" where Python reads from there
    if not started and cfg.num_processes > 1 and not os.path.isfile(script):
        raise UserError(
            f"{cfg.num_processes} processes run the same script, and there is none in a notebook, in an interactive "
            "Python or on stdin: save the code as a file and run `python FILE`, use the command `limbeck`, or take "
            "devices=1",
            code="no-script",
        )
    return device


def check_same_run(fabric: "Fabric", start: int, config: Json) -> None:
    """Raise UserError unless every process starts at the same step of the same run."""
    digest = blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=7).digest()
    local = torch.tensor([[start, int.from_bytes(digest)]], device=fabric.device)
    steps, settings = (set(column) for column in gather(local).T.tolist())
    if len(settings) > 1:
        raise UserError(
            "the processes were started with different settings: give all of them the same command",
            code="processes-differ",
        )
    if len(steps) > 1:
        raise UserError(
            f"the processes would continue from different steps ({', '.join(map(str, sorted(steps)))}): "
            "give all machines the same run folder",
            code="processes-differ",
        )


def prepare(method: nn.Module, fabric: "Fabric", cfg: TrainConfig) -> None:
    """Join BatchNorm over processes, move the weights to the device, choose kernels, compile the encoders."""
    kernels = Kernels.of(cfg, fabric.device)
    sync_batchnorm(method, fabric.device)
    set_memory_format(method.to(fabric.device), kernels.memory_format)
    set_attention(fused_attentions(method), kernels.attention)
    if fabric.device.type == "cuda":
        set_cuda_kernels()
    if cfg.compile and _compiles(fabric.device):
        for encoder in [module for module in method.modules() if isinstance(module, Encoder)]:
            encoder.compile()


def set_cuda_kernels() -> None:
    """Let cuDNN measure its kernels, since shapes never change within a run, and let float32 be float32.

    TF32 (10 bits of mantissa), which torch leaves on for convolutions, would also round the losses, which run in
    float32 to keep their digits; what may be rounded is in bf16 or fp16.
    """
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def _compiles(device: torch.device) -> bool:
    """Return whether torch.compile works here, which needs a C++ compiler or Triton; warn if it does not."""
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # compilers and torch's own code raise any kind
        reason = one_line(Exception(str(error).partition("\n\n")[0]))  # the rest is for developers of torch
        logger.warning("torch.compile does not work here, and the run goes on without: %s", reason)
        return False
    return True


def connect(fabric: "Fabric", method: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
    """Wrap the method in autocast and, with several processes, in DDP; return it with its optimizer."""
    with warnings.catch_warnings():
        # torch 2.15 prefers a newer name, which older ones do not know and which would also copy buffers at the start.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        module, wrapped = fabric.setup(method, optimizer)
    return module, wrapped


def describe(fabric: "Fabric") -> str:
    """Return devices and precision of the run, as in `"2 x cuda, bf16-mixed"`."""
    return f"{fabric.world_size} x {fabric.device.type}, {fabric.strategy.precision.precision}"


def environment(fabric: "Fabric", cfg: TrainConfig) -> dict[str, str]:
    """Return the environment on which the last digits of a run's numbers depend, besides its configuration."""
    precision, kernels = str(fabric.strategy.precision.precision), Kernels.of(cfg, fabric.device)
    return {
        "precision": precision,
        "attention": kernels.attention,
        "memory format": kernels.memory_format,
        "device": fabric.device.type,
        "torch": str(torch.__version__),
    }


def mean_over_processes(fabric: "Fabric", values: Tensor) -> Tensor:
    """Return the elementwise mean; waits for every process."""
    mean = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(mean, Tensor), "a tensor in, a tensor out"
    return mean


def any_process(fabric: "Fabric", flag: bool) -> bool:
    """Return whether `flag` is true in any process; waits for every process."""
    return bool(mean_over_processes(fabric, torch.tensor(float(flag), device=fabric.device)) > 0)


def seed_step(seed: int, step: int, fabric: "Fabric") -> None:
    """Make torch's random numbers a function of seed, step and process, so that no generator state needs saving."""
    word = int(np.random.SeedSequence((seed, step, fabric.global_rank)).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(word)
    if fabric.device.type == "cuda":
        torch.cuda.manual_seed(word)
    elif fabric.device.type == "mps":
        torch.mps.manual_seed(word)
