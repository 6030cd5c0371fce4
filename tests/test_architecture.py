"""The rules of docs/design.md, read off the source: each test lists what breaks its rule."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

from limbeck.core import run_folder
from limbeck.methods import method_names

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "limbeck").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
EVERYTHING = [*PACKAGE, *TESTS, *(path for top in ("benchmarks", "examples") for path in (ROOT / top).rglob("*.py"))]
MAX_FILE, MAX_FUNCTION = 400, 50
MAX_MEDIAN_FILE, MAX_MEDIAN_FUNCTION = 100, 8

# Who may name a method: the methods, and those who choose a default or show one off.
MAY_NAME = {"methods", "downstream/active", "reports", "demo", "cli", "downstream/selection/config.py"}
MAY_NAME |= {"runs/defaults.py", "runs/recipes.py", "runs/resolve.py", "series/transformer.py"}
# What timm calls the last layer of a network is no method here.
TIMM_KEYS = {"classifier"}
# Presets of views have the names of the papers that they are from.
PRESETS_OF_VIEWS = "data/augment/views.py"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names of everything imported anywhere in a file, also within functions."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ("." * node.level + f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module: str, package: str = "limbeck") -> str:
    """Return the part of a package: 'limbeck.data.store.store.Store' -> 'data'; of the package itself its own name."""
    part = module.removeprefix(f"{package}.").split(".")[0]
    place = ROOT.joinpath(*package.split("."), part)
    return part if place.is_dir() or place.with_suffix(".py").is_file() else package.rpartition(".")[2]


def order(first: str) -> list[str]:
    """Return the parts from left to right, as docs/design.md lists them."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    found = re.search(rf"^{first}(?:\s+<\s+\w+)+", text, re.M)
    assert found, f"docs/design.md no longer lists the parts as '{first} < ...'"
    return re.split(r"\s+<\s+", found.group())


@pytest.mark.parametrize(("package", "first"), [("limbeck", "core"), ("limbeck.downstream", "selection")])
def test_imports_are_absolute_and_point_left(package: str, first: str) -> None:
    place = {part: number for number, part in enumerate(order(first))}
    offenders = []
    for path in PACKAGE:
        own = name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        modules = [*imports(path)] if f"{own}.".startswith(f"{package}.") else []
        own = part_of(own, package)
        assert own in place or not modules, f"docs/design.md does not list the part '{own}'"
        for imported in modules:
            part = part_of(imported, package) if f"{imported}.".startswith(f"{package}.") else own
            if imported.startswith(".") or (part != own and place[part] >= place[own]):
                offenders.append(f"{name_of(path)} imports {imported}")
    assert not offenders


def is_for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported_at_the_top(path: Path) -> set[Path]:
    """Return the files that importing a file imports, whatever functions import later."""
    outer = [*tree(path).body]
    for node in outer:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_for_type_checkers(node):
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
    graph = {name_of(path): {name_of(other) for other in imported_at_the_top(path)} for path in PACKAGE}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_what_reads_a_store_imports_nothing_that_builds_one() -> None:
    data = ROOT / "limbeck" / "data"
    reached = {data / "loader.py", data / "store" / "store.py"}
    while more := {other for path in reached for other in imported_at_the_top(path)} - reached:
        reached |= more
    builders = {data / "store" / name for name in ("build.py", "open.py", "writer.py")} | {data / "decode.py"}
    folders = {data / "sources", data / "check"}
    assert not [name_of(path) for path in reached if folders & {*path.parents} or path in builders]


def test_the_files_of_a_run_are_named_in_one_module() -> None:
    names = {value for key, value in vars(run_folder).items() if key.isupper() and "." in value} - {"config.json"}
    assert not [
        f"{name_of(path)}: {node.value!r}"
        for path in PACKAGE
        for node in nodes(path)
        if isinstance(node, ast.Constant) and node.value in names and path.name != "run_folder.py"
    ]


def test_no_test_imports_another_and_no_two_have_one_name() -> None:
    files = [path for path in TESTS if path.name != "__init__.py"]
    assert len({path.name for path in files}) == len(files)
    assert not [
        f"{name_of(path)} imports {module}"
        for path in files
        for module in imports(path)
        if re.match("(tests|benchmarks|examples)[.]", module) and not module.startswith("tests.helpers")
    ]


def test_nothing_but_methods_names_a_method() -> None:
    names, offenders = set(method_names()), []
    for path in PACKAGE:
        inside = path.relative_to(ROOT / "limbeck")
        if any(inside.is_relative_to(place) for place in (*MAY_NAME, PRESETS_OF_VIEWS)):
            continue
        calls = [node for node in nodes(path) if isinstance(node, ast.Call)]
        presets = {id(call.args[0]) for call in calls if ast.unparse(call.func) == "preset"}
        strings = [node for node in nodes(path) if isinstance(node, ast.Constant) and id(node) not in presets]
        offenders += [f"{name_of(path)}: {node.value!r}" for node in strings if node.value in names - TIMM_KEYS]
        offenders += [
            f"{name_of(path)} imports {module}"
            for module in imports(path)
            if f"{module}.".startswith(
                tuple(f"limbeck.methods.{part}{name}." for name in names for part in ("", "config."))
            )
        ]
    assert not offenders


def test_every_method_has_a_test_and_a_page() -> None:
    wanted = [
        ROOT / place
        for name in method_names()
        for place in (f"limbeck/methods/config/{name}.py", f"tests/methods/test_{name}.py", f"docs/methods/{name}.md")
    ]
    assert not [name_of(path) for path in wanted if not path.is_file()]


def test_the_page_of_the_design_says_where_what_is() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]+\? \| `(limbeck/[\w/]+\.py)` \| `([\w.]+)` \|$", page, re.M)
    assert len(rows) >= 6
    assert not [f"{file}: {name}" for file, name in rows if name not in definitions(ROOT / file)]


def definitions(path: Path) -> set[str]:
    """Return the functions and classes of a file, and the methods as `Class.method`; none of a file that is missing."""
    outer = (
        [node for node in tree(path).body if isinstance(node, ast.FunctionDef | ast.ClassDef)] if path.is_file() else []
    )
    inner = {
        f"{node.name}.{method.name}"
        for node in outer
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef)
    }
    return {node.name for node in outer} | inner


def test_losses_are_arithmetic() -> None:
    assert not [
        f"{name_of(path)} imports {module}"
        for path in (ROOT / "limbeck" / "losses").glob("*.py")
        for module in imports(path)
        if module.startswith("torch.distributed") or (module.startswith("limbeck") and part_of(module) != "losses")
    ]


def test_files_and_functions_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in EVERYTHING}
    functions = {
        (path, node.name): (node.end_lineno or node.lineno) - node.lineno + 1
        for path in EVERYTHING
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    offenders = [f"{name_of(path)}: {length}" for path, length in lengths.items() if length > MAX_FILE]
    offenders += [
        f"{name_of(path)}, {name}: {length}" for (path, name), length in functions.items() if length > MAX_FUNCTION
    ]
    assert not offenders
    product = {*PACKAGE}
    assert median(length for path, length in lengths.items() if path in product) <= MAX_MEDIAN_FILE
    assert median(length for (path, _), length in functions.items() if path in product) <= MAX_MEDIAN_FUNCTION


def test_nothing_that_is_read_can_run_code() -> None:
    offenders = []
    for path in PACKAGE:
        for module in imports(path):
            unsafe = module.split(".")[0] in {"joblib", "dill", "cloudpickle", "shelve", "marshal"}
            if unsafe or module.startswith(("pickle.", "torch.load", "numpy.load", "yaml.load")):
                offenders.append(f"{name_of(path)} imports {module}")
        offenders += [f"{name_of(path)}:{line}" for line in unsafe_reads(path)]
    assert not offenders


def unsafe_reads(path: Path) -> Iterator[int]:
    """Yield the lines that use pickle, or that load arrays or tensors without forbidding pickles."""
    safe = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and node.attr != "UnpicklingError" and ast.unparse(node.value) == "pickle":
            yield node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            wanted = safe.get(ast.unparse(node.func))
            if wanted and wanted not in [ast.unparse(keyword) for keyword in node.keywords]:
                yield node.lineno
