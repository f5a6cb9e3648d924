"""Partition assembly: elements in decreasing order of their scores fill subsets of given sizes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from drpm._build_info import _C
from drpm.ops._arguments import (
    Counts,
    as_dtype,
    broadcast_batch,
    check_finite,
    check_floating,
    check_not_negative,
    check_same_device,
    check_tensor,
    compute_dtype,
    require,
    result_dtype,
    rows,
)
from drpm.ops._derivatives import first_order_error
from drpm.ops._eager import differentiable
from drpm.ops._lengths import SORT_SPACING, pad_scores, row_lengths
from drpm.ops._modes import is_plain_eager
from drpm.ops._tangents import partition_second
from drpm.ops._tau import Tau, check_tau
from drpm.ops.relaxed_sort import soft_products

_OP = "partition"


def partition(
    scores: Tensor,  # (*, n)
    sizes: Tensor,  # (*, K)
    tau: Tau = 1.0,
    *,
    hard: bool = True,
    eps: float = 0.5,
    normalize: bool = False,
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # (*, K, n)
    """Assign the sorted elements to subsets of the given sizes: Y = α(sizes) P(scores), without forming P.

        y_k = Σ_i α_k[i] P[i, :],  α_k = f(ν_k) − f(ν_{k−1}),  f_i(x) = σ((x − i + ε) / τ)
                                                                                      (Eq. 1–2, docs/math/partition.md)

    Args:
        scores: (*, n) float, (perturbed) log-scores; larger ones come first; finite.
        sizes: (*, K) float or int64, subset sizes in their order; the last subset takes what remains, so its size is
            not used. Finite; where hard also >= 0 (relaxed sizes, such as those of `mvhg_sample`, may leave the
            support: relaxed values are defined for any).
        tau: float > 0 (or a scalar CPU tensor), shared by the order and the boundaries.
        hard: exact 0/1 assignment, with straight-through gradients: w.r.t. α at the hard P, w.r.t. P at the hard α.
        eps: boundary offset; 0.5 centres a boundary between two positions.
        normalize: divide each element's column by its sum; relaxed values only (hard columns sum to one anyway).
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are ignored and get zero
            gradients; their columns are 0. The sizes of a row fill its length.
    Returns: (*, K, n); hard: every column one-hot and row k sums to n_k; relaxed: rows of P sum to one but its columns
        do not, so columns sum to one only with `normalize`.
    Gradient: w.r.t. scores (relaxed sort, sign(0) = 0 at ties) and sizes (sigmoid boundaries; 0 for the last size).
        Where not hard it is differentiable again, in O(n K) memory, by products of 4 K columns in float64.
    Numerics: relative to the largest entry, values within 2e-6 (float32) or 1e-12 (float64), gradients within 1e-5 or
        1e-10; the result does not depend on the number of threads. Time n log n (hard forward), else plus n times the
        width of the band, or proportional to n where bands are wide; memory O(n K).
    Raises: ValueError for tau <= 0, shapes that do not match, values that are not finite or negative hard sizes (CPU,
        eager), TypeError for wrong dtypes.
    Reference: T. Sutter, thesis, Section 5.2.1, Eq. 5.59; Grover et al. 2019.
    """
    if lengths is None and not normalize and type(tau) is float and 0.0 < tau < math.inf and is_plain_eager():
        found = _C.plain_rows(scores, sizes)
        if found is not None and found[1] >= 0 and found[2] >= 1:
            if hard:
                check_not_negative(_OP, "sizes", sizes)
            filled: Tensor = _kernel.plain(found[3], (scores, sizes, tau, hard, float(eps)))[0]
            return filled
    if lengths is not None:
        padded, mask = padded_to_sort(_OP, scores, lengths, tau)
        assignment = partition(padded, sizes, tau, hard=hard, eps=eps, normalize=normalize)
        result = result_dtype(scores, sizes) if sizes.is_floating_point() else scores.dtype
        return as_dtype(torch.where(mask.unsqueeze(-2), assignment, 0.0), result)
    check_floating(_OP, "scores", scores)
    check_tensor(_OP, "sizes", sizes)
    if sizes.dtype == torch.bool or sizes.is_complex():
        raise TypeError(f"{_OP}: sizes must be float or int64, got {sizes.dtype}")
    check_same_device(_OP, scores, sizes=sizes)
    require(scores.dim() >= 1, _OP, "scores", "have an element dimension", "a scalar")
    require(sizes.dim() >= 1 and sizes.shape[-1] >= 1, _OP, "sizes", "have at least one class", tuple(sizes.shape))
    tau = check_tau(_OP, tau)
    check_finite(_OP, "scores", scores)
    if sizes.is_floating_point():
        check_finite(_OP, "sizes", sizes)
    if hard:
        check_not_negative(_OP, "sizes", sizes)
    assignment, _, _ = partition_order_labels(scores, sizes, tau, hard=hard, eps=eps)
    if normalize and not hard:
        assignment = assignment / assignment.sum(-2, keepdim=True)
    return assignment


def padded_to_sort(op: str, scores: Tensor, lengths: Counts, tau: Tau) -> tuple[Tensor, Tensor]:  # (*, n), (*, n)
    """Scores whose elements beyond the length come last in a relaxed sort, and which elements count."""
    check_floating(op, "scores", scores)
    require(scores.dim() >= 1, op, "scores", "have an element dimension", "a scalar")
    _, mask = row_lengths(op, lengths, scores.shape[-1], scores.device)
    broadcast_batch(op, scores=scores.shape[:-1], lengths=mask.shape[:-1])
    return pad_scores(as_dtype(scores, compute_dtype(scores)), mask, SORT_SPACING * check_tau(op, tau)), mask


def partition_order_labels(
    scores: Tensor,  # (*, n)
    sizes: Tensor,  # (*, K)
    tau: Tau,
    *,
    hard: bool,
    eps: float = 0.5,
) -> tuple[Tensor, Tensor, Tensor]:  # (*, K, n), (*, n) int64, (*, n) int64
    """`partition` with what it computes on the way: the order, and the subset of every element. Checks nothing."""
    if sizes.is_floating_point():
        dtype, result = compute_dtype(scores, sizes), result_dtype(scores, sizes)
    else:
        dtype, result = compute_dtype(scores), scores.dtype
    batch = broadcast_batch(_OP, scores=scores.shape[:-1], sizes=sizes.shape[:-1])
    n, classes = scores.shape[-1], sizes.shape[-1]
    assignment, order, labels = _kernel(
        rows(as_dtype(scores, dtype), batch, (n,)),
        rows(as_dtype(sizes, dtype), batch, (classes,)),
        tau,
        hard,
        float(eps),
    )
    if len(batch) != 1:
        assignment, order, labels = (x.reshape(*batch, *x.shape[1:]) for x in (assignment, order, labels))
    return as_dtype(assignment, result), order, labels


@torch.library.register_fake("drpm::partition")
def _fake(scores: Tensor, sizes: Tensor, tau: float, hard: bool, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    count, n = scores.shape
    order = scores.new_empty((count, n), dtype=torch.int64)
    return scores.new_empty((count, sizes.shape[1], n)), order, torch.empty_like(order)


@torch.library.register_fake("drpm::partition_backward")
def _fake_backward(
    grad: Tensor, scores: Tensor, sizes: Tensor, order: Tensor, tau: float, hard: bool, eps: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(scores), torch.empty_like(sizes)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    scores, sizes, ctx.tau, ctx.hard, ctx.eps = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.save_for_backward(scores, sizes, output[1])


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    scores, sizes, order = ctx.saved_tensors
    grads = partition_gradient(grad.contiguous(), scores, sizes, order, ctx.tau, ctx.hard, ctx.eps)
    return *grads, None, None, None


_kernel = differentiable("partition", _backward, _setup_context)


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, scores, sizes, _, ctx.tau, ctx.hard, ctx.eps = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad, scores, sizes)


def _second(ctx: Any, scores_direction: Tensor | None, sizes_direction: Tensor | None) -> tuple[Tensor | None, ...]:
    if scores_direction is None and sizes_direction is None:
        return (None,) * 7
    if ctx.hard:
        raise first_order_error(f"{_OP} (hard)")
    grad, scores, sizes = ctx.saved_tensors
    tangent, by_scores, by_sizes = partition_second(
        *soft_products(scores, ctx.tau),
        grad.double(),
        scores.double(),
        sizes.double(),
        ctx.tau,
        ctx.eps,
        None if scores_direction is None else scores_direction.double(),
        None if sizes_direction is None else sizes_direction.double(),
    )
    return tangent.to(grad.dtype), by_scores.to(scores.dtype), by_sizes.to(sizes.dtype), None, None, None, None


partition_gradient = differentiable("partition_backward", _second, _setup_backward)
