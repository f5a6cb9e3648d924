"""Covariance of the multivariate noncentral hypergeometric distribution, and the products that gradients need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drpm.ops._arguments import Counts, as_dtype
from drpm.ops._eager import differentiable
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
        log_omega: (*, K) float, natural-log weights of the classes. −inf: never drawn, as if m_k = 0.
        m: int, (K,) or (*, K) int64, items per class; 0 … 2^53.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
    Returns: (*, K, K) of log_omega's dtype, symmetric; rows sum to 0; NaN where device counts are invalid.
    Gradient: exact, third cumulants; twice differentiable (fourth cumulants).
    Numerics: float64 inside; entries within 1e-13 of the largest variance, for counts up to 2^53. The sums behind third
        cumulants cancel terms √v times as large, v the variance, behind fourth ones v times: gradients hold 1e-14 √v,
        second derivatives 1e-14 v, relative to the largest.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: docs/math/mvhg.md, section 4.
    """
    log_omega_rows, m_rows, n_rows, batch, classes, _ = mvhg_arguments(_OP, log_omega, m, n)
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
def _fake_product(log_omega: Tensor, m: Tensor, n: Tensor, u: Tensor) -> Tensor:
    return torch.empty_like(log_omega)


@torch.library.register_fake("drpm::mvhg_third_cumulant")
def _fake_third(log_omega: Tensor, m: Tensor, n: Tensor, u: Tensor, v: Tensor) -> Tensor:
    return torch.empty_like(log_omega)


@torch.library.register_fake("drpm::mvhg_fourth_cumulant")
def _fake_fourth(log_omega: Tensor, m: Tensor, n: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return torch.empty_like(log_omega)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


# A cumulant contracted with directions is symmetric in its free index and the directions: for each direction, the
# gradient is the same op with the cotangent in its place; for log_omega, the next cumulant.


def _backward_product(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    log_omega, m, n, u = ctx.saved_tensors
    needed, grad = ctx.needs_input_grad, grad.contiguous()
    by_omega = _third_cumulant(log_omega, m, n, grad, u) if needed[0] else None
    return by_omega, None, None, covariance_product(log_omega, m, n, grad) if needed[3] else None


def _backward_third(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    log_omega, m, n, u, v = ctx.saved_tensors
    needed, grad = ctx.needs_input_grad, grad.contiguous()
    by_omega = _fourth_cumulant(log_omega, m, n, grad, u, v) if needed[0] else None
    by_u = _third_cumulant(log_omega, m, n, grad, v) if needed[3] else None
    by_v = _third_cumulant(log_omega, m, n, u, grad) if needed[4] else None
    return by_omega, None, None, by_u, by_v


def _backward_fourth(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    log_omega, m, n, *directions = ctx.saved_tensors
    if ctx.needs_input_grad[0]:
        raise NotImplementedError(
            "mvhg_covariance: its third derivative in log_omega needs fifth cumulants, which are not implemented"
        )
    grad = grad.contiguous()
    grads: list[Tensor | None] = [None, None, None]
    for i in range(3):
        if ctx.needs_input_grad[3 + i]:
            grads[i] = _fourth_cumulant(log_omega, m, n, grad, *(d for j, d in enumerate(directions) if j != i))
    return None, None, None, *grads


_ROWS = fold(shared=(1, 2))
covariance_product = differentiable("mvhg_covariance_product", _backward_product, _setup_context, _ROWS)
_third_cumulant = differentiable("mvhg_third_cumulant", _backward_third, _setup_context, _ROWS)
_fourth_cumulant = differentiable("mvhg_fourth_cumulant", _backward_fourth, _setup_context, _ROWS)
