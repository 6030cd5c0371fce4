"""A modality in one file, which a test adds to a copy of the package: graphs of 8 nodes, as rows of a .npy file."""

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

from limbeck.core.resolved import Resolved
from limbeck.core.types import Batch, Encoder, Features
from limbeck.data.augment.draw_parameters import hash_uniforms
from limbeck.data.sampling import ALL_ROWS, SamplingPlan, StepRows
from limbeck.data.sources.selection import Selection
from limbeck.methods import MethodConfig
from limbeck.modalities.base import Modality


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """Layers that exchange features between neighbors."""

    name: str = "graph_conv"
    """The only network for graphs."""
    nodes: int | None = None
    """Nodes of the graphs; by default those of the data."""
    depth: int = 3
    """Layers."""


class GraphEncoder(Encoder):
    """Map adjacency matrices [B V V] to the mean over nodes of each layer's output."""

    cfg: GraphConfig

    def __init__(self, cfg: GraphConfig) -> None:
        super().__init__()
        assert cfg.nodes is not None, "`Graphs.resolve_encoder` takes the nodes of the data"
        self.cfg, self.dim, self.taps = cfg, 16, tuple(range(1, cfg.depth + 1))
        self.tap_dims = self.map_dims = dict.fromkeys(self.taps, self.dim)
        self.layers = nn.ModuleList(nn.Linear(self.dim if tap > 1 else cfg.nodes, self.dim) for tap in self.taps)

    def forward(self, x: Tensor, taps: Sequence[int] = (), feature_maps: bool = False) -> Features:
        """Return the features of graphs; feature maps are [B 16 V]."""
        maps: dict[int, Tensor] = {}
        hidden = x
        for tap, layer in zip(self.taps, self.layers, strict=True):
            hidden = layer(x @ hidden).relu()
            maps[tap] = hidden.mT
        pooled = {tap: output.mean(-1) for tap, output in maps.items()}
        chosen = {tap: maps[tap] for tap in taps} if feature_maps else {}
        return Features(pooled[self.taps[-1]], {tap: pooled[tap] for tap in taps}, chosen)

    def cut(self, depth: int) -> Self:
        """Return a copy of the layers 1..`depth`."""
        shorter = type(self)(replace(self.cfg, depth=depth))
        shorter.layers = copy.deepcopy(self.layers[:depth])
        return shorter


class GraphData:
    """The graphs [N V V] of a .npy file, without labels."""

    labeled = False

    def __init__(self, path: Path) -> None:
        self.path, self.values = path, np.load(path, allow_pickle=False).astype(np.float32)
        self.labels, self.label_names = np.full(len(self.values), -1), list[str]()

    @cached_property
    def digest(self) -> str:
        """Hash of the values."""
        return hashlib.sha256(self.values.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.values)


class GraphLoader:
    """Batches of graphs without some of their edges, which a hash of (seed, epoch, view, row) chooses."""

    unit = "graphs"

    def __init__(
        self,
        store: GraphData,
        views: tuple[float, ...],
        batch_size: int,
        *,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        accumulate_steps: int = 1,
        sampling: SamplingPlan = ALL_ROWS,
    ) -> None:
        self.rows = StepRows(len(store), sampling, batch_size, seed=seed, rank=rank, world_size=world_size)
        self.count, self.steps_per_epoch, self.wait_seconds = self.rows.count, self.rows.steps_per_epoch, 0.0
        self.store, self.views, self.batch_size, self.seed, self.device = store, views, batch_size, seed, device
        self.world_size, self.accumulate_steps = world_size, accumulate_steps

    def batches(self, start: int, stop: int, small_steps: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of optimizer steps `start` to `stop` (exclusive)."""
        for step in range(start, stop):
            for rows in np.split(self.rows(step), self.accumulate_steps):
                yield self._batch(rows, step // self.steps_per_epoch)

    def fixed_batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return the rows `indices` in the views of epoch 0."""
        return self._batch(indices, 0)

    def _batch(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        values = self.store.values[rows]
        shape, count = values.shape, values[0].size
        draws = [hash_uniforms(self.seed, epoch, number, rows, count) for number in range(len(self.views))]
        masked = [np.where(draw.reshape(shape) < p, 0, values) for draw, p in zip(draws, self.views, strict=True)]
        views = tuple(torch.from_numpy(view).to(self.device) for view in masked)
        return Batch(views, torch.from_numpy(rows).to(self.device), view_epoch=epoch)


class Graphs(Modality[GraphConfig, GraphData]):
    """Graphs in .npy files."""

    name = "graphs"
    nouns = ("graph", "graphs")
    loader = GraphLoader

    def recognizes(self, source: object) -> bool:
        """Accept files whose names say so."""
        return str(source).endswith(".graphs.npy")

    def encoder_config(self, name: str) -> type[GraphConfig] | None:
        """Know one network."""
        return GraphConfig if name == GraphConfig.name else None

    def default_encoder(self) -> GraphConfig:
        """Return that network."""
        return GraphConfig()

    def open(
        self,
        source: Any,
        *,
        store_size: int | None,
        allow_bad: float,
        selection: Selection,
        encoder: GraphConfig | None = None,
    ) -> Resolved[GraphData]:
        """Read the file."""
        data = GraphData(Path(str(source)))
        return Resolved(data, [f"{len(data):,} graphs"])

    def reopen(self, path: str, encoder: GraphConfig) -> GraphData:
        """Read the file again."""
        return GraphData(Path(path))

    def resolve_encoder(self, cfg: GraphConfig, data: GraphData) -> Resolved[GraphConfig]:
        """Take the nodes of the data."""
        return Resolved(replace(cfg, nodes=data.values.shape[1]), [])

    def build_encoder(self, cfg: GraphConfig) -> GraphEncoder:
        """Build the network."""
        return GraphEncoder(cfg)

    def make_views(self, method: MethodConfig, cfg: GraphConfig) -> tuple[float, ...]:
        """Return as many views as the method compares at least, each without a fifth of the edges."""
        return (0.2,) * method.view_count[0]


MODALITY = Graphs()
