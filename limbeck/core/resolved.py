"""A setting with the reasons for choosing it."""

import logging
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Resolved(NamedTuple, Generic[T]):
    """A value, and one sentence for each part of it that was chosen and not requested."""

    value: T
    reasons: list[str]

    def log(self, logger: logging.Logger) -> T:
        """Log the reasons and return the value."""
        for reason in self.reasons:
            logger.info(reason)
        return self.value
