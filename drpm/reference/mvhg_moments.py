"""Moments, entropy and divergence of the MVHG: the readable twins of `drpm.ops.mvhg_mean` and its kin.

log P0 (thesis Eq. 2.80) generates everything: with w_k(x) = C(m_k, x) omega_k^x the weight of outcome x,
    d log P0 / d log omega_k = E n_k,   d^2 log P0 / d log omega_k d log omega_l = Cov(n_k, n_l),
    d log P0 / d log w_k(x) = Pr[n_k = x].
Every function is differentiable by autograd, again through these derivatives.
"""

import torch
from torch import Tensor

from .mvhg import log_normalizer_of_weights, mvhg_log_normalizer
from .mvhg_tables import Counts, expand_parameters, keep, log_outcome_weights


def _derivative(value: Tensor, argument: Tensor) -> Tensor:
    """Row-wise derivative of `value` (*) w.r.t. `argument` (*, ...), itself differentiable."""
    return torch.autograd.grad(value.sum(), argument, create_graph=True)[0]


def _as_node(argument: Tensor) -> Tensor:
    """The same values as a node of the graph that derivatives can be taken at."""
    return argument.clone() if argument.requires_grad else argument.detach().requires_grad_()


def _finish(result: Tensor, m: Tensor, n: Tensor, differentiable: bool) -> Tensor:
    """NaN for impossible n, and no graph where the caller asked for none."""
    possible = ((n >= 0) & (n <= m.sum(-1))).reshape(*n.shape, *[1] * (result.dim() - n.dim()))
    result = keep(result, possible, float("nan"))
    return result if differentiable and torch.is_grad_enabled() else result.detach()


def mvhg_mean(log_omega: Tensor, m: Counts, n: Counts) -> Tensor:  # (*, K) -> (*, K)
    """Mean of the subset sizes: E n_k = d log P0 / d log omega_k.

    Gradient: exact; its Jacobian is the covariance.
    """
    parameter, m, n = expand_parameters(log_omega, m, n)
    with torch.enable_grad():
        node = _as_node(parameter)
        mean = _derivative(mvhg_log_normalizer(node, m, n), node)
    return _finish(mean, m, n, log_omega.requires_grad)


def mvhg_covariance(log_omega: Tensor, m: Counts, n: Counts) -> Tensor:  # (*, K) -> (*, K, K)
    """Covariance of the subset sizes: the Hessian of log P0 in log omega.

    Where nearly all of the mass is in one place, E n_k n_l - E n_k E n_l would lose its digits. It is the Hessian of
    log P0 - sum_k c_k log omega_k as well, with c the rounded mean: of outcomes counted from c.

    Gradient: exact (third cumulants).
    """
    parameter, m, n = expand_parameters(log_omega, m, n)
    with torch.enable_grad():
        node = _as_node(parameter)
        centre = mvhg_mean(parameter, m, n).detach().round().nan_to_num()
        plain = log_outcome_weights(torch.zeros_like(parameter), m)
        from_centre = torch.arange(plain.shape[-1], dtype=node.dtype, device=node.device) - centre.unsqueeze(-1)
        weights = plain + from_centre * node.unsqueeze(-1)
        mean = _derivative(log_normalizer_of_weights(weights, m, n), node)
        covariance = torch.stack([_derivative(mean[..., k], node) for k in range(mean.shape[-1])], dim=-2)
    return _finish(covariance, m, n, log_omega.requires_grad)


def mvhg_size_marginals(log_omega: Tensor, m: Counts, n: Counts) -> Tensor:  # (*, K) -> (*, K, max m + 1)
    """Marginal distribution of every subset size: Pr[n_k = x] = d log P0 / d log w_k(x)."""
    parameter, m, n = expand_parameters(log_omega, m, n)
    with torch.enable_grad():
        log_weights = _as_node(log_outcome_weights(parameter, m))
        marginals = _derivative(log_normalizer_of_weights(log_weights, m, n), log_weights)
    return _finish(marginals, m, n, log_omega.requires_grad)


def mvhg_entropy(log_omega: Tensor, m: Counts, n: Counts) -> Tensor:  # (*, K) -> (*)
    """Entropy H = -E log p(n; omega) = log P0 - sum_k sum_x Pr[n_k = x] log w_k(x).

    Gradient: exact w.r.t. log_omega.
    """
    log_omega, m, n = expand_parameters(log_omega, m, n)
    log_weights = log_outcome_weights(log_omega, m)
    log_weights = keep(log_weights, log_weights.isfinite(), 0.0)  # impossible outcomes have probability 0
    expected = (mvhg_size_marginals(log_omega, m, n) * log_weights).sum((-1, -2))
    return mvhg_log_normalizer(log_omega, m, n) - expected


def mvhg_kl(log_omega_q: Tensor, log_omega_p: Tensor, m: Counts, n: Counts) -> Tensor:  # (*, K), (*, K) -> (*)
    """Kullback-Leibler divergence KL(q || p) = sum_k E_q[n_k] (log omega_q - log omega_p)_k
    - log P0(omega_q) + log P0(omega_p).

    Gradient: exact w.r.t. both parameters: Cov_q Delta, and E_p n - E_q n.
    """
    difference = log_omega_q - log_omega_p
    expected = (mvhg_mean(log_omega_q, m, n) * difference).sum(-1)
    return expected - mvhg_log_normalizer(log_omega_q, m, n) + mvhg_log_normalizer(log_omega_p, m, n)
