"""What a teacher says of rows of a store."""

import numpy as np
import torch
from torch import Tensor

from limbeck.data.store.store import Store
from limbeck.features.extract import collect
from limbeck.features.images import plain_look
from limbeck.teachers.network import Frozen


def teacher_features(
    frozen: Frozen, store: Store, rows: np.ndarray, *, device: torch.device, batch_size: int = 256, show: str = ""
) -> Tensor:
    """Vectors, float32 [n D], of the plain central views of `rows` [n] of `store`, as the teacher sees them.

    The network is moved to `device`; where the result lies, and `show`, are as in `extract.collect`.
    """
    network = frozen.network.to(device)
    look = plain_look(store, frozen.size, frozen.mean, frozen.std, device, frozen.interpolation)
    dims = {0: frozen.dim}
    bank = collect(
        lambda images: {0: network(images).vector}, look, rows, dims, device=device, batch_size=batch_size, show=show
    )
    return bank[0]
