"""The contracts of methods, hosts and distillers, and what EMA encoders and queues have in common."""

from limbeck.methods.base.distill import (
    DistillationInputs,
    DistillConfig,
    Distiller,
    QueueDistillConfig,
    QueueDistiller,
    Teacher,
    teacher_view,
)
from limbeck.methods.base.ema import EMAConfig, EMAHost, ProjectedEncoder, SymmetricEMAHost
from limbeck.methods.base.host import (
    BatchHost,
    Host,
    HostConfig,
    HostOutput,
    MultiViewConfig,
    PairHost,
    check_prototypes,
    encode_views,
    resolve_freeze_steps,
)
from limbeck.methods.base.method import Method, MethodCard, MethodConfig, Trainable
from limbeck.methods.base.queue import QueueConfig, QueueHost

__all__ = [
    "BatchHost",
    "DistillConfig",
    "DistillationInputs",
    "Distiller",
    "EMAConfig",
    "EMAHost",
    "Host",
    "HostConfig",
    "HostOutput",
    "Method",
    "MethodCard",
    "MethodConfig",
    "MultiViewConfig",
    "PairHost",
    "ProjectedEncoder",
    "QueueConfig",
    "QueueDistillConfig",
    "QueueDistiller",
    "QueueHost",
    "SymmetricEMAHost",
    "Teacher",
    "Trainable",
    "check_prototypes",
    "encode_views",
    "resolve_freeze_steps",
    "teacher_view",
]
