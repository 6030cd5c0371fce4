"""Commands for training: methods, plan, pretrain, distill, resume."""

import dataclasses
import json
import logging
import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
import yaml

from limbeck.cli.arguments import Run, output_words, peek
from limbeck.cli.command import Command, Output, UsageError
from limbeck.cli.next import export_commands, report_command, run_modality
from limbeck.cli.plan import check_alone, plan_many
from limbeck.cli.run_arguments import adapt_arguments, distill_arguments, plan_arguments, pretrain_arguments
from limbeck.core.config import to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.core.run_folder import ADAPTATION, ENCODER, METRICS
from limbeck.runs.recipes import RECIPES, describe, find_recipe

logger = logging.getLogger(__name__)
GROUP = "Train"
TRAINING = (
    "--out", "--quick", "--time", "--recipe", "--method", "--method.host", "--backbone", "--backbone.image-size",
    "--window", "--stride", "--from", "--epochs", "--batch-size", "--optim", "--optim.lr", "--config",
)  # fmt: skip
PLANNED = (
    "--time", "--method", "--backbone", "--backbone.image-size", "--epochs", "--batch-size", "--config",
    "--images", "--machines", "--gpus", "--constants",
)  # fmt: skip
ADAPTATION_FLAGS = (
    "--from", "--out", "--time", "--recipe", "--backbone", "--backbone.image-size", "--method.distance-weight",
    "--epochs", "--batch-size", "--optim.lr", "--devices", "--config",
)  # fmt: skip
DISTILLATION = (
    "--out", "--quick", "--time", "--recipe", "--teacher", "--teacher.image-size", "--teacher.cached-views",
    "--student", "--student.image-size", "--window", "--stride", "--from",
    "--method", "--epochs", "--batch-size", "--optim.lr", "--config",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MethodsArgs:
    """Arguments of `limbeck methods`."""

    markdown: bool = False
    """Print the tables of the documentation instead: all methods, hosts of SDSSL, distillers."""


@dataclass(frozen=True, kw_only=True)
class RecipesArgs:
    """Arguments of `limbeck recipes`."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    """The recipe to show; by default all of them are listed."""


@dataclass(frozen=True, kw_only=True)
class ResumeArgs:
    """Arguments of `limbeck resume`."""

    run: Run
    """Folder of the run."""
    stop_on_collapse: bool = True
    """Stop the run if its embeddings collapse. One that was started with --no-stop-on-collapse never stops."""
    store: str | None = None
    """Where the store is now, if it has moved."""
    companion: str | None = None
    """Where the companion of the images is now, if it has moved."""
    teacher: str | None = None
    """Where the teacher is now, if it has moved."""
    devices: int | None = None
    """Processes per machine, if they are others than before."""
    num_nodes: int | None = None
    """Machines, if they are others than before."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] | None = None
    """Kind of device, if it is another one than before."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] | None = None
    """Precision, if it is another one than before; the numbers then differ by rounding."""
    attention: Literal["auto", "fused", "plain"] | None = None
    """Kernel of attention, if it is another one than before; likewise."""
    memory_format: Literal["auto", "channels-last", "contiguous"] | None = None
    """Order of activations in memory, if it is another one than before; likewise."""


def _methods(args: MethodsArgs) -> Output:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from limbeck.methods import method_config, method_names

    cards = {name: method_config(name).card for name in method_names()}
    data = {"methods": [{"name": name, **card._asdict()} for name, card in cards.items()]}
    if args.markdown:
        from limbeck.methods.base.tables import PAGES

        return Output(data, [f"{table(folder)}\n" for folder, table in PAGES.values()])
    table = Table("method", "idea", "state", "cost", "when to use it", box=SIMPLE_HEAD, pad_edge=False)
    for name, card in cards.items():
        table.add_row(name, card.summary, card.state, f"{card.cost:.1f}", card.use_when)
    logger.info("cost: duration of a training step, relative to supervised training on as many images")
    return Output(data, [table])


def _recipes(args: RecipesArgs) -> Output:
    if args.name is None:
        return _recipe_table()
    recipe, text = find_recipe(args.name), describe(args.name)
    facts = [f"{key + ':':10}{value}" for key, value in text.items() if key != "summary"]
    settings = yaml.safe_dump(to_json(recipe.settings), sort_keys=False, default_flow_style=None).strip()
    data = {"name": args.name, **text, "verb": recipe.verb, "run_time": recipe.time, "settings": recipe.settings}
    return Output(data, [text["summary"], "", *facts, "", "# for --config, to be changed", settings])


def _recipe_table() -> Output:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    found = {name: describe(name) for name in RECIPES}
    table = Table("recipe", "what it does", "command", "time", box=SIMPLE_HEAD, pad_edge=False)
    for name, text in found.items():
        table.add_row(name, text["summary"], f"limbeck {find_recipe(name).verb}", text["time"])
    data = {"recipes": [{"name": name, **text} for name, text in found.items()]}
    return Output(data, [table], next_commands=[f"limbeck recipes {next(iter(found))}"])


def _plan(args: Any) -> Output:
    from limbeck.runs.api import plan

    if args.print_config:
        return _resolved(args)
    if args.images is not None:
        return plan_many(args, _request)
    check_alone(args)
    found = plan(**_request(args))
    verb = "distill" if hasattr(args, "student") else "pretrain"
    again = shlex.join(["limbeck", verb, *(word for word in args.words if word not in output_words())])
    return Output(dataclasses.asdict(found), [str(found)], next_commands=[again])


def _pretrain(args: Any) -> Output:
    from limbeck.runs.api import pretrain

    if args.print_config:
        return _resolved(args)
    request = _request(args)
    return _finished(pretrain(out=_run_folder(args, request), **request))


def _distill(args: Any) -> Output:
    from limbeck.runs.api import distill

    if not args.teacher.name:
        raise UsageError("a distillation needs --teacher NAME: a timm model or a folder", code="no-teacher")
    if args.print_config:
        return _resolved(args)
    request = _request(args)
    return _finished(distill(out=_run_folder(args, request), student=request.pop("backbone"), **request))


def _adapt(args: Any) -> Output:
    from limbeck.runs.api import adapt

    if not args.start.name:
        raise UsageError(
            "an adaptation needs --from START: a run, an export, a folder or a model of timm, or a file of weights",
            code="no-start",
        )
    if args.print_config:
        return _resolved(args)
    request = _request(args)
    out = _run_folder(args, request)
    del request["teacher"]
    return _finished(adapt(out=out, **request))


def _resume(args: ResumeArgs) -> Output:
    from limbeck.runs.resume import resume

    place = {field.name: getattr(args, field.name) for field in fields(args) if field.name != "run"}
    return _finished(resume(args.run, **place))


def _finished(run: Path) -> Output:
    files = {"run": run, "encoder": run / ENCODER, "metrics": run / METRICS}
    data: dict[str, Any] = {name: str(path) for name, path in files.items()} | {"last": _last_metrics(run / METRICS)}
    if (run / ADAPTATION).is_file():
        data["adaptation"] = read_json(run / ADAPTATION)
    evaluate = run_modality(run).evaluate_commands(str(run))
    return Output(data, [str(run)], next_commands=[*evaluate, *export_commands(run), report_command([run])])


def _last_metrics(file: Path) -> dict[str, float]:
    """Return the last value of every column of metrics.csv."""
    from limbeck.runs.listing import read_metrics

    last: dict[str, float] = {}
    for row in read_metrics(file):
        last |= row
    return last


def _request(args: Any) -> dict[str, Any]:
    """Return the arguments of a `RunRequest`."""
    distills = hasattr(args, "student")
    _check_network_named(args, "student" if distills else "backbone")
    shared = ("method", "optim", "training", "time", "quick", "store_size", "allow_bad")
    names = {name: name for name in shared} | {"backbone": "student" if distills else "backbone"}
    given = {name: _given(args, field) for name, field in names.items()}
    if args.recipe:
        given |= _length(args)
    source, start = _source(args), {"start": args.start if args.start.name else None}
    teacher = {"teacher": args.teacher} if hasattr(args, "teacher") else {}
    companion = {"companion": args.companion or args.file.text("companion")}
    return {"source": source} | given | start | teacher | companion | _selection(args, source)


def _length(args: Any) -> dict[str, Any]:
    """Return the time of a run with a recipe: that of the flags, or else that of the recipe."""
    if args.time:
        named = peek(args.words, "--epochs") is not None
        return {"training": args.training if named else replace(args.training, epochs="auto")}
    return {"time": find_recipe(args.recipe).time} if args.training.epochs == "auto" else {}


def _selection(args: Any, source: str) -> dict[str, Any]:
    """Return the patterns that are left out: of the flags, or else of the file, for a source that is no store."""
    from limbeck.data.store.layout import is_store

    given = {"exclude": args.exclude, "only": args.only, "max_images": args.max_images}
    if args.exclude or args.only or args.max_images is not None or is_store(Path(source)):
        return given
    return {
        "exclude": args.file.texts("exclude"),
        "only": args.file.texts("only"),
        "max_images": args.file.count("max_images"),
    }


def _check_network_named(args: Any, field: str) -> None:
    """Raise UsageError for arguments of a network that is not named: which one it would be depends on the machine."""
    if field not in args.unnamed:
        return
    network, usual = getattr(args, field), args.unnamed[field]
    for name in ("args", "cut"):
        if getattr(network, name, None) != getattr(usual, name, None):
            raise UsageError(
                f"--{field}.{name} is about one network, and none is named: add --{field} NAME (here it would be "
                f"'{network.name}', on another machine another one)",
                code="network-not-named",
            )


def _given(args: Any, field: str) -> Any:
    """Return an argument; None for a default that no flag repeats: the run replaces it by what fits the machine."""
    value, flags = getattr(args, field), [word.partition("=")[0] for word in args.words]
    named = any(flag == f"--{field}" or flag.startswith(f"--{field}.") for flag in flags)
    return value if named or field not in args.unnamed or args.unnamed[field] != value else None


def _source(args: Any) -> str:
    """Return the source of the command line, or the store of the configuration file unless its content has changed."""
    if args.source is not None:
        return args.source
    source, digest = args.file.text("store"), args.file.text("digest")
    if source is None:
        raise UsageError("no images are named: give a folder, a file, a store or a hub name", code="no-source")
    if digest is not None:
        from limbeck.modalities import modality_of

        given = args.student if hasattr(args, "student") else args.backbone
        network = args.file.over(given, "backbone", named=True)
        if modality_of(network).reopen(source, network).digest != digest:
            raise UserError(
                f"the store '{source}' has changed since '{args.config}' was written; name a store on the command line "
                "to train on what it holds now",
                code="store-changed",
            )
    return source


def _run_folder(args: Any, request: dict[str, Any]) -> str:
    from limbeck.runs.folder import default_folder
    from limbeck.runs.request import RunRequest
    from limbeck.runs.resolve import chosen_method

    return args.out or str(default_folder(chosen_method(RunRequest(**request)).name, request["source"]))


def _resolved(args: Any) -> Output:
    """Return the configuration that a run would have."""
    from limbeck.runs.request import RunRequest
    from limbeck.runs.resolve import resolve_run

    config = to_json(resolve_run(RunRequest(**_request(args))).cfg)
    assert isinstance(config, dict)
    return Output(config, [json.dumps(config, indent=2)])


METHODS = Command(
    GROUP,
    """List training methods, their cost and when to use each.""",
    lambda argv: MethodsArgs,
    _methods,
)
RECIPES_COMMAND = Command(
    GROUP,
    """List recipes: settings of a whole run, with what they were measured to reach.
  With a NAME: its command, hardware, time and expected accuracy, and its settings
  as a file for --config. `--recipe NAME` of pretrain, distill and adapt uses it.

Examples:
  limbeck recipes
  limbeck recipes laptop""",
    lambda argv: RecipesArgs,
    _recipes,
)
PLAN = Command(
    GROUP,
    """Measure what a training would cost: speed, memory, batch size, hours, disk.
  Parts of a few steps are timed and no run is written. On a CPU the fastest
  kernels are found, as a run of five minutes or more does. The options are those of
  `limbeck pretrain`, and with --teacher those of `limbeck distill`.
  --images N plans all stages of so many images on --machines with --gpus, from
  constants that are measured here, on SOURCE or on made photographs, or given.

Examples:
  limbeck plan photos/
  limbeck plan photos/ --method sdssl --backbone vit_small_patch16_224 --epochs 200
  limbeck plan photos/ --teacher vit_base_patch14_dinov2 --student resnet18
  limbeck plan photos/ --images 1e6 --machines 4 --method simclr --backbone resnet18
  limbeck plan --images 100e6 --machines 8 --gpus 8 --constants h200.yaml""",
    plan_arguments,
    _plan,
    PLANNED,
)
PRETRAIN = Command(
    GROUP,
    """Train a backbone on unlabeled images.
  --method NAME, --method.host NAME (for sdssl) and --backbone NAME (any timm
  model, or plain_cnn) decide which options follow. Values that are not given are
  chosen from the images and printed; on a CPU, without names and for up to an hour,
  by the recipe contrast (10,000 images or more) or laptop. --from starts from
  weights: a run, an export, a model or a folder of timm, a file.

Examples:
  limbeck pretrain photos/ --time 30m
  limbeck pretrain photos/ --from timm:resnet18
  limbeck pretrain photos/ --method simclr --backbone resnet18 --epochs 200
  limbeck pretrain photos/ --method sdssl --method.host mocov3 --backbone vit_small_patch16_224
  limbeck pretrain --config runs/a/config.json --out runs/b --seed 1""",
    pretrain_arguments,
    _pretrain,
    TRAINING,
)
DISTILL = Command(
    GROUP,
    """Distill a large model into a small one, without labels.
  --teacher is a timm model or a folder: a Limbeck run or export, or what timm
  or Hugging Face saved; more of them follow --teacher.further. --method NAME,
  --teacher NAME and --student NAME (any timm model) decide which options follow.

Examples:
  limbeck distill photos/ --teacher vit_base_patch14_dinov2 --student resnet18
  limbeck distill photos/ --teacher runs/big --student mobilenetv3_small_100 --method bingo --teacher.cached-views 4""",
    distill_arguments,
    _distill,
    DISTILLATION,
)
ADAPT = Command(
    GROUP,
    """Continue trained weights on your own images, held to them.
  --from is a run, an export, a folder or a model of timm, or a file of weights
  (for the network --backbone). A frozen copy holds the features near those of
  the start. A fifth of the images is held out; if the result is not better on
  them, with labels or without, the encoder of the run is that of the start.

Examples:
  limbeck adapt photos/ --from timm:efficientnet_lite0
  limbeck adapt photos/ --from runs/a --time 10m
  limbeck adapt photos/ --from weights.pth --backbone resnet50""",
    adapt_arguments,
    _adapt,
    ADAPTATION_FLAGS,
)
RESUME = Command(
    GROUP,
    """Continue a run that was stopped or killed.
  It continues from its last checkpoint; on a CPU it ends in the same weights as
  if it had never stopped.

Examples:
  limbeck resume runs/a""",
    lambda argv: ResumeArgs,
    _resume,
)
