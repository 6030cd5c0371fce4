"""Time of one image through the network cut at each depth."""

import torch

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values
from limbeck.metrics.cost import latencies


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Time the depths in turn: with one CPU thread, and with all of them where there are several to use."""
    if not inputs.data.cfg.latency:
        return {}
    found: dict[int, Values] = {depth: {} for depth in inputs.depths}
    for name, threads in (("latency_ms", 1), ("latency_all_threads_ms", torch.get_num_threads())):
        if name == "latency_ms" or (threads > 1 and inputs.data.device.type == "cpu"):
            timed = latencies(list(inputs.networks.values()), inputs.image, threads=threads)
            for depth, latency in zip(inputs.networks, timed, strict=True):
                found[depth][name] = latency.min_ms
    return found


METRIC = Metric(
    group="cost",
    columns=(
        Column(
            name="latency_ms",
            label="latency",
            unit="ms",
            better="lower",
            rises=True,
            help="time of one image on the device of the evaluation, with one CPU thread: the minimum of 5 to 50 calls "
            "that alternate between the layers",
        ),
        Column(
            name="latency_all_threads_ms",
            label="latency, all threads",
            unit="ms",
            better="lower",
            priority=2,
            rises=True,
            help="the same with all threads that torch uses (`hardware.threads` in result.json), on a CPU",
        ),
    ),
    compute=compute,
)
