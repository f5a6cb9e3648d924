"""Exact log-probability of a partition by a matrix of scores, given its subset sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drpm.ops._arguments import (
    Counts,
    all_finite,
    argument_error,
    as_dtype,
    broadcast_batch,
    check_finite,
    check_floating,
    check_same_device,
    check_tensor,
    compute_dtype,
    is_readable,
    require,
    rows,
)
from drpm.ops._derivatives import second_order
from drpm.ops._eager import differentiable
from drpm.ops._lengths import ODDS_SPACING, pad_scores, row_lengths
from drpm.ops._modes import wants_gradient
from drpm.reference.partition_log_prob_gradient import assignment_log_prob_gradient

_OP = "assignment_log_prob"


def check_score_matrix(op: str, log_scores: Tensor) -> None:
    check_floating(op, "log_scores", log_scores)
    if log_scores.dim() < 2 or (log_scores.shape[-2] == 0 and log_scores.shape[-1] > 0):
        raise argument_error(op, "log_scores", "be (*, K, n) with K >= 1", tuple(log_scores.shape))


def check_matrix_finite(op: str, log_scores: Tensor) -> None:
    """No NaN, no infinity outside of the last row, which may hold anything; for CPU tensors in eager mode only."""
    if is_readable(log_scores) and not all_finite(log_scores):
        check_finite(op, "log_scores", log_scores[..., :-1, :])


def assignment_log_prob(
    labels: Tensor,  # (*, n) int64
    log_scores: Tensor,  # (*, K, n)
    *,
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # (*)
    """Exact log-probability that rows of scores fill the subsets with these elements, given the sizes.

        log p(Y | sizes) = Σ_k log Pr[S_k precedes S_{k+1}, …, S_K in a Plackett-Luce order by row k]
                                                                                        (Eq. 2, docs/math/assignment.md)

    Equal rows give `partition_log_prob`.

    Args:
        labels: (*, n) int64, the subset of each element, in [0, K); empty subsets are allowed.
        log_scores: (*, K, n) float, log-score of each element for each subset; finite. The last subset takes what
            remains: the last row has no effect, whatever it holds.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are ignored and get zero
            gradients; their labels may be anything.
    Returns: (*); 0 where n = 0 or one subset holds everything, NaN where a device label is out of range.
    Gradient: exact, w.r.t. log_scores; each row of it sums to 0, the last is 0. Twice differentiable, the second time
        in O(100 n + K n) memory. log p is concave in every row.
    Numerics: those of `partition_log_prob`. O(K n) time and memory: the rows are read once.
    Raises: ValueError for labels out of range or log_scores that are not finite (CPU, eager), TypeError for wrong
        dtypes.
    Reference: `partition_log_prob` for one row; docs/math/assignment.md.
    """
    check_score_matrix(_OP, log_scores)
    check_tensor(_OP, "labels", labels)
    if labels.dtype != torch.int64:
        raise TypeError(f"{_OP}: labels must be int64, got {labels.dtype}")
    check_same_device(_OP, log_scores, labels=labels)
    num_subsets, n = log_scores.shape[-2:]
    if labels.dim() < 1 or labels.shape[-1] != n:
        raise argument_error(_OP, "labels", f"be (*, {n})", tuple(labels.shape))
    shapes = {"labels": labels.shape[:-1], "log_scores": log_scores.shape[:-2]}
    dtype = compute_dtype(log_scores)
    scores = as_dtype(log_scores, dtype)
    if lengths is not None:  # they remain to the end, in the last subset
        counts, mask = row_lengths(_OP, lengths, n, log_scores.device)
        shapes["lengths"] = counts.shape
        broadcast_batch(_OP, **shapes)
        labels = torch.where(mask, labels, num_subsets - 1)
        scores = pad_scores(scores, mask.unsqueeze(-2), ODDS_SPACING)
    check_matrix_finite(_OP, scores)
    batch = broadcast_batch(_OP, labels=labels.shape[:-1], log_scores=scores.shape[:-2])
    given = rows(scores, batch, (num_subsets, n))
    flat, _ = _kernel(given, rows(labels, batch, (n,)), wants_gradient(scores))
    if is_readable(flat) and not all_finite(flat):
        wrong = labels[(labels < 0) | (labels >= num_subsets)]
        require(not wrong.numel(), _OP, "labels", f"be in [0, {num_subsets})", int(wrong[0]) if wrong.numel() else 0)
    return as_dtype(flat.reshape(batch), log_scores.dtype)


@torch.library.register_fake("drpm::assignment_log_prob")
def _fake(log_scores: Tensor, labels: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
    count, num_subsets, n = log_scores.shape
    return log_scores.new_empty(count), log_scores.new_empty((count, num_subsets, n if with_gradient else 0))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    log_scores, labels, _ = inputs
    grad = output[1]
    ctx.mark_non_differentiable(grad)
    ctx.save_for_backward(grad, log_scores, labels)


def _backward(ctx: Any, grad_log_prob: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    grad, log_scores, labels = ctx.saved_tensors
    if grad.shape != log_scores.shape:  # a transform that asks for a gradient which could not be foreseen
        grad = _kernel(log_scores, labels, True)[1]
    by_scores = second_order(assignment_log_prob_gradient, grad, log_scores, labels)
    return by_scores * grad_log_prob[:, None, None], None, None


_kernel = differentiable("assignment_log_prob", _backward, _setup_context)
