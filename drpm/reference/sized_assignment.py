"""Assignment of elements to subsets of bounded sizes by a score matrix: the optimum, and its entropic relaxation."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class SizedAssignment(NamedTuple):
    """What `sized_assignment` returns."""

    assignment: Tensor  # (*, K, n)
    labels: Tensor  # (*, n)
    prices: Tensor  # (*, K)
    sizes: Tensor  # (*, K)


def sized_assignment(
    scores: Tensor,  # (*, K, n), finite or -inf
    sizes: Tensor | None = None,  # (*, K)
    *,
    min_sizes: Tensor | None = None,  # (*, K)
    max_sizes: Tensor | None = None,  # (*, K)
    weights: Tensor | None = None,  # (*, n)
    tau: float = 0.0,
) -> SizedAssignment:
    """Maximise sum u_ki y_ki + tau H(y) with low_k <= sum_i w_i y_ki <= high_k and columns that sum to one.

    tau > 0: y_i = softmax_k((u_ki - w_i p_k) / tau), differentiable in scores and bounds by one Newton step at the
    solution. tau = 0: elements move along shortest paths between subsets. Bounds strictly between 0 and the total, for
    prices to be finite.
    """
    classes, n = scores.shape[-2:]
    low = (
        scores.new_zeros(classes) if sizes is None and min_sizes is None else sizes if min_sizes is None else min_sizes
    )
    high = scores.new_full((classes,), math.inf) if sizes is None and max_sizes is None else max_sizes
    high = sizes if high is None else high
    w = scores.new_ones(n) if weights is None else weights
    assert low is not None and high is not None
    batch = torch.broadcast_shapes(scores.shape[:-2], low.shape[:-1], high.shape[:-1], w.shape[:-1])
    count = math.prod(batch)
    rows = [
        _row(*arguments, tau)
        for arguments in zip(
            scores.expand(*batch, classes, n).reshape(count, classes, n),
            low.to(scores).expand(*batch, classes).reshape(count, classes),
            high.to(scores).expand(*batch, classes).reshape(count, classes),
            w.expand(*batch, n).reshape(count, n),
            strict=True,
        )
    ]
    assignment = torch.stack([y for y, _ in rows] or [scores]).reshape(*batch, classes, n)
    prices = torch.stack([p for _, p in rows] or [scores[..., :0]]).reshape(*batch, classes)
    reached = (assignment * w.unsqueeze(-2)).sum(-1)
    return SizedAssignment(assignment, assignment.argmax(-2), prices, reached)


def _row(u: Tensor, low: Tensor, high: Tensor, w: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    total, tolerance = w.sum(), 8 * torch.finfo(u.dtype).eps * float(w.sum())
    tight_low, tight_high = bool(low.sum() >= total - tolerance), bool(high.sum() <= total + tolerance)
    if tight_low or tight_high:
        low = high = low if tight_low else high
    with torch.no_grad():
        if tau > 0:
            p = _prices(u, low, high, w, tau)
        else:
            moved, p = _moved(u, low, high, w)
        if tight_low and tight_high:
            p = p - p.mean()
        elif tight_low or tight_high:
            p = p - (p.max() if tight_low else p.min())
    if tau == 0:
        return moved, p
    held = (low == high) | (p != 0)
    bound = torch.where(p > 0, high, low)[held]  # where they are one tensor, either is right
    y = torch.softmax((u - w * p.unsqueeze(-1)) / tau, 0)
    hessian = _hessian(y.detach(), w, tau)[held][:, held]
    # 0 at the solution, with the derivatives of the implicit function theorem; of least norm where H is singular
    step = torch.linalg.pinv(hessian, hermitian=True, rtol=1e-11) @ ((y @ w)[held] - bound)
    prices = p.clone()
    prices[held] = p[held] + step
    return torch.softmax((u - w * prices.unsqueeze(-1)) / tau, 0), p


def _hessian(y: Tensor, w: Tensor, tau: float) -> Tensor:  # (K, n), (n)
    """sum_i w_i^2 (diag(y_i) - y_i y_i^T) / tau"""
    squares = y * w**2
    hessian: Tensor = (torch.diag(squares.sum(-1)) - squares @ y.T) / tau
    return hessian


def _prices(u: Tensor, low: Tensor, high: Tensor, w: Tensor, tau: float) -> Tensor:
    """Minimum of D(p) = tau sum_i logsumexp((u_i - w_i p) / tau) + sum_k high_k max(p_k, 0) + low_k min(p_k, 0)."""
    exact, p = low == high, torch.zeros_like(low)
    finite = u[torch.isfinite(u)]
    temperature = max(tau, float(finite.max() - finite.min())) if len(finite) else tau
    while True:
        for _ in range(200):
            y = torch.softmax((u - w * p.unsqueeze(-1)) / temperature, 0)
            residual = _side(p, low, high, y @ w) - y @ w
            if residual.abs().max() <= 1e-13 * w.sum():
                break
            p = _step(p, _hessian(y, w, temperature), y @ w, low, high, exact, u, w, temperature)
        if temperature <= tau:
            return p
        temperature = max(tau, temperature / 4)


def _side(p: Tensor, low: Tensor, high: Tensor, sizes: Tensor) -> Tensor:
    """The sizes that prices of this sign ask for."""
    free = torch.maximum(torch.minimum(sizes, high), low)
    return torch.where(low == high, low, torch.where(p > 0, high, torch.where(p < 0, low, free)))


def _step(
    p: Tensor, h: Tensor, sizes: Tensor, low: Tensor, high: Tensor, exact: Tensor, u: Tensor, w: Tensor, tau: float
) -> Tensor:
    """Prices after a step: which are 0 by exchange of signs in the second-order model, then a line search."""
    sign = torch.where(p != 0, p.sign(), (sizes > high).to(p) - (sizes < low).to(p))
    h = h + 1e-10 * torch.eye(len(p), dtype=p.dtype) * h.diagonal().max()
    for _ in range(20):
        moves = exact | (sign != 0)
        bound = torch.where(sign > 0, high, low)
        d = torch.where(moves, 0.0, -p)
        right = sizes - torch.where(moves, bound, 0.0) - h @ d
        d[moves] = torch.linalg.pinv(h[moves][:, moves], hermitian=True, rtol=1e-12) @ right[moves]
        reached = sizes - h @ d
        kept = torch.where((p + d) * sign < 0, 0.0, sign)
        wanted = torch.where(moves, kept, (reached > high).to(p) - (reached < low).to(p))
        if bool((wanted == sign)[~exact].all()):
            break
        sign = torch.where(exact, sign, wanted)
    q = torch.where(exact | ((p + d) * sign > 0), p + d, 0.0)

    def dual(p: Tensor) -> float:
        bounds = torch.where(p == 0, 0.0, torch.where(p > 0, high, low) * p)
        return float(tau * torch.logsumexp((u - w * p.unsqueeze(-1)) / tau, 0).sum() + bounds.sum())

    size, value = 1.0, dual(p)
    while dual(p + size * (q - p)) > value + 1e-13 * abs(value) and size > 1e-9:
        size /= 2
    return p + size * (q - p)


def _moved(u: Tensor, low: Tensor, high: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """From zero prices, amounts move along shortest paths between subsets and a slack node until all bounds hold."""
    classes = len(u)
    tolerance = 1e-12 * float(w.sum())
    by_weight = u / w
    amounts = torch.nn.functional.one_hot(u.argmax(0), classes).T.to(u) * w
    beyond = torch.minimum(
        (amounts.sum(-1) - low).clamp(min=0), high - low
    )  # what subsets hold above their lower bounds
    distance = u.new_zeros(classes + 1)
    prices = u.new_zeros(classes + 1)
    while True:
        excess = torch.cat([amounts.sum(-1) - low - beyond, (beyond.sum() + low.sum() - w.sum()).unsqueeze(0)])
        if float(excess.max()) <= tolerance:
            return amounts / w, prices[:-1] - prices[-1]
        cost = u.new_full((classes + 1, classes + 1), math.inf)  # least loss of moving from one node to another
        mover = torch.zeros(classes, classes, dtype=torch.int64)
        for a in range(classes):
            loss = torch.where(amounts[a] > tolerance, by_weight[a] - by_weight, math.inf)
            cost[a, :-1], mover[a] = loss.min(-1)
        cost[:-1, -1] = torch.where(high - low - beyond > tolerance, 0.0, math.inf)
        cost[-1, :-1] = torch.where(beyond > tolerance, 0.0, math.inf)
        distance = torch.where(excess > tolerance, 0.0, math.inf).to(u)
        parent = [-1] * (classes + 1)
        for _ in range(classes + 1):
            through, via = (distance.unsqueeze(-1) + cost).min(0)
            for b in (through < distance - 1e-12 * (1 + u[torch.isfinite(u)].abs().max())).nonzero().flatten().tolist():
                distance[b], parent[b] = through[b], int(via[b])
        target = int(torch.where(excess < -tolerance, distance, math.inf).argmin())
        path = [target]
        while parent[path[-1]] >= 0:
            path.append(parent[path[-1]])
        edges = list(zip(path[1:], path[:-1], strict=True))
        amount = min(float(excess[path[-1]]), -float(excess[target]))
        for a, b in edges:
            room = beyond[b] if a == classes else (high - low - beyond)[a] if b == classes else amounts[a, mover[a, b]]
            amount = min(amount, float(room))
        for a, b in edges:
            if a == classes:
                beyond[b] -= amount
            elif b == classes:
                beyond[a] += amount
            else:
                amounts[a, mover[a, b]] -= amount
                amounts[b, mover[a, b]] += amount
        prices = -torch.minimum(distance, distance[target])
