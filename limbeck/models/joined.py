"""Features of a trained network and of patch filters as one vector, half-whitened together.

The two know different things of an image, and together they are better neighbors than either alone. Patch filters are
projected to the discriminants of `features.analytic`, appended to the features of the network, and one linear map
follows, whose outputs are principal components of both, divided by the fourth root of their variance. All of this is
fitted to images (`modalities.images.join`), and none of it is trained.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.models.patch_filters import MAX_SIDE, MEAN, STD, FilterBank, PatchFiltersConfig, constant

DIRECTIONS = 192
"""Numbers that patch filters are projected to; images with fewer directions leave the last ones 0."""


class JoinedFilters(nn.Module):
    """Append the features of patch filters to those of a network, and map both to their components.

    Args:
        dim: width D of the features of the network.
        filters: patch filters.
        normalization: mean and standard deviation of the channels of the network's images, for pixels in [0, 1].
    """

    scale: Float[Tensor, "3 1 1"]
    shift: Float[Tensor, "3 1 1"]

    def __init__(self, dim: int, filters: int, normalization: tuple[Sequence[float], Sequence[float]]) -> None:
        super().__init__()
        self.filters = FilterBank(PatchFiltersConfig(filters=filters))
        self.projection = constant(self.filters.dim, DIRECTIONS)
        self.weight = constant(dim + DIRECTIONS, dim + DIRECTIONS)
        self.bias = constant(dim + DIRECTIONS)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalization)
        own_mean, own_std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        self.register_buffer("scale", std / own_std, persistent=False)
        self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)

    @property
    def dim(self) -> int:
        """Width of the joined features."""
        return len(self.bias)

    def forward(self, features: Float[Tensor, "B D"], images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B E"]:
        """Join the features of a network with those that the filters have of the same images, in float32."""
        exporting = torch.compiler.is_exporting()
        with nullcontext() if exporting else torch.autocast(images.device.type, enabled=False):
            both = torch.cat([features.float(), self.filter_features(images)], dim=1)
            return F.linear(both, self.weight, self.bias)

    def filter_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Return the features that the filters have of images, which are made smaller for them."""
        pixels = images.float() * self.scale + self.shift
        if (factor := images.shape[-1] // MAX_SIDE) > 1:
            pixels = F.avg_pool2d(pixels, factor)
        return self.filters(pixels) @ self.projection


class JoinedNetwork(nn.Module):
    """A network and what its features are joined with, from images to one vector."""

    def __init__(self, model: nn.Module, joined: JoinedFilters) -> None:
        super().__init__()
        self.model, self.joined = model, joined

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B E"]:
        """Map images to joined features."""
        features: Tensor = self.joined(self.model(images), images)
        return features
