"""The relaxed sort and the partition in long double, written to be right at any scale.

Logits come from the gaps between sorted scores (sums of non-negative terms, nothing cancels), gradients from the signs
of all differences as autograd of |s_j − s_l| would have them. Independent of the kernels' bands, frames, prefix sums.
"""

import numpy as np
import torch

Array = np.ndarray
LONG = np.longdouble


def to_long(x: torch.Tensor) -> Array:
    return x.detach().double().numpy().astype(LONG)


def sort_order(scores: Array) -> Array:
    return np.argsort(-scores, kind="stable")


def weights(scores: Array, tau: float) -> Array:  # (n,) -> (n, n)
    """P[i, j]: weight of element j in the row of the i-th largest."""
    n, order = len(scores), sort_order(scores)
    gaps = scores[order][:-1] - scores[order][1:]
    drop = np.zeros((n, n), LONG)
    for i in range(n):
        drop[i, i + 1 :] = np.cumsum(gaps[i:] * (2 * np.arange(n - 1 - i) + 1))
        drop[i, :i] = np.cumsum((gaps[:i] * (2 * (i - np.arange(i)) - 1))[::-1])[::-1]
    relaxed = np.exp(-drop / LONG(tau))
    relaxed /= relaxed.sum(1, keepdims=True)
    result = np.zeros((n, n), LONG)
    result[:, order] = relaxed
    return result


def hard_weights(scores: Array) -> Array:
    result = np.zeros((len(scores), len(scores)), LONG)
    result[np.arange(len(scores)), sort_order(scores)] = 1
    return result


def scores_gradient(scores: Array, tau: float, relaxed: Array, left: Array | None, right: Array) -> Array:
    """Gradient of sum(G * P), G = left^T right (or right), the logits being ((n + 1 − 2i) s_j − Σ_l |s_j − s_l|) / τ.

    G is taken relative to its value at the peak of each row, which changes nothing and keeps the digits of rows that
    are almost one-hot (long double would round the peak's own entry to 0 as soon as the rest weighs less than 1e-19).

    Entry 0 of the first axis is the gradient, entry 1 the same sum over magnitudes: what a relative error of 1 in every
    factor would make of it. A gradient that is nothing beside its magnitude is identically zero.
    """
    n, order = len(scores), sort_order(scores)
    sign = np.sign(scores[:, None] - scores[None, :])
    slope = n + 1 - 2 * (np.arange(n) + 1)
    inner = sign.sum(1)
    rows = np.arange(n)
    if left is None:
        gradient = right - right[rows, order][:, None]
        size = np.abs(gradient)
    else:
        gradient, size = np.zeros((n, n), LONG), np.zeros((n, n), LONG)
        for factor, values in zip(left, right, strict=True):
            term = factor[:, None] * (values[None, :] - values[order][:, None])
            gradient += term
            size += np.abs(term)
    centred = relaxed * (gradient - (relaxed * gradient).sum(1, keepdims=True)) / LONG(tau)
    exact = (centred * (slope[:, None] - inner)).sum(0) + centred.sum(0) @ sign
    spread = relaxed * (size + (relaxed * size).sum(1, keepdims=True)) / LONG(tau)
    magnitude = (spread * np.abs(slope[:, None] - inner)).sum(0) + spread.sum(0) @ np.abs(sign)
    return np.stack([exact, magnitude])


def relaxed_sort(scores: Array, tau: float, grad: Array) -> tuple[Array, Array]:
    relaxed = weights(scores, tau)
    return relaxed, scores_gradient(scores, tau, relaxed, None, grad)


def relaxed_sort_matmul(scores: Array, values: Array, tau: float, hard: bool, grad: Array) -> tuple[Array, ...]:
    relaxed = weights(scores, tau)
    used = hard_weights(scores) if hard else relaxed
    return used @ values, scores_gradient(scores, tau, relaxed, grad.T, values.T), used.T @ grad


def subset_weights(sizes: Array, n: int, tau: float, hard: bool, eps: float) -> tuple[Array, Array]:
    """alpha (K, n) and the derivative of the inner boundaries (K − 1, n)."""
    distance = np.cumsum(sizes)[:-1, None] - (np.arange(n) + 1) + LONG(eps)
    with np.errstate(over="ignore"):
        inner = 1 / (1 + np.exp(-distance / LONG(tau)))
        slope = 1 / (2 * np.cosh(distance / (2 * LONG(tau)))) ** 2 / LONG(tau)
    if hard:
        inner = (distance > 0).astype(LONG)
    edges = np.concatenate([np.zeros((1, n), LONG), inner, np.ones((1, n), LONG)])
    return np.diff(edges, axis=0), slope


def partition(
    scores: Array, sizes: Array, tau: float, hard: bool, grad: Array, eps: float = 0.5
) -> tuple[Array, Array, Array]:
    """Value, and gradients w.r.t. scores (with magnitudes) and sizes (straight-through where hard)."""
    relaxed = weights(scores, tau)
    used = hard_weights(scores) if hard else relaxed
    alpha, slope = subset_weights(sizes, len(scores), tau, hard, eps)
    grad_alpha = grad @ used.T  # (K, n)
    grad_boundary = ((grad_alpha[:-1] - grad_alpha[1:]) * slope).sum(1)
    grad_sizes = np.append(np.cumsum(grad_boundary[::-1])[::-1], LONG(0))
    return alpha @ used, scores_gradient(scores, tau, relaxed, alpha, grad), grad_sizes


# Largest error relative to the largest expected entry: (values, gradients). Where the dense formula in the same dtype
# is worse (it cancels large numbers), its own error counts, once.
ALLOWED = {torch.float32: (2e-6, 1e-5), torch.float64: (1e-12, 1e-10)}


def scores_of(kind, n, dtype, batch=()):
    x = torch.randn(*batch, n, dtype=torch.float64)
    if kind == "ties":
        x = (x * 3).round() / 3
    elif kind == "equal":
        x = torch.full_like(x, 0.7)
    elif kind == "clusters":
        x = x * 0.01 + torch.randint(0, 3, x.shape) * 5
    elif kind == "cauchy":
        x = x / torch.randn_like(x)
    elif kind == "offset":
        x = x + 1e4
    elif kind == "sorted":
        x = x.sort(-1).values
    return x.to(dtype)


KINDS = ["normal", "ties", "equal", "clusters", "cauchy", "offset", "sorted"]


def value_and_gradients(function, inputs, weight, **options):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    value = function(*inputs, **options)
    grads = torch.autograd.grad((value * weight).sum(), inputs, allow_unused=True)
    grads = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, inputs, strict=True)]
    return [value.detach(), *grads]


def check(got, dense, exact):
    """Value and gradients within the stated bound, or within the dense formula's own error in that dtype.

    There are two absolute floors, for where "relative to the largest entry" says nothing. The gradient of the scores
    (the second entry) may be identically zero, such as inside a group of equal scores: all terms cancel, and what the
    oracle finds is its own rounding. It then counts as zero, to be met to within the rounding of the terms. And nothing
    below the smallest normal number is representable, in the dtype itself or in what was multiplied to get there.
    """
    for i, (a, b, c) in enumerate(zip(got, dense, exact, strict=True)):
        floor = float(torch.finfo(a.dtype).tiny) * 1e4  # a gradient is made of such numbers times 1 / tau <= 1e4
        if i == 1:
            c, magnitude = c
            terms = float(magnitude.max(initial=0))
            if np.abs(c).max(initial=0) <= 256 * np.finfo(LONG).eps * terms:
                floor = max(floor, torch.finfo(a.dtype).eps * terms)
        allowed = ALLOWED[a.dtype][min(i, 1)] * float(np.abs(c).max(initial=0))
        own = float(np.abs(to_long(b) - c).max(initial=0))
        found = float(np.abs(to_long(a) - c).max(initial=0))
        assert found <= max(allowed, own, floor), (i, found, allowed, own, floor)
