"""From what a user says to everything that a run is: what was not said is chosen, and said with its reason."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from limbeck.core.config import from_json
from limbeck.core.distributed import is_first_process
from limbeck.core.errors import UserError, reason
from limbeck.core.run_folder import CONFIG
from limbeck.core.types import Setting
from limbeck.data.check.stats import ALLOWED
from limbeck.data.loader import check_batch
from limbeck.data.sources.open import Source
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.methods import DistillConfig, MethodConfig, distill_config
from limbeck.methods.base.temperature import effective_anchors
from limbeck.methods.sdssl import Config as SdsslConfig
from limbeck.methods.simreg import Config as SimRegConfig
from limbeck.models.backbone import BackboneConfig
from limbeck.runs.defaults import default_optim, fit_backbone, fit_views
from limbeck.teachers import TeacherConfig, load_teacher
from limbeck.teachers.setup import Pupil, enrol
from limbeck.train.config import TrainConfig
from limbeck.train.optim import OptimConfig, check_milestones

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that defines a run; config.json holds it."""

    store: str
    """Folder of the store."""
    digest: str
    """Digest of its content."""
    method: MethodConfig = field(default_factory=SdsslConfig)
    backbone: BackboneConfig
    optim: OptimConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    teacher: TeacherConfig | None = None
    """Of a distillation."""

    def __post_init__(self) -> None:
        """Raises UserError for settings that make no run together."""
        check_milestones(self.optim, self.train)

    @property
    def image_size(self) -> int:
        """Side of the images that the network sees, in pixels."""
        assert self.backbone.img_size is not None
        return self.backbone.img_size


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a user says of a run; what is None is chosen."""

    source: Source
    method: MethodConfig | None = None
    backbone: BackboneConfig | None = None
    optim: OptimConfig | None = None
    train: TrainConfig | None = None
    teacher: TeacherConfig | None = None
    network: nn.Module | None = None
    """The teacher itself, where it is no file."""
    size: int | None = None
    allow_bad: float = ALLOWED


def configure(wishes: Wishes, say: Say) -> tuple[RunConfig, Store, Pupil | None]:
    """All that a run is, its images and, of a distillation, what is known of the teacher; says what was chosen.

    Raises:
        UserError: no images, or settings that do not fit together.
    """
    tell: Say = say if is_first_process() else lambda sentence: None
    train, method = wishes.train or TrainConfig(), wishes.method or _default_method(wishes.teacher)
    _check_teacher(method, wishes.teacher)
    frozen = (
        load_teacher(wishes.teacher, network=wishes.network) if wishes.teacher else None
    )  # before hours of decoding
    store = open_store(wishes.source, size=wishes.size, allow_bad=wishes.allow_bad)
    tell(store.account())
    fitted = fit_backbone(wishes.backbone or BackboneConfig(), store.size)
    pupil = enrol(wishes.teacher, frozen, store, train, tell) if wishes.teacher and frozen else None
    images = len(store) if pupil is None else len(pupil.kept)
    check_batch(train.batch_size, images, train.devices * train.num_nodes, train.accumulate)
    suited = method.fit(_setting(store, images, train))
    if pupil and isinstance(suited, DistillConfig):
        suited = suited.suit(pupil.sample)
    cfg = RunConfig(
        store=str(store.path.absolute()) if store.path else "",
        digest=store.digest,
        method=suited,
        backbone=fitted.backbone,
        optim=wishes.optim or default_optim(fitted.backbone.name),
        train=train,
        teacher=pupil.cfg if pupil else None,
    )
    seeing = fit_views(cfg.backbone, tuple(v for v in suited.make_views(cfg.image_size) if not v.teacher))
    cfg = replace(cfg, backbone=seeing.backbone)
    chosen = [*fitted.reasons, *seeing.reasons, *_chosen(method, suited), *(_spread(suited, pupil) if pupil else [])]
    for sentence in [*chosen, describe(cfg, images)]:
        tell(sentence)
    return cfg, store, pupil


def describe(cfg: RunConfig, images: int) -> str:
    """What a run does, in a sentence."""
    host = f" over {cfg.method.host.name}" if isinstance(cfg.method, SdsslConfig) else ""
    teacher = f" from {cfg.teacher.name}" if cfg.teacher else ""
    return (
        f"{cfg.method.name}{host}{teacher} on {images:,} images, views '{cfg.method.views}': {cfg.backbone.name}, "
        f"{cfg.optim.name}, learning rate {cfg.optim.lr:g} per 256 images, weight decay {cfg.optim.weight_decay:g}"
    )


def read_config(run: Path) -> RunConfig:
    """The configuration of a run folder; UserError when there is none or it does not fit this version."""
    file = run / CONFIG
    if not file.is_file():
        raise UserError(f"{run} is no run: it has no {CONFIG}")
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {reason(error)}") from error
    return from_json(RunConfig, data, CONFIG)


def _default_method(teacher: TeacherConfig | None) -> MethodConfig:
    return SdsslConfig() if teacher is None else SimRegConfig()


def _check_teacher(method: MethodConfig, teacher: TeacherConfig | None) -> None:
    """UserError unless there is a teacher where the method wants one, and there alone."""
    if teacher is None and isinstance(method, DistillConfig):
        method.refuse_alone()
    if teacher is not None:
        distill_config(method.name)


def _chosen(asked: MethodConfig, fitted: MethodConfig) -> list[str]:
    """What was filled in, a sentence each; the host's too."""
    sentences = []
    for name, value in vars(fitted).items():
        if isinstance(value, MethodConfig):
            sentences += _chosen(getattr(asked, name), value)
        elif value != getattr(asked, name):
            what = "the teacher" if "temperature" in name else "these images and batches"
            sentences.append(f"{fitted.name} has {name} {value}, which suits {what}")
    return sentences


def _spread(method: MethodConfig, pupil: Pupil) -> list[str]:
    """Over how many images the teacher's targets spread, where they are a distribution."""
    temperature = method.target_temperature if isinstance(method, DistillConfig) else None
    if temperature is None:
        return []
    found, others = effective_anchors(pupil.sample, temperature), len(pupil.sample) - 1
    return [f"at temperature {temperature:g} the teacher's answers spread over {found:.0f} of {others:,} other images"]


def _setting(store: Store, images: int, train: TrainConfig) -> Setting:
    classes = len(store.label_names) if store.labelled else 0
    steps = train.steps(images // train.batch_size)
    return Setting(images, train.batch_size, train.batch_size // train.accumulate, classes, steps)
