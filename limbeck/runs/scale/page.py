"""The tables of docs/scale.md, from the constants of its YAML block: `python -m limbeck.runs.scale.page`."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import yaml

from limbeck.core.config import from_json
from limbeck.core.text import format_bytes, format_duration
from limbeck.runs.scale.arithmetic import Workload, stages
from limbeck.runs.scale.constants import Constants
from limbeck.runs.scale.limits import limits

BEGIN, END = "<!-- plan: begin -->", "<!-- plan: end -->"
SIZES = {"1.28 million": 1.28e6, "100 million": 1e8, "a billion": 1e9}
GPUS = {"one GPU": Workload(images=1, machines=1, gpus=1), "64 GPUs": Workload(images=1, machines=8, gpus=8)}
BLOCK = re.compile(r"^```yaml constants\n(.*?)^```$", re.M | re.S)


def tables_of(text: str) -> str:
    """Return the tables for the constants in the page `text`, whose `cores` are those of a GPU."""
    found = BLOCK.search(text)
    assert found, "a block of constants"
    given = from_json(Constants, yaml.safe_load(found.group(1)))
    return f"{_stages(given)}\n\n{_limits(given)}"


def update(page: Path) -> None:
    """Write the tables into the page, between the marks."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{tables_of(text)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def _of(given: Constants, workload: Workload) -> Constants:
    return replace(given, cores=given.need("cores") * workload.gpus)


def _stages(given: Constants) -> str:
    lines = [
        "| images | on | " + " | ".join(f"{name}: time, bound by" for name in _names(given)) + " | disk, all stages |",
        "|" + "---|" * (len(_names(given)) + 3),
    ]
    for size, images in SIZES.items():
        for where, usual in GPUS.items():
            workload = replace(usual, images=images)
            found = stages(_of(given, workload), workload, 1)
            cells = [f"{format_duration(stage.seconds)}, {stage.bound_by}" for stage in found]
            disk = format_bytes(sum(stage.disk_bytes for stage in found))
            lines.append(f"| {size} | {where} | {' | '.join(cells)} | {disk} |")
    return "\n".join(lines)


def _limits(given: Constants) -> str:
    lines = ["| enough is | one GPU: up to | 64 GPUs: up to | beyond it |", "|---|---|---|---|"]
    both = [{limit.what: limit for limit in limits(_of(given, workload), workload)} for workload in GPUS.values()]
    for what, limit in both[1].items():
        alone = f"{both[0][what].stops_at:,.3g}" if what in both[0] else "-"
        lines.append(f"| {what} | {alone} | {limit.stops_at:,.3g} {limit.unit} | {limit.remedy} |")
    return "\n".join(lines)


def _names(given: Constants) -> list[str]:
    return [stage.name.replace(", 1 epochs", ", an epoch") for stage in stages(given, GPUS["one GPU"], 1)]


if __name__ == "__main__":
    update(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/scale.md"))
