"""Options of SDSSL, with their defaults and what they are resolved to."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from limbeck.core.errors import UserError
from limbeck.methods.config.base import HostConfig, MethodCard, MethodConfig
from limbeck.methods.config.byol import BYOLConfig

if TYPE_CHECKING:
    from limbeck.core.types import DataContext, Encoder
    from limbeck.data.sampling import ViewSpec
    from limbeck.methods.sdssl import SDSSL


@dataclass(frozen=True, kw_only=True)
class SDSSLConfig(MethodConfig):
    """SDSSL: make every layer usable, so that the trained network can be cut at any depth."""

    name: ClassVar[str] = "sdssl"
    card: ClassVar[MethodCard] = MethodCard(
        summary="train every layer on the last layer's targets of another method",
        state="that of its host",
        use_when="you want to cut the network to the depth that a device can afford",
        cost=3.2,
    )
    not_a_host_reason: ClassVar[str] = "its layers learn from the last one already"
    host: HostConfig = field(default_factory=BYOLConfig)
    """The method that provides the targets of the layers."""
    layers: tuple[int, ...] | None = None
    """Layers that learn from the last one, counted from 1; None: all but the last. An empty tuple is the control
    "host + predictor-only loss"."""
    alpha: float | None = None
    """Weight of the mean layer loss, at the end if it rises; None: the release's (0.8; 1.0 over MoCo v3)."""
    alpha_schedule: Literal["cosine", "constant"] | None = None
    """Raise the weight from 0 along a half-cosine over the run, or keep it constant from the start; None: raise it
    where all depths have one width, as the authors do in ViTs, and keep it constant in other networks."""
    predictor_weight: float = 1.0
    """Weight of the loss that trains the predictors alone, on detached projections; for hosts with predictors."""
    hidden: int = 2048
    """Width of the hidden layers of the layers' projectors (the host's own is `host.hidden`)."""
    trailing_norm: bool | None = None
    """End the layers' heads with a BatchNorm without scale and shift; None: as the host does."""

    @property
    def views(self) -> str:
        """Preset of the host."""
        return self.host.views

    def make_views(self, size: int) -> tuple["ViewSpec", ...]:
        """Return the views of the host."""
        return self.host.make_views(size)

    def resolve(self, context: "DataContext") -> Self:
        """Return this configuration with the resolved host."""
        return replace(self, host=self.host.resolve(context))

    def check_depths(self, depths: tuple[int, ...]) -> None:
        """Raise UserError for layers that are not below the last one, or that the host refuses."""
        self.host.check_depths(depths)
        for layer in self.layers or ():
            if layer not in depths[:-1]:
                message = f"layer {layer} cannot learn from the last one; layers are 1 to {depths[-1] - 1}"
                raise UserError(message, code="depth-out-of-range")

    def build(self, backbone: "Encoder") -> "SDSSL":
        """Build SDSSL with new heads over the host built around `backbone`."""
        from limbeck.methods.sdssl import SDSSL

        return SDSSL(self.host.build(backbone), self)
