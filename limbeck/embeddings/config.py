"""Settings of the embeddings of a source."""

from dataclasses import dataclass, field
from typing import Any, Literal

from limbeck.core.errors import UserError
from limbeck.data.check.issues import ALLOW_BAD


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """How to compute embeddings."""

    batch_size: int = 256
    """Images per forward pass."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the forward passes; auto is bf16 where the hardware computes in it. Embeddings are float32."""
    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1 ..."""
    devices: int = 1
    """Processes of this machine, each with its own device."""
    runner: Literal["slurm", "ray"] | None = None
    """Let jobs of SLURM or tasks of Ray compute the embeddings; all of them must see the store and the cache."""
    workers: int = 1
    """Jobs or tasks of the runner that run at the same time."""
    runner_args: dict[str, Any] = field(default_factory=dict)
    """For slurm the parameters of submitit, for ray the arguments of ray.init, as JSON."""
    allow_bad: float = ALLOW_BAD
    """Share of the images that may be unreadable."""
    exclude: tuple[str, ...] = ()
    """Leave out images that match one of these patterns, such as '*_mask.png', or a folder's name."""
    only: tuple[str, ...] = ()
    """Leave out images that match none of these patterns, such as '*.jpg'."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that is out of range."""
        for name in ("batch_size", "devices", "workers"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1", code="out-of-range")
