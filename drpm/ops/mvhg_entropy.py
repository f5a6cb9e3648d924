"""Entropy of the multivariate noncentral hypergeometric distribution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from drpm.ops._arguments import Counts, as_dtype
from drpm.ops._autograd import differentiable
from drpm.ops._mvhg_arguments import mvhg_arguments
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
        log_omega: (*, K) float, natural-log weights of the classes; finite.
        m: int, (K,) or (*, K) int64, items per class; >= 0.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
    Returns: (*) of log_omega's dtype, >= 0; NaN where device counts are invalid.
    Gradient: exact, −Cov(n, log p); once differentiable.
    Numerics: float64 inside, tables of the exact conditionals: time grows with K times the product of a class's and the
        later classes' standard deviations. Tested for counts up to 1e5, weights within ±80.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: docs/math/mvhg.md, section 5.
    """
    arguments = mvhg_arguments(_OP, log_omega, m, n)
    entropy, _ = _entropy(arguments.log_omega, arguments.m, arguments.n)
    return as_dtype(entropy.reshape(arguments.batch), log_omega.dtype)


@torch.library.register_fake("drpm::mvhg_entropy")
def _fake(log_omega: Tensor, m: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    return log_omega.new_empty(log_omega.shape[0]), torch.empty_like(log_omega)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


@once_differentiable
def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return None if grad is None else grad.unsqueeze(-1) * ctx.saved_tensors[0], None, None


_entropy = differentiable("mvhg_entropy", _backward, _setup_context, fold(shared=(1, 2)))
