"""The best assignment of elements to subsets of bounded sizes, from a score matrix, and its entropic relaxation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drpm.ops._arguments import (
    Counts,
    argument_error,
    as_dtype,
    broadcast_batch,
    check_floating,
    check_same_device,
    compute_dtype,
    is_readable,
    require,
    rows,
)
from drpm.ops._derivatives import first_order, unwrapped
from drpm.ops._eager import differentiable
from drpm.ops._lengths import row_lengths
from drpm.ops._tau import Tau, check_tau

_OP = "sized_assignment"
_AT_LOW, _AT_HIGH = -1, 1  # of SizedState in csrc/sized_assignment/row.h
_SOLVED = 2  # and below
_TOO_MUCH, _TOO_LITTLE, _BAD_BOUNDS, _BAD_VALUES = 3, 4, 5, 6
LARGEST_COUNT, LARGEST_K = 10**8, 1024  # scores of a row, and subsets, up to which the op is tested

Bounds = float | Sequence[float] | Tensor
"""Sizes or bounds on them: one number for all subsets, a sequence, or a tensor (*, K)."""


class SizedAssignment(NamedTuple):
    """What `sized_assignment` returns."""

    assignment: Tensor  # (*, K, n)
    labels: Tensor  # (*, n) int64, argmax of the assignment
    prices: Tensor  # (*, K)
    sizes: Tensor  # (*, K), sums of weights
    violation: Tensor  # (*), largest excess over a bound
    converged: Tensor  # (*) bool


def sized_assignment(
    scores: Tensor,  # (*, K, n)
    sizes: Bounds | None = None,  # (*, K)
    *,
    min_sizes: Bounds | None = None,
    max_sizes: Bounds | None = None,
    weights: Tensor | None = None,  # (*, n)
    tau: Tau = 0.0,
    hard: bool | None = None,
    prices: Tensor | None = None,  # (*, K)
    lengths: Counts | None = None,  # int or (*)
) -> SizedAssignment:
    """Assign n elements to K subsets by a score matrix, under exact or bounded sizes.

        max_y Σ u_ki y_ki + τ H(y),  Σ_k y_ki = 1,  low_k <= Σ_i w_i y_ki <= high_k
                                                                          (Eq. 1, docs/math/sized_assignment.md)

    Args:
        scores: (*, K, n) float, log-affinities u. −inf: this element may never go there; otherwise finite.
        sizes: exact sizes, as `min_sizes` and `max_sizes` that are equal; they sum to n, or to the sum of the weights.
        min_sizes, max_sizes: one number for all, K of them or (*, K), int or float, >= 0; None: no bound. Where they
            are tensors that require a gradient they get one.
        weights: (*, n) float > 0, what each element adds to a size; None: 1. Gets no gradient.
        tau: float >= 0 (or a scalar CPU tensor > 0). 0: the optimum, without a gradient.
        hard: None: whether tau is 0. True at tau > 0: the value is the optimum at tau = 0, the gradient that of the
            relaxation at tau. Without weights the bounds must then be whole.
        prices: (*, K) float, where the search starts; those of a similar problem save steps. Gets no gradient.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are never read; their
            columns are 0, their labels −1.
    Returns: `SizedAssignment`. Columns of the assignment sum to 1, its sizes are within the bounds: exactly where hard
        without weights, to 1e-9 of the total where relaxed. Hard with weights rounds the at most K − 1 elements that
        the optimum splits; `violation` says what that costs. `prices` p are the multipliers, > 0 where the upper bound
        holds and < 0 where the lower one does: y_i = softmax_k((u_ki − w_i p_k)/τ), or the argmax of u_ki − w_i p_k at
        tau = 0; ±inf where a size must be 0 or everything. Where the bounds' sums leave no choice only differences
        matter: max p = 0 if the lower bounds are tight, min p = 0 if the upper ones are, mean 0 if both are.
    Gradient: implicit and exact, of first order, w.r.t. scores and bounds, through assignment and sizes. With tight
        sums it is defined along changes that keep the sum, has mean 0, and goes to `sizes`, else to the tight bounds.
    Numerics: float64 inside for every dtype; gradients to 1e-9 (float64). Does not depend on the number of threads.
        O(n K²) time a step and O(n K) memory; relaxed 3 to 20 steps. K <= 1024, K n <= 1e8. Tensors on a device are
        copied to the host and solved there.
    Raises: ValueError for bounds that can not be met, with the subsets where forbidden pairs are why, hard bounds that
        are not whole, weights <= 0, NaN, tau < 0, shapes that do not match; TypeError for wrong dtypes. Where values
        are not looked at (torch.compile, torch.func, devices) such rows are NaN, their labels 0.
    Reference: Cuturi, Sinkhorn distances, 2013 (entropic transport); Ahuja, Magnanti and Orlin, Network flows, 1993,
        Section 9.7 (successive shortest paths).
    """
    check_floating(_OP, "scores", scores)
    shape = tuple(scores.shape)
    require(scores.dim() >= 2 and shape[-2] >= 1, _OP, "scores", "be (*, K, n) with K >= 1", shape)
    classes, n = shape[-2:]
    require(classes <= LARGEST_K, _OP, "scores", f"have at most {LARGEST_K} subsets", classes)
    require(classes * n <= LARGEST_COUNT, _OP, "scores", f"hold at most {LARGEST_COUNT:.0e} a row", classes * n)
    relaxed = isinstance(tau, Tensor) or tau != 0
    temperature = check_tau(_OP, tau) if relaxed else 1.0
    hard = not relaxed if hard is None else hard
    require(hard or relaxed, _OP, "hard", "not be False at tau = 0", hard)
    low, high, exact_dtype = _bounds(scores, sizes, min_sizes, max_sizes)
    check_same_device(_OP, scores, min_sizes=low, max_sizes=high, weights=weights, prices=prices)
    shapes = {"scores": scores.shape[:-2], "min_sizes": low.shape[:-1], "max_sizes": high.shape[:-1]}
    if weights is not None:
        check_floating(_OP, "weights", weights)
        require(weights.dim() >= 1 and weights.shape[-1] == n, _OP, "weights", f"be (*, {n})", tuple(weights.shape))
        shapes["weights"] = weights.shape[:-1]
    if prices is not None:
        check_floating(_OP, "prices", prices)
        correct = prices.dim() >= 1 and prices.shape[-1] == classes
        require(correct, _OP, "prices", f"be (*, {classes})", tuple(prices.shape))
        shapes["prices"] = prices.shape[:-1]
    counts = None
    if lengths is not None:
        counts, _ = row_lengths(_OP, lengths, n, scores.device)
        shapes["lengths"] = counts.shape
    batch = broadcast_batch(_OP, **shapes)
    dtype = compute_dtype(scores)
    flat = rows(as_dtype(scores, dtype), batch, (classes, n))
    rounding = 8 * torch.finfo(exact_dtype).eps
    arguments = (
        rows(low, batch, (classes,)),
        rows(high, batch, (classes,)),
        None if weights is None else rows(as_dtype(weights.detach(), dtype), batch, (n,)),
        None if prices is None else rows(as_dtype(prices.detach(), torch.float64), batch, (classes,)),
        None if counts is None else rows(counts, batch),
    )
    _check_values(flat, *arguments[:3], arguments[4], hard=hard, rounding=rounding)
    if not relaxed:
        flat, arguments = flat.detach(), (arguments[0].detach(), arguments[1].detach(), *arguments[2:])
    out = _kernel(flat, *arguments, temperature, relaxed, hard, rounding)
    assignment, labels, found, reached, violation, converged, state = out
    if is_readable(state):
        _check_state(state, flat)
    result = scores.dtype

    def shaped(x: Tensor, *event: int) -> Tensor:
        return as_dtype(x.reshape((*batch, *event)), result if x.is_floating_point() else x.dtype)

    return SizedAssignment(
        shaped(assignment, classes, n),
        shaped(labels, n),
        shaped(found.detach(), classes),
        shaped(reached, classes),
        shaped(violation.detach()),
        shaped(converged) != 0,
    )


def _bounds(
    scores: Tensor, sizes: Bounds | None, min_sizes: Bounds | None, max_sizes: Bounds | None
) -> tuple[Tensor, Tensor, torch.dtype]:
    """(*, K) float64 both, and the least precise dtype that they came in."""
    classes, dtypes = scores.shape[-2], [torch.float64]

    def one(name: str, value: Bounds, none: float | None = None) -> Tensor:
        if isinstance(value, (int, float, torch.SymInt, torch.SymFloat)):
            value = torch.full((), value, dtype=torch.float64, device=scores.device)
        elif not isinstance(value, Tensor):
            try:
                value = torch.as_tensor(value, dtype=torch.float64, device=scores.device)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{_OP}: {name} must be numbers or a tensor, got {value!r}") from error
        if value.dtype == torch.bool or value.is_complex():
            raise TypeError(f"{_OP}: {name} must be float or int64, got {value.dtype}")
        if value.is_floating_point():
            dtypes.append(value.dtype)
        value = as_dtype(value, torch.float64)
        value = value.expand(classes) if value.dim() == 0 else value
        require(
            value.shape[-1] == classes, _OP, name, f"have {classes} subsets in its last dimension", tuple(value.shape)
        )
        return value

    if sizes is not None:
        require(
            min_sizes is None and max_sizes is None, _OP, "sizes", "not be given with min_sizes or max_sizes", "both"
        )
        low = high = one("sizes", sizes)
    else:
        low = one("min_sizes", 0.0 if min_sizes is None else min_sizes)
        high = one("max_sizes", torch.inf if max_sizes is None else max_sizes)
    least = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    return low, high, least


def _check_values(
    scores: Tensor,
    low: Tensor,
    high: Tensor,
    weights: Tensor | None,
    counts: Tensor | None,
    *,
    hard: bool,
    rounding: float,
) -> None:
    """Bounds that can be met by themselves; for CPU tensors in eager mode only."""
    if not all(is_readable(x) for x in (scores, low, high, weights, counts) if x is not None):
        return
    low, high, n = low.detach(), high.detach(), scores.shape[-1]
    for name, bound in (("min_sizes", low), ("max_sizes", high)):
        wrong = ~(bound >= 0)
        if name == "min_sizes":
            wrong |= torch.isinf(bound)
        if bool(wrong.any()):
            raise argument_error(
                _OP, name, "be >= 0" + (" and finite" if name == "min_sizes" else ""), bound[wrong][0].item()
            )
        if hard and weights is None:
            broken = torch.isfinite(bound) & (bound != bound.floor())
            if bool(broken.any()):
                raise argument_error(_OP, name, "be whole where hard without weights", bound[broken][0].item())
    wrong = low > high
    if bool(wrong.any()):
        got = f"{low[wrong][0].item()} > {high[wrong][0].item()}"
        raise argument_error(_OP, "min_sizes", "be <= max_sizes", got)
    if weights is None:
        total = low.new_full(low.shape[:1], float(n)) if counts is None else counts.double()
    else:
        mask = None if counts is None else torch.arange(n, device=counts.device) < counts.unsqueeze(-1)
        counted = weights if mask is None else torch.where(mask, weights, 1.0)
        wrong = ~((counted > 0) & torch.isfinite(counted))
        if bool(wrong.any()):
            raise argument_error(_OP, "weights", "be > 0 and finite", counted[wrong][0].item())
        total = (weights if mask is None else torch.where(mask, weights, 0.0)).sum(-1, dtype=torch.float64)
    whole = weights is None and bool((low == low.floor()).all()) and bool((high == high.floor()).all())
    slack = 0.0 if whole else rounding * total
    exact = bool((low == high).all())
    for name, side, wrong in (
        ("min_sizes", low.sum(-1), low.sum(-1) > total + slack),
        ("max_sizes", high.sum(-1), high.sum(-1) < total - slack),
    ):
        if bool(wrong.any()):
            contract = (
                "sum to the total"
                if exact
                else "sum to at most the total"
                if name == "min_sizes"
                else "sum to at least the total"
            )
            got = f"{side[wrong][0].item():.12g} for {total[wrong][0].item():.12g}"
            raise argument_error(_OP, "sizes" if exact else name, contract, got)


def _check_state(state: Tensor, scores: Tensor) -> None:
    failed = (state > _SOLVED).any(-1)
    if not bool(failed.any()):
        return
    row = int(failed.int().argmax())
    codes = state[row].tolist()
    if _BAD_VALUES in codes:
        bad = scores[row][torch.isnan(scores[row]) | (scores[row] == torch.inf)]
        raise argument_error(_OP, "scores", "be finite or -inf", bad[0].item() if bad.numel() else "nan")
    subsets = [k for k, code in enumerate(codes) if code in (_TOO_MUCH, _TOO_LITTLE)]
    if _TOO_LITTLE in codes:
        got = f"less than the min_sizes of subsets {subsets}"
    elif subsets:
        got = f"more than the max_sizes of subsets {subsets}"
    else:
        got = "an element that may go nowhere"
    raise argument_error(_OP, "scores", "permit (by scores above -inf) what the bounds demand", got)


@torch.library.register_fake("drpm::sized_assignment")
def _fake(
    scores: Tensor,
    low: Tensor,
    high: Tensor,
    weights: Tensor | None,
    prices: Tensor | None,
    lengths: Tensor | None,
    tau: float,
    relaxed: bool,
    hard: bool,
    rounding: float,
) -> tuple[Tensor, ...]:
    count, classes, n = scores.shape
    by_subset = low.new_empty((count, classes))
    whole = scores.new_empty((count, n), dtype=torch.int64)
    return (
        torch.empty_like(scores),
        whole,
        by_subset,
        torch.empty_like(by_subset),
        by_subset.new_empty(count),
        whole.new_empty(count),
        whole.new_empty((count, classes)),
    )


@torch.library.register_fake("drpm::sized_assignment_backward")
def _fake_backward(
    grad: Tensor,
    offset: Tensor,
    scores: Tensor,
    weights: Tensor | None,
    prices: Tensor,
    state: Tensor,
    lengths: Tensor | None,
    tau: float,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(scores), torch.empty_like(prices)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    scores, _, _, weights, _, lengths, ctx.tau, ctx.relaxed, _, _ = inputs
    ctx.set_materialize_grads(False)
    _, labels, prices, _, violation, converged, state = output
    ctx.mark_non_differentiable(labels, prices, violation, converged, state)
    ctx.given = (weights is not None, lengths is not None)
    optional = [x for x in (weights, lengths) if x is not None]
    ctx.save_for_backward(scores, prices, state, *optional)


def _saved(ctx: Any) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    scores, prices, state, *optional = unwrapped(ctx.saved_tensors)
    weights = optional.pop(0) if ctx.given[0] else None
    lengths = optional.pop(0) if ctx.given[1] else None
    return scores, prices, state, weights, lengths


def _backward(ctx: Any, grad: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_sizes = others[2]
    if not ctx.relaxed or (grad is None and grad_sizes is None):
        return (None,) * 10
    scores, prices, state, weights, lengths = _saved(ctx)
    if grad_sizes is not None:  # sizes are sums of the assignment
        by_element = grad_sizes.unsqueeze(-1).to(scores.dtype)
        along = by_element.expand_as(scores) if weights is None else by_element * weights.unsqueeze(-2)
        grad = along if grad is None else grad + along
    assert grad is not None
    offset = torch.zeros_like(prices)
    by_scores, by_bounds = _backward_kernel(grad.contiguous(), offset, scores, weights, prices, state, lengths, ctx.tau)
    by_scores, by_bounds = (first_order(_OP, x, scores) for x in (by_scores, by_bounds))
    failed = state > _SOLVED  # its gradients are NaN
    at_low, at_high = (torch.where(failed | (state == side), by_bounds, 0.0) for side in (_AT_LOW, _AT_HIGH))
    return by_scores, at_low, at_high, *(None,) * 7


_kernel = differentiable(_OP, _backward, _setup_context)


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, scores, weights, prices, state, lengths, ctx.tau = inputs
    ctx.given = (weights is not None, lengths is not None)
    ctx.save_for_backward(scores, prices, state, *(x for x in (weights, lengths) if x is not None))


def _transpose(ctx: Any, along_scores: Tensor, along_bounds: Tensor) -> tuple[Tensor | None, ...]:
    """The map is symmetric in the gradients by scores and assignment: its transpose is itself, with an offset."""
    scores, prices, state, weights, lengths = _saved(ctx)
    held = torch.where((state == _AT_LOW) | (state == _AT_HIGH), along_bounds, 0.0)
    by_grad, by_offset = _backward_kernel(
        along_scores.contiguous(), held.contiguous(), scores, weights, prices, state, lengths, ctx.tau
    )
    return first_order(_OP, by_grad, scores), first_order(_OP, -by_offset, scores), *(None,) * 6


_backward_kernel = differentiable("sized_assignment_backward", _transpose, _setup_backward)


def _on_the_host(name: str) -> None:
    """Tensors of a device: solved on the host, since a step waits for K x K numbers anyway."""
    op = getattr(torch.ops.drpm, name).default

    def run(*arguments: Any) -> tuple[Tensor, ...]:
        device = arguments[0].device
        moved = [x.cpu() if isinstance(x, Tensor) else x for x in arguments]
        return tuple(x.to(device) for x in op(*moved))

    torch.library.impl(f"drpm::{name}", "cuda")(run)


for _name in (_OP, "sized_assignment_backward"):
    _on_the_host(_name)
