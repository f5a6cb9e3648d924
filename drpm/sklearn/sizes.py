"""How the sizes of the clusters enter: responsibilities and labels of rows under a prior over partitions.

The rows are exchangeable, so the partition model has equal scores, p(Y) = p(n; ω) Π_k n_k! / n!, and the posterior is

    p(Y | X) ∝ exp(Σ_i u_{i, y_i}) Π_k ω_k^{n_k} n! / (n − n_k)!,    u_ik = log p(x_i | cluster k).

It couples the rows through the sizes alone. With q(Y) = Π_i r_{i, y_i}, and the size term at the mean sizes
N_k = Σ_i r_ik (what is neglected is of relative order 1/n), the best r is

    r_ik ∝ exp(u_ik + λ_k),    λ_k = log ω_k + ψ(n − N_k + 1).                                      (docs/sklearn.md)

Sizes that are given replace the prior by the condition N_k = n_k, whose Lagrange multipliers are λ.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drpm.distributions import MultivariateNoncentralHypergeometric
from drpm.ops import mvhg_log_prob


def responsibilities(
    u: Tensor,  # (n, K)
    log_weights: Tensor,  # (K,)
) -> tuple[Tensor, float]:  # (n, K), sum over rows of log Σ_k exp(u_ik + λ_k)
    joint = u + log_weights
    evidence = joint.logsumexp(1, keepdim=True)
    return (joint - evidence).exp(), float(evidence.sum())


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


def given_log_weights(
    u: Tensor,  # (n, K)
    sizes: Tensor,  # (K,) whole numbers that sum to n
    start: Tensor,  # (K,)
    *,
    tolerance: float = 1e-7,
    max_iterations: int = 100,
) -> Tensor:  # (K,)
    """λ with Σ_i r_ik = n_k: Newton's method on the concave dual Σ_k n_k λ_k − Σ_i log Σ_k exp(u_ik + λ_k)."""
    clusters = len(sizes)
    weights = start - start.mean()
    if clusters == 1:
        return weights
    r, evidence = responsibilities(u, weights)
    reach = 10.0  # longest step
    value = float(sizes @ weights) - evidence
    for _ in range(max_iterations):
        soft = r.sum(0)
        gradient = sizes - soft
        if float(gradient.abs().max()) <= tolerance * len(u):
            break
        # the dual is flat along the all-ones direction; the ridge bounds steps where a cluster hardly competes
        hessian = torch.diag(soft) - r.T @ r + soft.mean() / clusters
        ridge = 1e-9 * len(u) * torch.eye(clusters, dtype=u.dtype, device=u.device)
        step = torch.linalg.solve(hessian + ridge, gradient)
        size = min(1.0, reach / float(step.abs().max()))
        reach *= 2.0  # far from the solution the dual is nearly linear, and its curvature says nothing about how far
        for _ in range(60):
            r_new, evidence = responsibilities(u, weights + size * step)
            new = float(sizes @ (weights + size * step)) - evidence
            if new >= value + 1e-4 * size * float(gradient @ step) - 1e-12 * abs(value):
                break
            size, reach = size / 2, 10.0
        weights, r, value = weights + size * step, r_new, new
        weights = weights - weights.mean()
    return weights


def best_assignment(
    scores: NDArray[np.float64],  # (n, K)
    sizes: NDArray[np.int64],  # (K,)
    prices: NDArray[np.float64],  # (K,)
) -> NDArray[np.int64]:  # (n,)
    """Labels with exactly these sizes that maximise the sum of the rows' scores.

    A labelling by argmax of scores + prices is optimal for the sizes that it happens to have, whatever the prices. From
    there, rows move along shortest paths between clusters (successive shortest paths, on a graph of K nodes) until the
    sizes are right; every step keeps optimality. Good prices leave few rows to move: O(n K) a move.
    """
    n, clusters = scores.shape
    rows = np.arange(n)
    prices = _balanced_prices(scores, sizes, prices)
    labels: NDArray[np.int64] = np.argmax(scores + prices, axis=1)
    counts = np.bincount(labels, minlength=clusters)
    cost = np.full((clusters, clusters), np.inf)  # cheapest loss of moving one row from cluster a to b
    mover = np.zeros((clusters, clusters), dtype=np.int64)

    def refresh(a: int) -> None:
        members = rows[labels == a]
        if len(members) == 0:
            cost[a] = np.inf
            return
        losses = scores[members, a][:, None] - scores[members]
        cheapest = losses.argmin(0)
        cost[a], mover[a] = losses[cheapest, np.arange(clusters)], members[cheapest]
        cost[a, a] = 0.0

    for a in range(clusters):
        refresh(a)
    while (counts != sizes).any():
        path = _shortest_path(cost, counts > sizes, counts < sizes)
        moves = [(mover[a, b], b) for a, b in itertools.pairwise(path)]
        for row, b in moves:
            labels[row] = b
        counts[path[0]] -= 1
        counts[path[-1]] += 1
        for a in path:
            refresh(a)
    return labels


def _balanced_prices(
    scores: NDArray[np.float64], sizes: NDArray[np.int64], prices: NDArray[np.float64], sweeps: int = 10
) -> NDArray[np.float64]:
    """Prices whose argmax has nearly these sizes: cluster after cluster gets the price that gives it its size."""
    best, least = prices, np.inf
    prices = prices.copy()
    for _ in range(sweeps):
        wrong = np.abs(np.bincount(np.argmax(scores + prices, axis=1), minlength=len(sizes)) - sizes).sum()
        if wrong < least:
            best, least = prices.copy(), wrong
        if wrong == 0 or len(sizes) == 1:
            break
        for k, size in enumerate(sizes):
            others = np.delete(scores + prices, k, axis=1).max(1)
            needed = np.sort(others - scores[:, k])  # the price at which each row joins cluster k
            low = needed[size - 1] if size > 0 else needed[0] - 2.0
            high = needed[size] if size < len(needed) else needed[-1] + 2.0
            prices[k] = 0.5 * (low + high)
    return best


def _shortest_path(cost: NDArray[np.float64], sources: NDArray[np.bool_], targets: NDArray[np.bool_]) -> list[int]:
    """Bellman-Ford from all sources at once to the nearest target; costs may be negative, cycles are not."""
    clusters = len(cost)
    distance = np.where(sources, 0.0, np.inf)
    parent = np.full(clusters, -1)
    for _ in range(clusters - 1):
        through = distance[:, None] + cost
        nearest = through.argmin(0)
        shorter = through[nearest, np.arange(clusters)] < distance - 1e-12 * (1 + np.abs(np.nan_to_num(distance)))
        if not shorter.any():
            break
        distance = np.where(shorter, through[nearest, np.arange(clusters)], distance)
        parent = np.where(shorter, nearest, parent)
    node = int(np.where(targets, distance, np.inf).argmin())
    path = [node]
    while parent[node] >= 0 and len(path) <= clusters:
        node = int(parent[node])
        path.append(node)
    return path[::-1]
