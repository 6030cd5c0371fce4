"""Options of the network for series, and what the data decide about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from limbeck.core.errors import UserError
from limbeck.core.resolved import Resolved

KERNEL = 3  # steps of every convolution
FEWEST_BLOCKS, MOST_BLOCKS = 4, 11
KERNELS, LENGTH = 84, 9  # fixed kernels, and their steps: 84 ways to choose three of nine
MOST_DILATIONS = 8  # of the fixed kernels
STUDENT_HIDDEN, STUDENT_DIM = 16, 80  # widths of a student that names none: a quarter of the usual ones


@dataclass(frozen=True, kw_only=True)
class SeriesConfig:
    """A residual network of dilated convolutions over time, as in TS2Vec."""

    name: str = "dilated_conv"
    """The only network for series."""
    depth: int | None = None
    """Blocks, whose dilations are 1, 2, 4 ...; by default as many as see the whole series, from 4 to 11."""
    hidden: int = 64
    """Width of every block but the last."""
    dim: int = 320
    """Width of the last block, and of the features."""
    kernel_features: int = 2016
    """Features of fixed kernels, joined with those of every block when it is trained; 0: none. There are up to so many,
    as a multiple of 84 kernels at each dilation."""
    window: int | None = field(default=None, metadata={"plain_flag": True})
    """Cut series into windows of so many steps, which are trained on, evaluated and embedded as series; None: whole."""
    stride: int | None = field(default=None, metadata={"plain_flag": True})
    """Steps from the start of a window to that of the next one; by default a window."""
    cut: int | None = field(default=None, metadata={"internal": True})
    """Blocks that are left of a network that was cut; None: all of them."""
    channels: int | None = field(default=None, metadata={"internal": True})
    """Channels of the series."""
    mean: tuple[float, ...] = field(default=(), metadata={"internal": True})
    """Means of the channels in the training data, which the network subtracts."""
    std: tuple[float, ...] = field(default=(), metadata={"internal": True})
    """Standard deviations of the channels, by which the network divides."""
    dilations: tuple[int, ...] = field(default=(1,), metadata={"internal": True})
    """Dilations of the fixed kernels, from 1 to what spans the longest series."""

    def __post_init__(self) -> None:
        """Raise UserError for a network without blocks or widths, or for fewer features of kernels than kernels."""
        for name in ("depth", "hidden", "dim"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} of the network is {value}: it must be at least 1", code="out-of-range")
        if self.kernel_features < 0 or 0 < self.kernel_features < KERNELS:
            raise UserError(
                f"kernel_features is {self.kernel_features}: take at least {KERNELS}, the number of kernels, or 0 for "
                "none",
                code="out-of-range",
            )
        self._check_windows()

    def _check_windows(self) -> None:
        """Raise UserError for windows of fewer than two steps, or for a stride that does not go on."""
        if self.window is not None and self.window < 2:
            raise UserError(
                f"window is {self.window}: it must be at least 2 steps, or leave it out", code="out-of-range"
            )
        if self.stride is not None and self.stride < 1:
            raise UserError(f"stride is {self.stride}: it must be at least 1 step", code="out-of-range")
        if self.stride is not None and self.window is None:
            raise UserError(
                f"stride is {self.stride} and there are no windows: give a window, too", code="flag-without-use"
            )

    def widths(self) -> list[int]:
        """Return the width of every block that is left."""
        assert self.depth is not None, "`fit_to_series` chooses the depth"
        return ([self.hidden] * (self.depth - 1) + [self.dim])[: self.cut]


def receptive_field(depth: int) -> int:
    """Return the steps that a step of block `depth` is computed from: two convolutions in every block."""
    return 1 + 2 * (KERNEL - 1) * (2**depth - 1)


def depth_for(steps: int) -> int:
    """Return the fewest blocks that see series of so many steps as a whole, between 4 and 11 where they fit."""
    enough = next((d for d in range(FEWEST_BLOCKS, MOST_BLOCKS) if receptive_field(d) >= steps), MOST_BLOCKS)
    return min(enough, most_blocks(steps))


def most_blocks(steps: int) -> int:
    """Return the most blocks whose dilation, 1, 2, 4 ..., is below the number of steps."""
    return (steps - 1).bit_length()


def kernel_dilations(steps: int) -> tuple[int, ...]:
    """Return up to 8 dilations of fixed kernels, in equal ratios from 1 to what spans series of so many steps."""
    most = max((steps - 1) / (LENGTH - 1), 1.0)
    powers = (number / (MOST_DILATIONS - 1) for number in range(MOST_DILATIONS))
    return tuple(sorted({int(most**power) for power in powers}))


def fit_start(cfg: SeriesConfig, channels: int, steps: int) -> SeriesConfig:
    """Return the network of a start with kernels for series of `steps` steps; UserError for other channels."""
    if cfg.channels != channels:
        raise UserError(
            f"the network has {cfg.channels} channels and the series {channels}: start from one that was trained on "
            "series of the same channels",
            code="channels-differ",
        )
    return replace(cfg, dilations=kernel_dilations(steps))


def fit_to_series(cfg: SeriesConfig, steps: int, mean: Sequence[float], std: Sequence[float]) -> Resolved[SeriesConfig]:
    """Return the configuration for series of `steps` steps with these means and deviations of the channels.

    Raises:
        UserError: the series are shorter than the receptive field of the first block; the kernel of the last block is
            wider than the series; or a run on series of other channels chose the network.
    """
    if steps < receptive_field(1):
        raise UserError(
            f"the longest series has {steps} steps, and the first block of the network sees {receptive_field(1)}: take "
            "longer series or windows, or join short ones",
            code="series-too-short",
        )
    depth = cfg.depth or depth_for(steps)
    most = most_blocks(steps)
    if depth > most:
        raise UserError(
            f"block {depth} of the network joins steps {2 ** (depth - 1)} apart, and no series has more than {steps}: "
            f"choose at most {most} blocks (--backbone.depth {most})",
            code="series-too-short",
        )
    if cfg.channels not in (None, len(mean)):
        raise UserError(
            f"the network has {cfg.channels} channels and the series {len(mean)}: train on series of its own channels",
            code="channels-differ",
        )
    found = replace(
        cfg, depth=depth, channels=len(mean), mean=tuple(mean), std=tuple(std), dilations=kernel_dilations(steps)
    )
    reason = (
        f"{depth} blocks, with a receptive field of {receptive_field(depth):,} of {steps:,} steps (--backbone.depth)"
    )
    return Resolved(found, [] if cfg.depth else [reason])
