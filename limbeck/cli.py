"""The command line: one verb, one function call, one path or one table.

Exit codes: 0 done, 1 the data, a run or a setting is wrong, 2 the command itself is, 128 + signal stopped on request.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from limbeck.data.findings import Choice
from limbeck.errors import UserError, nearest

T = TypeVar("T")
Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
Out = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
Run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True, kw_only=True)
class StoreArgs:
    """Decode images once into a store: small pictures in one memory map, with labels and a list of what was skipped."""

    source: Source
    """Folder (class sub-folders become labels), .parquet, .tar (WebDataset), .npz or .npy files, or a hub name."""
    out: Out
    """Folder of the new store."""
    size: int | None = None
    """Side in pixels; by default the images' own when small (up to 128), else 256."""
    workers: int | None = None
    """Decoding threads; by default one per core."""
    allow_bad: float = 0.05
    """Share of the images that may be unreadable."""
    leave_out: tuple[Choice, ...] = ()
    """Findings of `limbeck check` whose images are not used either."""


@dataclass(frozen=True, kw_only=True)
class CheckArgs:
    """Look at every file once, before anything is trained: what will be used, what will not, and why.

    Prints a table of findings and writes check.csv (every file with a finding) and check.html (with thumbnails). Of a
    store it says whether it is whole, and whether its source has changed.
    """

    source: Source
    """What `limbeck store` takes, or a store."""
    out: str = "check"
    """Folder for check.csv and check.html."""
    fix_into: str | None = None
    """Also build a store there, of exactly the images that can be used."""
    size: int | None = None
    """Side of the stored images in pixels; by default as `limbeck store` chooses."""
    workers: int | None = None
    """Decoding threads; by default one per core."""
    allow_bad: float = 0.05
    """Share of the images that may be unreadable; more is an error, after the scan."""
    leave_out: tuple[Choice, ...] = ()
    """Findings whose images are not used either."""


@dataclass(frozen=True, kw_only=True)
class ResumeArgs:
    """Go on with a run that was stopped or killed, to the same numbers as if it had not been."""

    run: Run
    """Folder of the run."""
    stop_on_collapse: bool = True
    """End the run if its embeddings collapse, unless it was started without."""


@dataclass(frozen=True, kw_only=True)
class ExportArgs:
    """Write the trained network, cut at a depth, and prove that the file is the same network."""

    run: Run
    """Folder of a run, or of an encoder."""
    out: Out
    """New folder for the export."""
    depth: int | None = None
    """Blocks or stages to keep; by default all."""
    format: Literal["timm", "onnx", "torch"] = "timm"
    """timm: a folder for timm.create_model("local-dir:..."); onnx: model.onnx; torch: a torch.export program."""
    fold_preprocessing: bool = False
    """Take uint8 pixels and normalise inside the network (onnx and torch)."""


@dataclass(frozen=True, kw_only=True)
class ReportArgs:
    """One HTML page about runs: what each layer is worth, how training went, how each run can be repeated."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs."""
    out: str = "report.html"
    """The page."""


@dataclass(frozen=True, kw_only=True)
class MethodsArgs:
    """What there is to train with: the idea of each method, what it keeps, what it costs and when to use it."""


@dataclass(frozen=True, kw_only=True)
class DemoArgs:
    """The whole way on 5,000 handwritten digits, in minutes on a laptop: store, pretrain, evaluate, cut, report."""

    out: str = "demo"
    """Folder for everything that the demo writes."""
    epochs: int = 12
    """Passes over the 4,000 training images, for each of the two runs."""


def _store(argv: Sequence[str]) -> None:
    args = _parse(StoreArgs, argv, "store")
    from limbeck.data.store import build_store

    print(build_store(**vars(args)).path)


def _check(argv: Sequence[str]) -> None:
    args = _parse(CheckArgs, argv, "check")
    from limbeck.data.doctor import check, check_store
    from limbeck.data.files import is_store

    if is_store(Path(args.source)):
        if args.fix_into:
            raise UserError(f"'{args.source}' is a store already: leave --fix-into out")
        print("\n".join(check_store(Path(args.source))))
        return
    from rich.console import Console

    found = check(**vars(args))
    if found.counts.found:
        Console().print(found.table())
    _tell(found.sentence())
    _tell(f"written to {found.folder / 'check.csv'} and {found.folder / 'check.html'}")
    found.require()
    if found.store:
        print(found.store)


def _training(argv: Sequence[str], verb: str, help_text: str) -> tuple[str, dict[str, Any]]:
    """The folder of a run, and the arguments of `limbeck.pretrain` and `limbeck.plan`."""
    from limbeck.backbones import BackboneConfig
    from limbeck.methods import HostConfig, MethodConfig, method_config
    from limbeck.recipes import default_optim
    from limbeck.train.config import TrainConfig
    from limbeck.train.optim import OptimConfig

    chosen, rest = _take_names(argv, ("--method", "--method.host", "--backbone"))
    method = method_config(chosen.get("--method", "sdssl"))()
    if host := chosen.get("--method.host"):
        if "host" not in {f.name for f in dataclasses.fields(method)}:
            raise UserError(f"method '{method.name}' builds on no other method; leave --method.host out")
        method = dataclasses.replace(method, host=HostConfig.choose(host)())  # type: ignore[call-arg]
    backbone = BackboneConfig(name=chosen.get("--backbone", BackboneConfig().name))

    @dataclass(frozen=True, kw_only=True)
    class PretrainArgs:
        source: Source
        """What `limbeck store` takes, or a store."""
        out: str | None = None
        """Folder of the run; by default runs/METHOD-SOURCE."""
        size: int | None = None
        """Side of the stored images in pixels; by default as `limbeck store` chooses."""
        allow_bad: float = 0.05
        """Share of the images that may be unreadable."""
        train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
        method: MethodConfig = field(default_factory=lambda: method)
        backbone: BackboneConfig = field(default_factory=lambda: backbone)
        optim: OptimConfig = field(default_factory=lambda: default_optim(backbone.name))

    PretrainArgs.__doc__ = help_text
    args = _parse(PretrainArgs, rest, verb)
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.name != "out"}
    return args.out or f"runs/{args.method.name}-{Path(args.source).stem}", given | {"say": _tell}


def _pretrain(argv: Sequence[str]) -> None:
    out, given = _training(argv, "pretrain", _PRETRAIN_HELP)
    from limbeck.run import pretrain

    _print_once(pretrain(out=out, **given))


def _plan(argv: Sequence[str]) -> None:
    _, given = _training(argv, "plan", _PLAN_HELP)
    from limbeck.run import plan

    print(plan(**given))


def _resume(argv: Sequence[str]) -> None:
    args = _parse(ResumeArgs, argv, "resume")
    from limbeck.run import resume

    _print_once(resume(args.run, stop_on_collapse=args.stop_on_collapse))


def _evaluate(argv: Sequence[str]) -> None:
    from rich.console import Console

    from limbeck.evaluate.config import EvaluateConfig
    from limbeck.run import evaluate_run

    @dataclass(frozen=True, kw_only=True)
    class EvaluateArgs:
        """Judge every layer: k-NN, linear probe, alignment, rank and cost, beside the same network untrained."""

        run: Run
        """Folder of the run."""
        train: str
        """Labelled images to fit on: what `limbeck store` takes, or a store."""
        test: str
        """Labelled images to score, with the same label names."""
        evaluate: Annotated[EvaluateConfig, tyro.conf.arg(name="")] = field(default_factory=EvaluateConfig)

    args = _parse(EvaluateArgs, argv, "evaluate")
    result = evaluate_run(args.run, args.train, args.test, args.evaluate)
    Console().print(result.table())
    _tell(f"written to {Path(args.run) / 'result.json'}")


def _export(argv: Sequence[str]) -> None:
    args = _parse(ExportArgs, argv, "export")
    from limbeck.export import export

    result = export(args.run, args.out, args.depth, args.format, args.fold_preprocessing)
    _tell(
        f"depth {result.depth}, {result.dim} features, {result.file_bytes / 1e6:.1f} MB; "
        f"largest difference from PyTorch {result.difference:.1e}; "
        f"{result.latency_ms:.2f} ms per image on this CPU (PyTorch {result.torch_latency_ms:.2f} ms)"
    )
    print(result.path)


def _report(argv: Sequence[str]) -> None:
    args = _parse(ReportArgs, argv, "report")
    from limbeck.report import write_report

    print(write_report([Path(run) for run in args.runs], Path(args.out)))


def _methods(argv: Sequence[str]) -> None:
    _parse(MethodsArgs, argv, "methods")
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from limbeck.methods import method_config, method_names

    table = Table("method", "idea", "keeps", "cost", "when to use it", box=SIMPLE_HEAD, pad_edge=False)
    for name in method_names():
        card = method_config(name).card
        table.add_row(name, card.idea, card.keeps, f"{card.cost:.1f}", card.when)
    Console().print(table)
    _tell("cost: time of a training step in steps of supervised training of the same network on as many images")


def _demo(argv: Sequence[str]) -> None:
    args = _parse(DemoArgs, argv, "demo")
    from limbeck.demo import demo

    print(demo(Path(args.out), args.epochs, _tell))


VERBS: dict[str, tuple[Callable[[Sequence[str]], None], str]] = {
    "check": (_check, "find what is wrong with images before training does"),
    "store": (_store, "decode images once into a store"),
    "methods": (_methods, "what there is to train with, what it costs and when to use it"),
    "plan": (_plan, "what a training would cost: speed, memory, batch, hours, disk"),
    "pretrain": (_pretrain, "train a backbone on unlabelled images"),
    "resume": (_resume, "go on with a run that was stopped or killed"),
    "evaluate": (_evaluate, "judge every layer of a run, beside the untrained network"),
    "export": (_export, "write the network, cut at a depth, for timm, ONNX or PyTorch"),
    "report": (_report, "one HTML page about runs"),
    "demo": (_demo, "the whole way on real handwritten digits, in minutes"),
}

_PRETRAIN_HELP = """Train a backbone on unlabelled images.

    limbeck pretrain photos/
    limbeck pretrain photos/ --method sdssl --method.host mocov3 --backbone vit_small_patch16_224 --epochs 200

--method NAME, --method.host NAME (for sdssl) and --backbone NAME (any timm model) decide which options follow.
"""


_PLAN_HELP = """Take a few steps of a training, and say what the whole of it would cost. Options are those of pretrain.

    limbeck plan photos/ --method sdssl --backbone vit_small_patch16_224 --epochs 200
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command and exits."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        sys.exit(0 if argv else 2)
    if argv[0] not in VERBS:
        _fail(f"unknown command '{argv[0]}'{nearest(argv[0], VERBS)}; `limbeck --help` lists them", 2)
    try:
        VERBS[argv[0]][0](argv[1:])
    except UserError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except Exception as error:
        from limbeck.distributed import is_first_process
        from limbeck.train.interrupt import Interrupted

        if not isinstance(error, Interrupted):
            raise
        if is_first_process():
            _tell(str(error))
        sys.exit(error.code)


def _usage() -> str:
    lines = [f"  {verb:10}{line}" for verb, (_, line) in VERBS.items()]
    head = "usage: limbeck COMMAND ...   (limbeck COMMAND --help explains each)\n"
    return "\n".join([head, "From a folder of unlabelled images to a small, strong vision backbone.\n", *lines])


def _parse(kind: type[T], argv: Sequence[str], verb: str) -> T:
    return tyro.cli(kind, args=list(argv), prog=f"limbeck {verb}", registry=_json_arguments())


def _json_arguments() -> tyro.constructors.ConstructorRegistry:
    """Teaches tyro to read a dictionary as one JSON object."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def json_object(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        if info.type_origin is not dict:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="JSON",
            instance_from_str=lambda words: _json_object(words[0]),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [json.dumps(value)],
        )

    return registry


def _json_object(word: str) -> dict[str, Any]:
    value = json.loads(word)
    if not isinstance(value, dict):
        raise ValueError(f"{word} is not a JSON object")
    return value


def _take_names(argv: Sequence[str], flags: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Splits `--flag NAME` and `--flag=NAME` from the rest: these names decide which options there are."""
    found: dict[str, str] = {}
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in flags:
            found[flag] = value if equals else next(words, "")
        else:
            rest.append(word)
    return found, rest


def _print_once(result: Path) -> None:
    """The result of a command that several processes may run."""
    from limbeck.distributed import is_first_process

    if is_first_process():
        print(result)


def _tell(message: str) -> None:
    print(message, file=sys.stderr)


def _fail(message: str, code: int) -> None:
    _tell(f"limbeck: {message}")
    sys.exit(code)


if __name__ == "__main__":
    main()
