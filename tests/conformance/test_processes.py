"""Two processes give the loss and the gradients of one process with the joined batch, for every method."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from limbeck.contracts import Batch, Clock
from limbeck.distributed import sync_batchnorm
from limbeck.methods import Method, MethodConfig
from tests.tiny import batch_for, configs, tiny_vit

CONFIGS = configs()
CLOCK = Clock(step=3, steps=10)


def build(config: MethodConfig) -> Method:
    torch.manual_seed(0)
    method = config.build(tiny_vit()).double()
    with torch.no_grad():  # a fresh CLS token is 1e-6 long: its LayerNorm blows rounding errors up
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return method


def half(whole: Batch, rank: int) -> Batch:
    """What one of two processes sees of a batch."""
    assert whole.labels is not None
    views = tuple(view.chunk(2)[rank] for view in whole.views)
    return Batch(views, whole.rows.chunk(2)[rank], whole.labels.chunk(2)[rank])


def outcome(method: Method, total: Tensor) -> dict[str, Tensor]:
    """The loss, every gradient, and every buffer (BatchNorm statistics) after the step."""
    grads = {f"grad {k}": p.grad for k, p in method.named_parameters() if p.grad is not None}
    buffers = {f"buffer {k}": b for k, b in method.named_buffers()}
    return {"loss": total.detach(), **grads, **buffers}


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {}
    for name, config in CONFIGS.items():
        method = build(config)
        sync_batchnorm(method, torch.device("cpu"))
        parallel = DistributedDataParallel(method)  # averages gradients for as long as it lives
        total = parallel(half(batch_for(config, dtype=torch.float64), rank), CLOCK).total
        total.backward()
        mean = total.detach().clone()
        dist.all_reduce(mean)
        results[name] = outcome(method, mean / 2)
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    mp.start_processes(one_of_two, args=(str(folder),), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_equal_one(name: str, two: list[dict[str, dict[str, Tensor]]]) -> None:
    method = build(CONFIGS[name])
    total = method(batch_for(CONFIGS[name], dtype=torch.float64), CLOCK).total
    total.backward()
    expected = outcome(method, total)
    for found in two:
        assert found[name].keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-8, atol=1e-11, msg=f"{name}: {key}")
