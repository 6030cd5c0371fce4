"""A modality in one file: series [N T C] in a .npy file, a convolutional encoder, random scale, shift and masks.

The tests train it in place, and as `limbeck/modalities/series.py` of a copy of the package from the command line.
"""

import copy
import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved
from limbeck.core.types import Batch, Encoder, Features
from limbeck.data.augment.draw import hash_uniforms
from limbeck.data.loader import check_batch
from limbeck.data.sampling import ALL_ROWS, SamplingPlan, epoch_order
from limbeck.data.sources.selection import Selection
from limbeck.methods import MethodConfig
from limbeck.modalities.base import Modality


@dataclass(frozen=True, kw_only=True)
class SeriesConfig:
    """A stack of dilated convolutions over time."""

    name: str = "dilated_conv"
    """The only network for series."""
    channels: int | None = None
    """Channels of the series; by default those of the data."""
    width: int = 16
    """Channels of every layer."""
    depth: int = 3
    """Layers; the dilation doubles with every layer."""


class SeriesEncoder(Encoder):
    """Map series [B T C] to the mean over time of each layer's output."""

    cfg: SeriesConfig

    def __init__(self, cfg: SeriesConfig) -> None:
        super().__init__()
        assert cfg.channels is not None, "`Series.resolve_encoder` takes the channels of the data"
        self.cfg, self.dim, self.taps = cfg, cfg.width, tuple(range(1, cfg.depth + 1))
        self.tap_dims = self.map_dims = dict.fromkeys(self.taps, cfg.width)
        sizes = [cfg.channels, *[cfg.width] * cfg.depth]
        self.layers = nn.ModuleList(
            nn.Conv1d(sizes[tap - 1], sizes[tap], 3, padding=2 ** (tap - 1), dilation=2 ** (tap - 1))
            for tap in self.taps
        )

    def forward(self, x: Tensor, taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
        """Return the features of series [B T C]; feature maps are [B width T]."""
        maps: dict[int, Tensor] = {}
        hidden = x.transpose(1, 2)
        for tap, layer in zip(self.taps, self.layers, strict=True):
            hidden = maps[tap] = layer(hidden).relu()
        pooled = {tap: output.mean(-1) for tap, output in maps.items()}
        chosen = {tap: maps[tap] for tap in taps} if feature_maps else {}
        return Features(pooled[self.taps[-1]], {tap: pooled[tap] for tap in taps}, chosen)

    def cut(self, depth: int) -> Self:
        """Return a copy of the layers 1..`depth`."""
        shorter = type(self)(replace(self.cfg, depth=depth))
        shorter.layers = copy.deepcopy(self.layers[:depth])
        return shorter


class SeriesData:
    """The series [N T C] of a .npy file, without labels."""

    labeled = False

    def __init__(self, path: Path) -> None:
        self.path, self.values = path, np.load(path, allow_pickle=False)
        if self.values.ndim != 3:
            raise UserError(f"'{path}' has the shape {self.values.shape}: series are [N T C]", code="not-series")
        self.labels, self.label_names = np.full(len(self.values), -1), list[str]()

    @cached_property
    def digest(self) -> str:
        """Hash of the values."""
        return hashlib.sha256(self.values.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, kw_only=True)
class SeriesView:
    """A random view of a series: scaled, shifted in time, with some time steps set to 0."""

    scale: float = 0.3
    """The factor is uniform in [1 - scale, 1 + scale]."""
    masked: float = 0.2
    """Probability of every time step to be hidden."""


class SeriesLoader:
    """Batches of views; every random number is a function of (seed, epoch, view, row)."""

    def __init__(
        self,
        store: SeriesData,
        views: tuple[SeriesView, ...],
        batch_size: int,
        *,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        accumulate_steps: int = 1,
        sampling: SamplingPlan = ALL_ROWS,
    ) -> None:
        check_batch(batch_size, len(store), world_size, accumulate_steps)
        self.store, self.views, self.batch_size, self.count = store, views, batch_size, len(store)
        self.seed, self.device, self.rank, self.world_size = seed, device, rank, world_size
        self.accumulate_steps, self.steps_per_epoch, self.wait_seconds = accumulate_steps, len(store) // batch_size, 0.0

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """Yield the batches of optimizer steps `start` to `stop` (exclusive)."""
        for step in range(start, stop):
            epoch, within = divmod(step, self.steps_per_epoch)
            order = epoch_order(self.count, self.batch_size, self.seed, epoch)[within * self.batch_size :][
                : self.batch_size
            ]
            for rows in np.split(order[self.rank :: self.world_size], self.accumulate_steps):
                yield self._batch(rows, epoch)

    def fixed_batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return the rows `indices` in the views of epoch 0."""
        return self._batch(indices, 0)

    def _batch(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        pairs = [self._view(view, index, rows, epoch) for index, view in enumerate(self.views)]
        views, masks = zip(*pairs, strict=True)
        return Batch(views, torch.from_numpy(rows).to(self.device), view_epoch=epoch, masks=masks)

    def _view(self, view: SeriesView, index: int, rows: NDArray[np.int64], epoch: int) -> tuple[Tensor, Tensor]:
        """Return a view [B T C] and its mask [B T], true where a time step is hidden."""
        values = self.store.values[rows].astype(np.float32)
        length = values.shape[1]
        uniforms = hash_uniforms(self.seed, epoch, index, rows, 2 + length)
        factor = 1 + view.scale * (2 * uniforms[:, 0] - 1)
        times = (np.arange(length) + (uniforms[:, 1:2] * length).astype(int)) % length
        mask = uniforms[:, 2:] < view.masked
        shifted = np.take_along_axis(values, times[:, :, None], 1) * factor[:, None, None]
        visible = np.where(mask[:, :, None], 0, shifted).astype(np.float32)
        return torch.from_numpy(visible).to(self.device), torch.from_numpy(mask).to(self.device)


class Series(Modality[SeriesConfig, SeriesData]):
    """Series in .npy files."""

    name = "series"
    loader = SeriesLoader

    def recognizes(self, source: object) -> bool:
        """Accept .npy files."""
        return Path(str(source)).suffix == ".npy"

    def encoder_config(self, name: str) -> type[SeriesConfig] | None:
        """Know one network."""
        return SeriesConfig if name == SeriesConfig.name else None

    def default_encoder(self) -> SeriesConfig:
        """Return that network."""
        return SeriesConfig()

    def open(
        self, source: Any, *, store_size: int | None, allow_bad: float, selection: Selection
    ) -> Resolved[SeriesData]:
        """Read the file."""
        data = SeriesData(Path(str(source)))
        return Resolved(data, [f"{len(data):,} series of {data.values.shape[1]} steps"])

    def reopen(self, path: str) -> SeriesData:
        """Read the file again."""
        return SeriesData(Path(path))

    def resolve_encoder(self, cfg: SeriesConfig, data: SeriesData) -> Resolved[SeriesConfig]:
        """Take the channels of the data."""
        channels = cfg.channels or data.values.shape[2]
        return Resolved(replace(cfg, channels=channels), [] if cfg.channels else [f"{channels} channels, as the data"])

    def build_encoder(self, cfg: SeriesConfig) -> SeriesEncoder:
        """Build the network."""
        return SeriesEncoder(cfg)

    def make_views(self, method: MethodConfig, cfg: SeriesConfig) -> tuple[SeriesView, ...]:
        """Return as many views as the method compares at least, all of one kind."""
        return (SeriesView(),) * method.view_count[0]


MODALITY = Series()
