"""Log-probability of an order under the Plackett-Luce model."""

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
    result_dtype,
    rows,
)
from drpm.ops._derivatives import second_order
from drpm.ops._eager import differentiable
from drpm.ops._lengths import ODDS_SPACING, pad_scores, row_lengths
from drpm.ops._modes import wants_gradient

_OP = "plackett_luce_log_prob"


def plackett_luce_log_prob(
    order: Tensor,  # (*, n) int64 or (*, n, n) float
    log_scores: Tensor,  # (*, n)
    *,
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # (*)
    """Log-probability that the elements are drawn in this order, with odds proportional to their scores.

        log p(π; s) = Σ_i [x_i − log Σ_{j>=i} exp x_j],  x_i = log s_{π(i)}          (Eq. 1, docs/math/plackett_luce.md)

    Args:
        order: (*, n) int64, order[i] = index of the element at rank i, a permutation of 0 … n−1; or a (relaxed)
            permutation matrix (*, n, n), whose row i says which element stands at rank i: then x = order @ log_scores.
        log_scores: (*, n) float, log-scores; finite.
        lengths: int or (*) int64, how many elements of each row count; None: all. The order's first ranks name them;
            the rest of order and log_scores is ignored and gets zero gradients.
    Returns: (*); 0 where n = 0, NaN where a device `order` is not a permutation.
    Gradient: exact, w.r.t. log_scores, and w.r.t. a matrix `order` through x. Twice differentiable.
    Numerics: float64 inside for every dtype; relative error below 1e-13 (float64), rounding of the result (float32),
        for log-scores of any finite size.
    Raises: ValueError where `order` is not a permutation, shapes do not match or log_scores are not finite (CPU,
        eager), TypeError for wrong dtypes.
    Reference: T. Sutter, thesis, Eq. 2.63–2.64; Plackett, The analysis of permutations, 1975.
    """
    check_floating(_OP, "log_scores", log_scores)
    check_tensor(_OP, "order", order)
    check_same_device(_OP, log_scores, order=order)
    require(log_scores.dim() >= 1, _OP, "log_scores", "have an element dimension", "a scalar")
    n = log_scores.shape[-1]
    if lengths is not None:
        return _of_lengths(order, log_scores, lengths)
    check_finite(_OP, "log_scores", log_scores)
    if order.is_floating_point():
        if order.dim() < 2 or order.shape[-2:] != (n, n):
            raise argument_error(_OP, "order", f"be (*, {n}, {n})", tuple(order.shape))
        check_finite(_OP, "order", order)
        broadcast_batch(_OP, order=order.shape[:-2], log_scores=log_scores.shape[:-1])
        dtype, result = compute_dtype(order, log_scores), result_dtype(order, log_scores)
        ranked = _product(as_dtype(order, dtype), as_dtype(log_scores, dtype))
        batch, index = ranked.shape[:-1], None
    else:
        if order.dtype != torch.int64:
            raise TypeError(f"{_OP}: order must be int64 or a floating permutation matrix, got {order.dtype}")
        if order.dim() < 1 or order.shape[-1] != n:
            raise argument_error(_OP, "order", f"be (*, {n})", tuple(order.shape))
        batch = broadcast_batch(_OP, order=order.shape[:-1], log_scores=log_scores.shape[:-1])
        dtype = result = log_scores.dtype
        if dtype not in (torch.float32, torch.float64):
            dtype = torch.float32
        ranked = as_dtype(log_scores, dtype)
        index = rows(order, batch, (n,))
    flat, _ = _kernel(rows(ranked, batch, (n,)), index, wants_gradient(ranked))
    if index is not None and is_readable(flat) and not all_finite(flat):
        _reject_order(order, n)
    return as_dtype(flat.reshape(batch), result)


def _product(matrix: Tensor, vector: Tensor) -> Tensor:  # (*, n, n), (*, n) -> (*, n)
    if torch.is_autocast_enabled(matrix.device.type):  # which would round both
        return (matrix * vector.unsqueeze(-2)).sum(-1)
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _of_lengths(order: Tensor, log_scores: Tensor, lengths: Counts) -> Tensor:
    n = log_scores.shape[-1]
    counts, mask = row_lengths(_OP, lengths, n, log_scores.device)
    scores = torch.where(mask, as_dtype(log_scores, compute_dtype(log_scores)), 0.0)
    if order.is_floating_point():
        if order.dim() < 2 or order.shape[-2:] != (n, n):
            raise argument_error(_OP, "order", f"be (*, {n}, {n})", tuple(order.shape))
        result = result_dtype(order, log_scores)
        matrix = torch.where(mask.unsqueeze(-1) & mask.unsqueeze(-2), as_dtype(order, compute_dtype(order)), 0.0)
        dtype = compute_dtype(matrix, scores)
        ranked = _product(as_dtype(matrix, dtype), as_dtype(scores, dtype))
    else:
        if order.dtype != torch.int64:
            raise TypeError(f"{_OP}: order must be int64 or a floating permutation matrix, got {order.dtype}")
        if order.dim() < 1 or order.shape[-1] != n:
            raise argument_error(_OP, "order", f"be (*, {n})", tuple(order.shape))
        shapes = {"order": order.shape[:-1], "log_scores": log_scores.shape[:-1], "lengths": counts.shape}
        batch = broadcast_batch(_OP, **shapes)
        result = log_scores.dtype
        first = torch.where(mask, order, torch.arange(n, device=order.device)).expand(*batch, n)
        if is_readable(first):
            _reject_order(first, n)
        ranked = scores.expand(*batch, n).gather(-1, first)
    # the first ranks hold the elements that count: what follows them is as good as nothing
    check_finite(_OP, "log_scores", torch.where(mask, ranked, 0.0))
    padded = pad_scores(ranked, mask, ODDS_SPACING)
    shape = padded.shape[:-1]
    flat, _ = _kernel(rows(padded, shape, (n,)), None, wants_gradient(padded))
    return as_dtype(flat.reshape(shape), result)


def _reject_order(order: Tensor, n: int) -> None:
    wrong = (order.sort(-1).values != torch.arange(n, device=order.device)).any(-1)
    if bool(wrong.any()):
        first = order.reshape(-1, n)[int(wrong.flatten().int().argmax())]
        raise argument_error(
            _OP, "order", f"hold each of 0 … {n - 1} once", first.tolist() if n <= 16 else "a row that does not"
        )


@torch.library.register_fake("drpm::plackett_luce_log_prob")
def _fake(log_scores: Tensor, order: Tensor | None, with_gradient: bool) -> tuple[Tensor, Tensor]:
    count, n = log_scores.shape
    return log_scores.new_empty(count), log_scores.new_empty((count, n if with_gradient else 0))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    log_scores, order, _ = inputs
    grad = output[1]
    ctx.mark_non_differentiable(grad)
    ctx.save_for_backward(grad, log_scores, *(() if order is None else (order,)))


def _backward(ctx: Any, grad_log_prob: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    grad, log_scores, *order = ctx.saved_tensors
    if grad.shape != log_scores.shape:  # a transform that asks for a gradient which could not be foreseen
        grad = _kernel(log_scores, order[0] if order else None, True)[1]
    return second_order(_gradient, grad, log_scores, *order) * grad_log_prob.unsqueeze(-1), None, None


def _gradient(log_scores: Tensor, order: Tensor | None = None) -> Tensor:
    """1 − Σ_{i <= j} exp(x_j − log Σ_{l >= i} exp x_l), of which second derivatives are taken; O(n)      (Eq. 4)"""
    ranked = log_scores.double() if order is None else log_scores.double().gather(-1, order)
    log_remaining = ranked.flip(-1).logcumsumexp(-1).flip(-1)
    grad = -torch.expm1(ranked + (-log_remaining).logcumsumexp(-1))
    if order is not None:
        grad = torch.zeros_like(grad).scatter(-1, order, grad)
    return grad.to(log_scores.dtype)


_kernel = differentiable("plackett_luce_log_prob", _backward, _setup_context)
