"""Unnormalised log PMF of the two-class conditional of the MVHG."""

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
    check_count,
    check_floating,
    check_log_weights,
    check_same_device,
    compute_dtype,
    counts_tensor,
    is_readable,
    require,
    result_dtype,
    rows,
)
from drpm.ops._eager import differentiable
from drpm.ops._limits import LARGEST_FLOAT32, LARGEST_LEFT
from drpm.ops._modes import is_plain_eager

_OP = "hypergeometric_log_weights"


def hypergeometric_log_weights(
    log_omega_left: Tensor,  # (*)
    log_omega_right: Tensor,  # (*)
    m_left: Counts,  # (*)
    m_right: Counts,  # (*)
    n: Counts,  # (*)
) -> Tensor:  # (*, max m_left + 1)
    """Log weights of the number x of left-class elements among n drawn from two classes.

        log w(x) = x log ω_L + (n−x) log ω_R − log x! − log(m_L−x)! − log(n−x)! − log(m_R−n+x)!     (Eq. 5.18–5.19)

    Args:
        log_omega_left, log_omega_right: (*) float, natural-log weights. −inf: nothing is drawn from the class.
        m_left, m_right: int or (*) int64, items per class; m_left <= 2^27, m_right <= 2^53.
        n: int or (*) int64, items drawn; 0 <= n <= m_left + m_right.
    Returns: (*, max m_left + 1) for x = 0 … max m_left; −inf outside max(0, n−m_R) <= x <= min(m_L, n), a row of NaN
        where device counts are invalid.
    Gradient: exact, w.r.t. log_omega_left (Σ grad x) and log_omega_right (Σ grad (n − x)).
    Numerics: log-factorials in float64 for every dtype; float32 results are the correctly rounded float64 ones.
    Raises: ValueError for counts out of range or values that are not finite (CPU, eager), TypeError for wrong dtypes.
    Reference: T. Sutter, thesis, Lemma 5.1.1; Fisher, The logic of inductive inference, 1935.
    """
    if type(m_left) is int and type(m_right) is int and type(n) is int and is_plain_eager():
        found = _C.plain_rows(log_omega_left, log_omega_right)
        small = min(m_left, m_right) >= 0 and max(m_left, m_right) <= LARGEST_FLOAT32 and 0 <= n <= m_left + m_right
        if found is not None and found[1] == found[2] == -1 and small:
            counts = [torch.full((found[0],), count, dtype=torch.int64, device="cpu") for count in (m_left, m_right, n)]
            weights: Tensor = _kernel.plain(found[3], (log_omega_left, log_omega_right, *counts, m_left + 1))
            return weights
    check_floating(_OP, "log_omega_left", log_omega_left)
    check_floating(_OP, "log_omega_right", log_omega_right)
    device = log_omega_left.device
    check_same_device(_OP, log_omega_left, log_omega_right=log_omega_right)
    no_left = check_log_weights(_OP, "log_omega_left", log_omega_left)
    no_right = check_log_weights(_OP, "log_omega_right", log_omega_right)
    shapes = {"log_omega_left": log_omega_left.shape, "log_omega_right": log_omega_right.shape}
    if type(m_left) is int and type(m_right) is int and type(n) is int and not (no_left or no_right):
        # the common case: without tensor arithmetic
        for argument, count in (("m_left", m_left), ("m_right", m_right), ("n", n)):
            check_count(_OP, argument, count)
        if n > m_left + m_right:
            raise argument_error(_OP, "n", "be <= m_left + m_right", f"{n - m_left - m_right} more")
        batch = broadcast_batch(_OP, **shapes)
        size = (math.prod(batch),)
        counts = [torch.full(size, count, dtype=torch.int64, device=device) for count in (m_left, m_right, n)]
        width = m_left + 1
    else:
        m_left_t = counts_tensor(_OP, "m_left", m_left, device)
        m_right_t = counts_tensor(_OP, "m_right", m_right, device)
        n_t = counts_tensor(_OP, "n", n, device)
        if is_readable(n_t) and is_readable(m_left_t) and is_readable(m_right_t):
            excess = n_t - m_left_t - m_right_t
            if no_left or no_right:
                left_t, right_t = log_omega_left.detach(), log_omega_right.detach()
                excess = n_t - possible_items(left_t, m_left_t) - possible_items(right_t, m_right_t)
            if excess.numel() and int(excess.max()) > 0:
                require(False, _OP, "n", "be <= m_left + m_right", f"{int(excess.max())} more")
        batch = broadcast_batch(_OP, **shapes, m_left=m_left_t.shape, m_right=m_right_t.shape, n=n_t.shape)
        counts = [rows(count, batch) for count in (m_left_t, m_right_t, n_t)]
        width = (m_left if isinstance(m_left, int) else int(m_left_t.max()) if m_left_t.numel() else 0) + 1
    if isinstance(width, int):
        require(width - 1 <= LARGEST_LEFT, _OP, "m_left", "be <= 2^27", width - 1)
    dtype = compute_dtype(log_omega_left, log_omega_right)
    out = _kernel(
        rows(as_dtype(log_omega_left, dtype), batch),
        rows(as_dtype(log_omega_right, dtype), batch),
        *counts,
        width,
    )
    return as_dtype(out.reshape(*batch, width), result_dtype(log_omega_left, log_omega_right))


def possible_items(log_omega: Tensor, m: Tensor) -> Tensor:
    """m, 0 where the weight is zero."""
    return torch.where(log_omega == -torch.inf, 0, m)


@torch.library.register_fake("drpm::hypergeometric_log_weights")
def _fake(left: Tensor, right: Tensor, m_left: Tensor, m_right: Tensor, n: Tensor, width: int) -> Tensor:
    return left.new_empty((left.shape[0], width))


@torch.library.register_fake("drpm::hypergeometric_log_weights_backward")
def _fake_backward(grad: Tensor, m_left: Tensor, m_right: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    return grad.new_empty(grad.shape[0]), grad.new_empty(grad.shape[0])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    log_left, log_right, m_left, m_right, n = ctx.saved_tensors
    items = possible_items(log_left.detach(), m_left), possible_items(log_right.detach(), m_right)
    left, right = _backward_kernel(grad.contiguous(), *items, n)
    return left, right, None, None, None, None


_kernel = differentiable("hypergeometric_log_weights", _backward, _setup_context)


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, *counts = inputs
    ctx.width = grad.shape[1]
    ctx.save_for_backward(*counts)


def _backward_of_backward(ctx: Any, by_left: Tensor, by_right: Tensor) -> tuple[Tensor | None, ...]:
    """The log weights are linear in the log weights of the classes, x log ω_L + (n − x) log ω_R on the support."""
    m_left, m_right, n = (count.unsqueeze(-1) for count in ctx.saved_tensors)
    x = torch.arange(ctx.width, device=by_left.device)
    inside = (x >= n - m_right) & (x <= m_left) & (x <= n)
    slope = x * by_left.unsqueeze(-1) + (n - x) * by_right.unsqueeze(-1)
    return torch.where(inside, slope, torch.zeros_like(slope)), None, None, None


_backward_kernel = differentiable("hypergeometric_log_weights_backward", _backward_of_backward, _setup_backward)
