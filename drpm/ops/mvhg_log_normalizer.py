"""Normaliser of the multivariate noncentral hypergeometric distribution; its gradient is the mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drpm.ops._arguments import Counts, as_dtype
from drpm.ops._eager import differentiable
from drpm.ops._modes import wants_gradient
from drpm.ops._mvhg_arguments import mvhg_arguments, plain_arguments
from drpm.ops._vmap import fold
from drpm.ops.mvhg_covariance import covariance_product

_OP = "mvhg_log_normalizer"


def mvhg_log_normalizer(
    log_omega: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
) -> Tensor:  # (*)
    """Log of the sum of the weights of all sizes that add up to n.

        log P0 = log Σ_{Σ n_k = n} Π_k C(m_k, n_k) ω_k^{n_k}                                         (Eq. 12)

    Args:
        log_omega: (*, K) float, natural-log weights of the classes. −inf: never drawn, as if m_k = 0.
        m: int, (K,) or (*, K) int64, items per class; 0 … 2^53.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
    Returns: (*) of log_omega's dtype; NaN where device counts are invalid.
    Gradient: exact, the mean; four times differentiable (cumulants).
    Numerics: float64 inside; at most 34 contour nodes, whatever the counts. Relative error below 1e-14 of
        max(1, log P0) in float64, for counts up to 2^53; float32 is the rounded float64 result.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: T. Sutter, thesis, Eq. 2.80.
    """
    plain = plain_arguments(m, n, log_omega)
    if plain is not None:
        (_, of_m, of_n, *_), needs_gradient = plain
        with_mean = needs_gradient and torch.is_grad_enabled()
        value: Tensor = normalizer_and_mean.plain(needs_gradient, (log_omega, of_m, of_n, with_mean))[0]
        return value
    arguments = mvhg_arguments(_OP, log_omega, m, n)
    with_mean = wants_gradient(log_omega)
    value, _ = normalizer_and_mean(arguments.log_omega, arguments.m, arguments.n, with_mean)
    return as_dtype(value.reshape(arguments.batch), log_omega.dtype)


@torch.library.register_fake("drpm::mvhg_log_normalizer")
def _fake(log_omega: Tensor, m: Tensor, n: Tensor, with_mean: bool) -> tuple[Tensor, Tensor]:
    rows, classes = log_omega.shape
    return log_omega.new_empty(rows), log_omega.new_empty((rows if with_mean else 0, classes))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    log_omega, m, n, _ = inputs
    ctx.save_for_backward(log_omega, m, n, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, grad_mean: Tensor | None) -> tuple[Tensor | None, ...]:
    log_omega, m, n, mean = ctx.saved_tensors
    total = None
    if grad is not None:
        total = grad.unsqueeze(-1) * mean
    if grad_mean is not None:
        through_mean = covariance_product(log_omega, m, n, grad_mean.contiguous())
        total = through_mean if total is None else total + through_mean
    return total, None, None, None


normalizer_and_mean = differentiable("mvhg_log_normalizer", _backward, _setup_context, fold(shared=(1, 2)))
