"""Choose images of a source, and write the list of them."""

import csv
import logging
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from limbeck.core.disk import check_writable
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.core.text import csv_cell, plural
from limbeck.data.label_list import read_label_list
from limbeck.data.sources.open import Source
from limbeck.data.store.store import Store, read_paths
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import load_encoder
from limbeck.embeddings.source import Embedded, embed_source, open_images
from limbeck.neighbors.near_duplicates import thumbnails
from limbeck.selection.choice import Rows
from limbeck.selection.config import SelectConfig, Strategy
from limbeck.selection.covering import Covering
from limbeck.selection.select import Selected, check_request, select_rows

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

    def sentences(self) -> list[str]:
        """Return what was chosen, how, and how well it covers the images."""
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
    encoder: str | PathLike[str],
    cfg: SelectConfig,
    *,
    labeled: str | PathLike[str] | None = None,
    depth: int | None = None,
    embed: EmbedConfig | None = None,
) -> Selection:
    """Choose the images of a source that are worth labeling first; labels come from the file `labeled` alone.

    Raises:
        UserError: as `embed_source`, `read_label_list` and `select_rows`.
    """
    embed = embed or EmbedConfig()
    network = load_encoder(encoder, embed.precision)
    depth = network.last if depth is None else depth
    network.check_depths([depth])
    store = open_images(source, network, embed)
    known = read_label_list(Path(labeled), read_paths(store)) if labeled is not None else None
    if known and known.unfilled:
        logger.info("%s in '%s' without a label, which may be chosen", plural(known.unfilled, "image"), labeled)
    check_request(cfg, known.labels if known else np.full(len(store), -1))
    found = embed_source(store, network, depths=[depth], cfg=embed)
    result = select_rows(found.features[depth], cfg, known and known.labels, lambda rows: thumbnails(found.store, rows))
    if len(result.rows) < cfg.budget:
        logger.warning("%d images instead of %d: the others are near-duplicates", len(result.rows), cfg.budget)
    return _selection(found, result, cfg.strategy, depth, int((known.labels >= 0).sum()) if known else 0)


def _selection(found: Embedded, result: Selected, strategy: Strategy, depth: int, labeled: int) -> Selection:
    return Selection(
        paths=[found.paths[row] for row in result.rows],
        reasons=result.reasons,
        rows=result.rows,
        strategy=strategy,
        covering=result.covering,
        pool=result.pool,
        labeled=labeled,
        near_duplicates=result.near_duplicates,
        encoder=found.encoder.name,
        depth=depth,
    )


def check_list(out: Path) -> None:
    """Raise UserError unless a list can be written to `out`, where nothing may be: labels are written into lists."""
    check_writable(out.absolute().parent)
    if out.exists():
        raise UserError(
            f"'{out}' exists, and may have labels by now: choose another name with --out", code="out-exists"
        )
