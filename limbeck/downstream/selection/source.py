"""Choose images of a source, and write the list of them."""

import csv
import logging
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.core.text import csv_cell, plural
from limbeck.data.label_list import read_label_list
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store, read_paths
from limbeck.downstream.selection.choice import Rows
from limbeck.downstream.selection.config import SelectConfig, Strategy
from limbeck.downstream.selection.covering import Covering
from limbeck.downstream.selection.select import Selected, check_request, select_rows
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder, load_features
from limbeck.embeddings.source import embed_source, open_images
from limbeck.neighbors.near_duplicates import thumbnails

logger = logging.getLogger(__name__)
COLUMNS = ("path", "label", "rank", "reason")


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Images that were chosen, best first."""

    paths: list[str]
    """As the source has them."""
    reasons: list[str]
    rows: Rows
    """Their positions in the source."""
    strategy: Strategy
    covering: Covering
    pool: int
    """Images without a label among which was chosen."""
    labeled: int
    """Images with a label."""
    near_duplicates: int
    """Images that were left out as near-duplicates of a labeled or chosen one."""
    encoder: str
    depth: int

    @classmethod
    def of(
        cls, found: Selected, strategy: Strategy, store: Store, labels: NDArray[np.int64], *, encoder: str, depth: int
    ) -> Self:
        """Return the selection from the images of a store with these `labels` [N], -1 where there is none."""
        paths = read_paths(store)
        return cls(
            paths=[paths[row] for row in found.rows],
            reasons=found.reasons,
            rows=found.rows,
            strategy=strategy,
            covering=found.covering,
            pool=found.pool,
            labeled=int((labels >= 0).sum()),
            near_duplicates=found.near_duplicates,
            encoder=encoder,
            depth=depth,
        )

    def sentences(self) -> list[str]:
        """Describe the selection: images, strategy, and how well it covers the images."""
        chosen = f"{plural(len(self.paths), 'image')} of {self.pool:,} by the strategy {self.strategy}"
        known = f", with {plural(self.labeled, 'label')} known" if self.labeled else ""
        double = f"; {plural(self.near_duplicates, 'near-duplicate')} left out" if self.near_duplicates else ""
        return [f"chose {chosen}{known}{double}", self.covering.sentence()]

    def write(self, out: Path) -> None:
        """Write the list, with an empty column for the labels."""
        with atomic_write(out) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for rank, (path, reason) in enumerate(zip(self.paths, self.reasons, strict=True), start=1):
                writer.writerow([csv_cell(path), "", rank, reason])


def select_images(
    source: Source | Store,
    encoder: str | PathLike[str] | None,
    cfg: SelectConfig,
    *,
    labeled: str | PathLike[str] | None = None,
    depth: int | None = None,
    embed: EmbedConfig | None = None,
) -> Selection:
    """Choose the images of a source that are worth labeling first; labels come from the file `labeled` alone.

    Raises:
        UserError: there is no encoder, or as `embed_source`, `read_label_list` and `select_rows`.
    """
    embed = embed or EmbedConfig()
    network = load_network(encoder, cfg.strategy, embed)
    depth = network.last if depth is None else depth
    network.check_depths([depth])
    store = open_images(source, network, embed)
    known = read_label_list(Path(labeled), store) if labeled is not None else None
    if known and known.unfilled:
        logger.info("%s in '%s' without a label, which may be chosen", plural(known.unfilled, "image"), labeled)
    check_request(cfg, known.labels if known else np.full(len(store), -1))
    found = embed_source(store, network, depths=[depth], cfg=embed)
    result = select_rows(found.features[depth], cfg, known and known.labels, lambda rows: thumbnails(found.store, rows))
    if len(result.rows) < cfg.budget:
        logger.warning("%d images instead of %d: the others are near-duplicates", len(result.rows), cfg.budget)
    labels = known.labels if known else np.full(len(store), -1)
    return Selection.of(result, cfg.strategy, store, labels, encoder=network.name, depth=depth)


def load_network(encoder: str | PathLike[str] | None, strategy: str, embed: EmbedConfig) -> FrozenEncoder:
    """Return the network that a strategy chooses with; UserError if none is named."""
    if encoder is None:
        raise UserError(
            f"strategy {strategy} chooses with the features of a network: name one with --with, such as --with "
            "timm:resnet18",
            code="no-network",
        )
    return load_features(encoder, embed.precision)
