"""Relaxed sort (NeuralSort): the dense relaxed permutation, and its product with values."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from drpm._build_info import _C
from drpm.ops._arguments import (
    Counts,
    argument_error,
    as_dtype,
    broadcast_batch,
    check_finite,
    check_floating,
    check_same_device,
    compute_dtype,
    require,
    result_dtype,
    rows,
)
from drpm.ops._derivatives import first_order, first_order_error
from drpm.ops._eager import differentiable
from drpm.ops._lengths import SORT_SPACING, pad_scores, row_lengths
from drpm.ops._modes import is_plain_eager
from drpm.ops._tangents import Product, ProductBackward, relaxed_sort_matmul_second, relaxed_sort_second
from drpm.ops._tau import Tau, check_tau

_OP = "relaxed_sort"
_MATMUL = "relaxed_sort_matmul"


def relaxed_sort(
    scores: Tensor,  # (*, n)
    tau: Tau = 1.0,
    *,
    hard: bool = False,
) -> Tensor:  # (*, n, n)
    """Relax the permutation matrix that sorts `scores` in decreasing order.

        P[i, :] = softmax(((n + 1 − 2i) s − A_s 1) / τ),  A_s[j, l] = |s_j − s_l|   (Eq. 1, docs/math/relaxed_sort.md)

    Args:
        scores: (*, n) float, (perturbed) log-scores; finite.
        tau: float > 0 (or a scalar CPU tensor), temperature.
        hard: return the exact permutation matrix (stable order, ties by index) with the gradient of the relaxation
            (straight-through).
    Returns: (*, n, n); row i is a distribution over the elements, peaked at the i-th largest; columns need not sum to
        one unless hard.
    Gradient: w.r.t. scores, that of the relaxation for both values of hard; sign(0) = 0 at ties. Twice differentiable,
        where not hard, with a few more matrices of P's size.
    Numerics: entries more than exp(−17.5) (float32) or exp(−38) (float64) below the largest of their row are 0.
        Largest error relative to the row's maximum: 2e-6 (float32), 1e-12 (float64), for any offset of the scores and
        tau from 1e-4 to 1e3. Each value is written once; time n² for the writing plus n times the width of the band.
    Raises: ValueError for tau <= 0 or scores that are not finite (CPU, eager), TypeError for wrong dtypes.
    Reference: Grover et al., Stochastic optimization of sorting networks via continuous relaxations, 2019; thesis
        Eq. 2.68–2.69.
    """
    if type(tau) is float and 0.0 < tau < math.inf and is_plain_eager():
        found = _C.plain_rows(scores)
        if found is not None and found[1] >= 0:
            permutation: Tensor = _kernel.plain(found[2], (scores, tau, hard))[0]
            return permutation
    check_floating(_OP, "scores", scores)
    require(scores.dim() >= 1, _OP, "scores", "have an element dimension", "a scalar")
    tau = check_tau(_OP, tau)
    check_finite(_OP, "scores", scores)
    batch, n, dtype = scores.shape[:-1], scores.shape[-1], compute_dtype(scores)
    flat, _ = _kernel(rows(as_dtype(scores, dtype), batch, (n,)), tau, hard)
    return as_dtype(flat if len(batch) == 1 else flat.reshape(*batch, n, n), scores.dtype)


@torch.library.register_fake("drpm::relaxed_sort")
def _fake(scores: Tensor, tau: float, hard: bool) -> tuple[Tensor, Tensor]:
    count, n = scores.shape
    return scores.new_empty((count, n, n)), scores.new_empty((count, n), dtype=torch.int64)


@torch.library.register_fake("drpm::relaxed_sort_backward")
def _fake_backward(grad: Tensor, scores: Tensor, order: Tensor, tau: float) -> Tensor:
    return torch.empty_like(scores)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    scores, ctx.tau, ctx.hard = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(scores, output[1])


def _backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 3
    scores, order = ctx.saved_tensors
    grad_scores = _backward_kernel(grad.contiguous(), scores, order, ctx.tau)
    return first_order(f"{_OP} (hard)", grad_scores, grad, scores) if ctx.hard else grad_scores, None, None


_kernel = differentiable("relaxed_sort", _backward, _setup_context)


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, scores, _, ctx.tau = inputs
    ctx.save_for_backward(grad, scores)


def _second(ctx: Any, direction: Tensor) -> tuple[Tensor | None, ...]:
    grad, scores = ctx.saved_tensors
    doubles = scores.double()
    order = descending(doubles)
    tangent, by_scores = relaxed_sort_second(
        lambda s: _kernel(s, ctx.tau, False)[0],
        lambda g, s: _backward_kernel(g.contiguous(), s, order, ctx.tau),
        grad.double(),
        doubles,
        ctx.tau,
        direction.double(),
    )
    return tangent.to(grad.dtype), by_scores.to(scores.dtype), None, None


_backward_kernel = differentiable("relaxed_sort_backward", _second, _setup_backward)


def relaxed_sort_matmul(
    scores: Tensor,  # (*, n)
    values: Tensor,  # (*, n, d)
    tau: Tau = 1.0,
    *,
    hard: bool = False,
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # (*, n, d)
    """Multiply the relaxed permutation with values, without forming it: P(scores) @ values.

        Y[i, :] = Σ_j P_ij V_j                                                      (Eq. 1, docs/math/relaxed_sort.md)

    Args:
        scores: (*, n) float, (perturbed) log-scores; finite.
        values: (*, n, d) float; finite.
        tau: float > 0 (or a scalar CPU tensor), temperature.
        hard: take exactly the rows of `values` in decreasing order of the scores, with the gradient of the
            relaxation w.r.t. scores (straight-through) and the exact one w.r.t. values.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are ignored and get zero
            gradients; rows of the result beyond the length are 0.
    Returns: (*, n, d); row i is a weighted mean of the rows of values (hard: the row of the i-th largest).
    Gradient: w.r.t. scores and values; sign(0) = 0 at ties. Where not hard it is differentiable again, in O(n d)
        memory, by products of 4 d + 2 columns in float64.
    Numerics: as `relaxed_sort`; O(n d) memory, time n log n + n times the width of the band, or proportional to n
        where bands are wide.
    Raises: ValueError for tau <= 0, shapes that do not match or values that are not finite (CPU, eager), TypeError for
        wrong dtypes.
    Reference: Grover et al., Stochastic optimization of sorting networks via continuous relaxations, 2019.
    """
    if lengths is None and type(tau) is float and 0.0 < tau < math.inf and is_plain_eager():
        found = _C.plain_rows(scores, values)
        if found is not None and found[1] >= 0 and found[2] == -2 and values.shape[1] == found[1]:
            product: Tensor = matmul_kernel.plain(found[3], (scores, values, tau, hard))[0]
            return product
    check_floating(_MATMUL, "scores", scores)
    check_floating(_MATMUL, "values", values)
    check_same_device(_MATMUL, scores, values=values)
    require(scores.dim() >= 1, _MATMUL, "scores", "have an element dimension", "a scalar")
    n = scores.shape[-1]
    if values.dim() < 2 or values.shape[-2] != n:
        raise argument_error(_MATMUL, "values", f"be (*, {n}, d)", tuple(values.shape))
    tau = check_tau(_MATMUL, tau)
    if lengths is not None:
        _, mask = row_lengths(_MATMUL, lengths, n, scores.device)
        broadcast_batch(_MATMUL, scores=scores.shape[:-1], values=values.shape[:-2], lengths=mask.shape[:-1])
        column = mask.unsqueeze(-1)
        padded = pad_scores(as_dtype(scores, compute_dtype(scores)), mask, SORT_SPACING * tau)
        product = relaxed_sort_matmul(padded, torch.where(column, values, 0.0), tau, hard=hard)
        return as_dtype(torch.where(column, product, 0.0), result_dtype(scores, values))
    check_finite(_MATMUL, "scores", scores)
    check_finite(_MATMUL, "values", values)
    batch = broadcast_batch(_MATMUL, scores=scores.shape[:-1], values=values.shape[:-2])
    dtype, d = compute_dtype(scores, values), values.shape[-1]
    flat, _ = matmul_kernel(
        rows(as_dtype(scores, dtype), batch, (n,)), rows(as_dtype(values, dtype), batch, (n, d)), tau, hard
    )
    return as_dtype(flat if len(batch) == 1 else flat.reshape(*batch, n, d), result_dtype(scores, values))


@torch.library.register_fake("drpm::relaxed_sort_matmul")
def _fake_matmul(scores: Tensor, values: Tensor, tau: float, hard: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(values), torch.empty_like(scores, dtype=torch.int64)


@torch.library.register_fake("drpm::relaxed_sort_matmul_backward")
def _fake_matmul_backward(
    grad: Tensor, scores: Tensor, values: Tensor, order: Tensor, tau: float, hard: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(scores), torch.empty_like(values)


def _setup_matmul_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    scores, values, ctx.tau, ctx.hard = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(scores, values, output[1])


def _matmul_backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 4
    scores, values, order = ctx.saved_tensors
    return *matmul_backward_kernel(grad.contiguous(), scores, values, order, ctx.tau, ctx.hard), None, None


matmul_kernel = differentiable("relaxed_sort_matmul", _matmul_backward, _setup_matmul_context)


def _setup_matmul_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, scores, values, _, ctx.tau, ctx.hard = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad, scores, values)


def _matmul_second(
    ctx: Any, scores_direction: Tensor | None, values_direction: Tensor | None
) -> tuple[Tensor | None, ...]:
    if scores_direction is None and values_direction is None:
        return (None,) * 6
    if ctx.hard:
        raise first_order_error(f"{_MATMUL} (hard)")
    grad, scores, values = ctx.saved_tensors
    tangent, by_scores, by_values = relaxed_sort_matmul_second(
        *soft_products(scores, ctx.tau),
        grad.double(),
        scores.double(),
        values.double(),
        ctx.tau,
        None if scores_direction is None else scores_direction.double(),
        None if values_direction is None else values_direction.double(),
    )
    return tangent.to(grad.dtype), by_scores.to(scores.dtype), by_values.to(values.dtype), None, None, None


matmul_backward_kernel = differentiable("relaxed_sort_matmul_backward", _matmul_second, _setup_matmul_backward)


def descending(scores: Tensor) -> Tensor:
    return scores.detach().argsort(dim=-1, descending=True, stable=True)


def soft_products(scores: Tensor, tau: Tau) -> tuple[Product, ProductBackward]:
    """The relaxed product and its backward for rows of the order of `scores`."""
    order = descending(scores)

    def product(scores: Tensor, values: Tensor) -> Tensor:
        out: Tensor = matmul_kernel(scores, values.contiguous(), tau, False)[0]
        return out

    def backward(grad: Tensor, scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        by_scores, by_values = matmul_backward_kernel(grad.contiguous(), scores, values.contiguous(), order, tau, False)
        return by_scores, by_values

    return product, backward
