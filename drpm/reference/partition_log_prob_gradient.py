"""The gradients of `partition_log_prob` and `assignment_log_prob` in plain torch ops; second derivatives are theirs.

The kernel's quadrature (Eq. 4–15, docs/math/partition_log_prob.md) without its shortcuts: every element at every
node, O(n · 100) memory in float64. The nodes do not move with the scores: an integral does not depend on them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from .partition_log_prob import log_arrived

_NODES = 100
_DROP = 36.0  # the integrand is cut where it has fallen by e^-36
_LOWEST = -1e30


@lru_cache(maxsize=1)
def _gauss_legendre() -> tuple[list[float], list[float]]:
    """Nodes on [−1, 1] and weights, as eigenvalues of the Jacobi matrix."""
    k = torch.arange(1, _NODES, dtype=torch.float64, device="cpu")
    beside = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes.tolist(), (2 * vectors[0] ** 2).tolist()


def _slope(log_z: Tensor) -> Tensor:
    """z / (e^z − 1), the derivative of log(1 − e^{−z}) by log z."""
    z = log_z.clamp(-80.0, math.log(700.0)).exp()
    return z / torch.expm1(z)


def _factor_derivatives(
    a: Tensor,  # (B, n) log-score less the log-sum of what comes after
    labels: Tensor,  # (B, n)
    counts: Tensor,  # (B, K) whether the factor of the subset is not 1
) -> tuple[Tensor, Tensor]:  # (B, n), (B, K)
    """The derivative of each factor by its a, and its sum over every subset."""
    by_subset = a.new_zeros(counts.shape)
    nodes, weights = (torch.tensor(v, dtype=a.dtype, device=a.device) for v in _gauss_legendre())
    fixed = a.detach()

    def sums(values: Tensor) -> Tensor:  # (B, n) -> (B, K)
        return by_subset.scatter_add(-1, labels, values)

    def of_label(values: Tensor) -> Tensor:  # (B, K) -> (B, n)
        return values.gather(-1, labels)

    count = sums(torch.ones_like(a))

    def bisect(low: Tensor, high: Tensor, above: object) -> Tensor:
        for _ in range(16):  # where the nodes lie need not be exact
            middle = 0.5 * (low + high)
            go_up = above(middle)  # type: ignore[operator]
            low, high = torch.where(go_up, middle, low), torch.where(go_up, high, middle)
        return 0.5 * (low + high)

    def h_at(y: Tensor) -> Tensor:
        return y - y.exp() + sums(log_arrived(fixed + of_label(y)))

    mode = bisect(
        torch.zeros_like(count), (1 + count).log(), lambda y: y < torch.log1p(sums(_slope(fixed + of_label(y))))
    )
    least = h_at(mode) - _DROP
    left = bisect(mode - _DROP - 4, mode, lambda y: h_at(y) < least)
    right = bisect(mode, mode + 5, lambda y: h_at(y) > least)
    y = 0.5 * ((right - left).unsqueeze(-1) * nodes + (right + left).unsqueeze(-1))  # (B, K, nodes)

    index = labels.unsqueeze(-1).expand(*labels.shape, _NODES)
    log_z = a.unsqueeze(-1) + y.gather(-2, index)  # (B, n, nodes)
    arrived = y.new_zeros(y.shape).scatter_add(-2, index, log_arrived(log_z))
    weight = torch.softmax(y - y.exp() + arrived + weights.log(), -1)
    own = (weight.gather(-2, index) * _slope(log_z)).sum(-1)
    own = torch.where(of_label(counts), own, torch.zeros_like(own))
    return own, sums(own)


def partition_log_prob_gradient(
    log_scores: Tensor, labels: Tensor, num_subsets: int
) -> Tensor:  # (B, n), (B, n) -> (B, n)
    x = log_scores.double()
    by_subset = x.new_zeros((x.shape[0], num_subsets))

    def sums(values: Tensor) -> Tensor:  # (B, n) -> (B, K)
        return by_subset.scatter_add(-1, labels, values)

    def of_label(values: Tensor) -> Tensor:  # (B, K) -> (B, n)
        return values.gather(-1, labels)

    filled = sums(torch.ones_like(x)) > 0
    top = (by_subset + _LOWEST).scatter_reduce(-1, labels, x.detach(), "amax")
    mass = torch.where(filled, sums((x - of_label(top)).exp()), torch.ones_like(top))
    log_sum = torch.where(filled, top + mass.log(), torch.full_like(top, _LOWEST))  # of the scores of each subset
    subset = torch.arange(num_subsets, device=x.device)
    later = subset > subset.unsqueeze(-1)  # [k, l]
    log_rest = torch.where(later, log_sum.unsqueeze(-2), torch.full_like(log_sum, _LOWEST).unsqueeze(-2)).logsumexp(-1)
    counts = filled & (log_rest.detach() > 0.5 * _LOWEST)  # subsets whose factor is not 1
    log_rest = torch.where(counts, log_rest, torch.zeros_like(log_rest))
    own, gamma = _factor_derivatives(x - of_label(log_rest), labels, counts)
    share = torch.where(later.mT & counts.unsqueeze(-2), log_sum.unsqueeze(-1) - log_rest.unsqueeze(-2), _LOWEST).exp()
    from_before = (share * gamma.unsqueeze(-2)).sum(-1)  # [l]: Σ_{k<l} Γ_k Σ_{S_l} s / Z_k
    grad = own - (x - of_label(log_sum)).exp() * of_label(from_before)
    return grad.to(log_scores.dtype)


def assignment_log_prob_gradient(log_scores: Tensor, labels: Tensor) -> Tensor:  # (B, K, n), (B, n) -> (B, K, n)
    subset = torch.arange(log_scores.shape[1], device=labels.device).unsqueeze(-1)  # (K, 1)
    x = torch.where(subset + 1 < len(subset), log_scores.double(), 0.0)  # the last row has no effect
    own, later = labels.unsqueeze(-2) == subset, labels.unsqueeze(-2) > subset
    counts = own.any(-1) & later.any(-1)  # subsets whose factor is not 1
    log_rest = torch.where(later, x, _LOWEST).logsumexp(-1)
    log_rest = torch.where(counts, log_rest, torch.zeros_like(log_rest))
    a = x.gather(-2, labels.unsqueeze(-2)).squeeze(-2) - log_rest.gather(-1, labels)
    derivative, gamma = _factor_derivatives(a, labels, counts)
    share = torch.where(later & counts.unsqueeze(-1), x - log_rest.unsqueeze(-1), _LOWEST).exp()
    grad = torch.where(own, derivative.unsqueeze(-2), 0.0) - share * gamma.unsqueeze(-1)
    return grad.to(log_scores.dtype)
