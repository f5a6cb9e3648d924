"""Kullback-Leibler divergence between two multivariate noncentral hypergeometric distributions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drpm.ops._arguments import (
    Counts,
    argument_error,
    check_floating,
    check_log_weights,
    check_same_device,
    compute_dtype,
    is_readable,
    rows,
)
from drpm.ops._arguments import result_dtype as promoted_dtype
from drpm.ops._eager import differentiable
from drpm.ops._mvhg_arguments import check_draws, mvhg_arguments, plain_arguments
from drpm.ops._vmap import fold
from drpm.ops.mvhg_covariance import covariance_product

_OP = "mvhg_kl"


def mvhg_kl(
    log_omega_q: Tensor,  # (*, K)
    log_omega_p: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
) -> Tensor:  # (*)
    """KL(q ‖ p) of two distributions with the same counts.

        KL = Σ_k E_q[n_k] Δ_k − log P0(q) + log P0(p),  Δ = log ω_q − log ω_p                        (Eq. 17)

    Args:
        log_omega_q, log_omega_p: (*, K) float, natural-log weights. −inf: never drawn, as if m_k = 0.
        m: int, (K,) or (*, K) int64, items per class; 0 … 2^53.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
    Returns: (*) of the promoted dtype, >= 0; +inf where p never draws from a class that q does; NaN where device counts
        are invalid.
    Gradient: exact, w.r.t. log_omega_q (Cov_q Δ) and log_omega_p (E_p n − E_q n), zero where +inf; twice
        differentiable.
    Numerics: the large terms cancel before they are rounded: the error is relative to the divergence and to float64's
        rounding of Σ m_k p_k (1 − p_k). Counts up to 2^53.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: docs/math/mvhg.md, section 4.
    """
    plain = plain_arguments(m, n, log_omega_q, log_omega_p)
    if plain is not None:
        (_, of_m, of_n, *_), needs_gradient = plain
        kl: Tensor = _kl.plain(needs_gradient, (log_omega_q, log_omega_p, of_m, of_n))[0]
        return kl
    check_floating(_OP, "log_omega_q", log_omega_q)
    check_floating(_OP, "log_omega_p", log_omega_p)
    check_same_device(_OP, log_omega_q, log_omega_p=log_omega_p)
    zero_weights = check_log_weights(_OP, "log_omega_p", log_omega_p)
    others = {"log_omega_p": log_omega_p.shape[:-1]}
    arguments = mvhg_arguments(_OP, log_omega_q, m, n, others=others, name="log_omega_q")
    q, m_rows, n_rows, batch, classes, _ = arguments
    if log_omega_p.shape[-1:] != (classes,):
        raise argument_error(_OP, "log_omega_p", f"have {classes} classes", tuple(log_omega_p.shape))
    dtype = compute_dtype(log_omega_q, log_omega_p)
    p = rows(log_omega_p.to(dtype), batch, (classes,))
    if zero_weights and is_readable(m_rows) and is_readable(n_rows):
        check_draws(_OP, n_rows, m_rows, p.detach())
    kl = _kl(q.to(dtype), p, m_rows, n_rows)[0]
    return kl.reshape(batch).to(promoted_dtype(log_omega_q, log_omega_p))


@torch.library.register_fake("drpm::mvhg_kl")
def _fake(log_omega_q: Tensor, log_omega_p: Tensor, m: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return log_omega_q.new_empty(log_omega_q.shape[0]), torch.empty_like(log_omega_q), torch.empty_like(log_omega_q)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, grad_mean_q: Tensor | None, grad_mean_p: Tensor | None) -> Any:
    log_omega_q, log_omega_p, m, n, kl, mean_q, mean_p = ctx.saved_tensors
    by_q = by_p = None
    if grad is not None:  # where infinite, the gradient is zero
        grad = torch.where(kl.detach() == torch.inf, torch.zeros_like(grad), grad)
    if ctx.needs_input_grad[0]:
        never = (log_omega_q == -torch.inf) | (log_omega_p == -torch.inf)
        change = torch.where(never, 0.0, log_omega_q) - torch.where(never, 0.0, log_omega_p)
        direction = None if grad is None else grad.unsqueeze(-1) * change
        if grad_mean_q is not None:
            direction = grad_mean_q if direction is None else direction + grad_mean_q
        if direction is not None:
            by_q = covariance_product(log_omega_q, m, n, direction.contiguous())
    if ctx.needs_input_grad[1]:
        by_p = None if grad is None else grad.unsqueeze(-1) * (mean_p - mean_q)
        if grad_mean_p is not None:
            through_mean = covariance_product(log_omega_p, m, n, grad_mean_p.contiguous())
            by_p = through_mean if by_p is None else by_p + through_mean
    return by_q, by_p, None, None


_kl = differentiable("mvhg_kl", _backward, _setup_context, fold(shared=(2, 3)))
