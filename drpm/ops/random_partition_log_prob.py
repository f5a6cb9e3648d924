"""Exact log-probability of a random partition."""

from __future__ import annotations

import torch
from torch import Tensor

from drpm.ops._arguments import (
    Counts,
    as_dtype,
    check_floating,
    check_same_device,
    check_tensor,
    compute_dtype,
    require,
    result_dtype,
)
from drpm.ops._lengths import row_capacities, row_lengths
from drpm.ops.mvhg_log_prob import mvhg_log_prob
from drpm.ops.partition_log_prob import partition_log_prob

_OP = "random_partition_log_prob"


def partition_sizes(labels: Tensor, num_subsets: int, mask: Tensor | None = None) -> Tensor:  # (*, n) -> (*, K) int64
    """Number of elements (those in the mask) of every subset. Labels out of range count for the nearest subset."""
    ones = torch.ones_like(labels)
    if mask is not None:
        labels, ones = torch.broadcast_tensors(labels, mask.to(torch.int64))
    sizes = torch.zeros((*labels.shape[:-1], num_subsets), dtype=torch.int64, device=labels.device)
    if num_subsets == 0:
        return sizes
    return sizes.scatter_add(-1, labels.clamp(0, num_subsets - 1), ones)


def random_partition_log_prob(
    labels: Tensor,  # (*, n) int64
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n)
    *,
    m: Counts | None = None,  # int, (K,) or (*, K)
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # (*)
    """Exact log-probability of a random partition: its sizes from the MVHG, its order from Plackett-Luce.

        log p(Y; ω, s) = log p(n; ω) + log p(Y | n; s)                         (thesis Eq. 5.53, without its sum over π)

    Args:
        labels: (*, n) int64, the subset of each element, in [0, K).
        log_omega: (*, K) float, natural-log weights of the subsets. −inf: always empty.
        log_scores: (*, n) float, Plackett-Luce log-scores; finite.
        m: int, (K,) or (*, K) int64, capacity of each subset; >= 0, at least n together. None: n for each.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are ignored and get zero
            gradients; without m a row's capacities are its length.
    Returns: (*); −inf where a subset exceeds its capacity, NaN where device labels or counts are invalid.
    Gradient: exact, w.r.t. log_omega and log_scores; log p is concave in both. Twice differentiable.
    Numerics: those of `mvhg_log_prob` and `partition_log_prob`.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: T. Sutter, thesis, Proposition 5.2.1.
    """
    check_floating(_OP, "log_omega", log_omega)
    require(log_omega.dim() >= 1, _OP, "log_omega", "have at least one dimension (*, K)", "a scalar")
    check_floating(_OP, "log_scores", log_scores)
    check_tensor(_OP, "labels", labels)
    check_same_device(_OP, log_scores, log_omega=log_omega)
    num_subsets = log_omega.shape[-1]
    result, dtype = result_dtype(log_omega, log_scores), compute_dtype(log_omega, log_scores)
    log_omega, log_scores = as_dtype(log_omega, dtype), as_dtype(log_scores, dtype)
    log_prob = partition_log_prob(labels, log_scores, num_subsets, lengths=lengths)
    drawn: Counts = labels.shape[-1]
    if lengths is None:
        sizes, capacity = partition_sizes(labels, num_subsets), drawn
    else:
        drawn, mask = row_lengths(_OP, lengths, labels.shape[-1], labels.device)
        sizes, capacity = partition_sizes(labels, num_subsets, mask), row_capacities(drawn, num_subsets)
    total = mvhg_log_prob(sizes, log_omega, capacity if m is None else m, drawn) + log_prob
    return as_dtype(total, result)
