"""Log-space tables of the MVHG: weights of outcomes, and of the total drawn from the later classes.

Plain convolutions, O(K n^2) per row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Counts = int | Sequence[int] | Tensor
"""Whole numbers: a Python int, a sequence of them, or an int64 tensor."""

NEG_INF = float("-inf")


def max_count(counts: Tensor) -> int:
    """Largest count, 0 for an empty batch."""
    return max(int(counts.max()), 0) if counts.numel() else 0


def expand_parameters(
    log_omega: Tensor, m: Counts, n: Counts, batch: Sequence[int] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    """Broadcast the parameters: log_omega (*, K), m (*, K) int64, n (*) int64. A class of weight zero becomes one
    without items."""
    m = torch.as_tensor(m, dtype=torch.int64, device=log_omega.device)
    n = torch.as_tensor(n, dtype=torch.int64, device=log_omega.device)
    batch = torch.broadcast_shapes(log_omega.shape[:-1], m.shape[:-1], n.shape, batch)
    num_classes = log_omega.shape[-1]
    log_omega, m = log_omega.expand(*batch, num_classes), m.expand(*batch, num_classes)
    never = log_omega == NEG_INF
    return torch.where(never, 0.0, log_omega), torch.where(never, 0, m), n.expand(batch)


def keep(values: Tensor, mask: Tensor, other: float) -> Tensor:
    """`values` where mask, else `other`; no gradient flows to the masked entries."""
    return torch.where(mask, values, torch.full((), other, dtype=values.dtype, device=values.device))


def safe_logsumexp(values: Tensor, dim: int = -1) -> Tensor:
    """logsumexp whose gradient is zero, not NaN, where every entry is -inf."""
    possible = (values > NEG_INF).any(dim, keepdim=True)
    return keep(keep(values, possible, 0.0).logsumexp(dim), possible.squeeze(dim), NEG_INF)


def log_factorial_ratio(m: Tensor, x: Tensor) -> Tensor:
    """-log(Gamma(x + 1) Gamma(m - x + 1)); both arguments may be real."""
    return -torch.lgamma(x + 1) - torch.lgamma(m - x + 1)


def log_outcome_weights(log_omega: Tensor, m: Tensor, largest: int | None = None) -> Tensor:
    """log [C(m_k, x) omega_k^x] for x = 0..largest: (*, K) -> (*, K, largest + 1), -inf for x > m_k; largest: max m."""
    x = torch.arange((max_count(m) if largest is None else largest) + 1, dtype=log_omega.dtype, device=log_omega.device)
    count = m.to(log_omega.dtype).unsqueeze(-1)
    inside = x <= count
    log_binomial = torch.lgamma(count + 1) + log_factorial_ratio(count, torch.minimum(x, count))
    return keep(log_binomial + x * log_omega.unsqueeze(-1), inside, NEG_INF)


def log_convolve(log_f: Tensor, log_g: Tensor) -> Tensor:
    """log sum_x f(x) g(rho - x): (*, X), (*, R) -> (*, R)."""
    x = torch.arange(log_f.shape[-1], device=log_f.device)
    rho = torch.arange(log_g.shape[-1], device=log_f.device)
    rest = rho.unsqueeze(-1) - x  # (R, X)
    terms = log_f.unsqueeze(-2) + log_g[..., rest.clamp(min=0)]
    return safe_logsumexp(keep(terms, rest >= 0, NEG_INF))


def log_suffix_tables(log_weights: Tensor, length: int) -> list[Tensor]:
    """log G_k(rho), rho < length, for k = 0..K: weight of all ways in which classes k, k+1, ... total rho.

    G_K = 1[rho = 0],  G_k(rho) = sum_x C(m_k, x) omega_k^x G_{k+1}(rho - x). With k = 0 and rho = n this
    is P0 (thesis Eq. 2.80).
    """
    num_classes = log_weights.shape[-2]
    none_left = log_weights.new_full((*log_weights.shape[:-2], length), NEG_INF)
    none_left[..., 0] = 0.0
    tables = [none_left]
    for k in reversed(range(num_classes)):
        tables.insert(0, log_convolve(log_weights[..., k, :], tables[0]))
    return tables


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """table[..., index], -inf outside the table."""
    inside = (index >= 0) & (index < table.shape[-1])
    return keep(table.gather(-1, index.clamp(0, table.shape[-1] - 1)), inside, NEG_INF)
