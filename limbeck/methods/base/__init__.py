"""The contracts of methods, hosts and distillers, and what EMA encoders and queues have in common.

Their options are in `limbeck.methods.config.base`.
"""

from limbeck.methods.base.distill import DistillationInputs, Distiller, QueueDistiller, Teacher
from limbeck.methods.base.ema_host import EMAHost, ProjectedEncoder, SymmetricEMAHost
from limbeck.methods.base.host import BatchHost, Host, HostOutput, PairHost, encode_views
from limbeck.methods.base.method import Method, Trainable
from limbeck.methods.base.queue_host import QueueHost

__all__ = [
    "BatchHost",
    "DistillationInputs",
    "Distiller",
    "EMAHost",
    "Host",
    "HostOutput",
    "Method",
    "PairHost",
    "ProjectedEncoder",
    "QueueDistiller",
    "QueueHost",
    "SymmetricEMAHost",
    "Teacher",
    "Trainable",
    "encode_views",
]
