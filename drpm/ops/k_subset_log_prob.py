"""Log-probability of a subset of exactly k elements under the conditional Bernoulli law."""

from __future__ import annotations

import torch
from torch import Tensor

from drpm.ops._arguments import Counts, argument_error, as_dtype, check_same_device, is_readable, rows
from drpm.ops._k_subset_arguments import classes_of, k_subset_arguments
from drpm.ops._lengths import row_lengths
from drpm.ops._modes import wants_gradient
from drpm.ops.mvhg_log_prob import exact_log_prob

_OP = "k_subset_log_prob"


def k_subset_log_prob(
    mask: Tensor,  # (*, n)
    log_weights: Tensor,  # (*, n)
    k: Counts,  # int or (*)
    *,
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # (*)
    """Log-probability of subsets.

        log p(S) = Σ_{i ∈ S} l_i − log Σ_{|R| = k} Π_{i ∈ R} exp(l_i)             (Eq. 1, docs/math/k_subset.md)

    Args:
        mask: (*, n) bool, int or float of 0 and 1, the chosen elements.
        log_weights: (*, n) float, log odds of the elements. −inf: never chosen.
        k: int or (*) int64, elements to choose; at most as many as have a weight above zero.
        lengths: int or (*) int64, how many elements of each row count; None: all. What the mask holds at the others is
            ignored.
    Returns: (*) of log_weights' dtype; −inf where the mask does not hold k elements or one of weight zero; NaN where
        unchecked values are invalid.
    Gradient: exact w.r.t. log_weights, mask − marginals; twice differentiable. None w.r.t. mask and k.
    Numerics: float64 inside; O(n), at most 34 contour nodes.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: Chen, Dempster and Liu, Weighted finite population sampling to maximize entropy, 1994.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"{_OP}: mask must be a tensor, got {type(mask).__name__}")
    check_same_device(_OP, log_weights, mask=mask)
    if mask.dim() < 1 or mask.shape[-1:] != log_weights.shape[-1:]:
        raise argument_error(_OP, "mask", f"have {log_weights.shape[-1]} elements", tuple(mask.shape))
    arguments = k_subset_arguments(_OP, log_weights, k, lengths, others={"mask": mask.shape[:-1]})
    n = log_weights.shape[-1]
    chosen = mask.detach()
    if lengths is not None:
        chosen = torch.where(row_lengths(_OP, lengths, n, mask.device)[1], chosen, 0)
    if is_readable(chosen) and chosen.dtype != torch.bool:
        wrong = (chosen != 0) & (chosen != 1)
        if bool(wrong.any()):
            raise argument_error(_OP, "mask", "hold 0 and 1", chosen[wrong][0].item())
    if n == 0:
        return as_dtype(arguments.log_weights.sum(-1).reshape(arguments.batch), log_weights.dtype)
    weights, m = classes_of(arguments.log_weights)
    flat = rows(chosen.to(weights.dtype), arguments.batch, (n,))
    log_prob, _ = exact_log_prob(flat, weights, m, arguments.k, wants_gradient(log_weights))
    return as_dtype(log_prob.reshape(arguments.batch), log_weights.dtype)
