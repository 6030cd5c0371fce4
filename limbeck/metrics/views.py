"""Share of the other views of an image among the rows that are nearest to each of its views."""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.metrics.fidelity import nearest_images


def view_retrieval(features: Float[Tensor, "N V D"]) -> Float[Tensor, " N"]:
    """Return for every image the share of its other views among the V - 1 nearest rows of each of its views.

    Nearness is the cosine, over all N V rows; float64, in [0, 1]. Unrelated features have (V - 1) / (N V - 1). With two
    views it is the top-1 accuracy of instance discrimination (Wu et al. 2018).
    """
    images, views, width = features.shape
    found = nearest_images(features.reshape(images * views, width), views - 1) // views
    own = torch.arange(images, device=features.device).repeat_interleave(views)
    return (found == own[:, None]).double().view(images, -1).mean(dim=1)
