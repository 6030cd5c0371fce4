"""The protocols of TS2Vec on frozen features: a support vector machine, logistic regression, the nearest neighbor.

Yue et al., AAAI 2022; `tasks/_eval_protocols.py` in yuezhihan/ts2vec b0088e1. scikit-learn is imported when it is
used.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

C_GRID = (*(10.0**power for power in range(-4, 5)), np.inf)
FEW_ROWS, FEW_PER_CLASS = 50, 5  # with fewer rows, in all or per class, the penalty is not searched but 0
MOST_ROWS = 10_000  # of the support vector machine; of more, a stratified sample
FOLDS = 5


def support_vectors(
    train: Float[Tensor, "N D"], labels: Int[Tensor, " N"], test: Float[Tensor, "M D"], seed: int = 0
) -> Int[Tensor, " M"]:
    """Return the classes by a support vector machine with a radial kernel, on the features as they are.

    C is the first of 1e-4, 1e-3 ... 1e4 and infinity with the best accuracy in five folds; infinity for few rows.
    """
    from sklearn.svm import SVC

    rows, classes = train.cpu().numpy(), labels.cpu().numpy()
    if len(rows) > MOST_ROWS:
        from sklearn.model_selection import train_test_split

        rows, _, classes, _ = train_test_split(rows, classes, train_size=MOST_ROWS, random_state=seed, stratify=classes)
    chosen = _penalty(rows, classes)
    return _as_labels(SVC(C=chosen, gamma="scale").fit(rows, classes).predict(test.cpu().numpy()))


def _penalty(rows: Float[np.ndarray, "N D"], classes: Int[np.ndarray, " N"]) -> float:
    counts = np.unique(classes, return_counts=True)[1]
    if len(rows) < FEW_ROWS or len(rows) // len(counts) < FEW_PER_CLASS:
        return float(np.inf)
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    search = GridSearchCV(SVC(gamma="scale"), {"C": C_GRID}, cv=FOLDS)
    return float(search.fit(rows, classes).best_params_["C"])


def one_vs_rest(
    train: Float[Tensor, "N D"], labels: Int[Tensor, " N"], test: Float[Tensor, "M D"]
) -> Int[Tensor, " M"]:
    """Return the classes by a logistic regression for each class against the others, on standardized features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    rows, queries = _standardized(train, test)
    model = OneVsRestClassifier(LogisticRegression(max_iter=1_000_000))
    return _as_labels(model.fit(rows, labels.cpu().numpy()).predict(queries))


def nearest_row(
    train: Float[Tensor, "N D"], labels: Int[Tensor, " N"], test: Float[Tensor, "M D"]
) -> Int[Tensor, " M"]:
    """Return the class of the nearest row by Euclidean distance, on standardized features."""
    from sklearn.neighbors import KNeighborsClassifier

    rows, queries = _standardized(train, test)
    return _as_labels(KNeighborsClassifier(1).fit(rows, labels.cpu().numpy()).predict(queries))


def _standardized(train: Tensor, test: Tensor) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "M D"]]:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.cpu().numpy())
    return scaler.transform(train.cpu().numpy()), scaler.transform(test.cpu().numpy())


def _as_labels(found: Int[np.ndarray, " M"]) -> Int[Tensor, " M"]:
    return torch.from_numpy(np.asarray(found, np.int64))
