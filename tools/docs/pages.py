"""MkDocs hook: pages that are made when the site is built, so that nobody keeps lists up to date.

- The Markdown files at the root of the repository; the README is the start page.
- The table of methods, from their cards.
- The command line, from the `--help` of every command.
- The names that `limbeck` exports, and a page for every public module.
"""

from collections.abc import Iterator
from pathlib import Path

import commands
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
MODULES = "reference/api"


@event_priority(100)  # before mkdocs-literate-nav, whose patterns match these pages
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of docs/; a page that somebody has written takes precedence."""
    for path in sorted(ROOT.glob("*.md")):
        files.append(File.generated(config, root_page(path.name), abs_src_path=str(path)))
    for address, text in generated():
        if files.get_file_from_path(address) is None:
            files.append(File.generated(config, address, content=text))
    return files


def root_page(name: str) -> str:
    """Return the page that shows the file `name` of the repository's root."""
    return "index.md" if name == "README.md" else name.lower()


def generated() -> Iterator[tuple[str, str]]:
    """Address and text of every page that is made from the package."""
    yield "methods/index.md", methods_page()
    yield "reference/commands.md", commands.page()
    yield "reference/python.md", exported_names_page()
    yield from module_pages(ROOT / "limbeck")


def methods_page() -> str:
    """Return a row for every method, with what its card says."""
    from limbeck.methods.base.tables import methods_table

    return "\n".join(
        [
            "# Methods\n",
            "Every method is one file of code, one test and one page, which has its loss, its options with their "
            "defaults, when to use it, and where it deviates from the paper. `limbeck methods` prints this table.\n",
            methods_table(""),
            "\nThe cost is the time of a training step, in steps of supervised training of the same network on as many "
            "images. Measured comparisons are in the [benchmarks](../benchmarks.md).\n",
        ]
    )


def exported_names_page() -> str:
    """Return the names in `limbeck.__all__`, in full."""
    import limbeck

    names = "\n".join(f"::: limbeck.{name}\n" for name in sorted(limbeck.__all__, key=str.lower))
    return (
        "# Python API\n\n"
        "These names are imported from `limbeck` itself, and the [version policy](../versions.md) holds for them. "
        f"The [modules]({MODULES.removeprefix('reference/')}/limbeck/index.md) behind them are documented for those "
        "who write methods, metrics and tools of their own.\n\n" + names
    )


def module_pages(package: Path) -> Iterator[tuple[str, str]]:
    """Return a page for every module whose name has no leading underscore, and SUMMARY.md, the navigation over them."""
    navigation = []
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).with_suffix("").parts):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        page = "/".join(parts) + ".md"
        if parts[-1] == "__init__":
            parts.pop()
            page = "/".join(parts) + "/index.md"
        if any(part.startswith("_") for part in parts):
            continue
        navigation.append(f"{'    ' * (len(parts) - 1)}* [{parts[-1]}]({page})")
        name = ".".join(parts)
        options = ["heading_level: 1", "show_root_full_path: true"]
        if name == package.name:
            options.append("members: false")  # they have a page of their own
        yield f"{MODULES}/{page}", f"::: {name}\n    options: {{{', '.join(options)}}}\n"
    yield f"{MODULES}/SUMMARY.md", "\n".join(navigation) + "\n"
