"""The configuration of a run, as its config.json holds it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from limbeck.core.config import EncoderConfig, from_json, to_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json, write_json
from limbeck.core.run_folder import CONFIG
from limbeck.methods import MethodConfig
from limbeck.modalities import default_config
from limbeck.models.config import StartConfig
from limbeck.runs.defaults import default_method
from limbeck.teachers.config import TeacherConfig
from limbeck.train.config import OptimConfig, TrainConfig, check_milestones


class Place(TypedDict, total=False):
    """Where a run is continued, which is no part of what it is; what is left out or None stays."""

    store: str | Path | None
    companion: str | Path | None
    teacher: str | Path | None
    devices: int | None
    num_nodes: int | None
    accelerator: Literal["auto", "cpu", "cuda", "mps"] | None
    precision: Literal["auto", "bf16", "fp16", "fp32"] | None
    attention: Literal["auto", "fused", "plain"] | None
    memory_format: Literal["auto", "channels-last", "contiguous"] | None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that defines a run."""

    store: str
    """Folder of the data; empty if they were in memory."""
    digest: str
    """Hash of the data."""
    exclude: tuple[str, ...] = ()
    """Patterns of images that were left out of the data; an evaluation leaves them out as well."""
    only: tuple[str, ...] = ()
    """Patterns; images that match none of them were left out."""
    max_images: int | None = None
    """How many images were taken of the source, drawn at random, where it has more; None: all of them."""
    companion: str = ""
    """Folder of the store with a second picture of every row; empty without one."""
    companion_digest: str = ""
    """Hash of it."""
    method: MethodConfig = field(default_factory=default_method)
    backbone: EncoderConfig
    optim: OptimConfig
    training: TrainConfig = field(default_factory=TrainConfig)
    teacher: TeacherConfig | None = None
    """The teacher of a distillation."""
    start: StartConfig | None = None
    """The trained weights that the run starts from; its folder `start/` keeps them."""

    def __post_init__(self) -> None:
        """Raise UserError for settings that contradict each other."""
        check_milestones(self.optim, self.training)


def read_config(run: Path) -> RunConfig:
    """Return the configuration of a run folder; raise UserError if there is none or it does not fit this version."""
    file = run / CONFIG
    if not file.is_file():
        raise UserError(f"'{run}' is not a run folder (no {CONFIG})", code="not-a-run")
    data = read_json(file)
    if isinstance(data, dict) and "architecture" in data:
        raise UserError(f"'{run}' is a network and not a run: give the folder of the run around it", code="not-a-run")
    backbone = data.get("backbone") if isinstance(data, dict) else None
    name = backbone.get("name") if isinstance(backbone, dict) else None
    return from_json(RunConfig, data, CONFIG, {"backbone": type(default_config(str(name)))})


def at_place(cfg: RunConfig, place: Place) -> RunConfig:
    """Return the configuration of the same run at another place; UserError for a teacher that it does not have."""
    given: dict[str, Any] = {name: value for name, value in place.items() if value is not None}
    if store := given.pop("store", None):
        cfg = replace(cfg, store=str(Path(store).absolute()))
    if companion := given.pop("companion", None):
        if not cfg.companion:
            raise UserError(f"the run has no companion: leave '{companion}' out", code="no-companion")
        cfg = replace(cfg, companion=str(Path(companion).absolute()))
    if teacher := given.pop("teacher", None):
        if cfg.teacher is None:
            raise UserError(f"the run has no teacher: leave '{teacher}' out", code="no-teacher")
        cfg = replace(cfg, teacher=replace(cfg.teacher, name=str(teacher)))
    if given.keys() & {"precision", "attention", "memory_format"}:
        given["measured_on"] = ""  # these kernels are not what was measured
    return replace(cfg, training=replace(cfg.training, **given))


def write_config(run: Path, cfg: RunConfig) -> None:
    """Write the configuration of a run into its folder."""
    write_json(run / CONFIG, to_json(cfg))
