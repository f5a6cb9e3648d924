"""Exactly k of n elements, the conditional Bernoulli law: the readable twins of `drpm.ops.k_subset_*`.

p(S) = Π_{i ∈ S} exp(l_i) / P0,  |S| = k
Tables by the recurrence over elements, in log-space: O(n k) time and memory per row.
"""

import torch
from torch import Tensor

from .mvhg_tables import NEG_INF, safe_logsumexp


def _log_suffix_sums(log_weights: Tensor, k: int) -> Tensor:  # (*, n) -> (n + 1, *, k + 1)
    """log e_j of the elements from i on, the elementary symmetric polynomials of the weights:

    e_j(i) = e_j(i + 1) + exp(l_i) e_{j−1}(i + 1)
    """
    start = torch.full((*log_weights.shape[:-1], k + 1), NEG_INF, dtype=log_weights.dtype, device=log_weights.device)
    start[..., 0] = 0
    tables = [start]
    for i in reversed(range(log_weights.shape[-1])):
        later = tables[-1]
        taken = later[..., :-1] + log_weights[..., i : i + 1]
        tables.append(torch.cat([later[..., :1], safe_logsumexp(torch.stack([later[..., 1:], taken], -1))], -1))
    return torch.stack(tables[::-1])


def k_subset_log_normalizer(log_weights: Tensor, k: int) -> Tensor:  # (*, n) -> (*)
    """log P0 = log Σ_{|R| = k} Π_{i ∈ R} exp(l_i)."""
    return _log_suffix_sums(log_weights, k)[0, ..., k]


def k_subset_log_prob(mask: Tensor, log_weights: Tensor, k: int) -> Tensor:  # (*, n), (*, n) -> (*)
    """log p(S) = Σ_{i ∈ S} l_i − log P0; −inf where the mask does not hold k elements."""
    weight = torch.where(mask.bool(), log_weights, 0.0).sum(-1)
    log_prob = weight - k_subset_log_normalizer(log_weights, k)
    return torch.where(mask.bool().sum(-1) == k, log_prob, NEG_INF)


def k_subset_marginals(log_weights: Tensor, k: int) -> Tensor:  # (*, n)
    """Pr[i ∈ S] = exp(l_i) P0(without i, k − 1) / P0."""
    n = log_weights.shape[-1]
    if k == 0:
        return torch.zeros_like(log_weights)
    total = k_subset_log_normalizer(log_weights, k)
    columns = []
    for i in range(n):
        others = torch.cat([log_weights[..., :i], log_weights[..., i + 1 :]], -1)
        columns.append(log_weights[..., i] + k_subset_log_normalizer(others, k - 1) - total)
    return torch.stack(columns, -1).exp()


def k_subset_entropy(log_weights: Tensor, k: int) -> Tensor:  # (*)
    """H = log P0 − Σ_i l_i Pr[i ∈ S]."""
    mean = k_subset_marginals(log_weights, k)
    return k_subset_log_normalizer(log_weights, k) - (log_weights * mean).sum(-1)


def k_subset_draw(log_weights: Tensor, k: int, uniforms: Tensor) -> Tensor:  # (*, n), (*, n) -> (*, n) bool
    """The chain along the elements on given uniforms.

    Element i is taken, where r are still to be, with probability exp(l_i) e_{r−1}(i + 1) / e_r(i).
    """
    tables = _log_suffix_sums(log_weights, k)
    batch = torch.broadcast_shapes(log_weights.shape, uniforms.shape)[:-1]
    left = torch.full((*batch, 1), k, device=log_weights.device)
    taken = []
    for i in range(log_weights.shape[-1]):
        later = tables[i + 1].expand(*batch, k + 1).gather(-1, (left - 1).clamp(min=0))
        here = tables[i].expand(*batch, k + 1).gather(-1, left)
        probability = (log_weights[..., i : i + 1] + later - here).exp()
        take = (left > 0) & (uniforms[..., i : i + 1] < probability)
        taken.append(take)
        left = left - take.to(left.dtype)
    return torch.cat(taken, -1)


def k_subset_sample(log_weights: Tensor, k: int, uniforms: Tensor) -> Tensor:  # (*, n), (*, n) -> (*, n)
    """`k_subset_draw` with the gradient of the marginals (SIMPLE)."""
    hard = k_subset_draw(log_weights.detach(), k, uniforms).to(log_weights.dtype)
    mean = k_subset_marginals(log_weights, k)
    return hard + mean - mean.detach()
