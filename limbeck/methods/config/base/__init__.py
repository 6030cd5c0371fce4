"""Options that methods, hosts and distillers share."""

from limbeck.methods.config.base.distill import DistillConfig, QueueDistillConfig, teacher_view
from limbeck.methods.config.base.host import (
    EMAConfig,
    HostConfig,
    MultiViewConfig,
    QueueConfig,
    check_prototypes,
    resolve_freeze_steps,
    resolve_queue_size,
)
from limbeck.methods.config.base.local_crops import LocalCropsConfig, as_local_crop, repeat_local_crop
from limbeck.methods.config.base.method import MethodCard, MethodConfig, PrepareTeacher
from limbeck.methods.config.base.supervised import SupervisedConfig

__all__ = [
    "DistillConfig",
    "EMAConfig",
    "HostConfig",
    "LocalCropsConfig",
    "MethodCard",
    "MethodConfig",
    "MultiViewConfig",
    "PrepareTeacher",
    "QueueConfig",
    "QueueDistillConfig",
    "SupervisedConfig",
    "as_local_crop",
    "check_prototypes",
    "repeat_local_crop",
    "resolve_freeze_steps",
    "resolve_queue_size",
    "teacher_view",
]
