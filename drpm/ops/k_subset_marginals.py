"""Inclusion probabilities of the conditional Bernoulli law."""

from __future__ import annotations

from torch import Tensor

from drpm.ops._arguments import Counts, as_dtype
from drpm.ops._k_subset_arguments import classes_of, k_subset_arguments
from drpm.ops.mvhg_log_normalizer import normalizer_and_mean

_OP = "k_subset_marginals"


def k_subset_marginals(
    log_weights: Tensor,  # (*, n)
    k: Counts,  # int or (*)
    *,
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # (*, n)
    """Exact Pr[i ∈ S] of a subset of exactly k elements, p(S) ∝ Π_{i ∈ S} exp(l_i).

        Pr[i ∈ S] = ∂ log P0 / ∂ l_i                                              (Eq. 2, docs/math/k_subset.md)

    Args:
        log_weights: (*, n) float, log odds of the elements. −inf: never chosen.
        k: int or (*) int64, elements to choose; at most as many as have a weight above zero.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others get 0.
    Returns: (*, n) of log_weights' dtype; rows sum to k; NaN where unchecked values are invalid.
    Gradient: exact, the covariance of the indicators; three times differentiable.
    Numerics: as `mvhg_mean` with one item per class; O(n).
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    """
    arguments = k_subset_arguments(_OP, log_weights, k, lengths)
    if log_weights.shape[-1] == 0:
        return as_dtype(arguments.log_weights.reshape(*arguments.batch, 0), log_weights.dtype)
    weights, m = classes_of(arguments.log_weights)
    _, mean = normalizer_and_mean(weights, m, arguments.k, True)
    return as_dtype(mean.reshape(*arguments.batch, log_weights.shape[-1]), log_weights.dtype)
