"""The rules of docs/design.md, read off the source: what may import what, what a file may name, how long it may be."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from limbeck.core import run_folder
from limbeck.methods import method_names

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "limbeck").rglob("*.py"))
EVERYTHING = [*PACKAGE, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]

# Who may name a method: the methods, and those who choose a default or show one off.
MAY_NAME = {"methods", "report", "demo.py", "cli", "runs/defaults.py", "runs/resolve.py"}
# Presets of views bear the names of the papers that they are from.
PRESETS_OF_VIEWS = "data/augment/views.py"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


package = pytest.mark.parametrize("path", PACKAGE, ids=name_of)
everything = pytest.mark.parametrize("path", EVERYTHING, ids=name_of)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything imported anywhere in a file, also within functions; relative imports are none."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module: str) -> str:
    """'limbeck.data.store.store.Store' -> 'data'; the package itself is the part 'limbeck'."""
    words = module.split(".")
    inner = len(words) > 1 and (
        (ROOT / "limbeck" / words[1]).is_dir() or (ROOT / "limbeck" / f"{words[1]}.py").is_file()
    )
    return words[1] if inner else "limbeck"


def order() -> list[str]:
    """The parts from left to right, as docs/design.md lists them."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    found = re.search(r"^core(?:\s+<\s+\w+)+", text, re.M)
    assert found, "docs/design.md no longer lists the parts as 'core < losses < ...'"
    return re.split(r"\s+<\s+", found.group())


@package
def test_imports_point_left(path: Path) -> None:
    parts = order()
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = part_of(module)
    assert own in parts, f"docs/design.md does not say where '{own}' stands"
    for imported in imports(path):
        if imported.split(".")[0] == "limbeck" and (other := part_of(imported)) != own:
            assert parts.index(other) < parts.index(own), f"{name_of(path)} imports {imported}, which is to its right"


def needs(path: Path) -> set[Path]:
    """The modules that importing a file imports, whatever functions import later."""
    outer = [*tree(path).body]
    for node in outer:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            outer += [inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt)]
    found = set()
    for node in outer:
        if isinstance(node, ast.ImportFrom) and node.module:
            for dotted in (f"{node.module}.{alias.name}" for alias in node.names):
                file = ROOT / Path(*dotted.split("."))
                options = (file.with_suffix(".py"), file.parent.with_suffix(".py"), file.parent / "__init__.py")
                found |= {option for option in options[:2] if option in PACKAGE} or {options[2]} & {*PACKAGE}
    return found


def test_no_circle_joins_modules() -> None:
    TopologicalSorter({name_of(path): {name_of(other) for other in needs(path)} for path in PACKAGE}).prepare()


def test_what_reads_a_store_imports_nothing_that_builds_one() -> None:
    data = ROOT / "limbeck" / "data"
    reached = {data / "loader.py", data / "store" / "store.py"}
    while more := {other for path in reached for other in needs(path)} - reached:
        reached |= more
    builders = {data / "store" / name for name in ("build.py", "open.py", "writer.py")}
    assert not [path for path in reached if {data / "sources", data / "check"} & {*path.parents} or path in builders]
    assert data / "decode.py" not in reached


def test_the_files_of_a_run_are_named_once() -> None:
    names = {value for key, value in vars(run_folder).items() if key.isupper() and "." in value} - {"config.json"}
    for path in PACKAGE:
        strings = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
        assert not names & strings or path.name == "run_folder.py", name_of(path)


def test_no_test_imports_another_or_bears_its_name() -> None:
    tests = [path for path in EVERYTHING if path.is_relative_to(ROOT / "tests") and path.name != "__init__.py"]
    assert len({path.name for path in tests}) == len(tests)
    others = [
        (name_of(path), module) for path in tests for module in imports(path) if re.match("tests|benchmarks", module)
    ]
    assert not [pair for pair in others if not pair[1].startswith("tests.helpers")]


@package
def test_nothing_but_methods_names_a_method(path: Path) -> None:
    inner = path.relative_to(ROOT / "limbeck")
    if {inner.parts[0], inner.as_posix()} & {*MAY_NAME, PRESETS_OF_VIEWS}:
        return
    names, nodes = set(method_names()), list(ast.walk(tree(path)))
    presets = {id(node.args[0]) for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "preset"}
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in presets}
    assert not names & strings
    assert not [module for module in imports(path) for name in names if f"limbeck.methods.{name}." in f"{module}."]


@pytest.mark.parametrize("name", method_names())
def test_a_method_has_a_test_and_a_page(name: str) -> None:
    assert (ROOT / "tests" / "methods" / f"test_{name}.py").is_file()
    assert (ROOT / "docs" / "methods" / f"{name}.md").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "limbeck" / "losses").glob("*.py")), ids=name_of)
def test_losses_are_arithmetic(path: Path) -> None:
    for module in imports(path):
        assert not module.startswith("torch.distributed")
        assert part_of(module) == "losses" or not module.startswith("limbeck")


@everything
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


@package
def test_no_file_that_is_read_can_run_code(path: Path) -> None:
    for module in imports(path):
        assert module.split(".")[0] not in {"joblib", "dill", "cloudpickle", "shelve", "marshal"}
        assert not module.startswith(("pickle.", "torch.load", "numpy.load"))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
            assert node.attr == "UnpicklingError"  # may be caught
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "np.load"}:
            safe = "weights_only=True" if node.func.value.id == "torch" else "allow_pickle=False"  # type: ignore[attr-defined]
            assert safe in [ast.unparse(keyword) for keyword in node.keywords], f"line {node.lineno} lacks {safe}"
