"""`partition_marginals` in plain torch ops, of which second derivatives are taken.

The formula of docs/math/partition_marginals.md without the kernel's shortcuts: the count of the others at every node by
its whole characteristic function, O(nodes n (n + K)) time and nodes · n² complex numbers of memory, some 150 n^2.5: for
n up to about a hundred. It reads no values, so that every transform of torch.func can trace it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drpm.reference.mvhg_tables import NEG_INF, keep, log_convolve, log_factorial_ratio, log_suffix_tables

_LEFT, _RIGHT = -39.0, math.log(40.0)  # where s t e^{-st} d log t has fallen below rounding, s = 1
_SPREAD = 30.0  # of the log-scores up to which the step is the one that integrates to rounding


def rank_in_subset(log_omega: Tensor, m: Tensor, n: int) -> Tensor:  # (B, K), (B, K) -> (B, K, n)
    """A_k(r) = Pr[ν_{k−1} <= r < ν_k]."""
    x = torch.arange(n + 1, dtype=log_omega.dtype, device=log_omega.device)
    count = m.to(log_omega.dtype).unsqueeze(-1)
    log_binomial = torch.lgamma(count + 1) + log_factorial_ratio(count, torch.minimum(x, count))
    log_weights = keep(log_binomial + x * log_omega.unsqueeze(-1), x <= count, NEG_INF)
    log_later = log_suffix_tables(log_weights, n + 1)
    log_first, log_p0 = log_later[-1], log_later[0][..., n:]
    beyond = []  # Pr[ν_k > r]
    for k in range(log_omega.shape[-1]):
        log_first = log_convolve(log_weights[..., k, :], log_first)
        boundary = (log_first + log_later[k + 1].flip(-1) - log_p0).exp()
        beyond.append(boundary.flip(-1).cumsum(-1).flip(-1)[..., 1:])
    inside = torch.stack(beyond, dim=-2)
    return torch.cat([inside[..., :1, :], inside.diff(dim=-2)], dim=-2)


def marginals(log_omega: Tensor, m: Tensor, log_scores: Tensor) -> Tensor:  # (B, K), (B, K), (B, n) -> (B, K, n)
    n = log_scores.shape[-1]
    of_rank = rank_in_subset(log_omega, m, n)
    fixed = log_scores.detach()
    top = fixed.amax(-1, keepdim=True)
    right = _RIGHT + top - fixed.amin(-1, keepdim=True)
    nodes = math.ceil((_RIGHT + _SPREAD - _LEFT) / min(0.2, 0.8 / math.sqrt(n))) + 1
    step = (right - _LEFT) / (nodes - 1)
    log_t = _LEFT + step * torch.arange(nodes, dtype=fixed.dtype, device=fixed.device)  # (B, T)
    z = ((log_scores - top).unsqueeze(-2) + log_t.unsqueeze(-1)).clamp(max=6.0).exp()  # s t; e^6: nothing is left
    waiting, arrived = (-z).exp(), -torch.expm1(-z)  # (B, T, n)
    size = n | 1  # odd: no θ = π, where waiting + arrived e^{iθ} vanishes at one half
    theta = 2 * math.pi / size * torch.arange(size, dtype=z.dtype, device=z.device)
    turn = torch.complex(theta.cos(), theta.sin())
    log_each = torch.log(waiting.unsqueeze(-1) + arrived.unsqueeze(-1) * turn)  # (B, T, n, size)
    others = torch.exp(log_each.sum(-2, keepdim=True) - log_each)
    angle = -theta * torch.arange(n, dtype=z.dtype, device=z.device).unsqueeze(-1)  # (n, size)
    real, imaginary = (of_rank @ part for part in (angle.cos(), angle.sin()))  # (B, K, size), the transform of A_k
    expected = others.real @ real.mT.unsqueeze(-3) - others.imag @ imaginary.mT.unsqueeze(-3)  # (B, T, n, K)
    density = z * waiting * step.unsqueeze(-1)  # (B, T, n)
    return (density.unsqueeze(-1) * expected).sum(-3).mT / size
