"""Selectors that are not trained with the predictor: k features by a score of each, or by a sparse linear model."""

import warnings

import numpy as np
import torch
from torch import Tensor

RANKINGS = ("l1", "mutual-information", "highly-variable", "random")
_ROWS = 10_000  # examples that the l1 penalty and mutual information look at
_BINS = 20


def ranked(method: str, x: Tensor, raw: Tensor, labels: Tensor, k: int, seed: int, *, counts: bool) -> Tensor:
    """Give the k features of a method, (k,) int64.

    Args:
        x: (N, n) standardised; raw: (N, n) as loaded.
        labels: (N,) int64; -1: unknown, not looked at.
        counts: whether raw is log(1 + count), so that variability is that of counts relative to their mean.
    """
    if method == "random":
        return torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(seed))[:k]
    if method == "highly-variable":
        score = _dispersion(raw.double()) if counts else raw.double().var(0)
    else:
        rows = (labels >= 0).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))][:_ROWS]
        table, classes = x[rows].double().numpy(), labels[rows].numpy()
        score = torch.from_numpy(_l1(table, classes, k) if method == "l1" else _information(table, classes, seed))
    return score.argsort(descending=True, stable=True)[:k]


def _dispersion(raw: Tensor) -> Tensor:
    """Log of variance over mean of the counts, standardised among genes of a similar mean (Satija et al., 2015)."""
    counts = raw.expm1()
    mean = counts.mean(0).clamp_min(1e-12)
    dispersion = (counts.var(0) / mean).clamp_min(1e-12).log()
    level = mean.log1p()
    edges = torch.linspace(float(level.min()), float(level.max()), _BINS + 1, dtype=level.dtype)[1:-1]
    bins = torch.bucketize(level, edges)
    score = torch.empty_like(dispersion)
    for part in bins.unique():
        own = dispersion[bins == part]
        spread = own.std() if len(own) > 1 else own.new_tensor(1.0)
        score[bins == part] = (own - own.mean()) / spread.clamp_min(1e-12) if len(own) > 1 else own.new_ones(1)
    return score


def _information(table: np.ndarray, classes: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.feature_selection import mutual_info_classif

    found: np.ndarray = mutual_info_classif(table, classes, random_state=seed, discrete_features=False)
    return found


def _l1(table: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """Sum over the classes of |coefficient|, at the strongest penalty (of a grid of √2) that leaves k features."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    weight = np.zeros(table.shape[1])
    for step in range(60):
        inverse = 1e-4 * 2 ** (step / 2) * 560 / len(table)
        model = LogisticRegression(l1_ratio=1.0, C=inverse, solver="liblinear", max_iter=200, tol=1e-3, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = OneVsRestClassifier(model).fit(table, classes)
        weight = np.abs(np.vstack([own.coef_ for own in fitted.estimators_])).sum(0)
        if (weight > 0).sum() >= k:
            break
    return weight
