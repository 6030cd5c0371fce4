"""Options of ReSSL, with their defaults and what they are resolved to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from limbeck.methods.config.base import MethodCard, QueueConfig

if TYPE_CHECKING:
    from limbeck.core.types import Encoder
    from limbeck.methods.ressl import ReSSL


@dataclass(frozen=True, kw_only=True)
class ReSSLConfig(QueueConfig):
    """ReSSL: match similarities to earlier images; one backward pass per image, small batches suffice."""

    name: ClassVar[str] = "ressl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="match the EMA encoder's similarity distribution over a queue",
        state="EMA encoder, queue",
        use_when="small batches and little time: one view is trained on",
        cost=1.9,
    )
    view_count: ClassVar[tuple[int, int]] = (2, 6)
    head_norm: ClassVar[bool] = False
    views: str = "ressl"
    """Preset of augmentations (docs/data.md); the last view goes to the EMA encoder, each other one to the student."""
    dim: int = 512
    """Width of the embedding."""
    queue_size: int = 131072
    """Rows of the queue, the newest of all processes; by default at most half of a smaller store."""
    temperature: float = 0.1
    """Divides the student's cosines."""
    target_temperature: float = 0.04
    """Divides the EMA encoder's cosines; the smaller, the fewer images count as similar."""

    def build(self, backbone: "Encoder") -> "ReSSL":
        """Build ReSSL with new heads around `backbone`; the EMA encoder starts as a copy."""
        from limbeck.methods.ressl import ReSSL

        return ReSSL(backbone, self)
