"""Covariance of the multivariate noncentral hypergeometric distribution, and the products that gradients need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drpm.ops._arguments import Counts, as_dtype
from drpm.ops._autograd import differentiable
from drpm.ops._mvhg_arguments import mvhg_arguments
from drpm.ops._vmap import fold

_OP = "mvhg_covariance"


def mvhg_covariance(
    log_omega: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
) -> Tensor:  # (*, K, K)
    """Covariance matrix of the sizes.

        Cov_kl = m_k m_l (<ρ_k ρ_l> − <ρ_k><ρ_l>) + δ_kl m_k <r_k (1 − r_k)>                          (Eq. 15)

    Args:
        log_omega: (*, K) float, natural-log weights of the classes; finite.
        m: int, (K,) or (*, K) int64, items per class; >= 0.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
    Returns: (*, K, K) of log_omega's dtype, symmetric; rows sum to 0; NaN where device counts are invalid.
    Gradient: exact, third cumulants; once differentiable.
    Numerics: float64 inside; entries within 1e-13 of the largest variance. Tested for counts up to 1e7.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: docs/math/mvhg.md, section 4.
    """
    log_omega_rows, m_rows, n_rows, batch, classes = mvhg_arguments(_OP, log_omega, m, n)
    count = log_omega_rows.shape[0]

    def by_column(x: Tensor) -> Tensor:  # every row once per column of the matrix; shared rows stay shared
        return x if x.shape[0] == 1 and count != 1 else x.repeat_interleave(classes, 0)

    units = torch.eye(classes, dtype=log_omega_rows.dtype, device=log_omega.device).repeat(count, 1)
    columns = covariance_product(
        log_omega_rows.repeat_interleave(classes, 0), by_column(m_rows), by_column(n_rows), units
    )
    matrix = columns.reshape(*batch, classes, classes)
    return as_dtype(0.5 * (matrix + matrix.transpose(-1, -2)), log_omega.dtype)


@torch.library.register_fake("drpm::mvhg_covariance_product")
def _fake_product(log_omega: Tensor, m: Tensor, n: Tensor, v: Tensor) -> Tensor:
    return torch.empty_like(log_omega)


@torch.library.register_fake("drpm::mvhg_third_cumulant")
def _fake_third(log_omega: Tensor, m: Tensor, n: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return torch.empty_like(log_omega)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward_product(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """d (grad · Cov v): Cov grad for v, the third cumulant along grad and v for log_omega."""
    log_omega, m, n, v = ctx.saved_tensors
    grad = grad.contiguous()
    by_omega = by_v = None
    if ctx.needs_input_grad[0]:
        by_omega = _third_cumulant(log_omega, m, n, grad, v)
    if ctx.needs_input_grad[3]:
        by_v = covariance_product(log_omega, m, n, grad)
    return by_omega, None, None, by_v


def _backward_third(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    log_omega, m, n, v, w = ctx.saved_tensors
    if ctx.needs_input_grad[0]:
        raise NotImplementedError("mvhg_third_cumulant: fourth cumulants are not there")
    grad = grad.contiguous()
    by_v = _third_cumulant(log_omega, m, n, grad, w) if ctx.needs_input_grad[3] else None
    by_w = _third_cumulant(log_omega, m, n, v, grad) if ctx.needs_input_grad[4] else None
    return None, None, None, by_v, by_w


covariance_product = differentiable("mvhg_covariance_product", _backward_product, _setup_context, fold(shared=(1, 2)))
_third_cumulant = differentiable("mvhg_third_cumulant", _backward_third, _setup_context, fold(shared=(1, 2)))
