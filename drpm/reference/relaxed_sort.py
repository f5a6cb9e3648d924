"""Relaxed sort (NeuralSort), dense: the readable twin of `drpm.ops.relaxed_sort`."""

import torch
from torch import Tensor


def sort_order(scores: Tensor) -> Tensor:  # (*, n) -> (*, n) int64
    """Return the indices that put `scores` in decreasing order; ties keep the order of their indices."""
    return scores.detach().sort(dim=-1, descending=True, stable=True).indices


def permutation_matrix(order: Tensor, dtype: torch.dtype) -> Tensor:  # (*, n) -> (*, n, n)
    """Return the 0/1 matrix whose row i selects element order[i]."""
    n = order.shape[-1]
    return (order.unsqueeze(-1) == torch.arange(n, device=order.device)).to(dtype)


def relaxed_sort(
    scores: Tensor,  # (*, n)
    tau: float = 1.0,
    *,
    hard: bool = False,
    lengths: Tensor | None = None,  # (*)
) -> Tensor:  # (*, n, n)
    """Relax the permutation matrix that sorts `scores` in decreasing order.

    P[i, :] = softmax(((n + 1 - 2 i) s - A_s 1) / tau),  A_s[j, l] = |s_j - s_l|,  i = 1..n
                                                                        (thesis Eq. 2.69)
    Args:
        scores: (*, n), (perturbed) log-scores.
        tau: float > 0, temperature.
        hard: return the exact permutation matrix (thesis Eq. 2.68, ties by index) with the gradient of
            the relaxation (straight-through).
        lengths: (*) int64, how many of the n elements count; rows and columns of the others are zero.
    Returns: (*, n, n); row i is a distribution over the elements, peaked at the i-th largest.
    Gradient: w.r.t. scores, that of the relaxation; sign(0) = 0 at ties.
    Numerics: the logits cancel large numbers; use float64 where digits matter.
    Reference: Grover et al. 2019, Corollary 2.4.2 of the thesis.
    """
    if lengths is not None:
        return _relaxed_sort_of_lengths(scores, lengths, tau, hard)
    n = scores.shape[-1]
    rank = torch.arange(1, n + 1, dtype=scores.dtype, device=scores.device)
    slope = n + 1 - 2 * rank  # (n,)
    distance = (scores.unsqueeze(-1) - scores.unsqueeze(-2)).abs().sum(-1)  # (*, n)
    logits = slope.unsqueeze(-1) * scores.unsqueeze(-2) - distance.unsqueeze(-2)  # (*, n, n)
    relaxed = torch.softmax(logits / tau, dim=-1)
    if not hard:
        return relaxed
    return permutation_matrix(sort_order(scores), scores.dtype) + (relaxed - relaxed.detach())


def _relaxed_sort_of_lengths(scores: Tensor, lengths: Tensor, tau: float, hard: bool) -> Tensor:
    rank = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype, device=scores.device)
    counted = rank <= lengths.unsqueeze(-1)  # (*, n)
    both = counted.unsqueeze(-1) & counted.unsqueeze(-2)
    scores = torch.where(counted, scores, 0.0)
    slope = lengths.unsqueeze(-1) + 1 - 2 * rank  # (*, n)
    distance = torch.where(both, (scores.unsqueeze(-1) - scores.unsqueeze(-2)).abs(), 0.0).sum(-1)  # (*, n)
    logits = slope.unsqueeze(-1) * scores.unsqueeze(-2) - distance.unsqueeze(-2)  # (*, n, n)
    # a finite value where nothing counts: a row of nothing but -inf has no softmax
    logits = torch.where(both, logits / tau, torch.finfo(scores.dtype).min)
    relaxed = torch.where(both, torch.softmax(logits, dim=-1), 0.0)
    if not hard:
        return relaxed
    order = sort_order(torch.where(counted, scores, -torch.inf))
    exact = torch.where(both, permutation_matrix(order, scores.dtype), 0.0)
    return exact + (relaxed - relaxed.detach())


def relaxed_sort_matmul(
    scores: Tensor,  # (*, n)
    values: Tensor,  # (*, n, d)
    tau: float = 1.0,
    *,
    hard: bool = False,
    lengths: Tensor | None = None,  # (*)
) -> Tensor:  # (*, n, d)
    """Multiply the relaxed permutation with `values`: P(scores) @ values (thesis Eq. 2.69).

    Args, gradient: as `relaxed_sort`; differentiable in `values` too.
    Returns: (*, n, d); row i is a weighted mean of the rows of values (hard: the row of the i-th largest).
    """
    if lengths is not None:
        counted = torch.arange(scores.shape[-1], device=scores.device) < lengths.unsqueeze(-1)
        values = torch.where(counted.unsqueeze(-1), values, 0.0)
    return relaxed_sort(scores, tau, hard=hard, lengths=lengths) @ values
