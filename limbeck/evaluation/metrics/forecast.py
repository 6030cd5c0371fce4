"""Errors of forecasts by ridge regression on the features of every step of recordings, TS2Vec's protocol."""

from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Column, Metric, Values, decimals


def compute(inputs: MetricInputs) -> dict[int, Values]:
    """Forecast at every depth; the errors are means over the horizons."""
    return inputs.model.forecast_errors(inputs.data)


METRIC = Metric(
    group="accuracy",
    columns=(
        Column(
            name="forecast_mse",
            label="forecast MSE",
            short="MSE",
            format=decimals(3),
            better="lower",
            help="of recordings: mean squared error of forecasts by ridge regression from the features of the 201 "
            "steps up to each step, in variances of the training part; the mean over the horizons of `--forecast` "
            "(TS2Vec's protocol)",
        ),
        Column(
            name="forecast_mae",
            label="forecast MAE",
            short="MAE",
            format=decimals(3),
            better="lower",
            priority=1,
            help="the same of the mean absolute error, in standard deviations",
        ),
    ),
    needs=frozenset({"recordings"}),
    untrained=True,
    compute=compute,
)
