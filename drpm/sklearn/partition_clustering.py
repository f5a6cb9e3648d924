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
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"drpm.sklearn: needs scikit-learn >= 1.6; pip install 'drpm[sklearn]'. Reason: {error}"
    ) from error

from drpm.sklearn.gaussians import COVARIANCE_TYPES, Gaussians, Prior, fit_gaussians
from drpm.sklearn.sizes import (
    best_assignment,
    given_log_weights,
    learned_log_weights,
    log_omega_of,
    log_orders,
    responsibilities,
    size_term,
)

Floats = NDArray[np.float64]
_SEARCH_ROWS = 10_000  # the starts are compared on a sample of at most so many rows
_FIRST_ITERATIONS, _SECOND_ITERATIONS = 10, 30  # of every start, and of the best quarter of them


class _State(NamedTuple):
    gaussians: Gaussians
    responsibilities: Tensor  # (n, K)
    log_weights: Tensor  # (K,) λ
    objective: float  # per row
    iterations: int
    converged: bool


class PartitionClustering(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Cluster the rows of a table by a random partition with Gaussian clusters.

    >>> from drpm.sklearn import PartitionClustering
    >>> model = PartitionClustering(n_clusters=3, random_state=0)
    >>> labels = model.fit_predict(table)                  # sizes are learned
    >>> PartitionClustering(3, sizes="balanced").fit_predict(table)     # clusters of equal size

    The rows are partitioned by a differentiable random partition model with equal scores, whose sizes follow the
    multivariate noncentral hypergeometric distribution, and each cluster is a Gaussian. Fitted by expectation
    maximisation from several k-means starts; columns are standardised inside, so their units change nothing. Time and
    memory are linear in the rows.

    Parameters:
        n_clusters: int, K >= 1.
        sizes: "learned": importances ω of the clusters by maximum likelihood; "balanced": equal sizes (up to one row);
            or K whole numbers that sum to the number of rows, or K fractions that sum to 1. Given sizes hold exactly
            for `labels_`, which is then the best partition of those sizes, not row by row.
        covariance_type: "full", "tied", "diag" or "spherical" (in units of the columns' standard deviations).
        shrinkage: float > 0, strength of the prior on the covariances in rows.
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
        covariance_type: str = "full",
        shrinkage: float = 1.0,
        n_init: int = 20,
        max_iter: int = 300,
        tol: float = 1e-5,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.sizes = sizes
        self.covariance_type = covariance_type
        self.shrinkage = shrinkage
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> PartitionClustering:
        """Fit to (n, d) rows; y is ignored. Raises ValueError for NaN, too few rows or parameters out of range."""
        table: Floats = validate_data(self, X, dtype=np.float64, ensure_min_samples=2 if self.n_clusters != 1 else 1)
        n = len(table)
        sizes = self._check_parameters(n)
        random = check_random_state(self.random_state)
        self._measure(table)
        x = self._standardised(table)
        prior = Prior.of(x, self.n_clusters, self.shrinkage)
        with self._progress() as advance:
            state = self._search(x, sizes, prior, random, advance)
            state = self._iterate(x, sizes, prior, state.responsibilities, self.max_iter, advance)
        self._finish(x, sizes, state)
        return self

    def fit_predict(self, X: ArrayLike, y: object = None) -> NDArray[np.int64]:
        """`fit`, then `labels_`: with given sizes the best partition of the whole table, unlike `predict`."""
        return self.fit(X).labels_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Give the most probable cluster of each row by itself, (n,).

        Of the fitted rows these are `labels_` where sizes are learned; with given sizes `labels_` keeps to them, and
        single rows may differ.
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

    def _check_parameters(self, n: int) -> NDArray[np.int64] | None:
        """The given sizes as whole numbers; None where they are learned."""
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
        if isinstance(self.sizes, str):
            require(self.sizes in ("learned", "balanced"), "sizes", "be 'learned', 'balanced' or numbers")
            return None if self.sizes == "learned" else _rounded(np.full(self.n_clusters, n / self.n_clusters), n)
        try:
            given = np.asarray(self.sizes, dtype=np.float64)
        except (TypeError, ValueError):
            given = np.empty(0)
        valid = given.shape == (self.n_clusters,) and bool(np.isfinite(given).all()) and bool((given >= 0).all())
        require(valid, "sizes", f"hold {self.n_clusters} numbers >= 0")
        if given.sum() == n and bool((given == np.round(given)).all()):
            return given.astype(np.int64)
        require(abs(given.sum() - 1.0) < 1e-6, "sizes", f"sum to the number of samples, {n}, or to 1")
        return _rounded(given / given.sum() * n, n)

    def _measure(self, table: Floats) -> None:
        """Units, means and deviations of the columns.

        A column's unit is the power of two above its largest magnitude. Dividing by it is exact, so tables that differ
        by such units look the same from here on, and nothing over- or underflows.
        """
        largest = np.abs(table).max(0)
        self._exponent = np.frexp(largest)[1]
        units = np.ldexp(table, -self._exponent)
        self._offset, scale = units.mean(0), units.std(0)
        self._scale = np.where(scale > 1e-12, scale, 1.0)  # else constant, up to the rounding of its mean

    def _standardised(self, table: Floats) -> Tensor:
        return torch.from_numpy((np.ldexp(table, -self._exponent) - self._offset) / self._scale)

    def _search(
        self,
        x: Tensor,
        sizes: NDArray[np.int64] | None,
        prior: Prior,
        random: np.random.RandomState,
        advance: Any,
    ) -> _State:
        """The best of `n_init` starts after short runs, its responsibilities extended to all rows."""
        n, sample, sample_sizes = len(x), x, sizes
        if n > _SEARCH_ROWS:
            sample = x[torch.from_numpy(np.sort(random.choice(n, _SEARCH_ROWS, replace=False)))]
            sample_sizes = None if sizes is None else _rounded(sizes * (_SEARCH_ROWS / n), _SEARCH_ROWS)
        states = []
        for _ in range(self.n_init):
            start = self._start(sample.numpy(), sizes, random).to(x)
            states.append(self._iterate(sample, sample_sizes, prior, start, _FIRST_ITERATIONS, None))
            advance(states[-1].objective)
        states.sort(key=lambda state: -state.objective)
        best = max(
            (
                self._iterate(sample, sample_sizes, prior, state.responsibilities, _SECOND_ITERATIONS, None)
                for state in states[: math.ceil(len(states) / 4)]
            ),
            key=lambda state: state.objective,
        )
        if sample is not x:
            joint = best.gaussians.log_density(x)
            best = best._replace(responsibilities=responsibilities(joint, best.log_weights)[0])
        return best

    def _start(self, table: Floats, sizes: NDArray[np.int64] | None, random: np.random.RandomState) -> Tensor:
        """One-hot labels of k-means."""
        means = KMeans(self.n_clusters, n_init=1, random_state=random.randint(2**31 - 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
            labels = torch.from_numpy(means.fit_predict(table).astype(np.int64))
        if sizes is not None:  # the largest cluster gets the largest size
            by_size = torch.bincount(labels, minlength=self.n_clusters).argsort(descending=True, stable=True)
            rank = torch.empty_like(by_size)
            rank[by_size] = torch.from_numpy(np.argsort(-sizes, kind="stable"))
            labels = rank[labels]
        return torch.nn.functional.one_hot(labels, self.n_clusters)

    def _iterate(
        self,
        x: Tensor,
        sizes: NDArray[np.int64] | None,
        prior: Prior,
        start: Tensor,
        iterations: int,
        advance: Any,
    ) -> _State:
        """Expectation maximisation from responsibilities."""
        r, n, last = start, len(x), -np.inf
        given = None if sizes is None else torch.from_numpy(sizes).to(x)
        weights = x.new_zeros(self.n_clusters)
        objective, finished, converged = last, 0, False
        while finished < iterations and not converged:
            finished += 1
            gaussians = fit_gaussians(x, r, self.covariance_type, prior)
            u = gaussians.log_density(x)
            weights = learned_log_weights(r.sum(0)) if given is None else given_log_weights(u, given, weights)
            r, evidence = responsibilities(u, weights)
            soft = r.sum(0)
            partition = _log_partition(soft) if given is None else log_orders(given)
            objective = (evidence - float(soft @ weights) + partition + gaussians.log_prior(prior)) / n
            if advance is not None:
                advance(objective)
            converged = abs(objective - last) < self.tol
            last = objective
        return _State(gaussians, r, weights, objective, finished, converged)

    def _finish(self, x: Tensor, sizes: NDArray[np.int64] | None, state: _State) -> None:
        gaussians, weights = state.gaussians, state.log_weights
        u = gaussians.log_density(x)
        if sizes is None:
            soft = state.responsibilities.sum(0)
            omega = log_omega_of(soft) if self.n_clusters > 1 else soft.new_zeros(1)
            weights = learned_log_weights(soft, omega)
            self.log_omega_: Floats | None = omega.numpy()
            self.labels_: NDArray[np.int64] = (u + weights).argmax(1).numpy()
        else:
            self.log_omega_ = None
            self.labels_ = best_assignment(u.numpy(), sizes, weights.numpy())
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


def _rounded(sizes: NDArray[Any], total: int) -> NDArray[np.int64]:
    """Whole numbers near the sizes that sum to total: the largest remainders are rounded up."""
    whole: NDArray[np.int64] = np.floor(sizes).astype(np.int64)
    order = np.argsort(-(sizes - whole), kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return whole
