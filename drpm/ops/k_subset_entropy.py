"""Entropy of the conditional Bernoulli law."""

from __future__ import annotations

from torch import Tensor

from drpm.ops._arguments import Counts, as_dtype
from drpm.ops._k_subset_arguments import classes_of, k_subset_arguments
from drpm.ops.mvhg_log_normalizer import normalizer_and_mean

_OP = "k_subset_entropy"


def k_subset_entropy(
    log_weights: Tensor,  # (*, n)
    k: Counts,  # int or (*)
    *,
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # (*)
    """Entropy, in nats, of a subset of exactly k elements, p(S) ∝ Π_{i ∈ S} exp(l_i).

        H = log P0 − Σ_i l_i Pr[i ∈ S]                                            (Eq. 3, docs/math/k_subset.md)

    Args:
        log_weights: (*, n) float, log odds of the elements. −inf: never chosen.
        k: int or (*) int64, elements to choose; at most as many as have a weight above zero.
        lengths: int or (*) int64, how many elements of each row count; None: all.
    Returns: (*) of log_weights' dtype; NaN where unchecked values are invalid.
    Gradient: exact, −covariance · l; three times differentiable.
    Numerics: float64 inside; weights are taken relative to their mean under the law, so that a common constant costs
        no digits.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    """
    arguments = k_subset_arguments(_OP, log_weights, k, lengths)
    if log_weights.shape[-1] == 0:
        return as_dtype(arguments.log_weights.sum(-1).reshape(arguments.batch), log_weights.dtype)
    weights, m = classes_of(arguments.log_weights)
    weights = weights.double()
    weights = weights - weights.detach().amax(-1, keepdim=True)
    normalizer, mean = normalizer_and_mean(weights, m, arguments.k, True)
    entropy = normalizer - (weights * mean).sum(-1)
    return as_dtype(entropy.reshape(arguments.batch), log_weights.dtype)
