"""Settings of a relation module and of the episodes that it is trained and measured on."""

from dataclasses import dataclass
from typing import Literal

from limbeck.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class RelationConfig:
    """A relation module with propagation and memory."""

    neighbors: int = 5
    """Images and memory slots that an image gets information from; 0 for none."""
    rounds: int = 1
    """How often information is propagated."""
    temperature: float = 0.1
    """Divides the relations of the neighbors in the softmax that weights them."""
    context: Literal["support", "all"] = "support"
    """Where the neighbors are: among labeled images and memory (inductive), or among all of the episode, the other
    queries included (transductive)."""
    memory: bool = True
    """Use a memory of one slot per class of the training."""
    loss: Literal["cross-entropy", "squares"] = "cross-entropy"
    """Of the scores of a query: cross-entropy of their softmax, or squared errors of their sigmoids."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        if self.neighbors < 0:
            raise UserError(f"neighbors is {self.neighbors}: it must be 0 or more", code="out-of-range")
        for name in ("rounds", "temperature"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name):g}: it must be above 0", code="out-of-range")


@dataclass(frozen=True, kw_only=True)
class EpisodesConfig:
    """Which episodes to train and to measure on."""

    way: int | None = None
    """Classes of an episode; by default 5, or as many as both parts of the classes have."""
    shot: int = 1
    """Labeled images of each class."""
    queries: int = 15
    """Images of each class that are classified; fewer where there are fewer."""
    steps: int = 1000
    """Episodes of the training, one per step."""
    episodes: int = 600
    """Episodes of the test."""
    novel: float = 0.5
    """Share of the classes that the training does not see, and that the test is of."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    seed: int = 0
    """Seed of the split of the classes, of the episodes and of the initial weights."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        for name, least in (("way", 2), ("shot", 1), ("queries", 1), ("steps", 1), ("episodes", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} is {value}: it must be at least {least}", code="out-of-range")
        if not 0 < self.novel < 1:
            raise UserError(f"novel is {self.novel:g}: it must be between 0 and 1", code="out-of-range")
        if not self.lr > 0:
            raise UserError(f"lr is {self.lr:g}: it must be above 0", code="out-of-range")
