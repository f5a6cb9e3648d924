"""Exact partition probabilities: the readable twins of `drpm.ops.partition_log_prob` and its kin.

p(Y; omega, s) = p(n; omega) sum_{pi in Pi_Y} p(pi; s)                       (thesis Eq. 5.53)

The sum over the n_1! ... n_K! orders is an integral. Give element i an exponential arrival time of rate s_i;
the order of arrival is Plackett-Luce. The next subset S_k is drawn before the rest, of total rate Z_k, iff
all of it has arrived when the first of the rest does:

    Pr[S_k before the rest] = int_0^inf Z_k e^{-Z_k t} prod_{i in S_k} (1 - e^{-s_i t}) dt
                            = int_{-inf}^{inf} e^{h(y)} dy,                y = log(Z_k t),
    h(y) = y - e^y + sum_{i in S_k} log(1 - exp(-e^{a_i + y})),            a_i = log s_i - log Z_k,

and by memorylessness the factors of the subsets multiply. The integrand is analytic and falls off on both
sides, so the plain trapezoid sum converges exponentially fast.
"""

import math

import torch
from torch import Tensor

from .mvhg import mvhg_log_prob
from .mvhg_tables import (
    NEG_INF,
    Counts,
    expand_parameters,
    keep,
    log_convolve,
    log_outcome_weights,
    log_suffix_tables,
    safe_logsumexp,
)
from .plackett_luce import plackett_luce_log_prob
from .relaxed_sort import sort_order

TAIL = 45.0  # e^-45 is below the rounding error of float64


def partition_sizes(labels: Tensor, num_subsets: int) -> Tensor:  # (*, n) -> (*, K) int64
    """Number of elements of every subset."""
    return (labels.unsqueeze(-2) == torch.arange(num_subsets, device=labels.device).unsqueeze(-1)).sum(-1)


def log_arrived(log_z: Tensor) -> Tensor:
    """log(1 - exp(-z)) from log z, finite for every finite log z."""
    tiny, large = log_z < -6, log_z > 0
    z = keep(log_z, ~tiny, 0.0).clamp(max=6.0).exp()  # e^6 = 403: nothing is left of exp(-z)
    by_log1p = torch.log1p(-keep(z, large, 1.0).neg().exp())
    by_expm1 = (-torch.expm1(-keep(z, ~large, 1.0))).log()
    small_z = keep(log_z, tiny, 0.0).exp()
    by_series = log_z - small_z / 2 + small_z**2 / 24 - small_z**4 / 2880
    return torch.where(tiny, by_series, torch.where(large, by_log1p, by_expm1))


def _trapezoid(size: int, like: Tensor) -> tuple[Tensor, float]:
    """Nodes and step that integrate e^h to rounding error for any subset of up to `size` elements.

    The mode of h lies in [0, log(1 + size)]; to its left h falls at least like y, to its right at least
    like e^{y_mode} - e^y + (y - y_mode) e^{y_mode}. The peak's width is at least (1 + size)^(-1/2).
    """
    step = min(0.2, 0.8 / math.sqrt(1 + size))
    right = math.log(1 + size + TAIL + 10 * math.sqrt(1 + size))
    count = math.ceil((TAIL + right) / step) + 1
    return torch.arange(count, dtype=like.dtype, device=like.device) * step - TAIL, step


def log_subset_first(log_scores: Tensor, member: Tensor, later: Tensor) -> Tensor:  # (*, n) each -> (*)
    """log Pr[all elements of `member` precede all of `later`]; 0 if either is empty."""
    y, step = _trapezoid(log_scores.shape[-1], log_scores)
    both = member.any(-1, keepdim=True) & later.any(-1, keepdim=True)
    log_rest = safe_logsumexp(keep(log_scores, later, NEG_INF))
    log_rest = keep(log_rest, both.squeeze(-1), 0.0)
    log_ratio = log_scores - log_rest.unsqueeze(-1)  # a_i
    arrived = log_arrived(log_ratio.unsqueeze(-2) + y.unsqueeze(-1))  # (*, nodes, n)
    h = y - y.exp() + keep(arrived, member.unsqueeze(-2), 0.0).sum(-1)
    return keep(h.logsumexp(-1) + math.log(step), both.squeeze(-1), 0.0)


def partition_log_prob(
    labels: Tensor,  # (*, n) int64
    log_scores: Tensor,  # (*, n)
    num_subsets: int,
    *,
    lengths: Tensor | None = None,  # (*)
) -> Tensor:  # (*)
    """Exact log-probability of a partition given its subset sizes.

    log p(Y | n; s) = log sum_{pi in Pi_Y} p(pi; s) = sum_k log Pr[S_k before S_{k+1}, ..., S_K]
                                                                        (thesis Eq. 5.53, the sum over pi)
    Args:
        labels: (*, n) int64, subset of every element, in 0..num_subsets - 1.
        log_scores: (*, n), Plackett-Luce log-scores.
        lengths: (*) int64, how many of the n elements count.
    Returns: (*).
    Gradient: exact w.r.t. log_scores (of the quadrature, whose error is below rounding).
    """
    if lengths is not None:
        counted = torch.arange(log_scores.shape[-1], device=log_scores.device) < lengths.unsqueeze(-1)
        labels, log_scores = torch.where(counted, labels, -1), torch.where(counted, log_scores, 0.0)
    log_prob = log_scores.new_zeros(torch.broadcast_shapes(labels.shape[:-1], log_scores.shape[:-1]))
    for k in range(num_subsets - 1):
        log_prob = log_prob + log_subset_first(log_scores, labels == k, labels > k)
    return log_prob


def random_partition_log_prob(
    labels: Tensor,  # (*, n) int64
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n)
    *,
    m: Counts | None = None,
    lengths: Tensor | None = None,  # (*)
) -> Tensor:  # (*)
    """Exact log-probability of a partition: log p(n; omega) + log p(Y | n; s)       (thesis Eq. 5.53).

    Args: as `random_partition`; labels as `partition_log_prob`.
    Gradient: exact w.r.t. log_omega and log_scores.
    """
    n, num_subsets = log_scores.shape[-1], log_omega.shape[-1]
    drawn: Counts = n
    if lengths is not None:
        labels, m, drawn = counted_labels(labels, m, lengths, num_subsets)
    sizes = partition_sizes(labels, num_subsets)
    log_prob_sizes = mvhg_log_prob(sizes, log_omega, n if m is None else m, drawn)
    return log_prob_sizes + partition_log_prob(labels, log_scores, num_subsets, lengths=lengths)


def counted_labels(
    labels: Tensor, m: Counts | None, lengths: Tensor, num_subsets: int
) -> tuple[Tensor, Counts, Tensor]:
    """Labels with -1 where an element does not count, capacities, and the number of those that do."""
    counted = torch.arange(labels.shape[-1], device=labels.device) < lengths.unsqueeze(-1)
    if m is None:
        m = lengths.unsqueeze(-1).expand(*lengths.shape, num_subsets)
    return torch.where(counted, labels, -1), m, lengths


def partition_log_prob_bounds(
    labels: Tensor,  # (*, n) int64
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n)
    order: Tensor | None = None,  # (*, n) int64 or (*, n, n)
    sizes: Tensor | None = None,  # (*, K)
    *,
    m: Counts | None = None,
    lengths: Tensor | None = None,  # (*)
) -> tuple[Tensor, Tensor]:  # (*), (*)
    """Bounds of log p(Y; omega, s) (thesis Lemma 5.2.3).

    lower = log p(n; omega) + log p(pi; s)                                   (thesis Eq. 5.55)
    upper = sum_k log n_k! + log p(n; omega) + max_pi log p(pi; s)           (thesis Eq. 5.56, 5.54)

    Args:
        order: an order that fills the subsets as `labels` says, or a (relaxed) permutation matrix. None: by
            decreasing score within each subset, the best such order.
        sizes: subset sizes, possibly relaxed. None: those of labels.
        m: capacities of the subsets. None: n for each.
        lengths: (*) int64, how many of the n elements count.
    Gradient: w.r.t. log_omega, log_scores and relaxed `order` and `sizes` (the pathwise gradient of
        thesis Eq. 5.70).
    """
    n, num_subsets = log_scores.shape[-1], log_omega.shape[-1]
    drawn: Counts = n
    to_sort = log_scores
    if lengths is not None:
        counted = torch.arange(n, device=labels.device) < lengths.unsqueeze(-1)
        labels, m, drawn = counted_labels(labels, m, lengths, num_subsets)
        to_sort = torch.where(counted, log_scores, NEG_INF)
    by_score = sort_order(to_sort)
    if order is None:
        labels, by_score = torch.broadcast_tensors(labels, by_score)
        labels = torch.where(labels < 0, num_subsets, labels)  # what does not count comes last
        order = by_score.gather(-1, labels.gather(-1, by_score).sort(dim=-1, stable=True).indices)
    if sizes is None:
        sizes = partition_sizes(labels, num_subsets).to(log_scores.dtype)
    log_prob_sizes = mvhg_log_prob(sizes, log_omega, n if m is None else m, drawn)
    lower = log_prob_sizes + plackett_luce_log_prob(order, log_scores, lengths=lengths)
    log_num_orders = torch.lgamma(sizes + 1).sum(-1)
    return lower, log_num_orders + log_prob_sizes + plackett_luce_log_prob(by_score, log_scores, lengths=lengths)


def rank_in_subset_prob(log_omega: Tensor, m: Counts, n: int) -> Tensor:  # (*, K) -> (*, K, n)
    """Probability that position r of the order (0-based) belongs to subset k: Pr[nu_{k-1} <= r < nu_k].

    Pr[nu_k = t] is proportional to F_k(t) G_k(n - t), the weights of the totals of the first k and of the
    later classes.
    """
    log_omega, m, _ = expand_parameters(log_omega, m, n)
    log_weights = log_outcome_weights(log_omega, m, n)
    log_later = log_suffix_tables(log_weights, n + 1)
    log_first = log_later[-1]  # nothing drawn yet
    log_p0 = log_later[0][..., n:]
    beyond = []  # Pr[nu_k > r], k = 1..K
    for k in range(log_omega.shape[-1]):
        log_first = log_convolve(log_weights[..., k, :], log_first)
        boundary = (log_first + log_later[k + 1].flip(-1) - log_p0).exp()  # Pr[nu_k = t], t = 0..n
        beyond.append(boundary.flip(-1).cumsum(-1).flip(-1)[..., 1:])
    inside = torch.stack(beyond, dim=-2)
    return torch.cat([inside[..., :1, :], inside.diff(dim=-2)], dim=-2)


def rank_prob(log_scores: Tensor, spread: float = 30.0) -> Tensor:  # (*, n) -> (*, n, n)
    """Probability that element i has rank r (0-based) under Plackett-Luce, [..., i, r].

    Pr[rank_i = r] = int_0^inf s_i e^{-s_i t} Pr[r of the others have arrived by t] dt; the count of arrivals
    is Poisson-binomial with probabilities 1 - e^{-s_l t}, by its characteristic function. The variable of
    integration is log t, at as many nodes as log-scores within `spread` of each other need.
    """
    x, n = log_scores.double(), log_scores.shape[-1]
    fixed = x.detach()
    top = fixed.amax(-1, keepdim=True)
    left, right = math.log(1e-17), math.log(40.0) + top - fixed.amin(-1, keepdim=True)
    nodes = math.ceil((math.log(40.0) + spread - left) / min(0.2, 0.8 / math.sqrt(n))) + 1
    step = (right - left) / (nodes - 1)
    log_t = left + step * torch.arange(nodes, dtype=x.dtype, device=x.device)  # (*, T)
    z = ((x - top).unsqueeze(-2) + log_t.unsqueeze(-1)).clamp(max=6.0).exp()  # s t; e^6: nothing is left
    waiting, arrived = (-z).exp(), -torch.expm1(-z)  # (*, T, n)
    size = n | 1  # odd: no theta = pi, where waiting + arrived e^{i theta} vanishes at one half
    theta = 2 * math.pi / size * torch.arange(size, dtype=x.dtype, device=x.device)
    log_each = torch.log(waiting.unsqueeze(-1) + arrived.unsqueeze(-1) * torch.complex(theta.cos(), theta.sin()))
    others = torch.exp(log_each.sum(-2, keepdim=True) - log_each)  # (*, T, n, size)
    transform = (others * (z * waiting * step.unsqueeze(-1)).unsqueeze(-1)).sum(-3)  # of the rank: (*, n, size)
    angle = theta.unsqueeze(-1) * torch.arange(n, dtype=x.dtype, device=x.device)  # (size, n)
    return ((transform.real @ angle.cos() + transform.imag @ angle.sin()) / size).to(log_scores.dtype)


def partition_marginals(
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n)
    *,
    m: Counts | None = None,
    spread: float | None = None,
) -> Tensor:  # (*, K, n)
    """Exact probability that element i belongs to subset k: sum_r Pr[rank_i = r] Pr[r in subset k].

    Time and memory O(nodes n^2): for n up to about a hundred.
    Args:
        spread: what to assume of the log-scores' range, instead of reading it; results are exact to rounding up to
            there, and no value is read, so that every transform of torch.func can trace it.
    Returns: (*, K, n); columns sum to one, row k to E n_k.
    Gradient: exact w.r.t. log_omega and log_scores.
    """
    n = log_scores.shape[-1]
    of_rank = rank_in_subset_prob(log_omega, n if m is None else m, n)
    if log_scores.numel() == 0:
        batch = torch.broadcast_shapes(of_rank.shape[:-2], log_scores.shape[:-1])
        return of_rank.expand(*batch, *of_rank.shape[-2:])
    if spread is None:
        fixed = log_scores.detach()
        spread = float((fixed.amax(-1) - fixed.amin(-1)).max())
    return of_rank @ rank_prob(log_scores, spread).mT


def partition_mode(log_omega: Tensor, log_scores: Tensor, *, m: Counts | None = None) -> Tensor:  # -> (*, n) int64
    """Labels of the most probable partition, argmax_Y p(Y; omega, s).

    Its subsets are intervals of the elements in order of decreasing score; a dynamic programme over the
    boundaries picks them. Time and memory O(n^3 nodes): for n up to about 50. Not differentiable.
    """
    n, num_subsets = log_scores.shape[-1], log_omega.shape[-1]
    with torch.no_grad():
        log_omega, counts, _ = expand_parameters(log_omega, n if m is None else m, n, log_scores.shape[:-1])
        batch = counts.shape[:-1]
        log_scores = log_scores.expand(*batch, n)
        order = sort_order(log_scores)
        sorted_scores = log_scores.gather(-1, order)
        position = torch.arange(n, device=log_scores.device)

        # interval[a, b]: elements a..b-1 precede elements b..n-1
        interval = log_scores.new_full((*batch, n + 1, n + 1), NEG_INF)
        for a in range(n + 1):
            for b in range(a, n + 1):
                member, later = (position >= a) & (position < b), position >= b
                interval[..., a, b] = log_subset_first(sorted_scores, member, later)

        log_weights = log_outcome_weights(log_omega, counts)
        pad = max(n + 1 - log_weights.shape[-1], 0)
        log_weights = torch.nn.functional.pad(log_weights, (0, pad), value=NEG_INF)
        size = torch.arange(n + 1, device=order.device) - torch.arange(n + 1, device=order.device).unsqueeze(-1)
        best = log_scores.new_full((*batch, n + 1), NEG_INF)  # by end of the last subset placed
        best[..., 0] = 0.0
        starts = []
        for k in range(num_subsets):
            weight = keep(log_weights[..., k, :][..., size.clamp(min=0)], size >= 0, NEG_INF)
            best, start = (best.unsqueeze(-1) + interval + weight).max(dim=-2)
            starts.append(start)

        by_position = order.new_zeros((*batch, n))
        end = torch.full((*batch, 1), n, device=order.device)
        for k in reversed(range(num_subsets)):
            start = starts[k].gather(-1, end)
            by_position = torch.where((position >= start) & (position < end), k, by_position)
            end = start
        return torch.zeros_like(order).scatter(-1, order, by_position)
