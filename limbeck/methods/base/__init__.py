"""What a method is, what a method is that another can build on, and what teachers and queues have in common."""

from limbeck.methods.base.distill import DistillConfig, Distiller, QueueDistillConfig, QueueDistiller, Teacher, taught
from limbeck.methods.base.ema import Branch, MomentumConfig, MomentumHost, TeacherHost
from limbeck.methods.base.host import BatchHost, Host, HostConfig, PositivesConfig, Step
from limbeck.methods.base.method import Card, Method, MethodConfig
from limbeck.methods.base.queue import QueueConfig, QueueHost

__all__ = [
    "BatchHost",
    "Branch",
    "Card",
    "DistillConfig",
    "Distiller",
    "Host",
    "HostConfig",
    "Method",
    "MethodConfig",
    "MomentumConfig",
    "MomentumHost",
    "PositivesConfig",
    "QueueConfig",
    "QueueDistillConfig",
    "QueueDistiller",
    "QueueHost",
    "Step",
    "Teacher",
    "TeacherHost",
    "taught",
]
