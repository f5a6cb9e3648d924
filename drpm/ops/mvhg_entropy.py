"""Entropy of the multivariate noncentral hypergeometric distribution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drpm.ops._arguments import Counts, as_dtype
from drpm.ops._eager import differentiable
from drpm.ops._mvhg_arguments import mvhg_arguments, plain_arguments
from drpm.ops._vmap import fold

_OP = "mvhg_entropy"


def mvhg_entropy(
    log_omega: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
) -> Tensor:  # (*)
    """Entropy −E log p(n; ω) in nats.

        H = log P0 − Σ_k log ω_k E n_k − Σ_k E log C(m_k, n_k)                                       (Eq. 22)

    Args:
        log_omega: (*, K) float, natural-log weights of the classes. −inf: never drawn, as if m_k = 0.
        m: int, (K,) or (*, K) int64, items per class; 0 … 2^53.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
    Returns: (*) of log_omega's dtype, >= 0; NaN where device counts are invalid.
    Gradient: exact, −Cov(n, log p); twice differentiable.
    Numerics: float64 inside; at most 34 contour nodes times 192 outcomes a class, whatever the counts: of more, every
        j-th stands for all. Error below 1e-11, of the gradient 1e-11 + 1e-15 √v (v the largest variance), for counts
        up to 2^53. Tested for weights within ±80.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: docs/math/mvhg.md, section 4.
    """
    plain = plain_arguments(m, n, log_omega)
    if plain is not None:
        (_, of_m, of_n, *_), needs_gradient = plain
        entropy: Tensor = _entropy.plain(needs_gradient, (log_omega, of_m, of_n))[0]
        return entropy
    arguments = mvhg_arguments(_OP, log_omega, m, n)
    entropy, _ = _entropy(arguments.log_omega, arguments.m, arguments.n)
    return as_dtype(entropy.reshape(arguments.batch), log_omega.dtype)


@torch.library.register_fake("drpm::mvhg_entropy")
def _fake(log_omega: Tensor, m: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    return log_omega.new_empty(log_omega.shape[0]), torch.empty_like(log_omega)


@torch.library.register_fake("drpm::mvhg_entropy_hessian_product")
def _fake_product(log_omega: Tensor, m: Tensor, n: Tensor, v: Tensor) -> Tensor:
    return torch.empty_like(log_omega)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, grad_slope: Tensor | None) -> tuple[Tensor | None, ...]:
    log_omega, m, n, slope = ctx.saved_tensors
    total = None if grad is None else grad.unsqueeze(-1) * slope
    if grad_slope is not None:
        through_slope = _hessian_product(log_omega, m, n, grad_slope.contiguous())
        total = through_slope if total is None else total + through_slope
    return total, None, None


def _setup_context_product(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward_product(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    log_omega, m, n, _ = ctx.saved_tensors
    if ctx.needs_input_grad[0]:
        raise NotImplementedError("mvhg_entropy: its third derivative in log_omega is not implemented")
    by_v = _hessian_product(log_omega, m, n, grad.contiguous()) if ctx.needs_input_grad[3] else None
    return None, None, None, by_v


_ROWS = fold(shared=(1, 2))
_entropy = differentiable("mvhg_entropy", _backward, _setup_context, _ROWS)
_hessian_product = differentiable("mvhg_entropy_hessian_product", _backward_product, _setup_context_product, _ROWS)
