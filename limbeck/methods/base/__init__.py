"""What a method is, what a method is that another can build on, and what teachers and queues have in common."""

from limbeck.methods.base.contract import Card, Method, MethodConfig
from limbeck.methods.base.host import Host, HostConfig, Step
from limbeck.methods.base.momentum import Branch, MomentumConfig, MomentumHost, TeacherHost
from limbeck.methods.base.queue import QueueConfig, QueueHost

__all__ = [
    "Branch",
    "Card",
    "Host",
    "HostConfig",
    "Method",
    "MethodConfig",
    "MomentumConfig",
    "MomentumHost",
    "QueueConfig",
    "QueueHost",
    "Step",
    "TeacherHost",
]
