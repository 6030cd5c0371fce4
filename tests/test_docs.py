"""The documentation is true: links resolve, commands parse, options have those defaults, examples run."""

import dataclasses
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
from PIL import Image

from limbeck import cli
from limbeck.data.augment.views import PRESETS
from limbeck.methods import method_config, method_names
from limbeck.methods.base import tables
from limbeck.models import start
from limbeck.models.config import BackboneConfig

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\S*)[ ]?([^\n]*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
COMMAND = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:limbeck|(?:torchrun|python) .*-m limbeck\.cli) (.+)$")


class Block(NamedTuple):
    """A fenced block: its language, the rest of its first line, its text."""

    language: str
    mark: str
    text: str


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_resolve() -> None:
    broken = []
    for page in PAGES:
        for found in LINK.findall(prose(page)):
            target, _, anchor = (found[0] or found[1]).partition("#")
            file = (page.parent / target) if target else page
            outside = re.match(r"\w+:", target)
            if not outside and (not file.exists() or (anchor and anchor not in anchors(file))):
                broken.append(f"{name_of(page)}: {target}#{anchor}")
    assert not broken


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and words of every `limbeck ...` line outside Python; a line that ends in a backslash continues."""
    for page in PAGES:
        for block in blocks(page):
            for line in block.text.replace("\\\n", " ").splitlines() if block.language != "python" else ():
                if found := COMMAND.match(line.strip()):
                    yield name_of(page), found.group(1)
    for verb, command in cli.VERBS.items():
        for words in re.findall(r"^  limbeck (.+)$", command.help, re.M):
            yield f"limbeck {verb} --help", words


class Parsed(BaseException):
    """Raised in place of running a command."""


def test_commands_parse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the command line's own parser: an unknown flag, choice, method or network fails."""
    parse: Callable[..., Any] = cli.arguments.parse

    def stop(*args: Any) -> None:
        raise Parsed(parse(*args).args)

    monkeypatch.setattr(cli.arguments, "parse", stop)
    monkeypatch.setattr(cli.run_arguments, "_config_file", lambda path: cli.run_arguments.NO_FILE)  # not there
    monkeypatch.setattr(start, "start_form", lambda name: BackboneConfig())  # not there either
    offenders = {}
    for line, place in {line: place for place, line in commands()}.items():
        try:
            cli.main(shlex.split(re.split(" [>|] ", line)[0], comments=True))
        except Parsed as parsed:
            found = [getattr(parsed.args[0], name, None) for name in ("backbone", "student")]
            networks = [network.name for network in found if isinstance(network, BackboneConfig)]
            if unknown := [name for name in networks if not timm.is_model(name)]:
                offenders[f"{place}: {line}"] = f"no timm model {unknown}"
        except SystemExit as stopped:
            if stopped.code not in (0, None):  # --help ends with 0
                offenders[f"{place}: {line}"] = capsys.readouterr().err
    assert not offenders


def test_verbs_in_the_text_exist() -> None:
    verbs = {*cli.VERBS, "help"}
    assert not [
        f"{name_of(page)}: {verb}"
        for page in PAGES
        for verb in re.findall(r"`limbeck ([a-z]+)", prose(page))
        if verb not in verbs
    ]


def test_options_of_methods_are_documented_with_their_defaults() -> None:
    """The table on a method's page has a row for every field that is an option, whose second cell is the default."""
    documented, defined = {}, {}
    for name in method_names():
        page = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
        documented[name] = dict(re.findall(r"^\| `--method\.([\w-]+)` \| `([^`]+)`", page, re.M))
        config = method_config(name)()
        options = [f.name for f in dataclasses.fields(config) if not f.metadata.get("internal")]
        values = {option.replace("_", "-"): getattr(config, option) for option in options}
        defined[name] = {key: getattr(value, "name", str(value)) for key, value in values.items()}
    assert documented == defined


@pytest.mark.parametrize("page", tables.PAGES)
def test_tables_of_methods_are_those_of_the_cards(page: str) -> None:
    folder, table = tables.PAGES[page]
    text = (ROOT / page).read_text(encoding="utf-8")
    written = text.split(tables.BEGIN)[1].split(tables.END)[0].strip()
    assert written == table(folder), "run `python -m limbeck.methods.base.tables`"


def test_presets_of_views_are_documented() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `([\w-]+)` \| \d", page, re.M)) == PRESETS


def write_images(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    images = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03d}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a place with `photos` (512 images), `labeled/train` and `labeled/test` (two classes), for the examples."""
    folder = tmp_path_factory.mktemp("pictures")
    write_images(folder / "photos", 512, seed=0)
    for split in ("train", "test"):
        for label in ("cats", "dogs"):
            write_images(folder / "labeled" / split / label, 20, seed=len(split + label))
    return folder


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples_run(page: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks marked `python run` run, in one namespace per page, all but the training itself; the rest compiles.

    Every page has an empty folder at the same place, so that stores of the photographs are built and fitted once.
    """
    folder = pictures / "page"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("photos", "labeled"):
        (folder / name).symlink_to(pictures / name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(pictures / "cache"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("limbeck.runs.training.train", lambda *args, **kwargs: None)
    monkeypatch.setattr("limbeck.runs.measured_kernels.WORTH", float("inf"))  # no kernels are measured for it
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            code = compile(block.text, name_of(page), "exec")
            if block.mark == "run":
                exec(code, namespace)
