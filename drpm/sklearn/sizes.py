"""How the sizes of the clusters enter: responsibilities and labels of rows under a prior over partitions.

The rows are exchangeable, so the partition model has equal scores, p(Y) = p(n; ω) Π_k n_k! / n!, and the posterior is

    p(Y | X) ∝ exp(Σ_i u_{i, y_i}) Π_k ω_k^{n_k} n! / (n − n_k)!,    u_ik = log p(x_i | cluster k).

It couples the rows through the sizes alone. With q(Y) = Π_i r_{i, y_i}, and the size term at the mean sizes
N_k = Σ_i r_ik (what is neglected is of relative order 1/n), the best r is

    r_ik ∝ exp(u_ik + λ_k),    λ_k = log ω_k + ψ(n − N_k + 1).                                      (docs/sklearn.md)

Sizes that are given replace the prior by the condition N_k = n_k, whose Lagrange multipliers are λ. Bounds on learned
sizes are conditions, too, whose multipliers are subtracted from λ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drpm.distributions import MultivariateNoncentralHypergeometric
from drpm.ops import mvhg_log_prob, sized_assignment
from drpm.sklearn.size_rule import SizeRule


def responsibilities(
    u: Tensor,  # (n, K)
    log_weights: Tensor,  # (K,)
    row_weights: Tensor | None = None,  # (n,)
) -> tuple[Tensor, float]:  # (n, K), sum over rows of log Σ_k exp(u_ik + λ_k)
    joint = u + log_weights
    evidence = joint.logsumexp(1, keepdim=True)
    return (joint - evidence).exp(), float((evidence if row_weights is None else row_weights @ evidence).sum())


def learned_log_weights(sizes: Tensor, log_omega: Tensor | None = None) -> Tensor:  # (K,) -> (K,)
    """λ at the mean sizes N; log_omega=None: logit(N_k / n), the maximum likelihood up to O(1/n)."""
    if len(sizes) == 1:
        return torch.zeros_like(sizes)
    n = sizes.sum()
    inside = sizes.clamp(min=1e-9 * float(n), max=(1 - 1e-9) * float(n))
    omega = torch.log(inside / (n - inside)) if log_omega is None else log_omega
    weights = omega + torch.digamma(n - inside + 1)
    return weights - weights.logsumexp(0)


def log_omega_of(sizes: Tensor) -> Tensor:  # (K,) -> (K,)
    """Maximum likelihood of log ω at the mean sizes."""
    n = float(sizes.sum())
    inside = sizes.clamp(min=1e-9 * n, max=(1 - 1e-9) * n)
    whole = round(n)
    inside = inside * (whole / inside.sum())
    return MultivariateNoncentralHypergeometric.fit(inside.unsqueeze(0), whole, whole).log_omega


def size_term(sizes: Tensor, log_omega: Tensor) -> float:  # (K,)
    """log p(Y) of a partition with these (mean) sizes: log p(n; ω) + Σ_k log n_k! − log n!."""
    whole = round(float(sizes.sum()))
    return float(mvhg_log_prob(sizes * (whole / sizes.sum()), log_omega, whole, whole)) + log_orders(sizes)


def log_orders(sizes: Tensor) -> float:  # (K,)
    """log p(Y | n) of a partition with these sizes: Σ_k log n_k! − log n!."""
    return float(torch.lgamma(sizes + 1).sum()) - math.lgamma(float(sizes.sum()) + 1)


def size_prices(
    u: Tensor,  # (n, K)
    rule: SizeRule,
    start: Tensor | None = None,  # (K,)
) -> Tensor:  # (K,)
    """Multipliers p under which responsibilities softmax(u - p) have mean sizes within the bounds."""
    low, high = rule.tensors()
    return sized_assignment(u.T, min_sizes=low, max_sizes=high, tau=1.0, prices=start).prices


def best_labels(
    u: Tensor,  # (n, K)
    rule: SizeRule,
    start: Tensor | None = None,  # (K,) prices
) -> tuple[Tensor, Tensor]:  # (n,), (K,) prices
    """The labels that maximise the sum of the rows' u among all whose sizes are within the bounds."""
    low, high = rule.tensors()
    found = sized_assignment(u.T, min_sizes=low, max_sizes=high, prices=start)
    return found.labels, found.prices
