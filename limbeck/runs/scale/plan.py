"""The plan for many images on many machines: constants, stages and limits, as a table and as JSON."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limbeck.core.text import format_bytes, format_duration, plural
from limbeck.runs.request import RunRequest
from limbeck.runs.scale.arithmetic import Stage, Workload, stages
from limbeck.runs.scale.constants import Constants, Origin, unit_of
from limbeck.runs.scale.limits import Limit, limits
from limbeck.runs.scale.measure import complete
from limbeck.train.length import auto_epochs

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class ScalePlan:
    """Plan for many images; stages and limits are derived from constants, which are measured or given."""

    workload: Workload
    epochs: float
    constants: Constants
    origins: dict[str, Origin]
    stages: list[Stage]
    limits: list[Limit]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "workload": vars(self.workload),
            "epochs": self.epochs,
            "constants": {
                name: {"value": value, "unit": unit_of(name), "origin": self.origins[name]}
                for name, value in self.constants.known().items()
            },
            "stages": [{**stage._asdict(), "origin": "derived"} for stage in self.stages],
            "limits": [
                {**limit._asdict(), "is_exceeded": limit.is_exceeded, "origin": "derived"} for limit in self.limits
            ],
        }

    def tables(self) -> "list[Table]":
        """Return the constants, the stages and the limits."""
        return [self._constants(), self._stages(), self._limits()]

    def _constants(self) -> "Table":
        table = _table("constant", "", "", "origin")
        for name, value in self.constants.known().items():
            table.add_row(name, f"{value:,.4g}", unit_of(name), self.origins[name])
        return table

    def _stages(self) -> "Table":
        workload = self.workload
        devices = f"{workload.gpus} GPUs each" if workload.gpus else "no GPU"
        table = _table("stage (all derived)", "time", "bound by", "disk", "network into a machine")
        table.title = f"{workload.images:,.0f} images, {plural(workload.machines, 'machine')}, {devices}"
        for stage in self.stages:
            traffic = f"{format_bytes(stage.network_bytes_per_second)}/s"
            disk = format_bytes(stage.disk_bytes)
            table.add_row(stage.name, format_duration(stage.seconds), stage.bound_by, disk, traffic)
        return table

    def _limits(self) -> "Table":
        table = _table("enough is (derived)", "up to", "here", "beyond it")
        for limit in self.limits:
            here = f"{limit.planned:,.4g}{' !' if limit.is_exceeded else ''}"
            table.add_row(limit.what, f"{limit.stops_at:,.4g} {limit.unit}", here, limit.remedy)
        return table


def plan_scale(
    workload: Workload,
    *,
    given: Constants | None = None,
    request: RunRequest | None = None,
    epochs: float | None = None,
) -> ScalePlan:
    """Plan store, teacher, graph, training and evaluation of many images.

    Args:
        workload: the images, the machines and their GPUs.
        given: constants that are known; those that are not are measured here, on a few images.
        request: the training, of which `source` may be ""; None: the usual one, on photographs that are made.
        epochs: of the training; None: as a run of so many images has.

    Raises:
        UserError: a constant is neither given nor can be measured here, or as `resolve_run`.
    """
    known = given or Constants()
    passes = epochs or float(auto_epochs(int(workload.images), "cuda" if workload.gpus else "cpu"))
    found = complete(known, workload, request, passes)
    origins: dict[str, Origin] = {name: "given" if name in known.known() else "measured" for name in found.known()}
    return ScalePlan(
        workload=workload,
        epochs=passes,
        constants=found,
        origins=origins,
        stages=stages(found, workload, passes),
        limits=limits(found, workload),
    )


def _table(*columns: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
