"""Log-probability of subset sizes under the multivariate noncentral hypergeometric distribution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drpm import reference
from drpm.ops._arguments import Counts, argument_error, as_dtype, check_same_device, check_tensor, rows
from drpm.ops._derivatives import second_order
from drpm.ops._eager import differentiable
from drpm.ops._modes import wants_gradient
from drpm.ops._mvhg_arguments import CONDITIONALS, check_conditionals, mvhg_arguments, plain_arguments
from drpm.ops._vmap import fold, register_vmap
from drpm.ops.mvhg_covariance import covariance_product

_OP = "mvhg_log_prob"


def mvhg_log_prob(
    sizes: Tensor,  # (*, K)
    log_omega: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
    *,
    conditionals: str = "exact",
) -> Tensor:  # (*)
    """Log-probability of the sizes.

        exact:   log p(n; ω) = Σ_k [log C(m_k, n_k) + n_k log ω_k] − log P0                         (thesis Eq. 2.79)
        merged:  Σ_{k<K} [ℓ_k(n_k; r_k) − log Σ_x exp ℓ_k(x; r_k)], the chain of `mvhg_sample`       (Eq. 9)

    Args:
        sizes: (*, K) float or int, whole numbers or relaxed sizes.
        log_omega: (*, K) float, natural-log weights of the classes. −inf: never drawn, as if m_k = 0.
        m: int, (K,) or (*, K) int64, items per class; 0 … 2^53.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
        conditionals: "exact", or "merged": the sequential probability of the merged chain in natural class order.
    Returns: (*) of log_omega's dtype; −inf where sizes leave [0, m_k] or do not sum to n (up to rounding), NaN where
        they are not finite or device counts are invalid.
    Gradient: exact, w.r.t. log_omega and floating sizes (merged: none for the last class); zero where −inf.
        exact: w.r.t. sizes log ω_k + ψ(m_k − n_k + 1) − ψ(n_k + 1), w.r.t. log_omega n − E n; twice differentiable.
    Numerics: float64 inside for every dtype; at most 34 contour nodes (merged: 192 outcomes a class), whatever the
        counts. Up to 2^53, the error is below 1e-13 (merged: 1e-10) max(1, |log p|) and what rounding the weights to
        float64 costs, 1e-15 Σ |n_k − E n_k| (1 + |log ω_k|). Sizes in float64, and n above 2^24 as a Python number,
        are taken in float64 for weights of any dtype. Tested for log_omega within ±80.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: T. Sutter, thesis, Eq. 2.79, 5.1–5.5, 5.18.
    """
    plain = plain_arguments(m, n, log_omega, sizes)
    if plain is not None and conditionals in CONDITIONALS:
        (_, of_m, of_n, *_), needs_gradient = plain
        given = (sizes, log_omega, of_m, of_n)
        value: Tensor
        if conditionals == "exact":
            value, _ = exact_log_prob.plain(needs_gradient, (*given, wants_gradient(log_omega)))
        else:
            value, _ = _merged.plain(needs_gradient, given)
        return value
    check_conditionals(_OP, conditionals)
    check_tensor(_OP, "sizes", sizes)
    check_same_device(_OP, log_omega, sizes=sizes)
    weights = as_dtype(log_omega, torch.float64) if sizes.dtype == torch.float64 else log_omega
    arguments = mvhg_arguments(_OP, weights, m, n, others={"sizes": sizes.shape[:-1]}, sizes=True)
    classes = arguments.classes
    if sizes.shape[-1:] != (classes,):
        raise argument_error(_OP, "sizes", f"have {classes} classes", tuple(sizes.shape))
    flat = rows(as_dtype(sizes, arguments.log_omega.dtype), arguments.batch, (classes,))
    if conditionals == "exact":
        with_mean = wants_gradient(log_omega)
        log_prob, _ = exact_log_prob(flat, arguments.log_omega, arguments.m, arguments.n, with_mean)
    else:
        log_prob, _ = _merged(flat, arguments.log_omega, arguments.m, arguments.n)
    return as_dtype(log_prob.reshape(arguments.batch), log_omega.dtype)


@torch.library.register_fake("drpm::mvhg_log_prob")
def _fake(sizes: Tensor, log_omega: Tensor, m: Tensor, n: Tensor, with_mean: bool) -> tuple[Tensor, Tensor]:
    rows_, classes = log_omega.shape
    return log_omega.new_empty(rows_), log_omega.new_empty((rows_ if with_mean else 0, classes))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:4], *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, grad_mean: Tensor | None) -> tuple[Tensor | None, ...]:
    sizes, log_omega, m, n, log_prob, mean = ctx.saved_tensors
    by_sizes = by_omega = None
    if grad is not None:
        # zero where log p is -inf, NaN where it is NaN
        grad = torch.where(log_prob.detach() > -torch.inf, grad, log_prob.detach().exp()).unsqueeze(-1)
        if ctx.needs_input_grad[1]:
            by_omega = grad * (sizes - mean)
        if ctx.needs_input_grad[0]:
            inside = torch.minimum(sizes.double().clamp(min=0), m)  # relaxed sizes may leave the support by rounding
            slope = torch.digamma(m - inside + 1) - torch.digamma(inside + 1)
            by_sizes = grad * (torch.where(log_omega == -torch.inf, 0.0, log_omega) + slope.to(log_omega.dtype))
    if grad_mean is not None and ctx.needs_input_grad[1]:
        through_mean = covariance_product(log_omega, m, n, grad_mean.contiguous())
        by_omega = through_mean if by_omega is None else by_omega + through_mean
    return by_sizes, by_omega, None, None, None


exact_log_prob = differentiable("mvhg_log_prob", _backward, _setup_context, fold(shared=(2, 3)))


@torch.library.register_fake("drpm::mvhg_log_prob_merged")
def _fake_merged(sizes: Tensor, log_omega: Tensor, m: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    return log_omega.new_empty(log_omega.shape[0]), log_omega.new_empty((*log_omega.shape, 2), dtype=torch.float64)


@torch.library.register_fake("drpm::mvhg_log_prob_merged_backward")
def _fake_merged_backward(
    grad: Tensor, sizes: Tensor, log_omega: Tensor, m: Tensor, n: Tensor, log_prob: Tensor, statistics: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(sizes), torch.empty_like(log_omega)


def _setup_context_merged(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward_merged(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None
    saved = ctx.saved_tensors  # once: checkpointing gives them a single time
    given = (x.detach() for x in (grad.contiguous(), *saved))
    by_sizes, by_omega = torch.ops.drpm.mvhg_log_prob_merged_backward(*given)
    tied = (grad, *saved[:4])
    return second_order(_merged_by_sizes, by_sizes, *tied), second_order(_merged_by_omega, by_omega, *tied), None, None


def _merged_gradients(grad: Tensor, sizes: Tensor, log_omega: Tensor, m: Tensor, n: Tensor) -> tuple[Tensor, ...]:
    """Those of the reference's formula, of which second derivatives are taken."""

    def log_prob(sizes: Tensor, log_omega: Tensor) -> Tensor:
        return reference.mvhg_log_prob(sizes, log_omega, m, n, conditionals="merged")

    pull: Any = torch.func.vjp(log_prob, sizes.double(), log_omega.double())[1]
    grads: tuple[Tensor, ...] = pull(grad.double())
    return grads


def _merged_by_sizes(grad: Tensor, sizes: Tensor, log_omega: Tensor, m: Tensor, n: Tensor) -> Tensor:
    return _merged_gradients(grad, sizes, log_omega, m, n)[0].to(sizes.dtype)


def _merged_by_omega(grad: Tensor, sizes: Tensor, log_omega: Tensor, m: Tensor, n: Tensor) -> Tensor:
    return _merged_gradients(grad, sizes, log_omega, m, n)[1].to(log_omega.dtype)


_merged = differentiable("mvhg_log_prob_merged", _backward_merged, _setup_context_merged, fold(shared=(2, 3)))
register_vmap("mvhg_log_prob_merged_backward", fold(shared=(3, 4)))
