"""A network that is frozen for good, what is known of it, and what it says of rows of a store."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limbeck.core.devices import resolve_bf16
from limbeck.data.store.store import Store
from limbeck.features.extract import extract_matrix
from limbeck.features.images import eval_images

Interpolation = Literal["bilinear", "bicubic"]
Triple = tuple[float, float, float]


class TeacherFeatures(NamedTuple):
    """What a teacher says of a batch of images."""

    vector: Tensor  # [B D]
    map: Tensor | None = None  # [B C H W], of its last block or stage; None unless asked for and there


class Sight(NamedTuple):
    """How a source says that its network sees: None is what it does not say."""

    image_size: int | None
    mean: Triple | None
    std: Triple | None
    interpolation: Interpolation = "bicubic"


class Found(NamedTuple):
    """A network as its source gives it."""

    network: nn.Module  # images [B 3 S S], whether maps are wanted -> Answer
    sight: Sight
    license: str  # "" where the source says nothing
    about: Mapping[str, Any]  # JSON values: what else but weights tells networks apart
    patch: int | None = None  # pixels, where the size must be a multiple of them
    convolutional: bool = False


def triple(values: Any) -> Triple | None:
    """Three numbers, as a configuration holds them; None for anything else."""
    if not isinstance(values, list | tuple) or len(values) != 3:
        return None
    first, second, third = map(float, values)
    return first, second, third


class TeacherNetwork(nn.Module):
    """A network in eval mode without gradients, and it stays so: `train` does nothing.

    Called with normalised images [B 3 S S], it computes in inference mode and in its own precision, whatever surrounds
    it, and answers in ordinary float32 tensors, which a student's backward pass may keep. With `batch_statistics` its
    BatchNorms normalise the batches of training steps by themselves, and running statistics are neither read nor
    written then. Convolutional networks run in channels-last memory format.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        precision: Literal["auto", "bf16", "fp32"],
        batch_statistics: bool,
        convolutional: bool,
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.precision, self.batch_statistics, self.convolutional = precision, batch_statistics, convolutional
        self.train()

    def train(self, mode: bool = True) -> "TeacherNetwork":
        """Eval mode, whatever `mode` is."""
        return super().train(False)

    def forward(self, images: Tensor, maps: bool = False, step: bool = False) -> TeacherFeatures:
        """Normalised images [B 3 S S] -> vectors [B D] and, if asked for, maps [B C H W]; `step`: of training."""
        device = images.device
        bf16 = resolve_bf16(self.precision, device)
        by_batch = self._by_batch() if step and self.batch_statistics else nullcontext()
        with by_batch, torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            if self.convolutional:  # EfficientNet-Lite0 at 144 pixels on one CPU core: 13.8 ms instead of 21.2
                images = images.contiguous(memory_format=torch.channels_last)
            vector, found = self.network(images, maps)
        return TeacherFeatures(_ordinary(vector), None if found is None else _ordinary(found))

    @contextmanager
    def _by_batch(self) -> Iterator[None]:
        """BatchNorms read the batch and write nothing."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        tracked = [norm.track_running_stats for norm in norms]
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        try:
            yield
        finally:
            for norm, was in zip(norms, tracked, strict=True):
                norm.training, norm.track_running_stats = False, was


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedTeacher:
    """A teacher: its network, and how it sees."""

    network: TeacherNetwork
    dim: int  # width of its vectors
    map_dim: int  # channels of its maps; 0 where it has none
    size: int  # pixels
    mean: Triple  # of the channels, for pixels in [0, 1]
    std: Triple
    interpolation: Interpolation
    digest: str  # of the weights, the architecture, the depth, the size, and whether batch statistics are used
    source: str  # as the user named it
    license: str  # "" where nothing is known

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(parameter.numel() for parameter in self.network.parameters())


def digest(network: nn.Module, about: Mapping[str, Any]) -> str:
    """sha256 over names, shapes, dtypes and bytes of the state dict, sorted by name, and the JSON values `about`."""
    found = sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def teacher_features(
    frozen: LoadedTeacher,
    store: Store,
    rows: np.ndarray,
    *,
    device: torch.device,
    batch_size: int = 256,
    show: str = "",
) -> Tensor:
    """Vectors, float32 [n D], of the plain central views of `rows` [n] of `store`, as the teacher sees them.

    The network is moved to `device`; where the result lies, and `show`, are as in `extract.extract_matrix`.
    """
    network = frozen.network.to(device)
    look = eval_images(store, frozen.size, frozen.mean, frozen.std, device, frozen.interpolation)
    dims = {0: frozen.dim}
    bank = extract_matrix(
        lambda images: {0: network(images).vector}, look, rows, dims, device=device, batch_size=batch_size, show=show
    )
    return bank[0]


def _ordinary(tensor: Tensor) -> Tensor:
    """A float32 copy made outside of inference mode."""
    return tensor.to(torch.float32, copy=True)
