"""Gaussians of the clusters: densities, and their maximum a posteriori estimates from weighted rows.

Rows are standardised: every column has mean 0 and variance 1 (or is constant).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical", "kmeans")
_FLOOR = 1e-6  # added to variances, in units of the column's variance, as scikit-learn's reg_covar


@dataclass
class Prior:
    """What is believed about a cluster's covariance before seeing rows: `strength` rows of covariance `scatter`.

    `scatter` is the covariance of all rows over K^{2/d}: K clusters that fill the volume of the data evenly. With the
    estimate S_k of a cluster's n_k rows, the maximum a posteriori covariance is (n_k S_k + strength scatter) / (n_k +
    strength), so a cluster of few rows keeps a proper density.
    Reference: Fraley and Raftery, Bayesian regularization for normal mixture estimation, 2007, for the scale.
    """

    scatter: Tensor  # (d, d)
    strength: float

    @classmethod
    def of(cls, x: Tensor, num_clusters: int, strength: float, row_weights: Tensor | None = None) -> Prior:
        share = x.new_full((len(x),), 1 / len(x)) if row_weights is None else row_weights / row_weights.sum()
        centred = x - share @ x
        return cls((centred.T * share) @ centred / num_clusters ** (2.0 / x.shape[1]), strength)


@dataclass
class Gaussians:
    """K Gaussians in d dimensions; `covariances`: (K, d, d) full, (d, d) tied, (K, d) diag, (K,) spherical and kmeans,
    there K times the same."""

    kind: str
    means: Tensor  # (K, d)
    covariances: Tensor

    def log_density(self, x: Tensor) -> Tensor:  # (n, d) -> (n, K)
        """log N(x_i; μ_k, Σ_k)."""
        clusters, d = self.means.shape
        constant = 0.5 * d * math.log(2.0 * math.pi)
        out = x.new_empty(len(x), clusters)
        if self.kind in ("full", "tied"):
            factors = self.factors.expand(clusters, d, d)
            half_log_det = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            for k in range(clusters):  # one cluster at a time: O(n (d + K)) memory
                whitened = torch.linalg.solve_triangular(factors[k], (x - self.means[k]).T, upper=False)
                out[:, k] = -0.5 * whitened.square().sum(0) - half_log_det[k] - constant
            return out
        variances = self.diagonals()
        if self.kind == "kmeans":  # a product of matrices; the rows' own squares are the same for all clusters
            one, means = self.covariances[0], self.means
            cross = torch.addmm(-0.5 * means.square().sum(1), x, means.T)
            squares = 0.5 * x.square().sum(1, keepdim=True)
            return (cross - squares) / one - 0.5 * d * one.log() - constant
        for k in range(clusters):
            distance = ((x - self.means[k]).square() / variances[k]).sum(-1)
            out[:, k] = -0.5 * (distance + variances[k].log().sum()) - constant
        return out

    @property
    def largest_log_density(self) -> float:
        """At the mean, of the kinds with one variance."""
        return -0.5 * self.means.shape[1] * math.log(2.0 * math.pi * float(self.covariances[0]))

    @cached_property
    def factors(self) -> Tensor:
        """Cholesky factors of "full", (K, d, d), and "tied", (1, d, d)."""
        # NumPy's, since torch spreads a batch of small matrices over threads, at milliseconds a call on a busy machine
        return torch.from_numpy(np.linalg.cholesky(self.covariances.reshape(-1, *self.covariances.shape[-2:]).numpy()))

    def diagonals(self) -> Tensor:
        """(K, d) variances of "diag" and "spherical"."""
        d = self.means.shape[1]
        return self.covariances if self.kind == "diag" else self.covariances.unsqueeze(-1).expand(-1, d)

    def log_prior(self, prior: Prior) -> float:
        """log p(covariances) up to a constant: −strength/2 Σ_k [log det Σ_k + tr(scatter Σ_k⁻¹)]."""
        if self.kind in ("full", "tied"):
            log_det = 2.0 * self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            inverse = np.linalg.inv(self.covariances.numpy())
            trace = (torch.from_numpy(inverse) * prior.scatter).sum((-2, -1))
        else:
            variances = self.diagonals()
            log_det, trace = variances.log().sum(-1), (prior.scatter.diagonal() / variances).sum(-1)
        return -0.5 * prior.strength * float((log_det + trace).sum())

    @property
    def num_parameters(self) -> int:
        clusters, d = self.means.shape
        per_kind = {"full": clusters * d * (d + 1) // 2, "tied": d * (d + 1) // 2, "diag": clusters * d, "kmeans": 1}
        return clusters * d + per_kind.get(self.kind, clusters)


def fit_gaussians(
    x: Tensor,  # (n, d)
    responsibilities: Tensor,  # (n, K)
    kind: str,
    prior: Prior,
    row_weights: Tensor | None = None,  # (n,)
) -> Gaussians:
    """Maximum a posteriori means and covariances of rows that belong to clusters with the given weights."""
    if row_weights is not None:
        responsibilities = responsibilities * row_weights.unsqueeze(-1)
    (n, d), clusters = x.shape, responsibilities.shape[1]
    sizes = responsibilities.sum(0)
    means = (responsibilities.T @ x) / sizes.clamp(min=1e-10).unsqueeze(-1)
    strength, scatter = prior.strength, prior.scatter
    floor = x.new_full((d,), _FLOOR)
    if kind in ("full", "tied"):
        total = x.new_zeros(clusters if kind == "full" else 1, d, d)
        for k in range(clusters):
            centred = x - means[k]
            total[k if kind == "full" else 0] += (centred * responsibilities[:, k : k + 1]).T @ centred
        rows = sizes if kind == "full" else x.new_full((1,), float(n))  # weights of rows have mean 1
        covariances = (total + strength * scatter) / (rows + strength)[:, None, None] + torch.diag(floor)
        return Gaussians(kind, means, covariances if kind == "full" else covariances[0])
    if kind == "kmeans":
        squares = (responsibilities.sum(1) @ x.square().sum(1)) - sizes @ means.square().sum(1)
        return Gaussians(kind, means, (squares.clamp(min=0) / (d * n) + _FLOOR).expand(clusters).clone())
    total = torch.stack([responsibilities[:, k] @ (x - means[k]).square() for k in range(clusters)])
    if kind == "diag":
        variances = (total + strength * scatter.diagonal()) / (sizes + strength).unsqueeze(-1) + floor
    else:
        variances = (total.sum(-1) + strength * scatter.trace()) / (d * (sizes + strength)) + _FLOOR
    return Gaussians(kind, means, variances)
