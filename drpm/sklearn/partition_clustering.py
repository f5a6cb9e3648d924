"""Clustering of a table: Gaussian clusters under a random partition of its rows."""

from __future__ import annotations

import contextlib
import math
import numbers
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"drpm.sklearn: needs scikit-learn >= 1.6; pip install 'drpm[sklearn]'. Reason: {error}"
    ) from error

from drpm.sklearn.gaussians import COVARIANCE_TYPES, Gaussians, Prior, fit_gaussians
from drpm.sklearn.size_rule import SizeRule, size_rule
from drpm.sklearn.sizes import (
    best_labels,
    learned_log_weights,
    log_omega_of,
    log_orders,
    responsibilities,
    size_prices,
    size_term,
)

Floats = NDArray[np.float64]
_SEARCH_ROWS = 10_000  # the starts are compared on a sample of at most so many rows
_FIRST_ITERATIONS, _SECOND_ITERATIONS = 10, 30  # of every start, and of the best quarter of them


class _State(NamedTuple):
    gaussians: Gaussians
    responsibilities: Tensor  # (n, K)
    log_weights: Tensor  # (K,) λ, less the multipliers of the sizes
    objective: float  # per row
    iterations: int
    converged: bool


class _Problem(NamedTuple):
    x: Tensor  # (n, d) standardised
    rule: SizeRule
    prior: Prior
    row_weights: Tensor | None  # (n,) of mean 1

    @property
    def bounded(self) -> bool:
        return self.rule.binds(len(self.x))

    def part(self, rows: Tensor) -> _Problem:
        n, weights = len(self.x), self.row_weights
        if weights is not None:
            weights = weights[rows]
            weights = weights / weights.mean().clamp(min=1e-300)
        return _Problem(self.x[rows], self.rule.of_sample(n, len(rows)), self.prior, weights)


class PartitionClustering(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Cluster the rows of a table by a random partition with Gaussian clusters.

    >>> from drpm.sklearn import PartitionClustering
    >>> model = PartitionClustering(n_clusters=3, random_state=0)
    >>> labels = model.fit_predict(table)                  # sizes are learned
    >>> PartitionClustering(3, sizes="balanced").fit_predict(table)     # clusters of equal size
    >>> PartitionClustering(3, size_min=10, size_max=0.5).fit_predict(table)    # between 10 rows and half of them

    The rows are partitioned by a differentiable random partition model with equal scores, whose sizes follow the
    multivariate noncentral hypergeometric distribution, and each cluster is a Gaussian. Fitted by expectation
    maximisation from several k-means starts; columns are standardised inside, so their units change nothing. Time and
    memory are linear in the rows.

    Parameters:
        n_clusters: int, K >= 1.
        sizes: "learned": importances ω of the clusters by maximum likelihood; "balanced": equal sizes (up to one row);
            or K whole numbers that sum to the number of rows, or K fractions that sum to 1. Given sizes hold exactly
            for `labels_`, which is then the best partition of those sizes, not row by row.
        size_min, size_max: bounds on sizes that are learned, for `labels_`: int (rows) or float (a fraction of the
            rows, rounded down and up, so that 1/K is possible), one for all clusters or K of them; None: no bound.
        covariance_type: "full", "tied", "diag" or "spherical" (in units of the columns' standard deviations); "kmeans":
            one variance for all and rows that belong to one cluster each, which minimises the squared distances to the
            means: k-means, with sizes or bounds if there are some (then "learned" means no more than that).
        shrinkage: float > 0, strength of the prior on the covariances in rows.
        standardize: whether every column is divided by its standard deviation; False: all by one number.
        init: (K, d) array of means to start from, in the table's units; None: k-means. With sizes or bounds they are
            those of the first, second, … cluster.
        n_init: int >= 1, k-means starts; the best one by the objective after short runs is used. On large tables they
            are compared on 10,000 rows.
        max_iter: int >= 1, iterations from the best start.
        tol: float >= 0, smallest gain per row and iteration at which to go on.
        verbose: 1 shows a progress bar (tqdm).
        random_state: int, RandomState or None.
    Attributes: labels_ (n,), sizes_ (K,) of labels_, means_ (K, d), covariances_ (K, d, d), (d, d) or (K, d),
        log_omega_ (K,) learned importances (None with given sizes), log_weights_ (K,) by which `predict` weighs the
        clusters, objective_ per row, n_iter_, converged_, n_features_in_, feature_names_in_.
    Reference: docs/sklearn.md; T. Sutter, thesis, Section 5.2, for the partition model.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        sizes: str | ArrayLike = "learned",
        size_min: float | ArrayLike | None = None,
        size_max: float | ArrayLike | None = None,
        covariance_type: str = "full",
        shrinkage: float = 1.0,
        standardize: bool = True,
        init: ArrayLike | None = None,
        n_init: int = 20,
        max_iter: int = 300,
        tol: float = 1e-5,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.sizes = sizes
        self.size_min = size_min
        self.size_max = size_max
        self.covariance_type = covariance_type
        self.shrinkage = shrinkage
        self.standardize = standardize
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> PartitionClustering:
        """Fit to (n, d) rows; y is ignored. Raises ValueError for NaN, too few rows or parameters out of range.

        sample_weight, (n,) >= 0: how much each row counts in means, covariances and starts. Sizes count rows.
        """
        table: Floats = validate_data(self, X, dtype=np.float64, ensure_min_samples=2 if self.n_clusters != 1 else 1)
        n = len(table)
        rule = self._check_parameters(n)
        random = check_random_state(self.random_state)
        rows = self._row_weights(table, sample_weight)
        self._measure(table, rows)
        x = self._standardised(table)
        problem = _Problem(x, rule, Prior.of(x, self.n_clusters, self.shrinkage, rows), rows)
        with self._progress() as advance:
            start = self._search(problem, random, advance) if self.init is None else self._from_means(problem)
            state = self._iterate(problem, start, self.max_iter, advance)
        self._finish(problem, state)
        return self

    def fit_predict(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> NDArray[np.int64]:
        """`fit`, then `labels_`: with sizes or bounds the best partition of the whole table, unlike `predict`."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Give the most probable cluster of each row by itself, (n,).

        Of the fitted rows these are `labels_` where sizes are learned without bounds; `labels_` keeps to sizes and
        bounds, which say nothing about a row by itself, and single rows may differ.
        """
        labels: NDArray[np.int64] = self._joint(X).argmax(1)
        return labels

    def transform(self, X: ArrayLike) -> Floats:
        """Give the probability of each cluster for each row by itself, (n, K); rows sum to 1."""
        probabilities: Floats = torch.softmax(torch.from_numpy(self._joint(X)), dim=1).numpy()
        return probabilities

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Give the mean log-density of the rows under the mixture of the fitted clusters; y is ignored."""
        return float(self._log_densities(X).mean())

    def bic(self, X: ArrayLike) -> float:
        """Give the Bayesian information criterion (lower is better), to choose n_clusters or covariance_type."""
        densities = self._log_densities(X)
        parameters = self._gaussians().num_parameters + self.n_clusters - 1
        return float(-2.0 * densities.sum() + parameters * math.log(len(densities)))

    @property
    def _n_features_out(self) -> int:
        return int(self.n_clusters)

    def _check_parameters(self, n: int) -> SizeRule:
        name = type(self).__name__

        def require(condition: bool, argument: str, contract: str) -> None:
            if not condition:
                raise ValueError(f"{name}: {argument} must {contract}, got {getattr(self, argument)!r}")

        for argument in ("n_clusters", "n_init", "max_iter"):
            require(_is_number(getattr(self, argument), numbers.Integral), argument, "be an int")
        for argument in ("shrinkage", "tol"):
            require(_is_number(getattr(self, argument), numbers.Real), argument, "be a float")
        require(self.n_clusters >= 1, "n_clusters", "be >= 1")
        require(self.n_clusters <= n, "n_clusters", f"be at most the number of samples, {n}")
        known = isinstance(self.covariance_type, str) and self.covariance_type in COVARIANCE_TYPES
        require(known, "covariance_type", f"be one of {COVARIANCE_TYPES}")
        require(np.isfinite(self.shrinkage) and self.shrinkage > 0, "shrinkage", "be positive and finite")
        require(self.n_init >= 1, "n_init", "be >= 1")
        require(self.max_iter >= 1, "max_iter", "be >= 1")
        require(self.tol >= 0, "tol", "be >= 0")
        require(isinstance(self.standardize, (bool, np.bool_)), "standardize", "be True or False")
        if self.init is not None:
            shape = (self.n_clusters, self.n_features_in_)
            means = np.asarray(self.init)
            valid = means.shape == shape and means.dtype.kind in "iuf" and bool(np.isfinite(means).all())
            require(valid, "init", f"hold means of shape {shape}")
        return size_rule(self, n)

    def _row_weights(self, table: Floats, sample_weight: ArrayLike | None) -> Tensor | None:
        """Of mean 1."""
        if sample_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, table, dtype=np.float64, ensure_non_negative=True)
        if not weights.sum() > 0:
            raise ValueError(f"{type(self).__name__}: sample_weight must have a positive sum, got {weights.sum()}")
        return torch.from_numpy(weights / weights.mean())

    def _measure(self, table: Floats, rows: Tensor | None) -> None:
        """Units, means and deviations of the columns.

        A column's unit is the power of two above its largest magnitude. Dividing by it is exact, so tables that differ
        by such units look the same from here on, and nothing over- or underflows.
        """
        exponent = np.frexp(np.abs(table).max(0))[1]
        self._exponent = exponent if self.standardize else np.full_like(exponent, exponent.max())
        units = np.ldexp(table, -self._exponent)
        if rows is None:
            self._offset, scale = units.mean(0), units.std(0)
        else:
            self._offset = np.average(units, axis=0, weights=rows.numpy())
            scale = np.sqrt(np.average((units - self._offset) ** 2, axis=0, weights=rows.numpy()))
        if not self.standardize:
            scale = np.full_like(scale, np.sqrt((scale**2).mean()))
        self._scale = np.where(scale > 1e-12, scale, 1.0)  # else constant, up to the rounding of its mean

    def _standardised(self, table: Floats) -> Tensor:
        return torch.from_numpy((np.ldexp(table, -self._exponent) - self._offset) / self._scale)

    def _search(self, problem: _Problem, random: np.random.RandomState, advance: Any) -> Tensor:
        """Responsibilities of all rows from the best of `n_init` starts after short runs."""
        n, sample = len(problem.x), problem
        if n > _SEARCH_ROWS:
            sample = problem.part(torch.from_numpy(np.sort(random.choice(n, _SEARCH_ROWS, replace=False))))
        states = []
        for _ in range(self.n_init):
            start = self._start(sample, random).to(sample.x)
            states.append(self._iterate(sample, start, _FIRST_ITERATIONS, None))
            advance(states[-1].objective)
        states.sort(key=lambda state: -state.objective)
        best = max(
            (
                self._iterate(sample, state.responsibilities, _SECOND_ITERATIONS, None)
                for state in states[: math.ceil(len(states) / 4)]
            ),
            key=lambda state: state.objective,
        )
        if sample is problem:
            return best.responsibilities
        return responsibilities(best.gaussians.log_density(problem.x), best.log_weights)[0]

    def _start(self, problem: _Problem, random: np.random.RandomState) -> Tensor:
        """One-hot labels of k-means."""
        means = KMeans(self.n_clusters, n_init=1, random_state=random.randint(2**31 - 1))
        weights = None if problem.row_weights is None else problem.row_weights.numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
            found = means.fit_predict(problem.x.numpy(), sample_weight=weights)
        labels = torch.from_numpy(found.astype(np.int64))
        if np.ptp(problem.rule.low + problem.rule.high) > 0:  # the largest cluster gets the largest size
            by_size = torch.bincount(labels, minlength=self.n_clusters).argsort(descending=True, stable=True)
            rank = torch.empty_like(by_size)
            rank[by_size] = torch.from_numpy(np.argsort(-(problem.rule.low + problem.rule.high), kind="stable"))
            labels = rank[labels]
        return torch.nn.functional.one_hot(labels, self.n_clusters)

    def _from_means(self, problem: _Problem) -> Tensor:
        """One-hot labels by the distance to the means that are given."""
        means = self._standardised(np.asarray(self.init, dtype=np.float64))
        u = Gaussians("kmeans", means, means.new_ones(self.n_clusters)).log_density(problem.x)
        labels = best_labels(u, problem.rule)[0] if problem.bounded else u.argmax(1)
        return torch.nn.functional.one_hot(labels, self.n_clusters).to(problem.x)

    def _iterate(self, problem: _Problem, start: Tensor, iterations: int, advance: Any) -> _State:
        """Expectation maximisation from responsibilities; with "kmeans" from labels to labels."""
        x, rule, prior, rows = problem
        r, n, last = start, len(x), -np.inf
        weights, prices = x.new_zeros(self.n_clusters), None
        objective, finished, converged = last, 0, False
        while finished < iterations and not converged:
            finished += 1
            gaussians = fit_gaussians(x, r, self.covariance_type, prior, rows)
            u = gaussians.log_density(x)
            if self.covariance_type == "kmeans":
                labels, prices = best_labels(u, rule, prices) if problem.bounded else (u.argmax(1), None)
                before, r = r, torch.nn.functional.one_hot(labels, self.n_clusters).to(x)
                # half the negative squares, at the means that the labels came from
                chosen = u.gather(1, labels.unsqueeze(1)).squeeze(1) - gaussians.largest_log_density
                chosen = chosen * gaussians.covariances[0]
                objective = float((chosen if rows is None else rows * chosen).sum()) / n
                converged = torch.equal(before, r)
            else:
                base = x.new_zeros(self.n_clusters) if rule.given else learned_log_weights(r.sum(0))
                if problem.bounded:
                    prices = size_prices(u + base, rule, prices)
                weights = base if prices is None else base - prices
                r, evidence = responsibilities(u, weights, rows)
                soft = r.sum(0)
                counted = soft if rows is None else rows @ r
                partition = log_orders(torch.from_numpy(rule.low)) if rule.given else _log_partition(soft)
                shift = float(torch.where(counted > 0, counted * weights, 0.0).sum())  # a size of 0 has weight -inf
                objective = (evidence - shift + partition + gaussians.log_prior(prior)) / n
            if advance is not None:
                advance(objective)
            converged = converged or abs(objective - last) < self.tol
            last = objective
        return _State(gaussians, r, weights, objective, finished, converged)

    def _finish(self, problem: _Problem, state: _State) -> None:
        x, rule, _, _ = problem
        gaussians, weights = state.gaussians, state.log_weights
        u = gaussians.log_density(x)
        self.log_omega_: Floats | None = None
        if self.covariance_type != "kmeans" and not rule.given:
            soft = state.responsibilities.sum(0)
            omega = log_omega_of(soft) if self.n_clusters > 1 else soft.new_zeros(1)
            self.log_omega_ = omega.numpy()
            learned = learned_log_weights(soft, omega)
            weights = learned - size_prices(u + learned, rule) if problem.bounded else learned
            u = u + learned
        labels = best_labels(u, rule, -weights)[0] if problem.bounded else u.argmax(1)
        self.labels_: NDArray[np.int64] = labels.numpy()
        if rule.given or problem.bounded or self.covariance_type == "kmeans":
            weights = weights - weights.logsumexp(0)
        self.log_weights_: Floats = weights.numpy()
        self.sizes_: NDArray[np.int64] = np.bincount(self.labels_, minlength=self.n_clusters)
        self._means, self._covariances = gaussians.means.numpy(), gaussians.covariances.numpy()
        scale, exponent = self._scale, self._exponent
        self.means_: Floats = np.ldexp(self._means * scale + self._offset, exponent)
        if self.covariance_type in ("full", "tied"):
            self.covariances_: Floats = np.ldexp(
                self._covariances * np.outer(scale, scale), np.add.outer(exponent, exponent)
            )
        else:
            self.covariances_ = np.ldexp(gaussians.diagonals().numpy() * scale**2, 2 * exponent)
        self.objective_, self.n_iter_, self.converged_ = state.objective, state.iterations, state.converged
        if not state.converged:
            warnings.warn(
                f"{type(self).__name__}: not converged after max_iter = {self.max_iter} iterations",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _gaussians(self) -> Gaussians:
        return Gaussians(self.covariance_type, torch.from_numpy(self._means), torch.from_numpy(self._covariances))

    def _joint(self, X: ArrayLike) -> Floats:
        """log weight + log density of the standardised rows, (n, K)."""
        check_is_fitted(self)
        table: Floats = validate_data(self, X, dtype=np.float64, reset=False)
        u = self._gaussians().log_density(self._standardised(table))
        joint: Floats = u.numpy() + self.log_weights_
        return joint

    def _log_densities(self, X: ArrayLike) -> Tensor:
        """(n,) of the mixture, in the units of the table."""
        log_units = np.log(self._scale).sum() + math.log(2.0) * self._exponent.sum()
        return torch.from_numpy(self._joint(X)).logsumexp(1) - float(log_units)

    @contextlib.contextmanager
    def _progress(self) -> Iterator[Any]:
        """A function to call after every start and iteration with the objective."""
        if not self.verbose:
            yield lambda objective: None
            return
        from tqdm import tqdm

        with tqdm(total=self.n_init + self.max_iter, desc=type(self).__name__, unit="step") as bar:

            def advance(objective: float) -> None:
                bar.set_postfix_str(f"objective {objective:.4f}", refresh=False)
                bar.update()

            yield advance
            bar.total = bar.n  # iterations that were not needed
            bar.refresh()


def _log_partition(sizes: Tensor) -> float:
    """log p(Y) at the mean sizes with the importances that fit them."""
    if len(sizes) == 1:
        return 0.0
    n = float(sizes.sum())
    inside = sizes.clamp(min=1e-9 * n, max=(1 - 1e-9) * n)
    return size_term(inside, torch.log(inside / (n - inside)))


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))
