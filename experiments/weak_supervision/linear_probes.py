"""What a linear classifier can read off a representation: adjusted balanced accuracy (thesis 5.3.3.3)."""

import warnings

import numpy as np
from torch import Tensor

_FEW = 50  # elements below which a score is not given


def probe_scores(
    train: Tensor,  # (N, d)
    train_targets: Tensor,  # (N, F)
    test: Tensor,  # (M, d)
    test_targets: Tensor,  # (M, F)
    counted: Tensor,  # (M, F)
    iterations: int = 200,
) -> list[float | None]:
    """Fit a logistic regression for each of F targets and score it on the test elements that count.

    Args:
        train, test: (N, d) and (M, d) representations; standardised by the training ones, constant columns become 0.
        train_targets, test_targets: (N, F) and (M, F) int64 classes.
        counted: (M, F) bool; where a target counts.
        iterations: int, limit of the optimiser (L-BFGS; otherwise scikit-learn's defaults).
    Returns: F numbers: balanced accuracy, adjusted so that chance is 0 and perfect is 1; None where fewer than 50
        elements or two classes count.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    deviation, mean = (part.numpy() for part in (train.std(0), train.mean(0)))
    scale = np.where(deviation > 1e-6, deviation, np.inf)
    x, y = (train.numpy() - mean) / scale, (test.numpy() - mean) / scale
    scores: list[float | None] = []
    for factor in range(train_targets.shape[1]):
        classes, rows = train_targets[:, factor].numpy(), counted[:, factor].numpy()
        truth = test_targets[:, factor].numpy()[rows]
        if rows.sum() < _FEW or len(np.unique(truth)) < 2 or len(np.unique(classes)) < 2:
            scores.append(None)
            continue
        classifier = LogisticRegression(max_iter=iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(x, classes)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
            scores.append(float(balanced_accuracy_score(truth, classifier.predict(y[rows]), adjusted=True)))
    return scores
