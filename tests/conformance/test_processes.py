"""Two processes take the step of one process with the joined batch, for every method, and end in the same state.

With gradients accumulated, two processes equal one process that accumulates as often: what is joined is a micro-batch.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from limbeck.core.distributed import rank, sync_batchnorm, world_size
from limbeck.core.types import StepInfo
from limbeck.methods import Method, MethodConfig
from limbeck.methods.config.barlow import BarlowConfig
from limbeck.methods.config.bingo import BINGOConfig
from limbeck.methods.config.byol import BYOLConfig
from limbeck.methods.config.compress import CompRessConfig
from limbeck.methods.config.mocov3 import MoCoV3Config
from limbeck.methods.config.sdssl import SDSSLConfig
from limbeck.methods.config.seed import SEEDConfig
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.methods.config.simreg import SimRegConfig
from limbeck.methods.config.simsiam import SimSiamConfig
from limbeck.methods.config.vicreg import VICRegConfig
from limbeck.methods.config.wmse import WMSEConfig
from limbeck.train.step import detach, join
from tests.helpers import tiny
from tests.helpers.forks import FORKS
from tests.helpers.tiny import CONTEXT, COUNT, batch_for, configs, part, shrink

# Besides every method as it is: what depends on the order of the rows of a batch, which processes share
VARIANTS: dict[str, MethodConfig] = {
    "wmse, slices": WMSEConfig(whitening_size=12, whitening_repeats=2, shrinkage=0.01),
    "sdssl-wmse, slices": SDSSLConfig(host=WMSEConfig(whitening_size=8, num_views=3, shrinkage=0.01)),
    "compress, two queues": CompRessConfig(num_queues=2),
    "seed, local crops": SEEDConfig(num_local_crops=2),
    "simreg, solved head": SimRegConfig(head="solved", solve_steps=1),
    "simreg, no head": SimRegConfig(head="none"),
    "byol, local crops": BYOLConfig(views="dino"),
    "sdssl-mocov3, local crops": SDSSLConfig(host=MoCoV3Config(views="multicrop")),
    "sdssl-simclr, local crops": SDSSLConfig(host=SimCLRConfig(num_local_crops=2)),
    "vicreg, local crops": VICRegConfig(num_local_crops=2),
    "barlow, local crops": BarlowConfig(num_local_crops=2),
    "simsiam, local crops": SimSiamConfig(num_local_crops=2),
    "wmse, local crops": WMSEConfig(num_local_crops=2, whitening_size=12, shrinkage=0.01),
    "simreg, range": SimRegConfig(range=1.1),
    "bingo, paper": BINGOConfig(symmetric=False, cutmix_alpha=0, warmup_fraction=0),
}
CONFIGS = configs() | {name: shrink(config).resolve(CONTEXT) for name, config in VARIANTS.items()}
STEP = StepInfo(step=3, total_steps=10)
MICRO = (1, 2)  # micro-batches of a step


def build(config: MethodConfig) -> Method:
    torch.manual_seed(0)
    method = tiny.build(config, tiny.encoder_for(config)).double()
    with torch.no_grad():  # a fresh CLS token is 1e-6 long: its LayerNorm blows rounding errors up
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return method


def take_step(method: Method, config: MethodConfig, micro: int) -> dict[str, Tensor]:
    """Take a step of `micro` micro-batches as the loop does, by plain descent; return loss, gradients and state.

    As the loader does it, a process gets every row that is a multiple of the number of processes after its first one.
    """
    # averages gradients for as long as it lives
    wrapped: Any = method if world_size() == 1 else DistributedDataParallel(method)
    torch.manual_seed(STEP.step)
    batch = batch_for(config, COUNT * micro, torch.float64)
    losses = []
    for index in range(micro):
        joined = part(batch, slice(index * COUNT, (index + 1) * COUNT))
        last = index == micro - 1
        with nullcontext() if last or method is wrapped else wrapped.no_sync():
            loss = wrapped(part(joined, slice(rank(), None, world_size())), STEP)
            (loss.total / micro).backward()
        losses.append(detach(loss))
    loss = join(losses)
    gradients = {f"grad {k}": p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)
        method.after_step(loss, STEP)
    total = loss.total.clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return {"loss": total / world_size(), **gradients, **{f"state {k}": v for k, v in method.state_dict().items()}}


def one_of_two(index: int, folder: str, names: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=index, world_size=2)
    results = {}
    for name in names:
        for micro in MICRO:
            method = build(CONFIGS[name])
            sync_batchnorm(method, torch.device("cpu"))
            results[f"{name} {micro}"] = take_step(method, CONFIGS[name], micro)
    torch.save(results, f"{folder}/rank{index}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[dict[str, dict[str, Tensor]]]:
    """Return the results of each of two processes, for the selected methods (`pytest -k`)."""
    folder: Path = tmp_path_factory.mktemp("processes")
    here = [item for item in request.session.items if item.path == request.path]
    names = [name for name in CONFIGS if any(f"[{name}-" in item.name for item in here)]
    start_processes(one_of_two, args=(str(folder), names), nprocs=2, start_method=FORKS.get_start_method())
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("micro", MICRO)
@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_equal_one(name: str, micro: int, two: list[dict[str, dict[str, Tensor]]]) -> None:
    expected = take_step(build(CONFIGS[name]), CONFIGS[name], micro)
    for found in (results[f"{name} {micro}"] for results in two):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-11, msg=f"{name}: {key}")


@pytest.mark.parametrize("micro", MICRO)
@pytest.mark.parametrize("name", CONFIGS)
def test_all_processes_have_the_same_state(name: str, micro: int, two: list[dict[str, dict[str, Tensor]]]) -> None:
    """Weights, EMA copies, queues, centers and statistics are equal to the last bit: nothing is ever broadcast."""
    first, second = (results[f"{name} {micro}"] for results in two)
    assert [key for key, value in first.items() if not torch.equal(value, second[key])] == []
