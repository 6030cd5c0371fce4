"""A script for test_processes.py: trains the toy in two processes, and writes what each of them saw and trained."""

import sys
from pathlib import Path

import torch

from limbeck.core.distributed import rank, world_size
from limbeck.core.types import LossOutput, StepInfo
from tests.helpers.toy import Toy, fit, toy


class Watched(Toy):
    """A toy that records the rows of its own process."""

    def __init__(self) -> None:
        super().__init__(norm=False, noise=0.0)
        self.given: list[torch.Tensor] = []

    def after_step(self, loss: LossOutput, step_info: StepInfo) -> None:
        super().after_step(loss, step_info)
        self.given.append(loss.memory["rows"])


def main() -> None:
    torch.set_num_threads(1)
    run = Path(sys.argv[1])
    method = toy(kind=Watched)
    assert isinstance(method, Watched)
    fit(run, method, devices=2, accumulate_steps=2, log_every_steps=2)
    assert world_size() == 2
    torch.save({"rows": torch.stack(method.given), "weight": method.backbone[1].weight.detach()}, run / f"{rank()}.pt")


if __name__ == "__main__":
    main()
