"""Option of a method that masks a part of each view; read without numpy."""

from dataclasses import dataclass

LONGEST = 10  # steps of a span that is chosen


@dataclass(frozen=True, kw_only=True)
class SpanMask:
    """Spans of steps that are hidden from the trained network."""

    share: float
    """Steps of all spans together as a share of the series; spans overlap, so that 1 - exp(-share) is hidden."""
    span: int | None = None
    """Steps of a span; None: a twelfth of the series, from 2 to 10."""

    def steps_of_span(self, steps: int) -> int:
        """Return the steps of a span for series of `steps` steps."""
        return self.span or min(max(steps // 12, 2), LONGEST)

    def spans(self, steps: int) -> int:
        """Return the number of spans in a series of `steps` steps."""
        return max(1, round(self.share * steps / self.steps_of_span(steps)))
