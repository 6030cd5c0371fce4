"""A method is two files, a test and a page: the example of docs/design.md in a copy of the package."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.forks import run_module
from tests.helpers.package_copy import ROOT, add_example, copy_package, run_command

FILES = ("limbeck/methods/config/cmc.py", "limbeck/methods/cmc.py", "tests/methods/test_cmc.py", "docs/methods/cmc.md")
VIT = '{"patch_size": 7, "embed_dim": 32, "depth": 3, "num_heads": 2}'
SMALL = ["--backbone", "vit_tiny_patch16_224", "--backbone.args", VIT, "--method.hidden", "32"]
SMALL += ["--method.dim", "16", "--epochs", "1", "--batch-size", "32"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of package, tests and documentation, to which the four files are added."""
    folder = copy_package(tmp_path_factory.mktemp("copy"))
    for name in ("tests/helpers", "tests/golden", "docs"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("README.md", "pyproject.toml", "tests/conftest.py", "tests/test_docs.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "tests" / "conformance").mkdir()
    shutil.copy(ROOT / "tests/conformance/test_laws.py", folder / "tests/conformance")
    for file in FILES:
        add_example("design.md", file, folder)
    return folder


@pytest.mark.slow
def test_the_command_line_trains_it(package: Path, photos: Path, tmp_path: Path) -> None:
    run_command(package, "pretrain", photos / "train", "--out", tmp_path / "run", "--method", "cmc", *SMALL)
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert config["method"]["name"] == "cmc"
    assert (tmp_path / "run" / "encoder" / "model.safetensors").is_file()


@pytest.mark.slow
def test_its_own_test_the_laws_and_the_documentation_pass(package: Path) -> None:
    """Also SDSSL over it; the tables of the documentation are generated first."""
    run_module(package, "limbeck.methods.base.tables")
    for page in ("README.md", "docs/methods/sdssl.md"):
        assert "[`cmc`](" in (package / page).read_text(encoding="utf-8")
    tests = ("tests/methods", "tests/conformance", "tests/test_docs.py")
    chosen = "cmc or tables_of_methods or options_of_methods or test_equals"
    imported_before = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    passed = run_module(package, "pytest", "-p", "no:cacheprovider", *imported_before, *tests, "-k", chosen)
    assert " passed" in passed
