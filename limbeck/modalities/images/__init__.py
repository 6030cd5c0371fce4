"""Images: stores, timm backbones, augmented views."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.core.config import Json
from limbeck.core.resolved import Resolved
from limbeck.modalities.base import StoreModality, normalized
from limbeck.modalities.images.sizes import STUDENT, resolve_small
from limbeck.models.config import BackboneConfig, StartConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from torch import Tensor, nn

    from limbeck.core.types import Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.data.sources.open import Source
    from limbeck.data.sources.selection import Selection
    from limbeck.data.store.store import Store
    from limbeck.evaluation.adaptation import Adaptation
    from limbeck.methods import MethodConfig
    from limbeck.models.backbone import Backbone
    from limbeck.models.encoder_io import Preprocessing
    from limbeck.models.start import LoadedStart
    from limbeck.teachers.config import TeacherConfig
    from limbeck.teachers.frozen import LoadedTeacher
    from limbeck.teachers.setup import ImageTargets, TeacherContext
    from limbeck.train.eval_callback import EvalCallback


class Images(StoreModality[BackboneConfig]):
    """Images as `limbeck.data` reads them; any timm model is an encoder. What a method needs is imported in it."""

    name = "images"
    nouns = ("image", "images")
    takes_teachers = takes_filters = evaluated = takes_others = adapted = True
    measured_as = ("features", "images")
    export_formats = ("timm", "onnx", "torch", "executorch")

    def recognizes(self, source: object) -> bool:
        """Accept everything; what is not images is refused with a reason when it is opened."""
        return True

    def encoder_config(self, name: str) -> type[BackboneConfig]:
        """Accept every name; building the backbone raises UserError for a name that timm does not have."""
        return BackboneConfig

    def default_encoder(self) -> BackboneConfig:
        """Return a ViT-Tiny."""
        return BackboneConfig()

    def check_encoder(self, cfg: BackboneConfig) -> tuple[int, ...]:
        """Return the depths; UserError if timm has no such model, or it cannot be built or cut so."""
        from limbeck.modalities.images.resolve import known_depths

        return known_depths(cfg)

    def known_classes(self, source: "Source", selection: "Selection") -> int | None:
        """Return the number of labels of a store, or of a folder with a sub-folder per class."""
        from limbeck.data.store.known_labels import known_labels

        found = known_labels(source, selection)
        return None if found is None else len(found)

    def known_count(self, source: "Source", selection: "Selection") -> int | None:
        """Return the number of images in a store, a folder, or what else tells it before it is read."""
        from limbeck.data.store.known_count import known_count

        return known_count(source, selection)

    def small_encoder(self, data: "Store | None" = None, *, joined: bool = False) -> Resolved[BackboneConfig]:
        """Return a plain CNN for images of at most 96 pixels."""
        return resolve_small(None if data is None else data.size, joined)

    def default_student(self) -> BackboneConfig:
        """Return a ResNet-18."""
        return BackboneConfig(name=STUDENT)

    def small_student(self, data: "Store | None" = None, *, joined: bool = False) -> Resolved[BackboneConfig]:
        """Return the small encoder."""
        return self.small_encoder(data, joined=joined)

    def load_teacher(
        self, cfg: "TeacherConfig", module: "nn.Module | None", data: "Store | None", start: "LoadedStart | None"
    ) -> "LoadedTeacher":
        """Return any network of images, patch filters that are fitted to the data, or the start."""
        from limbeck.teachers.load import load_teacher

        return load_teacher(cfg, teacher_module=module, store=data, start=start)

    def example(self, cfg: BackboneConfig, data: "Store") -> "Tensor":
        """Return an image."""
        import torch

        from limbeck.modalities.images.resolve import input_size

        return torch.zeros(1, 3, input_size(cfg), input_size(cfg))

    def start_encoder(self, cfg: StartConfig) -> BackboneConfig:
        """Return the network of the weights; UserError if nothing states it."""
        from limbeck.models.start import start_form

        return start_form(cfg.name)

    def load_start(self, cfg: StartConfig, encoder: BackboneConfig | None) -> "LoadedStart":
        """Return trained weights from any source that timm or Limbeck reads."""
        from limbeck.models.start import load_start

        return load_start(cfg, encoder)

    def resolve_encoder(self, cfg: BackboneConfig, data: "Store") -> Resolved[BackboneConfig]:
        """Choose the input size and, for ViTs on small images, the patch size."""
        from limbeck.modalities.images.resolve import resolve_backbone

        return resolve_backbone(cfg, data.size)

    def resolve_for_views(self, cfg: BackboneConfig, views: "tuple[ViewSpec, ...]") -> Resolved[BackboneConfig]:
        """Let a ViT resample its positions for views of other sizes."""
        from limbeck.modalities.images.resolve import resolve_positions

        return resolve_positions(cfg, [view for view in views if view.network == "student"])

    def build_encoder(self, cfg: BackboneConfig) -> "Backbone":
        """Return a timm network with taps after every block or stage; patch filters are joined when it is trained."""
        from limbeck.models.backbone import build_backbone

        return build_backbone(replace(cfg, patch_filters=0))

    def completion(
        self, cfg: BackboneConfig, data: "Store", targets: "Callable[[], ImageTargets | None] | None" = None
    ) -> "Callable[[Encoder], Encoder]":
        """Fit patch filters, and return the function that joins them with the network, if it has some."""
        if not cfg.patch_filters:
            return super().completion(cfg, data)
        from limbeck.modalities.images.join import fit_join

        return fit_join(data, cfg.patch_filters, _preprocessing(cfg, data), targets or (lambda: None))

    def make_views(self, method: "MethodConfig", cfg: BackboneConfig) -> "tuple[ViewSpec, ...]":
        """Return the method's preset of augmentations at the input size and with the normalization of the network."""
        from limbeck.modalities.images.resolve import input_size

        return normalized(method.make_views(input_size(cfg)), *cfg.normalization)

    def with_small_views(
        self, views: "tuple[ViewSpec, ...]", scale: float, cfg: BackboneConfig
    ) -> "tuple[ViewSpec, ...]":
        """Return the views with smaller ones, of sizes that suit the network, for the student's first steps."""
        from limbeck.modalities.images.resolve import with_small_views

        return with_small_views(views, scale, cfg)

    def check_patch_drop(self, cfg: BackboneConfig, method: "MethodConfig") -> None:
        """Raise UserError unless the network is a ViT, and the method compares no maps of its patches."""
        from limbeck.modalities.images.resolve import check_patch_drop_with

        check_patch_drop_with(cfg, method)

    def describe_views(self, method: "MethodConfig") -> str:
        """Name the preset."""
        return f", views '{method.views}'"

    def make_eval_callback(
        self, data: "Store", cfg: BackboneConfig, teacher: "TeacherContext | None"
    ) -> "EvalCallback | None":
        """Score k-NN accuracy if there are labels and fidelity if there is a teacher."""
        from limbeck.modalities.images.online_eval import make_eval_callback
        from limbeck.modalities.images.resolve import input_size

        return make_eval_callback(data, input_size(cfg), cfg.normalization, teacher)

    def compare_with_start(
        self, start: "Encoder", adapted: "Encoder", data: "Store", cfg: BackboneConfig, teacher: "TeacherContext"
    ) -> "Adaptation":
        """Compare both on the images that were held out."""
        from limbeck.evaluation.adaptation import compare_with_start
        from limbeck.models.backbone import Backbone

        assert isinstance(start, Backbone), "the encoder of a run on images is what `build_encoder` built"
        assert isinstance(adapted, Backbone), "as above"
        held_out, trained_on, how = teacher.val_indices, teacher.train_indices, _preprocessing(cfg, data)
        return compare_with_start(start, adapted, data, held_out, trained_on, how, teacher.device, teacher.seed)

    def load_encoder(self, path: "str | PathLike[str]", depth: int | None = None) -> "Backbone":
        """Load the backbone with what is joined with it."""
        from limbeck.models.encoder_io import load

        return load(path, depth)

    def save_encoder(
        self, encoder: "Encoder", folder: Path, data: "Store", cfg: BackboneConfig, provenance: dict[str, Json]
    ) -> None:
        """Write the encoder in timm's format, with the preprocessing of the run."""
        from limbeck.models.backbone import Backbone
        from limbeck.models.encoder_io import save_encoder

        assert isinstance(encoder, Backbone), "the encoder of a run on images is what `build_encoder` built"
        save_encoder(encoder, folder, _preprocessing(cfg, data), provenance)


def _preprocessing(cfg: BackboneConfig, data: "Store") -> "Preprocessing":
    """Return the preprocessing of a network that was trained on a store."""
    from limbeck.modalities.images.resolve import input_size
    from limbeck.models.encoder_io import Preprocessing

    mean, std = cfg.normalization
    return Preprocessing(image_size=input_size(cfg), store_size=data.size, mean=mean, std=std)


MODALITY = Images()
