"""Defaults of a run that depend on the machine, on whether there is a teacher, and on the kind of network."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from limbeck.core.config import EncoderConfig
from limbeck.core.devices import has_cuda
from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.methods import MethodConfig
from limbeck.methods.config.anchor import AnchorConfig
from limbeck.methods.config.autolink import AutoLinkConfig
from limbeck.methods.config.classifier import ClassifierConfig
from limbeck.methods.config.masked import MaskedConfig
from limbeck.methods.config.simclr import SimCLRConfig
from limbeck.methods.config.simreg import SimRegConfig
from limbeck.modalities import Modality, find_modality, modality_of
from limbeck.modalities.images.sizes import SMALL_NETWORK, STUDENT
from limbeck.teachers.config import PATCH_FILTERS, START_TEACHER, TeacherConfig
from limbeck.train.config import OptimConfig, TrainConfig

if TYPE_CHECKING:
    from limbeck.core.types import Dataset

START_OPTIM = OptimConfig(lr=3e-5)
"""For runs that start from trained weights: a fifth of the usual peak of AdamW, for networks of any kind.

A step of Adam is about as long as the learning rate, however small the gradient, and the usual peak is chosen for
random weights, which have to move far. The heads are new, so that the first gradients carry little information on the
features: hence also the longer warm-up. Neither number is tuned; both are printed with the flags that replace them.
"""
START_DISTILL_OPTIM = OptimConfig(lr=2e-4, weight_decay=0.01)
"""The same for students."""
START_WARMUP = 0.2  # of the epochs; usual is a tenth
USUAL_NETWORKS = {"vit_tiny_patch16_224": False, SMALL_NETWORK: True, STUDENT: True}
"""The networks of runs that name none, and whether they are CNNs."""
QUICK = "10m"  # for a first look
DISTILL_OPTIM = OptimConfig(lr=1e-3, weight_decay=0.01)
"""For students of any kind: AdamW, which needs less tuning than the authors' SGD at 0.03 to 0.05."""
ADAPT_TIME = "20m"
"""Time of an adaptation for which neither a time nor epochs are given."""
ADAPT_EPOCHS = 30.0
"""Passes over the images of such an adaptation at most."""
ADAPT_BATCH = 64
"""Images per step: few images get more steps."""


class Usual(NamedTuple):
    """Defaults of a run on data other than images."""

    method: MethodConfig
    optim: OptimConfig
    batch_size: int


OTHER_MODALITIES = {
    "series": Usual(MaskedConfig(), OptimConfig(lr=0.032, weight_decay=0.01), batch_size=8),
    "keypoints": Usual(AutoLinkConfig(), OptimConfig(lr=4e-4, weight_decay=1e-3), batch_size=64),
}
"""TS2Vec's 1e-3 at a batch of 8 (yuezhihan/ts2vec b0088e1), AutoLink's 1e-4 at one of 64 (xingzhehe/AutoLink 3fbde11).
Any other modality has the defaults of images."""


def default_method(teacher: str = "", modality: str = "images") -> MethodConfig:
    """Return SimCLR, or the usual method of another modality; with a teacher SimReg, or Anchor if it is the start."""
    if (usual := OTHER_MODALITIES.get(modality)) and not teacher:
        return usual.method
    if teacher == START_TEACHER:
        return AnchorConfig()
    return SimRegConfig() if teacher else SimCLRConfig()


def choose_modality(source: object, backbone: EncoderConfig | None, method: MethodConfig | None) -> Modality[Any, Any]:
    """Return the modality of the network, of a method that trains on one alone, or else of the source."""
    if backbone is not None:
        return modality_of(backbone)
    only = method.only_on if method else None
    return find_modality(source, only=only[0] if only else "")


def check_adapted(modality: Modality[Any, Any]) -> None:
    """Raise UserError for encoders that `limbeck adapt` does not go on with."""
    if not modality.adapted:
        raise UserError(
            f"only encoders of images are adapted, and not those of {modality.name}: train them with `limbeck "
            "pretrain SOURCE`, which goes on from trained blocks of series with --from RUN",
            code="not-images",
        )


def default_training(modality: str) -> TrainConfig:
    """Return the default training of a run, with the usual batch of its modality."""
    usual = OTHER_MODALITIES.get(modality)
    return TrainConfig(batch_size=usual.batch_size) if usual else TrainConfig()


def runs_small(accelerator: str, quick: bool) -> str:
    """Return why a run takes a small network and small images if none are named; empty if it does not.

    `accelerator` is that of `TrainConfig`.
    """
    if quick:
        return "for a quick look"
    on_cpu = not has_cuda() if accelerator == "auto" else accelerator == "cpu"
    return "on a CPU" if on_cpu else ""


def small_encoder(
    teacher: TeacherConfig | None,
    method: MethodConfig | None,
    modality: Modality[Any, Any],
    data: "Dataset | None" = None,
) -> Resolved[EncoderConfig]:
    """Return the encoder of a run that names none on a machine without a GPU, for a `method` if it has been named."""
    if teacher is None:
        classifies = method is not None and method.name == ClassifierConfig.name
        return modality.small_encoder(data, joined=modality.takes_filters and not classifies)
    return modality.small_student(data, joined=PATCH_FILTERS in teacher.names)


def default_optim(backbone: str, has_teacher: bool = False, has_start: bool = False) -> OptimConfig:
    """Return the optimizer for a network: AdamW as in SDSSL and MoCo v3, or LARS as in SimCLR for timm's CNNs."""
    if usual := OTHER_MODALITIES.get(find_modality(encoder=backbone).name):
        return usual.optim
    if has_start:
        return START_DISTILL_OPTIM if has_teacher else START_OPTIM
    if has_teacher:
        return DISTILL_OPTIM
    return OptimConfig(name="lars", lr=0.3, weight_decay=1e-6) if _is_cnn(backbone) else OptimConfig()


def _is_cnn(name: str) -> bool:
    """Return whether timm has a network of this name that is no ViT; of the usual ones it is known without timm."""
    if name in USUAL_NETWORKS:
        return USUAL_NETWORKS[name]
    import timm

    from limbeck.models.surgery import is_vit

    return timm.is_model(name) and not is_vit(name)


def with_start_warmup(training: TrainConfig) -> TrainConfig:
    """Return the settings of a run from trained weights, with a longer warm-up unless one is given."""
    chosen = START_WARMUP * training.num_epochs if training.warmup_epochs is None else training.warmup_epochs
    return replace(training, warmup_epochs=chosen)


def start_reasons(optim: OptimConfig, training: TrainConfig, has_teacher: bool) -> list[str]:
    """Return why a run from trained weights has a gentle learning rate, as far as its settings do not say otherwise."""
    reasons = []
    if optim == default_optim("", has_teacher, has_start=True):
        usual = (DISTILL_OPTIM if has_teacher else OptimConfig()).lr
        reasons.append(
            f"learning rate {optim.lr:g} instead of {usual:g} per 256 images, since trained weights need not move far "
            "(--optim.lr)"
        )
    if training.warmup_epochs is None:
        reasons.append(
            f"{START_WARMUP:.0%} of the epochs warm up instead of 10%, since the heads are new and the weights are not "
            "(--warmup-epochs)"
        )
    return reasons
