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


def scores_gradient(scores: Array, tau: float, relaxed: Array, grad_weights: Array) -> Array:
    """Gradient of sum(grad_weights * P): through softmax and logits ((n + 1 − 2i) s_j − Σ_l |s_j − s_l|) / τ."""
    n = len(scores)
    centred = relaxed * (grad_weights - (relaxed * grad_weights).sum(1, keepdims=True)) / LONG(tau)
    sign = np.sign(scores[:, None] - scores[None, :])
    slope = n + 1 - 2 * (np.arange(n) + 1)
    direct = (centred * slope[:, None]).sum(0) - centred.sum(0) * sign.sum(1)
    return direct + centred.sum(0) @ sign


def relaxed_sort(scores: Array, tau: float, grad: Array) -> tuple[Array, Array]:
    relaxed = weights(scores, tau)
    return relaxed, scores_gradient(scores, tau, relaxed, grad)


def relaxed_sort_matmul(scores: Array, values: Array, tau: float, hard: bool, grad: Array) -> tuple[Array, ...]:
    relaxed = weights(scores, tau)
    used = hard_weights(scores) if hard else relaxed
    return used @ values, scores_gradient(scores, tau, relaxed, grad @ values.T), used.T @ grad


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
    """Value, and gradients w.r.t. scores and sizes (straight-through where hard)."""
    relaxed = weights(scores, tau)
    used = hard_weights(scores) if hard else relaxed
    alpha, slope = subset_weights(sizes, len(scores), tau, hard, eps)
    grad_alpha = grad @ used.T  # (K, n)
    grad_boundary = ((grad_alpha[:-1] - grad_alpha[1:]) * slope).sum(1)
    grad_sizes = np.append(np.cumsum(grad_boundary[::-1])[::-1], LONG(0))
    return alpha @ used, scores_gradient(scores, tau, relaxed, alpha.T @ grad), grad_sizes
