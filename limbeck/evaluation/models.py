"""The models that are evaluated: a backbone at its depths, or a teacher as a whole."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.core.devices import resolve_bf16
from limbeck.core.types import Dataset, Features
from limbeck.data.augment.views import preset
from limbeck.evaluation.data import EvalData, as_store
from limbeck.features.extract import FeatureFn, extract, extract_matrix
from limbeck.features.images import ImageFn, augmented_images, eval_images
from limbeck.metrics.copies import gem
from limbeck.models.any_size import any_size
from limbeck.models.backbone import Backbone
from limbeck.models.encoder_io import Preprocessing
from limbeck.models.eval_mode import eval_mode
from limbeck.teachers.frozen import LoadedTeacher, teacher_features
from limbeck.teachers.side_by_side import SideBySideNetwork

Bank = dict[int, Tensor]
"""Features of images: depth -> [N D_depth] float32."""

PATCH = 32  # pixels: the last stage of most CNNs has a place for so many

Need = Literal[
    "labels",
    "views",
    "feature_maps",
    "descriptors",
    "frames",
    "any_shape",
    "teacher",
    "series",
    "recordings",
    "keypoints",
]
"""Inputs that a metric may need beyond the features of the test images."""


class EvaluatedModel(ABC):
    """A network, the depths at which its features are measured, and its own preprocessing."""

    name: str
    depths: tuple[int, ...]
    image_size: int  # side of the input, pixels; of series their steps
    offers: frozenset[Need] = frozenset()

    @abstractmethod
    def features(self, data: EvalData, store: Dataset) -> Bank:
        """Return the features of all images of `store` at every depth."""

    @abstractmethod
    def networks(self) -> dict[int, nn.Module]:
        """Return the network cut at every depth, in eval mode: [B 3 H W] -> [B D]."""

    def example(self, device: torch.device) -> Tensor:
        """Return one random input of the model's size: an image [1 3 H W]."""
        return torch.rand(1, 3, self.image_size, self.image_size, device=device)

    def views(self, data: EvalData) -> tuple[Bank, Bank]:
        """Return the features of two augmented views of the same test images, where "views" is offered."""
        raise NotImplementedError

    def feature_maps(self, data: EvalData, indices: NDArray[np.int64]) -> Bank:
        """Return the feature maps [B C H W] of some test images at every depth, where "feature_maps" is offered."""
        raise NotImplementedError

    def maps(self, data: EvalData, store: Dataset, depth: int) -> Tensor:
        """Return the feature maps [N C h w] of all images of `store`, where "feature_maps" is offered."""
        raise NotImplementedError

    def descriptors(self, data: EvalData, store: Dataset) -> Bank:
        """Return features for copy detection of all images of `store`, where "descriptors" is offered."""
        raise NotImplementedError

    def forecast_errors(self, data: EvalData) -> dict[int, dict[str, float | None]]:
        """Return the errors of forecasts at every depth, where "recordings" is offered."""
        raise NotImplementedError

    @property
    def patch(self) -> int:
        """Sides of frames are multiples of so many pixels."""
        return PATCH

    def frame_maps(self, data: EvalData, frame: Float[Tensor, "1 3 H W"]) -> Bank:
        """Return the feature map [C h w] of a frame in [0, 1] at every depth, where "frames" is offered."""
        raise NotImplementedError

    @property
    def unit(self) -> int:
        """Sides of images of any shape are multiples of so many pixels."""
        return 1

    def vectors(self, data: EvalData, image: Float[Tensor, "1 3 H W"]) -> Bank:
        """Return the vector [D] of an image in [0, 1] of any shape at every depth, where "any_shape" is offered."""
        raise NotImplementedError


class BackboneModel(EvaluatedModel):
    """A backbone at `depths`, by default all of its taps."""

    offers = frozenset({"views", "feature_maps", "descriptors", "frames", "any_shape"})

    def __init__(
        self, name: str, backbone: Backbone, preprocessing: Preprocessing, depths: Sequence[int] | None = None
    ) -> None:
        self.name, self.backbone, self.preprocessing = name, backbone, preprocessing
        self.depths = backbone.taps if depths is None else tuple(depths)
        self.image_size = preprocessing.image_size

    def features(self, data: EvalData, store: Dataset) -> Bank:
        """Extract the features of unaugmented images in one pass."""
        role = "test" if store is data.test else "train"
        return self._extract(data, self._images(data, store), np.arange(len(store)), f"{role} images")

    def networks(self) -> dict[int, nn.Module]:
        """Return the cuts of the backbone, which share its weights, so that all fit where one does."""
        return {depth: self.backbone.cut(depth, share=True).eval() for depth in self.depths}

    def views(self, data: EvalData) -> tuple[Bank, Bank]:
        """Sample both views from the second of BYOL's augmentations, like the authors of SDSSL."""
        count = min(data.cfg.alignment_images, len(data.test))
        indices = np.sort(np.random.default_rng(data.cfg.seed).permutation(len(data.test))[:count])
        view = replace(preset("byol", self.image_size)[1], mean=self.preprocessing.mean, std=self.preprocessing.std)
        first, second = (
            self._extract(
                data,
                augmented_images(as_store(data.test), view, number, data.device, data.cfg.seed),
                indices,
                "two views",
            )
            for number in (0, 1)
        )
        return first, second

    def feature_maps(self, data: EvalData, indices: NDArray[np.int64]) -> Bank:
        """Run the backbone on unaugmented images, in one batch."""
        images = self._images(data, data.test)(indices)
        with eval_mode(self.backbone.to(data.device)):
            return self.backbone(images, self.depths, feature_maps=True).feature_maps

    def maps(self, data: EvalData, store: Dataset, depth: int) -> Tensor:
        """Run the backbone on unaugmented images up to a depth."""
        with eval_mode(self.backbone.to(data.device)):
            square = self.feature_maps(data, np.arange(1))[depth].shape[1:]
        found = self._forward(
            data,
            store,
            lambda images: {depth: self._run(data, images, (depth,)).feature_maps[depth].flatten(1)},
            {depth: int(np.prod(square))},
            f"maps at depth {depth}",
        )
        return found[depth].unflatten(1, square)

    def descriptors(self, data: EvalData, store: Dataset) -> Bank:
        """Return the pooled vector and the generalized mean of the map at every depth, joined: [N D + C]."""

        def features(images: Tensor) -> Bank:
            found = self._run(data, images, self.depths)
            return {d: torch.cat([found.taps[d], gem(found.feature_maps[d].float())], dim=1) for d in self.depths}

        dims = {depth: self.backbone.tap_dims[depth] + self.backbone.map_dims[depth] for depth in self.depths}
        return self._forward(data, store, features, dims, "copies")

    @property
    def patch(self) -> int:
        """Sides of frames are multiples of the patches of a ViT."""
        return self.unit if self.backbone.is_vit else PATCH

    @property
    def unit(self) -> int:
        """The patch of a ViT, of which an image has a whole number."""
        size: int = self.backbone.model.patch_embed.patch_size[0] if self.backbone.is_vit else 1
        return size

    @cached_property
    def _any_size(self) -> Backbone:
        return any_size(self.backbone).eval()

    def frame_maps(self, data: EvalData, frame: Float[Tensor, "1 3 H W"]) -> Bank:
        """Run the backbone on a frame."""
        found = self._run_any_shape(data, frame, feature_maps=True).feature_maps
        return {depth: maps[0] for depth, maps in found.items()}

    def vectors(self, data: EvalData, image: Float[Tensor, "1 3 H W"]) -> Bank:
        """Run the backbone on an image, without the patch filters that it may be joined with."""
        return {depth: rows[0] for depth, rows in self._run_any_shape(data, image, feature_maps=False).taps.items()}

    def _run_any_shape(self, data: EvalData, image: Tensor, *, feature_maps: bool) -> Features:
        """Run the backbone on an image of any shape, in float32."""
        mean, std = (
            torch.tensor(values)[:, None, None] for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        with torch.inference_mode():
            network = self._any_size.to(data.device)
            found: Features = network(((image - mean) / std).to(data.device), self.depths, feature_maps=feature_maps)
        return found

    def _run(self, data: EvalData, images: Tensor, depths: Sequence[int]) -> Features:
        bf16 = resolve_bf16(data.cfg.precision, data.device)
        with torch.inference_mode(), torch.autocast(data.device.type, dtype=torch.bfloat16, enabled=bf16):
            found: Features = self.backbone(images, depths, feature_maps=True)
        return found

    def _forward(self, data: EvalData, store: Dataset, features: FeatureFn, dims: Mapping[int, int], text: str) -> Bank:
        """Return the outputs of `features` for all images of a store."""
        with eval_mode(self.backbone.to(data.device)):
            return extract_matrix(
                features,
                self._images(data, store),
                np.arange(len(store)),
                dims,
                device=data.device,
                batch_size=data.cfg.batch_size,
                memory=int(data.cfg.memory_gib * 2**30),
                show=data.description(f"{self.name}: {text}"),
            )

    def _images(self, data: EvalData, store: Dataset) -> ImageFn:
        how = self.preprocessing
        interpolation: Literal["bilinear", "bicubic"] = "bicubic" if how.interpolation == "bicubic" else "bilinear"
        return eval_images(as_store(store), how.image_size, how.mean, how.std, data.device, interpolation)

    def _extract(self, data: EvalData, images: ImageFn, indices: NDArray[np.int64], text: str) -> Bank:
        return extract(
            self.backbone,
            images,
            indices,
            taps=self.depths,
            device=data.device,
            batch_size=data.cfg.batch_size,
            bf16=resolve_bf16(data.cfg.precision, data.device),
            memory=int(data.cfg.memory_gib * 2**30),
            show=data.description(f"{self.name}: {text}"),
        )


class TeacherModel(EvaluatedModel):
    """A frozen teacher as a whole, with its own preprocessing and precision; its only depth is 0."""

    depths = (0,)

    def __init__(self, teacher: LoadedTeacher, name: str = "teacher") -> None:
        self.name, self.teacher, self.image_size = name, teacher, teacher.image_size

    def features(self, data: EvalData, store: Dataset) -> Bank:
        """Extract the features of unaugmented images."""
        found = teacher_features(
            self.teacher,
            as_store(store),
            np.arange(len(store)),
            device=data.device,
            batch_size=data.cfg.batch_size,
            description=data.description(self.name),
        )
        return {0: found.to(data.device)}

    def networks(self) -> dict[int, nn.Module]:
        """Return the whole teacher, or all of several in one network."""
        members = self.teacher.members
        if len(members) == 1:
            return {0: self.teacher.network}
        return {0: SideBySideNetwork([m.network for m in members], [m.image_size for m in members])}
