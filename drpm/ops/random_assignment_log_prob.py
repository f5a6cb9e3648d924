"""Exact log-probability of a random assignment."""

from __future__ import annotations

from torch import Tensor

from drpm.ops._arguments import (
    Counts,
    argument_error,
    as_dtype,
    check_floating,
    check_same_device,
    check_tensor,
    compute_dtype,
    require,
    result_dtype,
)
from drpm.ops._lengths import row_capacities, row_lengths
from drpm.ops.assignment_log_prob import assignment_log_prob, check_score_matrix
from drpm.ops.mvhg_log_prob import mvhg_log_prob
from drpm.ops.random_partition_log_prob import partition_sizes

_OP = "random_assignment_log_prob"


def check_matrix_of(op: str, log_omega: Tensor, log_scores: Tensor) -> None:
    """A row of scores for every class."""
    check_floating(op, "log_omega", log_omega)
    check_score_matrix(op, log_scores)
    check_same_device(op, log_scores, log_omega=log_omega)
    require(log_omega.dim() >= 1 and log_omega.shape[-1] >= 1, op, "log_omega", "have a class", tuple(log_omega.shape))
    if log_scores.shape[-2] != log_omega.shape[-1]:
        contract = f"have a row for each of the {log_omega.shape[-1]} classes of log_omega"
        raise argument_error(op, "log_scores", contract, tuple(log_scores.shape))


def random_assignment_log_prob(
    labels: Tensor,  # (*, n) int64
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, K, n)
    *,
    m: Counts | None = None,  # int, (K,) or (*, K)
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # (*)
    """Exact log-probability of a random assignment: sizes from the MVHG, subsets filled by their rows of scores.

        log p(Y; ω, L) = log p(n; ω) + log p(Y | n; L)                                (Eq. 5, docs/math/assignment.md)

    Args:
        labels: (*, n) int64, the subset of each element, in [0, K).
        log_omega: (*, K) float, natural-log weights of the subsets. −inf: always empty.
        log_scores: (*, K, n) float, log-score of each element for each subset; finite but for the last row, which has
            no effect, whatever it holds.
        m: int, (K,) or (*, K) int64, capacity of each subset; >= 0, at least n together. None: n for each.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are ignored and get zero
            gradients; without m a row's capacities are its length.
    Returns: (*); −inf where a subset exceeds its capacity, NaN where device labels or counts are invalid.
    Gradient: exact, w.r.t. log_omega and log_scores; log p is concave in log_omega and in every row of log_scores.
        Twice differentiable.
    Numerics: those of `mvhg_log_prob` and `assignment_log_prob`.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: docs/math/assignment.md; equal rows: T. Sutter, thesis, Proposition 5.2.1.
    """
    check_matrix_of(_OP, log_omega, log_scores)
    check_tensor(_OP, "labels", labels)
    num_subsets = log_omega.shape[-1]
    result, dtype = result_dtype(log_omega, log_scores), compute_dtype(log_omega, log_scores)
    log_omega, log_scores = as_dtype(log_omega, dtype), as_dtype(log_scores, dtype)
    log_prob = assignment_log_prob(labels, log_scores, lengths=lengths)
    drawn: Counts = labels.shape[-1]
    if lengths is None:
        sizes, capacity = partition_sizes(labels, num_subsets), drawn
    else:
        drawn, mask = row_lengths(_OP, lengths, labels.shape[-1], labels.device)
        sizes, capacity = partition_sizes(labels, num_subsets, mask), row_capacities(drawn, num_subsets)
    total = mvhg_log_prob(sizes, log_omega, capacity if m is None else m, drawn) + log_prob
    return as_dtype(total, result)
