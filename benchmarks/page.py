"""A generated section of BENCHMARKS.md, between two marks."""

from pathlib import Path


def write_between(page: Path, name: str, text: str) -> None:
    """Replace what is between the marks `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"'{page}' has no marks of '{name}'")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
