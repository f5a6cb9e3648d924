"""Scores of a chosen set: a predictor that is trained anew, the same for every method."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_TREES = 50  # of the extra-trees classifier, as Abid et al. have


def classification(
    train: Tensor, labels: Tensor, test: Tensor, truth: Tensor, *, trees: bool, seed: int
) -> dict[str, Any]:
    """Accuracy, balanced accuracy and recall of each class, of logistic regression or extra trees on (N, k) columns."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression

    model = (
        ExtraTreesClassifier(_TREES, random_state=seed, n_jobs=1)
        if trees
        else LogisticRegression(max_iter=5000, tol=1e-4)
    )
    found = model.fit(train.double().numpy(), labels.numpy()).predict(test.double().numpy())
    return agreement(torch.from_numpy(found), truth)


def agreement(found: Tensor, truth: Tensor) -> dict[str, Any]:
    """Accuracy, balanced accuracy and recall of each class, of labels that were found."""
    right = (found == truth).double()
    classes = truth.unique()
    recall = [float(right[truth == label].mean()) for label in classes]
    return {
        "accuracy": round(float(right.mean()), 5),
        "balanced_accuracy": round(float(np.mean(recall)), 5),
        "recall": {str(int(label)): round(value, 5) for label, value in zip(classes, recall, strict=True)},
    }


def reconstruction(train: Tensor, test: Tensor, chosen: Tensor) -> dict[str, float]:
    """Mean squared error of all features, and of those that were not chosen, by the best linear map from the chosen."""
    target, scored = train.double(), test.double()

    def inputs(x: Tensor) -> Tensor:
        return torch.cat([x[:, chosen], x.new_ones(len(x), 1)], dim=1)

    given = inputs(target)
    gram = given.T @ given
    gram.diagonal()[:-1] += 1e-6 * len(train)  # pixels that never change
    weight = torch.linalg.solve(gram, given.T @ target)
    error = (inputs(scored) @ weight - scored).square()
    left = torch.ones(train.shape[1], dtype=torch.bool)
    left[chosen] = False
    return {"error": round(float(error.mean()), 6), "error_of_rest": round(float(error[:, left].mean()), 6)}


def jaccard(sets: list[list[int]]) -> float | None:
    """Mean over pairs of |A ∩ B| / |A ∪ B|; None for a single set."""
    pairs = [len(set(a) & set(b)) / max(1, len(set(a) | set(b))) for i, a in enumerate(sets) for b in sets[i + 1 :]]
    return round(float(np.mean(pairs)), 5) if pairs else None
