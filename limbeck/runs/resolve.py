"""From what a user says to everything that a run is: what was not said is chosen, and said with its reason."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from limbeck.core.config import from_json
from limbeck.core.errors import UserError
from limbeck.core.files import read_json
from limbeck.core.rank import is_rank0
from limbeck.core.run_folder import CONFIG
from limbeck.core.types import DataContext
from limbeck.data.check.stats import ALLOW_BAD
from limbeck.data.loader import check_batch
from limbeck.data.sources.open import Source
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.methods import DistillConfig, MethodConfig, distill_config
from limbeck.methods.base.temperature import effective_neighbors
from limbeck.methods.sdssl import SDSSLConfig
from limbeck.methods.simreg import SimRegConfig
from limbeck.models.backbone import BackboneConfig
from limbeck.runs.defaults import default_optim, resolve_backbone, resolve_views
from limbeck.teachers import TeacherConfig, load_teacher
from limbeck.teachers.setup import TeacherContext, prepare_teacher
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
    method: MethodConfig = field(default_factory=SDSSLConfig)
    backbone: BackboneConfig
    optim: OptimConfig
    training: TrainConfig = field(default_factory=TrainConfig)
    teacher: TeacherConfig | None = None
    """Of a distillation."""

    def __post_init__(self) -> None:
        """Raises UserError for settings that make no run together."""
        check_milestones(self.optim, self.training)

    @property
    def image_size(self) -> int:
        """Side of the images that the network sees, in pixels."""
        assert self.backbone.image_size is not None
        return self.backbone.image_size


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a user says of a run; what is None is chosen."""

    source: Source
    method: MethodConfig | None = None
    backbone: BackboneConfig | None = None
    optim: OptimConfig | None = None
    training: TrainConfig | None = None
    teacher: TeacherConfig | None = None
    teacher_module: nn.Module | None = None
    """The teacher itself, where it is no file."""
    store_size: int | None = None
    allow_bad: float = ALLOW_BAD


def resolve_run(request: RunRequest, say: Say) -> tuple[RunConfig, Store, TeacherContext | None]:
    """All that a run is, its images and, of a distillation, what is known of the teacher; says what was chosen.

    Raises:
        UserError: no images, or settings that do not fit together.
    """
    tell: Say = say if is_rank0() else lambda sentence: None
    training, method = request.training or TrainConfig(), request.method or _default_method(request.teacher)
    _check_teacher(method, request.teacher)
    frozen = (
        load_teacher(request.teacher, teacher_module=request.teacher_module) if request.teacher else None
    )  # before hours of decoding
    store = open_store(request.source, store_size=request.store_size, allow_bad=request.allow_bad)
    tell(store.summary())
    fitted = resolve_backbone(request.backbone or BackboneConfig(), store.size)
    teacher_context = (
        prepare_teacher(request.teacher, frozen, store, training, tell) if request.teacher and frozen else None
    )
    images = len(store) if teacher_context is None else len(teacher_context.kept)
    check_batch(training.batch_size, images, training.devices * training.num_nodes, training.accumulate_steps)
    suited = method.resolve(_data_context(store, images, training))
    if teacher_context and isinstance(suited, DistillConfig):
        suited = suited.with_teacher_defaults(teacher_context.sample)
    cfg = RunConfig(
        store=str(store.path.absolute()) if store.path else "",
        digest=store.digest,
        method=suited,
        backbone=fitted.backbone,
        optim=request.optim or default_optim(fitted.backbone.name),
        training=training,
        teacher=teacher_context.cfg if teacher_context else None,
    )
    views = (v.augmentation for v in suited.make_views(cfg.image_size) if v.network == "student")
    seeing = resolve_views(cfg.backbone, tuple(views))
    cfg = replace(cfg, backbone=seeing.backbone)
    chosen = [
        *fitted.reasons,
        *seeing.reasons,
        *_chosen(method, suited),
        *(_spread(suited, teacher_context) if teacher_context else []),
    ]
    for sentence in [*chosen, describe(cfg, images)]:
        tell(sentence)
    return cfg, store, teacher_context


def describe(cfg: RunConfig, images: int) -> str:
    """What a run does, in a sentence."""
    host = f" over {cfg.method.host.name}" if isinstance(cfg.method, SDSSLConfig) else ""
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
    return from_json(RunConfig, read_json(file), CONFIG)


def _default_method(teacher: TeacherConfig | None) -> MethodConfig:
    return SDSSLConfig() if teacher is None else SimRegConfig()


def _check_teacher(method: MethodConfig, teacher: TeacherConfig | None) -> None:
    """UserError unless there is a teacher where the method wants one, and there alone."""
    if teacher is None and isinstance(method, DistillConfig):
        method.raise_without_teacher()
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


def _spread(method: MethodConfig, teacher_context: TeacherContext) -> list[str]:
    """Over how many images the teacher's targets spread, where they are a distribution."""
    temperature = method.target_temperature if isinstance(method, DistillConfig) else None
    if temperature is None:
        return []
    found, others = effective_neighbors(teacher_context.sample, temperature), len(teacher_context.sample) - 1
    return [f"at temperature {temperature:g} the teacher's answers spread over {found:.0f} of {others:,} other images"]


def _data_context(store: Store, images: int, training: TrainConfig) -> DataContext:
    classes = len(store.label_names) if store.labeled else 0
    steps = training.total_steps(images // training.batch_size)
    return DataContext(images, training.batch_size, training.batch_size // training.accumulate_steps, classes, steps)
