"""Partition assembly: the readable twin of `drpm.ops.partition`."""

import torch
from torch import Tensor

from .relaxed_sort import relaxed_sort


def subset_weights(
    sizes: Tensor,  # (*, K)
    n: int,
    tau: float = 1.0,
    *,
    hard: bool = True,
    eps: float = 0.5,
) -> Tensor:  # (*, K, n)
    """Weight alpha_k[i] with which position i of the order belongs to subset k (thesis Sec. 5.2.1.2).

    alpha_k = f(nu_k) - f(nu_{k-1}),  f_i(x) = sigmoid((x - i + eps) / tau),  nu_k = n_1 + ... + n_k,
    f(nu_0) = 0, f(nu_K) = 1, so that every position's weights sum to one.
    hard: f_i(x) = 1[x - i + eps > 0] with the gradient of the sigmoid (straight-through on f).
    """
    boundary = sizes.cumsum(-1)[..., :-1].unsqueeze(-1)  # (*, K - 1, 1)
    position = torch.arange(1, n + 1, dtype=sizes.dtype, device=sizes.device)
    distance = boundary - position + eps
    inner = torch.sigmoid(distance / tau)  # (*, K - 1, n)
    if hard:
        inner = (distance > 0).to(sizes.dtype) + (inner - inner.detach())
    first = sizes.new_zeros(*sizes.shape[:-1], 1, n)
    return torch.cat([first, inner, first + 1], dim=-2).diff(dim=-2)


def partition(
    scores: Tensor,  # (*, n)
    sizes: Tensor,  # (*, K)
    tau: float = 1.0,
    *,
    hard: bool = True,
    eps: float = 0.5,
    normalize: bool = False,
    lengths: Tensor | None = None,  # (*)
) -> Tensor:  # (*, K, n)
    """Assign the sorted elements to subsets of the given sizes.

    Y = alpha(sizes) P(scores),  y_k = sum_i alpha_k[i] P[i, :]              (thesis Eq. 5.59)

    Args:
        scores: (*, n), (perturbed) log-scores; larger ones come first.
        sizes: (*, K), subset sizes; whole numbers for an exact partition.
        tau: float > 0, shared by the order and the boundaries.
        hard: exact 0/1 assignment forward. Both alpha and P are straight-through, hence the gradient
            w.r.t. alpha sees the hard P and the gradient w.r.t. P the hard alpha.
        eps: boundary offset; 0.5 centres the boundary between two positions.
        normalize: divide each element's column by its sum; relaxed values only (hard columns sum to one).
        lengths: (*) int64, how many of the n elements count; the columns of the others are zero.
    Returns: (*, K, n); hard: every column is one-hot, row k sums to n_k.
    Gradient: w.r.t. scores (relaxed sort) and sizes (sigmoid boundaries; none for the last boundary).
    """
    batch = torch.broadcast_shapes(scores.shape[:-1], sizes.shape[:-1], () if lengths is None else lengths.shape)
    scores = scores.expand(*batch, scores.shape[-1])
    sizes = sizes.to(scores.dtype).expand(*batch, sizes.shape[-1])
    weights = subset_weights(sizes, scores.shape[-1], tau, hard=hard, eps=eps)
    assignment = weights @ relaxed_sort(scores, tau, hard=hard, lengths=lengths)
    if normalize and not hard:
        total = assignment.sum(-2, keepdim=True)
        assignment = assignment / torch.where(total > 0, total, 1.0)
    return assignment


def partition_labels(order: Tensor, sizes: Tensor) -> Tensor:  # (*, n), (*, K) -> (*, n) int64
    """Subset of every element: the first sizes[0] of `order` get 0, the next sizes[1] get 1, ..."""
    n = order.shape[-1]
    inner_boundary = sizes.detach().cumsum(-1)[..., :-1].unsqueeze(-1)  # (*, K - 1, 1)
    position = torch.arange(n, device=order.device)
    subset = (position >= inner_boundary).sum(-2)  # (*, n) by position
    order, subset = torch.broadcast_tensors(order, subset)
    return torch.zeros_like(order).scatter(-1, order, subset)
