"""The labeled images of an evaluation: checked before they are decoded, and opened with what the run left out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from limbeck.core.devices import choose_device
from limbeck.data.check.issues import ALLOW_BAD
from limbeck.data.sources.open import Source
from limbeck.data.sources.selection import EVERYTHING, Selection
from limbeck.data.store.known_labels import known_labels, labels_in_use, of_one_class
from limbeck.data.store.layout import is_store
from limbeck.data.store.open import open_store
from limbeck.data.store.store import Store
from limbeck.evaluation.labels import check_names, not_labeled
from limbeck.runs.config import RunConfig

logger = logging.getLogger(__name__)


class LabeledSelection(NamedTuple):
    """Images that an evaluation leaves out by name."""

    patterns: Selection
    inherited: bool
    """Whether the patterns are those of the run, and not given for the evaluation."""


NOTHING_LEFT_OUT = LabeledSelection(EVERYTHING, inherited=False)


def select(config: RunConfig, exclude: Sequence[str] | None, only: Sequence[str] | None) -> LabeledSelection:
    """Return the patterns that the evaluation of a run leaves out: those given, or else those of the run."""
    if exclude is None and only is None:
        return LabeledSelection(Selection(exclude=config.exclude, only=config.only), inherited=True)
    return LabeledSelection(Selection.by(exclude or (), only or ()), inherited=False)


@dataclass(frozen=True, kw_only=True)
class LabeledSources:
    """Training and test images of an evaluation, before they are opened."""

    train: Source
    test: Source
    store_size: int | None = None
    """Side of the stored images in pixels; None: as `open_store` chooses."""
    allow_bad: float = ALLOW_BAD
    left_out: LabeledSelection = NOTHING_LEFT_OUT
    device: str = "auto"
    """Device of the evaluation, which must be there."""

    def open(self) -> tuple[Store, Store]:
        """Return the stores of both, and log how many images were skipped.

        Raises:
            UserError: as `open_store`; or, before anything is decoded, there is no such device, or the labels of
                folders or stores do not fit.
        """
        choose_device(self.device)
        self._check_labels()
        train, test = self.images()
        test = of_one_class(test, sorted(labels_in_use(train)))
        if test.labeled and len(only := labels_in_use(test)) == 1:
            logger.warning(
                "all test images are labeled '%s': their accuracy says how many of them are recognized, and nothing "
                "about images of other classes that are taken for it",
                *only,
            )
        return train, test

    def images(self) -> tuple[Store, Store]:
        """Return the stores of both, whatever their labels, and log how many images were skipped."""
        return self._open(self.train), self._open(self.test)

    def _open(self, source: Source) -> Store:
        patterns = self._patterns(source)
        if self.left_out.inherited and patterns != EVERYTHING:
            logger.info("left out of '%s' as in the run: %s", source, patterns)
        store = open_store(source, None, self.store_size, self.allow_bad, patterns.exclude, patterns.only)
        if store.skipped:
            logger.info(store.summary())
        return store

    def _patterns(self, source: Source) -> Selection:
        """Return the patterns for a source; a store has left out what it was built without."""
        if self.left_out.inherited and isinstance(source, str | Path) and is_store(Path(source)):
            return EVERYTHING
        return self.left_out.patterns

    def _check_labels(self) -> None:
        sources = {"train": self.train, "test": self.test}
        train = known_labels(self.train, self._patterns(self.train))
        names = {"train": train, "test": known_labels(self.test, self._patterns(self.test), train or ())}
        if any(names.values()):
            for role, source in sources.items():
                if names[role] == set():
                    raise not_labeled(role, f" in {source}")
        if names["train"] and names["test"]:
            check_names(names["train"], names["test"])
