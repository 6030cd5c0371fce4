"""Accuracy of a support vector machine on features of series, TS2Vec's protocol."""

from limbeck.classification.series_protocols import support_vectors
from limbeck.evaluation.inputs import MetricInputs
from limbeck.evaluation.metric import Computed, Metric, share_column


def compute(inputs: MetricInputs) -> dict[int, Computed]:
    """Fit on the training series of every depth and score on the test series."""
    found: dict[int, Computed] = {}
    for depth in inputs.depths:
        train, train_labels, test, test_labels = inputs.labeled(depth)
        predicted = support_vectors(train, train_labels, test, inputs.data.cfg.seed)
        found[depth] = {"svm": predicted == test_labels.cpu()}
    return found


METRIC = Metric(
    group="accuracy",
    columns=(
        share_column(
            name="svm",
            label="SVM",
            better="higher",
            accuracy=True,
            help="of series: accuracy of a support vector machine with a radial kernel on the features as they are; "
            "five folds choose its penalty (TS2Vec's protocol)",
        ),
    ),
    needs=frozenset({"labels", "series"}),
    untrained=True,
    compute=compute,
)
