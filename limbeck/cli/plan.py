"""`limbeck plan --images N`: what many images take on many machines."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from limbeck.cli.command import Output
from limbeck.core.errors import UserError

NEEDED = ("machines", "gpus", "constants")


def check_alone(args: Any) -> None:
    """Raise UserError for a flag that only a plan for many images has."""
    for name in NEEDED:
        if getattr(args, name) not in (None, 1):
            raise UserError(
                f"--{name} is for a plan of many images: add --images N, or leave it out (a run on several devices has "
                "--devices and --num-nodes)",
                code="flag-without-use",
            )


def plan_many(args: Any, request_of: Callable[[Any], dict[str, Any]]) -> Output:
    """Plan `args.images` images; `request_of` returns what the training is made from."""
    from limbeck.runs.request import RunRequest
    from limbeck.runs.scale.arithmetic import Workload
    from limbeck.runs.scale.constants import read_constants
    from limbeck.runs.scale.plan import plan_scale

    if args.time or args.quick:
        raise UserError(
            "--images plans whole epochs: leave --time and --quick out, or say --epochs", code="flag-without-use"
        )
    gpus = _gpus_here() if args.gpus is None else args.gpus
    workload = Workload(images=args.images, machines=args.machines, gpus=gpus)
    given = read_constants(args.constants)
    epochs = args.training.epochs
    named = replace_source(args)
    request = RunRequest(**(request_of(named) | ({"source": ""} if args.source is None else {})))
    found = plan_scale(workload, given=given, request=request, epochs=None if epochs == "auto" else epochs)
    source = "SOURCE" if args.source is None else shlex.quote(args.source)
    follow = [f"limbeck store {source} STORE --keep jpeg"]
    return Output(found.to_json(), found.tables(), next_commands=follow)


def replace_source(args: Any) -> Any:
    """Return the arguments with a source, which a plan on made photographs does not have."""
    return args if args.source is not None else replace(args, source="")


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()
