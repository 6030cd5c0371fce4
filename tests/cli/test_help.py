"""The help is one screen, lists what the parser accepts, and an unknown option is answered with the one meant."""

import contextlib
import io
import itertools
import re
import shlex
from pathlib import Path

import pytest

from limbeck import cli
from limbeck.cli import arguments
from limbeck.cli.flags import field_docs, list_flags
from limbeck.cli.help import NAMES
from limbeck.core.suggest import SYNONYMS, suggest
from limbeck.methods import method_names
from limbeck.train.config import TrainConfig
from tests.helpers.commands import Run

README = Path(__file__).parents[2] / "README.md"
SCREEN = 42  # lines
VARIANTS = [
    *([verb] for verb in cli.VERBS),
    ["pretrain", "--method", "simclr", "--backbone", "resnet18"],
    ["pretrain", "--method", "sdssl", "--method.host", "mocov3"],
    ["distill", "--method", "bingo", "--teacher", "resnet18"],
]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_is_one_screen(limbeck: Run, verb: str) -> None:
    code, out, _ = limbeck(verb, "--help")
    assert code == 0
    assert out.count("\n") <= SCREEN
    assert out.count("(") == out.count(")")  # no sentence ends within parentheses
    essential, flags = cli.VERBS[verb].essential, list_flags(cli.VERBS[verb].arguments(()))
    depends_on_a_name = {"--method.host", "--window", "--stride"}
    assert {*essential} - depends_on_a_name <= {flag.name for flag in flags}
    for flag in flags:
        shown = re.search(rf"^  (?:-\w, )?{re.escape(flag.name)}(?:\s|$)", out, re.M)
        assert bool(shown) == (flag.positional or not essential or flag.name in essential), flag.name
    assert ("--help-all" in out) == bool(essential)


def test_the_usage_has_brackets_around_what_may_be_left_out(limbeck: Run) -> None:
    assert limbeck("recipes", "--help")[1].splitlines()[0].endswith("recipes [NAME] [OPTIONS]")
    assert limbeck("embed", "--help")[1].splitlines()[0].endswith("embed SOURCE [OPTIONS]")


@pytest.mark.parametrize("argv", VARIANTS, ids=" ".join)
def test_the_listed_flags_are_those_of_the_parser(argv: list[str]) -> None:
    kind = arguments.with_output(cli.VERBS[argv[0]].arguments(argv[1:]))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        arguments.parse(kind, ["--help"], argv[0])
    heads = re.findall(r"^(?:│ | {1,4})(-.*)$", printed.getvalue(), re.M)
    parsed = {word for head in heads for word in re.findall(r"(?<!\S)--?[a-z][\w.-]*", head)} - {"-h", "--help"}
    assert {spelling for flag in list_flags(kind) if not flag.positional for spelling in flag.spellings} == parsed


@pytest.mark.parametrize("argv", VARIANTS, ids=" ".join)
def test_help_all_explains_every_flag(limbeck: Run, argv: list[str]) -> None:
    table = limbeck(*argv, "--help-all")[1].partition("\nOptions:")[2]
    for flag in list_flags(arguments.with_output(cli.VERBS[argv[0]].arguments(argv[1:]))):
        assert flag.help, flag.name
        assert len(re.findall(rf"^  (?:-\w, )?{re.escape(flag.name)}(?:\s|$)", table, re.M)) == 1


@pytest.mark.parametrize(
    "argv", [*VARIANTS, *(["pretrain", "--method", name] for name in method_names())], ids=" ".join
)
def test_what_switches_off_reads_as_one_order(argv: list[str]) -> None:
    """The help is made from that of the opposite: an order with a verb, and no clause that would be denied with it."""
    for flag in list_flags(cli.VERBS[argv[0]].arguments(argv[1:])):
        if not flag.positional and flag.name.rpartition(".")[2].removeprefix("--").startswith("no-"):
            assert re.match(r"Do not [a-z]+ [^:;]*\.(\s|$)", flag.help), flag.name


def test_flags_that_repeat_papers_come_last(limbeck: Run) -> None:
    _, out, _ = limbeck("pretrain", "--help-all")
    assert out.index("--optim.lr") < out.index("For research") < out.index("--optim.betas")


def test_help_shows_the_flags_of_the_readme(limbeck: Run) -> None:
    lines = re.findall(r"limbeck (\w+) ([^`|\n]*)", README.read_text(encoding="utf-8"))
    typed = [(verb, shlex.split(words)) for verb, words in lines if verb in cli.VERBS and "--help" not in words]
    assert len(typed) > 10
    for verb, words in typed:
        named = [w for flag, name in itertools.pairwise(words) if flag in NAMES for w in (flag, name)]
        _, out, _ = limbeck(verb, "--help", *named)
        assert [word for word in words if word.startswith("--") and word not in out.split()] == []


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("pretrain x --output y", "--out"),
        ("pretrain x --lr 1", "--optim.lr"),
        ("pretrain x --size 1", "--backbone.image-size"),
        ("pretrain x --model y", "--backbone"),
        ("pretrain x --epoch=3", "--epochs"),
        ("pretrain --data x", "SOURCE"),
        ("distill x --model y", "--student"),
        ("export a --output b", "OUT"),
        ("store a b --size 3", "--store-size"),
        ("check x --num-workers 3", "--workers"),
    ],
)
def test_an_unknown_option_is_answered_with_the_one_meant(limbeck: Run, line: str, meant: str) -> None:
    code, out, err = limbeck(*line.split(), "--json")
    assert code == 2
    assert '"unknown-option"' in out
    assert meant in re.findall(r"[\w.-]+", err)


def test_nothing_is_suggested_for_a_word_that_means_nothing() -> None:
    assert suggest("xyzzy", ["out", "optim.lr"]) == []
    assert suggest("learning-rate", ["out", "optim.lr", "teacher.lr"]) == ["optim.lr", "teacher.lr"]


def test_words_of_other_tools_stand_for_options_that_exist() -> None:
    kinds = [arguments.with_output(cli.VERBS[argv[0]].arguments(argv[1:])) for argv in VARIANTS]
    names = {flag.name.lower().removeprefix("--").rpartition(".")[2] for kind in kinds for flag in list_flags(kind)}
    assert {meant for options in SYNONYMS.values() for meant in options} <= {name.replace("-", "_") for name in names}


def test_a_description_is_the_string_below_the_field() -> None:
    assert field_docs(TrainConfig)["num_nodes"] == "Machines."
