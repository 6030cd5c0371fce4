"""Options of MSVQ, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import MethodCard, QueueConfig

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.msvq import MSVQ


@dataclass(frozen=True, kw_only=True)
class MSVQConfig(QueueConfig):
    """MSVQ: match two EMA encoders' similarities; steadier targets than ReSSL's, for two more forward passes."""

    name: ClassVar[str] = "msvq"
    card: ClassVar[MethodCard] = MethodCard(
        summary="match two EMA encoders' similarity distributions over their queues",
        state="two EMA encoders, two queues",
        use_when="small images and small batches, with memory for three networks",
        cost=1.9,
    )
    view_count: ClassVar[tuple[int, int]] = (4, 4)
    head_norm: ClassVar[bool] = False
    views: str = "msvq"
    """Preset of augmentations (docs/data.md): the student's view, two of the first EMA encoder, one of the second."""
    dim: int = 128
    """Width of the embedding."""
    hidden: int = 2048
    """Width of the projector's hidden layer."""
    queue_size: int = 4096
    """Rows of each queue, the newest of all processes; by default at most half of a smaller store."""
    ema_momentum: float = 0.99
    """Momentum of the first EMA encoder."""
    second_ema_momentum: float = 0.95
    """Momentum of the second EMA encoder."""
    temperature: float = 0.1
    """Divides the student's cosines."""
    target_temperature: float = 0.04
    """Divides the EMA encoders' cosines; the smaller, the fewer images count as similar."""

    def build(self, backbone: "Encoder") -> "MSVQ":
        """Build MSVQ with new heads around `backbone`; both EMA encoders start as copies."""
        from limbeck.methods.msvq import MSVQ

        return MSVQ(backbone, self)
