"""Choose images of a source in cycles, with an oracle, or once with a network that is trained for it."""

import csv
import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np

from limbeck.core.config import to_json
from limbeck.core.errors import UserError
from limbeck.core.files import atomic_write
from limbeck.core.locks import exclusive_lock
from limbeck.core.rank import is_rank0
from limbeck.core.text import csv_cell, plural
from limbeck.data.fingerprint import fingerprint
from limbeck.data.label_list import ListedLabels, read_label_list
from limbeck.data.sources.open import Source
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store, read_paths
from limbeck.downstream.active.config import CyclesConfig, JointConfig
from limbeck.downstream.active.cycles import run_cycles
from limbeck.downstream.active.joint import JointLearner
from limbeck.downstream.active.journal import Cycle, Journal
from limbeck.downstream.active.learner import FrozenLearner, Learner
from limbeck.downstream.active.oracle import Labels, Oracle, hold_out, read_oracle
from limbeck.downstream.selection.choice import Rows
from limbeck.downstream.selection.config import TRAINED, SelectConfig
from limbeck.downstream.selection.select import check_budget
from limbeck.downstream.selection.source import COLUMNS, Selection, load_network
from limbeck.embeddings.config import EmbedConfig
from limbeck.embeddings.encoders import FrozenEncoder
from limbeck.embeddings.source import embed_source, open_images
from limbeck.modalities.images import MODALITY
from limbeck.models.config import BackboneConfig

logger = logging.getLogger(__name__)
RANDOM_CHOICES = 5
"""Random choices with which the cycles are compared, where the network is frozen."""
LEAST_LABELED = 2
"""Images of a batch, of which BatchNorm needs more than one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelingCycles:
    """Result of the cycles of active learning."""

    cycles: list[Cycle]
    paths: list[str]
    """Chosen images in the order of choice, as the source has them."""
    labels: list[str]
    """Their labels, by the oracle."""
    reasons: list[str]
    strategy: str
    encoder: str
    held_out: int
    """Images on which accuracy was measured."""
    folder: Path
    """Journal and, where the network was trained, a folder per cycle."""

    def write(self, out: Path) -> None:
        """Write the list of the chosen images, labeled."""
        with atomic_write(out) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            rows = zip(self.paths, self.labels, self.reasons, strict=True)
            for rank, (path, label, reason) in enumerate(rows, start=1):
                writer.writerow([csv_cell(path), csv_cell(label), rank, reason])


def work_folder(out: Path) -> Path:
    """Return the folder of the cycles of a list: `selected.cycles` next to `selected.csv`."""
    return out.absolute().with_suffix(".cycles")


def select_in_cycles(
    source: Source | Store,
    encoder: str | PathLike[str] | None,
    cfg: SelectConfig,
    cycles: CyclesConfig,
    joint: JointConfig,
    folder: Path,
    *,
    labeled: str | PathLike[str] | None = None,
    depth: int | None = None,
    embed: EmbedConfig | None = None,
) -> LabelingCycles:
    """Learn, measure, choose and label in cycles; a command that was stopped goes on from the journal in `folder`.

    Raises:
        UserError: the oracle misses images, the budget of all cycles is more than there are images, the folder has the
            cycles of another command, or as `limbeck.downstream.selection.source.select_images`.
    """
    assert cycles.oracle is not None
    embed = embed or EmbedConfig()
    network = _network(encoder, cfg, joint, embed)
    depth = network.last if network and depth is None else depth
    store = _open(source, network, depth, embed)
    oracle = read_oracle(cycles.oracle, source, store)
    known = np.where(_listed(labeled, store).labels >= 0, oracle.labels, -1)
    held_out = hold_out(known, cycles.held_out, cfg.seed)
    rows = np.setdiff1d(np.arange(len(store)), held_out)
    _check_budget(cfg, cycles, known[rows], held_out)
    settings = {"select": to_json(cfg), "cycles": cycles.cycles, "held_out": cycles.held_out, "images": store.digest}
    how = {"network": network.digest, "depth": depth} if network else {"moby": to_json(joint)}
    with exclusive_lock(folder) if is_rank0() else nullcontext():
        journal = Journal(folder, {**settings, "labels": _digest(oracle.labels, known), **how})
        if network is None or depth is None:
            learner: Learner = JointLearner(store, rows, len(oracle.names), cfg, joint, embed, folder)
            found = run_cycles(learner, oracle, known, held_out, cycles.cycles, journal)
        else:
            features = embed_source(store, network, depths=[depth], cfg=embed).features[depth]

            def run(settings: SelectConfig, journal: Journal) -> list[Cycle]:
                learner = FrozenLearner(store, features, rows, settings)
                return run_cycles(learner, oracle, known, held_out, cycles.cycles, journal)

            found = _with_random(run(cfg, journal), [run(each, Journal(None, {})) for each in _random_choices(cfg)])
    name = network.name if network else joint.backbone
    return _result(found, oracle, store, len(held_out), strategy=cfg.strategy, encoder=name, folder=folder)


def select_jointly(
    source: Source | Store,
    encoder: str | PathLike[str] | None,
    cfg: SelectConfig,
    joint: JointConfig,
    folder: Path,
    *,
    labeled: str | PathLike[str] | None,
    embed: EmbedConfig | None = None,
) -> Selection:
    """Train on the labeled images and a pool of the others, and choose with that network, once.

    Raises:
        UserError: an `encoder` is given, fewer than two classes are labeled, the budget is more than there are images,
            or the folder has the training of another command.
    """
    embed = embed or EmbedConfig()
    store = _open(source, _network(encoder, cfg, joint, embed), None, embed)
    listed = _listed(labeled, store)
    known = listed.labels
    if len(listed.names) < 2:
        raise UserError(
            f"strategy {cfg.strategy} needs images of two classes with labels, and there "
            f"{'is one class' if listed.names else 'are no labels'}: give them with --labeled ROWS.csv, or all labels "
            "with --oracle, or choose typical",
            code="strategy-needs-labels",
        )
    check_budget(cfg, known)
    with exclusive_lock(folder) if is_rank0() else nullcontext():
        learner = JointLearner(store, np.arange(len(store)), len(listed.names), cfg, joint, embed, folder)
        learner.fit(known, 1)
        found = learner.choose(known, 1)
        learner.close(1)
    return Selection.of(found, cfg.strategy, store, known, encoder=joint.backbone, depth=learner.depth)


def _network(
    encoder: str | PathLike[str] | None, cfg: SelectConfig, joint: JointConfig, embed: EmbedConfig
) -> FrozenEncoder | None:
    """Return the frozen network, or None for a strategy that trains its own.

    Raises:
        UserError: a network is named and not used, or needed and not named, or there is no such architecture.
    """
    if cfg.strategy == TRAINED:
        if encoder is not None:
            raise UserError(
                f"strategy {cfg.strategy} trains its own network, and '{encoder}' is given: leave --with out, and name "
                "an architecture with --moby.backbone",
                code="network-not-used",
            )
        MODALITY.check_encoder(BackboneConfig(name=joint.backbone))
        return None
    return load_network(encoder, cfg.strategy, embed)


def _open(source: Source | Store, network: FrozenEncoder | None, depth: int | None, embed: EmbedConfig) -> Store:
    """Return the images of a source."""
    if network and depth is not None:
        network.check_depths([depth])
        return open_images(source, network, embed)
    if isinstance(source, Store):
        return source
    return open_store(source, None, None, embed.allow_bad, embed.exclude, embed.only)


def _listed(file: str | PathLike[str] | None, store: Store) -> ListedLabels:
    """Return the labels of a list; without one, none."""
    if file is None:
        return ListedLabels(np.full(len(store), -1), [], 0)
    return read_label_list(Path(file), store)


def _check_budget(cfg: SelectConfig, cycles: CyclesConfig, known: Labels, held_out: Rows) -> None:
    """Raise UserError unless there are images for all choices, and enough to measure and to learn with."""
    labeled = bool((known >= 0).any())
    choices = cycles.cycles - labeled
    unlabeled = int((known < 0).sum())
    if not choices:
        raise UserError(
            "one cycle that begins with labels measures them and chooses nothing: ask for 2 cycles or more, or leave "
            "--oracle out to choose once",
            code="nothing-to-choose",
        )
    if cfg.budget < 1 or choices * cfg.budget > unlabeled:
        raise UserError(
            f"{plural(choices, 'choice')} of {plural(cfg.budget, 'image')} are more than the {unlabeled:,} that are "
            f"neither labeled nor held out: choose a budget of 1 to {unlabeled // max(choices, 1):,}, or fewer cycles",
            code="budget-out-of-range",
        )
    if not len(held_out):
        raise UserError(
            f"no image is held out of {plural(len(known), 'image')}: raise --held-out, accuracy is measured on them",
            code="nothing-held-out",
        )
    if cfg.strategy == TRAINED and not labeled and cfg.budget < LEAST_LABELED:
        raise UserError(
            f"strategy {cfg.strategy} learns from batches, and the budget of {cfg.budget} is none: choose "
            f"{LEAST_LABELED} or more",
            code="budget-out-of-range",
        )


def _digest(*labels: Labels) -> str:
    return fingerprint(",".join(map(str, numbers.tolist())) for numbers in labels)


def _random_choices(cfg: SelectConfig) -> list[SelectConfig]:
    """Return the settings of the random choices to compare with; none if the choice is random itself."""
    if cfg.strategy == "random":
        return []
    return [replace(cfg, strategy="random", seed=cfg.seed + draw) for draw in range(1, RANDOM_CHOICES + 1)]


def _with_random(found: list[Cycle], others: list[list[Cycle]]) -> list[Cycle]:
    """Return the cycles with the mean accuracy of random choices of as many images."""
    means = [
        float(np.mean([other[number].accuracy for other in others])) if others and cycle.accuracy is not None else None
        for number, cycle in enumerate(found)
    ]
    return [replace(cycle, random=mean) for cycle, mean in zip(found, means, strict=True)]


def _result(
    found: list[Cycle], oracle: Oracle, store: Store, held_out: int, *, strategy: str, encoder: str, folder: Path
) -> LabelingCycles:
    chosen, paths = [row for cycle in found for row in cycle.chosen], read_paths(store)
    return LabelingCycles(
        cycles=found,
        paths=[paths[row] for row in chosen],
        labels=[oracle.names[oracle.labels[row]] for row in chosen],
        reasons=[reason for cycle in found for reason in cycle.reasons],
        strategy=strategy,
        encoder=encoder,
        held_out=held_out,
        folder=folder,
    )
