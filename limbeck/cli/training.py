"""Commands about training: methods, plan, pretrain, distill, resume."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from limbeck.cli import arguments
from limbeck.cli.arguments import Run, Source
from limbeck.core.errors import UserError
from limbeck.train.config import TrainConfig

if TYPE_CHECKING:
    from limbeck.methods import MethodConfig

_PRETRAIN_HELP = """Train a backbone on unlabelled images.

    limbeck pretrain photos/
    limbeck pretrain photos/ --method sdssl --method.host mocov3 --backbone vit_small_patch16_224 --epochs 200

--method NAME, --method.host NAME (for sdssl) and --backbone NAME (any timm model) decide which options follow.
"""

_PLAN_HELP = """Take a few steps of a training, and say what the whole of it would cost. Options are those of pretrain.

    limbeck plan photos/ --method sdssl --backbone vit_small_patch16_224 --epochs 200
"""


_DISTILL_HELP = """Teach a small network what a large one says of unlabelled images.

    limbeck distill photos/ --teacher vit_base_patch14_dinov2 --student resnet18
    limbeck distill photos/ --teacher runs/big --student mobilenetv3_small_100 --method bingo --teacher.cached-views 4

--teacher is a timm model, or a folder: a Limbeck run or export, or what timm or Hugging Face saved. --method NAME,
--teacher NAME and --student NAME (any timm model) decide which options follow.
"""


@dataclass(frozen=True, kw_only=True)
class _RunArgs:
    """What every run is asked."""

    source: Source
    """What `limbeck store` takes, or a store."""
    out: str | None = None
    """Folder of the run; by default runs/METHOD-SOURCE."""
    store_size: int | None = None
    """Side of the stored images in pixels; by default as `limbeck store` chooses."""
    allow_bad: float = 0.05
    """Share of the images that may be unreadable."""
    training: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


@dataclass(frozen=True, kw_only=True)
class MethodsArgs:
    """What there is to train with: the idea of each method, what it keeps, what it costs and when to use it."""


@dataclass(frozen=True, kw_only=True)
class ResumeArgs:
    """Go on with a run that was stopped or killed, to the same numbers as if it had not been."""

    run: Run
    """Folder of the run."""
    stop_on_collapse: bool = True
    """End the run if its embeddings collapse, unless it was started without."""


def methods(argv: Sequence[str]) -> None:
    """`limbeck methods`."""
    arguments.parse(MethodsArgs, argv, "methods")
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from limbeck.methods import method_config, method_names

    table = Table("method", "idea", "keeps", "cost", "when to use it", box=SIMPLE_HEAD, pad_edge=False)
    for name in method_names():
        card = method_config(name).card
        table.add_row(name, card.summary, card.state, f"{card.cost:.1f}", card.use_when)
    Console().print(table)
    arguments.tell(
        "cost: time of a training step in steps of supervised training of the same network on as many images"
    )


def plan(argv: Sequence[str]) -> None:
    """`limbeck plan`."""
    _, given = _training(argv, "plan", _PLAN_HELP)
    from limbeck.runs.api import plan

    print(plan(**given))


def pretrain(argv: Sequence[str]) -> None:
    """`limbeck pretrain`."""
    out, given = _training(argv, "pretrain", _PRETRAIN_HELP)
    from limbeck.runs.api import pretrain

    arguments.print_once(pretrain(out=out, **given))


def distill(argv: Sequence[str]) -> None:
    """`limbeck distill`."""
    from limbeck.methods import DistillConfig, distill_config
    from limbeck.models.backbone import BackboneConfig
    from limbeck.runs.defaults import DISTILL_OPTIM, STUDENT
    from limbeck.teachers.config import TeacherConfig
    from limbeck.train.optim import OptimConfig

    chosen, rest = arguments.take_names(argv, ("--method", "--teacher", "--student"))
    method = distill_config(chosen.get("--method", "simreg"))()
    named = TeacherConfig(name=chosen.get("--teacher", ""))
    small = BackboneConfig(name=chosen.get("--student", STUDENT))

    @dataclass(frozen=True, kw_only=True)
    class DistillArgs(_RunArgs):
        teacher: TeacherConfig = field(default_factory=lambda: named)
        student: BackboneConfig = field(default_factory=lambda: small)
        method: DistillConfig = field(default_factory=lambda: method)
        optim: OptimConfig = field(default_factory=lambda: DISTILL_OPTIM)

    DistillArgs.__doc__ = _DISTILL_HELP
    args = arguments.parse(DistillArgs, rest, "distill")
    if not args.teacher.name:
        raise UserError("distillation needs a teacher: say --teacher with a timm model or a folder")
    from limbeck.runs.api import distill

    out, given = _asked(args, args.method)
    arguments.print_once(distill(out=out, **given))


def resume(argv: Sequence[str]) -> None:
    """`limbeck resume`."""
    args = arguments.parse(ResumeArgs, argv, "resume")
    from limbeck.runs.api import resume

    arguments.print_once(resume(args.run, stop_on_collapse=args.stop_on_collapse, say=arguments.tell))


def _training(argv: Sequence[str], verb: str, help_text: str) -> tuple[str, dict[str, Any]]:
    """The folder of a run, and the arguments of `limbeck.pretrain` and `limbeck.plan`."""
    from limbeck.methods import HostConfig, MethodConfig, method_config
    from limbeck.models.backbone import BackboneConfig
    from limbeck.runs.defaults import default_optim
    from limbeck.train.optim import OptimConfig

    chosen, rest = arguments.take_names(argv, ("--method", "--method.host", "--backbone"))
    method = method_config(chosen.get("--method", "sdssl"))()
    if host := chosen.get("--method.host"):
        if "host" not in {f.name for f in dataclasses.fields(method)}:
            raise UserError(f"method '{method.name}' builds on no other method; leave --method.host out")
        method = dataclasses.replace(method, host=HostConfig.choose(host)())  # type: ignore[call-arg]
    backbone = BackboneConfig(name=chosen.get("--backbone", BackboneConfig().name))

    @dataclass(frozen=True, kw_only=True)
    class PretrainArgs(_RunArgs):
        method: MethodConfig = field(default_factory=lambda: method)
        backbone: BackboneConfig = field(default_factory=lambda: backbone)
        optim: OptimConfig = field(default_factory=lambda: default_optim(backbone.name))

    PretrainArgs.__doc__ = help_text
    args = arguments.parse(PretrainArgs, rest, verb)
    return _asked(args, args.method)


def _asked(args: _RunArgs, method: "MethodConfig") -> tuple[str, dict[str, Any]]:
    """The folder of a run, and the other arguments of the function that makes it."""
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.name != "out"}
    return args.out or f"runs/{method.name}-{Path(args.source).stem}", given | {"say": arguments.tell}
