"""Parameters, arithmetic and width of the network cut at each depth."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, decimals, significant
from limbeck.metrics.cost import count_parameters


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Count on the networks themselves, for one image of the input size."""
    return {
        depth: {
            "parameters": count_parameters(network),
            "gflops": inputs.operations[depth] / 1e9,
            "width": inputs.test_bank[depth].shape[1],
        }
        for depth, network in inputs.networks.items()
    }


METRIC = Metric(
    group="cost",
    columns=(
        Column(
            name="parameters",
            label="params",
            unit="M",
            scale=1e-6,
            format=significant,
            better="lower",
            help="parameters of the network cut at this layer",
        ),
        Column(
            name="gflops",
            label="GFLOPs",
            format=significant,
            better="lower",
            help="10^9 operations for one image; a multiplication and its addition count as two",
        ),
        Column(name="width", label="width", format=decimals(0), priority=2, help="numbers that describe an image"),
    ),
    compute=compute,
)
