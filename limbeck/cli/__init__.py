"""The command line: one verb, one function call, one path or one table.

Exit codes: 0 done, 1 the data, a run or a setting is wrong, 2 the command itself is, 128 + signal stopped on request.
"""

import sys
from collections.abc import Callable, Sequence

from limbeck.cli import data, results, training
from limbeck.cli.arguments import tell
from limbeck.core.errors import UserError, did_you_mean
from limbeck.core.logs import configure

VERBS: dict[str, tuple[Callable[[Sequence[str]], None], str]] = {
    "check": (data.check, "find what is wrong with images before training does"),
    "store": (data.store, "decode images once into a store"),
    "methods": (training.methods, "what there is to train with, what it costs and when to use it"),
    "plan": (training.plan, "what a training would cost: speed, memory, batch, hours, disk"),
    "pretrain": (training.pretrain, "train a backbone on unlabelled images"),
    "distill": (training.distill, "teach a small network what a large one says of unlabelled images"),
    "resume": (training.resume, "go on with a run that was stopped or killed"),
    "evaluate": (results.evaluate, "judge every layer of a run, beside the untrained network"),
    "export": (results.export, "write the network, cut at a depth, for timm, ONNX or PyTorch"),
    "report": (results.report, "one HTML page about runs"),
    "demo": (results.demo, "the whole way on real handwritten digits, in minutes"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command and exits."""
    configure()
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        sys.exit(0 if argv else 2)
    if argv[0] not in VERBS:
        _fail(f"unknown command '{argv[0]}'{did_you_mean(argv[0], VERBS)}; `limbeck --help` lists them", 2)
    try:
        VERBS[argv[0]][0](argv[1:])
    except UserError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except Exception as error:
        from limbeck.core.rank import is_rank0
        from limbeck.train.interrupt import Interrupted

        if not isinstance(error, Interrupted):
            raise
        if is_rank0():
            tell(str(error))
        sys.exit(error.code)


def _usage() -> str:
    lines = [f"  {verb:10}{line}" for verb, (_, line) in VERBS.items()]
    head = "usage: limbeck COMMAND ...   (limbeck COMMAND --help explains each)\n"
    return "\n".join([head, "From a folder of unlabelled images to a small, strong vision backbone.\n", *lines])


def _fail(message: str, code: int) -> None:
    tell(f"limbeck: {message}")
    sys.exit(code)
