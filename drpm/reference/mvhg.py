"""Fisher's multivariate noncentral hypergeometric distribution (MVHG): the readable twins of `drpm.ops`.

p(n; omega) = (1 / P0) prod_k C(m_k, n_k) omega_k^{n_k},  sum_k n_k = n           (thesis Eq. 2.79)

Nothing here is fast: tables are built by plain convolutions in log-space, O(K n^2) per row.
Rows whose n lies outside [0, sum m] are NaN.
Numerics: float64 agrees with enumeration to 1e-13 at small sizes. Log-gamma differences lose digits as counts grow:
at K = 10, m = n = 256 the error is 4e-13 in log P0, 1e-11 in the mean, 1e-9 in the covariance (float32 log P0: 4e-4).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .mvhg_tables import (
    NEG_INF,
    Counts,
    expand_parameters,
    keep,
    log_factorial_ratio,
    log_outcome_weights,
    log_suffix_tables,
    lookup,
    max_count,
    safe_logsumexp,
)


def hypergeometric_log_weights(
    log_omega_left: Tensor,  # (*)
    log_omega_right: Tensor,  # (*)
    m_left: Counts,  # int or (*) int64
    m_right: Counts,  # int or (*) int64
    n: Counts,  # int or (*) int64, or (*) floating point
) -> Tensor:  # (*, max m_left + 1)
    """Unnormalised log PMF of Fisher's two-class noncentral hypergeometric distribution, x = 0..m_left.

    x log omega_L + (n - x) log omega_R + psi_F(x)                          (thesis Eq. 5.18)
    psi_F(x) = -log(Gamma(x + 1) Gamma(n - x + 1)) - log(Gamma(m_L - x + 1) Gamma(m_R - n + x + 1))
                                                                            (thesis Eq. 5.19)
    Args:
        log_omega_left, log_omega_right: (*), log importance of the two classes.
        m_left, m_right: (*), items of the two classes; >= 0.
        n: (*), items drawn. A floating-point n is differentiable (digamma); its support is that of the
            nearest whole number.
    Returns: (*, max m_left + 1), -inf outside max(0, n - m_R) <= x <= min(m_L, n).
    Gradient: exact; zero outside the support.
    """
    dtype, device = log_omega_left.dtype, log_omega_left.device
    m_left = torch.as_tensor(m_left, device=device)
    x = torch.arange(max_count(m_left) + 1, dtype=dtype, device=device)
    log_omega_left, log_omega_right = log_omega_left.unsqueeze(-1), log_omega_right.unsqueeze(-1)
    m_left = m_left.to(dtype).unsqueeze(-1)
    m_right = torch.as_tensor(m_right, device=device).to(dtype).unsqueeze(-1)
    n = torch.as_tensor(n, device=device).to(dtype).unsqueeze(-1)

    whole_n = n.detach().round()
    inside = (x >= whole_n - m_right) & (x <= m_left) & (x <= whole_n)
    n_right = keep(n - x, inside, 0.0)
    psi = log_factorial_ratio(m_left, torch.minimum(x, m_left)) + log_factorial_ratio(m_right, n_right)
    return keep(x * log_omega_left + n_right * log_omega_right + psi, inside, NEG_INF)


def merged_classes(log_omega: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """Merge classes (last dimension) into one: total count and log mean importance.

    m_R = sum_r m_r,  omega_R = sum_r omega_r m_r / m_R              (thesis Eq. 5.3, 5.5)
    An empty class (m_R = 0) gets log omega_R = 0; nothing can be drawn from it.
    """
    m_right = m.sum(-1)
    log_m = keep(m.clamp(min=1).to(log_omega.dtype).log(), m > 0, NEG_INF)
    log_total = safe_logsumexp(log_omega + log_m)
    log_omega_right = log_total - m_right.clamp(min=1).to(log_omega.dtype).log()
    return m_right, keep(log_omega_right, m_right > 0, 0.0)


class _LookupLogSuffix(torch.autograd.Function):
    """log G(rho) read from a table; d/d rho is the central log-difference of the table.

    1/2 [log G(rho + 1) - log G(rho - 1)], one-sided at the ends of the support of G (0 and the later
    classes' sum of m_l), 0 if it is one point.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rho: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(table, index)
        return lookup(table, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        table, index = ctx.saved_tensors
        here = lookup(table, index)
        up, down = lookup(table, index + 1), lookup(table, index - 1)
        rise = keep(up - here, up > NEG_INF, 0.0)
        fall = keep(here - down, down > NEG_INF, 0.0)
        both = (up > NEG_INF) & (down > NEG_INF)
        slope = torch.where(both, 0.5 * (rise + fall), rise + fall)
        inside = here > NEG_INF
        grad = keep(grad, inside, 0.0)
        grad_table = torch.zeros_like(table).scatter_add(-1, index.clamp(0, table.shape[-1] - 1), grad)
        return grad_table, grad * keep(slope, inside, 0.0), None


def _exact_conditionals(log_omega: Tensor, m: Tensor, n: Tensor) -> Callable[[int, Tensor], Tensor]:
    """Logits log C(m_k, x) + x log omega_k + log G_k(r - x) of class k when r items remain.

    G_k(rho) is the total weight of all ways in which the later classes make up rho.
    """
    log_weights = log_outcome_weights(log_omega, m)
    # one entry beyond n: the central difference at rho = n needs it
    log_later = log_suffix_tables(log_weights, max_count(n) + 2)
    x = torch.arange(log_weights.shape[-1], device=log_omega.device)

    def logits(k: int, remaining: Tensor) -> Tensor:
        rho = remaining.unsqueeze(-1) - x
        table = log_later[k + 1].expand(*remaining.shape, -1)
        log_suffix: Tensor = _LookupLogSuffix.apply(table, rho, rho.detach().round().long())
        return log_weights[..., k, :] + log_suffix

    return logits


def _merged_conditionals(log_omega: Tensor, m: Tensor) -> Callable[[int, Tensor], Tensor]:
    """Logits of Eq. 5.18 with the later classes merged into one by Eq. 5.2-5.5."""
    length = max_count(m) + 1

    def logits(k: int, remaining: Tensor) -> Tensor:
        m_right, log_omega_right = merged_classes(log_omega[..., k + 1 :], m[..., k + 1 :])
        weights = hypergeometric_log_weights(log_omega[..., k], log_omega_right, m[..., k], m_right, remaining)
        return torch.nn.functional.pad(weights, (0, length - weights.shape[-1]), value=NEG_INF)

    return logits


def mvhg_sample(
    log_omega: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K) int64
    n: Counts,  # int or (*) int64
    tau: float = 1.0,
    *,
    hard: bool = True,
    gumbel: Tensor | None = None,  # (*, K - 1 or K, max m + 1)
    conditionals: str = "exact",
    class_order: Sequence[int] | Tensor | None = None,  # (K,) or (*, K)
) -> Tensor:  # (*, K)
    """Draw subset sizes from the MVHG, class by class, with a straight-through gradient.

    p(n; omega) = prod_k p(n_k | n_1, ..., n_{k-1}; omega)                  (thesis Eq. 5.1)
    pi_k = softmax((l_k + g_k) / tau),  n_k = argmax(l_k + g_k)             (thesis Eq. 5.24, 5.25)
    r_{k+1} = r_k - n_k,  r_1 = n, and the last class takes what remains.
    Logits l_k(x; r_k): "merged": Eq. 5.18 with the later classes merged by Eq. 5.2-5.5, biased off the
    central case; "exact": log C(m_k, x) + x log omega_k + log G_k(r_k - x), where G_k(rho) is the total
    weight of all ways in which the later classes make up rho.

    Args:
        log_omega: (*, K), log importance of the classes.
        m, n: items per class, items drawn.
        tau: float > 0, temperature of the relaxation; it does not change the hard values.
        hard: whole numbers forward (the first index wins ties). False: the chain follows the hard values
            on the same noise, the returned n_k is sum_x x pi_k(x) and the last class's n minus the others;
            that one may leave [0, m_K]. Both have the same gradient, which is not that of a function of
            log_omega alone (the chain's indices jump): finite differences do not check it.
        gumbel: noise; gumbel[..., k, x] is added to outcome x of class k, where k is the index of the
            *class* (not its position in class_order). The row of the class drawn last is never read and
            may be missing when it is class K - 1. Leading dimensions broadcast: they are samples.
            None: no noise.
        class_order: permutation of the classes, first drawn first. None: 0..K-1.
    Returns: (*, K) in class order; rows sum to n.
    Gradient: w.r.t. log_omega, that of sum_x x pi_k(x), carried on through r_k (d l / d r: digamma for
        "merged", the central log-difference of G_k for "exact").
    """
    if conditionals not in ("exact", "merged"):
        raise ValueError(f"mvhg_sample: conditionals must be 'exact' or 'merged', got {conditionals!r}")
    classes, device = log_omega.shape[-1], log_omega.device
    order = torch.arange(classes, device=device) if class_order is None else torch.as_tensor(class_order, device=device)
    log_omega, m, n = expand_parameters(log_omega, m, n, order.shape[:-1])
    order = order.expand(m.shape)
    log_omega, m = log_omega.gather(-1, order), m.gather(-1, order)  # from here on by position
    exact = conditionals == "exact"
    logits_of = _exact_conditionals(log_omega, m, n) if exact else _merged_conditionals(log_omega, m)

    batch = n.shape if gumbel is None else torch.broadcast_shapes(n.shape, gumbel.shape[:-2])
    order = order.expand(*batch, -1)
    possible = ((n >= 0) & (n <= m.sum(-1))).expand(batch)
    whole = torch.where(possible, n, 0).to(log_omega.dtype)
    remaining = whole
    hard_sizes, soft_sizes = [], []
    for k in range(m.shape[-1] - 1):
        logits = logits_of(k, remaining)
        if gumbel is not None:
            logits = logits + _noise_of_class(gumbel, order[..., k])
        outcome = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
        soft = (outcome * torch.softmax(logits / tau, dim=-1)).sum(-1)
        soft_sizes.append(soft)
        hard_sizes.append(logits.argmax(-1).to(soft.dtype) + (soft - soft.detach()))
        remaining = remaining - hard_sizes[-1]
    by_position = [*hard_sizes, remaining] if hard else [*soft_sizes, whole - sum(soft_sizes)]
    sizes = torch.stack(by_position, dim=-1)
    sizes = keep(sizes, possible.unsqueeze(-1), float("nan"))
    return torch.zeros_like(sizes).scatter(-1, order, sizes)


def _noise_of_class(gumbel: Tensor, classes: Tensor) -> Tensor:
    """Row of the noise that belongs to the given class of each batch row: (*, K, X), (*) -> (*, X)."""
    gumbel = gumbel.expand(*classes.shape, *gumbel.shape[-2:])
    index = classes[..., None, None].expand(*classes.shape, 1, gumbel.shape[-1])
    return gumbel.gather(-2, index).squeeze(-2)


def mvhg_log_normalizer(log_omega: Tensor, m: Counts, n: Counts) -> Tensor:  # (*, K) -> (*)
    """Log of the normaliser: log P0 = log sum_{y in S} prod_k C(m_k, y_k) omega_k^{y_k}  (thesis Eq. 2.80).

    Gradient: exact w.r.t. log_omega (it is the mean).
    """
    log_omega, m, n = expand_parameters(log_omega, m, n)
    return log_normalizer_of_weights(log_outcome_weights(log_omega, m), m, n)


def log_normalizer_of_weights(log_weights: Tensor, m: Tensor, n: Tensor) -> Tensor:  # (*, K, X) -> (*)
    """log P0 as a function of the outcomes' log-weights."""
    total = log_suffix_tables(log_weights, max_count(n) + 1)[0]
    log_p0 = lookup(total, n.unsqueeze(-1)).squeeze(-1)
    return keep(log_p0, (n >= 0) & (n <= m.sum(-1)), float("nan"))


def mvhg_log_prob(
    sizes: Tensor,  # (*, K)
    log_omega: Tensor,  # (*, K)
    m: Counts,
    n: Counts,
    *,
    conditionals: str = "exact",
) -> Tensor:  # (*)
    """Log-probability of the subset sizes.

    "exact":  sum_k [log C(m_k, n_k) + n_k log omega_k] - log P0            (thesis Eq. 2.79)
    "merged": sum_{k<K} [l_k(n_k; r_k) - logsumexp_x l_k(x; r_k)],  r_k = n - n_1 - ... - n_{k-1}, the
        chain of `mvhg_sample` with merged conditionals in natural class order (thesis Eq. 5.1-5.5, 5.18).
    Args:
        sizes: (*, K), whole numbers or relaxed sizes.
    Returns: (*), -inf where sizes leave [0, m_k] or do not sum to n (up to rounding).
    Gradient: exact w.r.t. log_omega. W.r.t. sizes, "exact": log omega_k + digamma(m_k - n_k + 1) -
        digamma(n_k + 1); "merged": that of the formula (none for the last class). Zero where -inf.
    """
    if conditionals not in ("exact", "merged"):
        raise ValueError(f"mvhg_log_prob: conditionals must be 'exact' or 'merged', got {conditionals!r}")
    log_omega, m, n = expand_parameters(log_omega, m, n, sizes.shape[:-1])
    sizes = sizes.to(log_omega.dtype).expand(m.shape)
    dtype = log_omega.dtype
    inside = _in_support(sizes.detach(), m, n)
    earlier = m.cumsum(-1) - m
    some_sizes = torch.minimum((n.unsqueeze(-1) - earlier).clamp(min=0), m)  # a stand-in inside the support
    sizes = torch.where(inside.unsqueeze(-1), sizes, some_sizes.to(dtype))

    if conditionals == "exact":
        count = m.to(dtype)
        terms = torch.lgamma(count + 1) + log_factorial_ratio(count, sizes) + sizes * log_omega
        log_prob = terms.sum(-1) - mvhg_log_normalizer(log_omega, m, n)
    else:
        log_prob = _merged_log_prob(sizes, log_omega, m, n)
    possible = (n >= 0) & (n <= m.sum(-1))
    return keep(keep(log_prob, inside, NEG_INF), possible, float("nan"))


def _in_support(sizes: Tensor, m: Tensor, n: Tensor) -> Tensor:
    """Whether 0 <= n_k <= m_k and sum n_k = n, up to the rounding of relaxed sizes."""
    slack = 8 * sizes.shape[-1] * torch.finfo(sizes.dtype).eps * n.clamp(min=1).to(sizes.dtype)
    slack = slack.clamp(max=0.25)
    box = (sizes >= -slack.unsqueeze(-1)) & (sizes <= m + slack.unsqueeze(-1))
    return box.all(-1) & ((sizes.sum(-1) - n).abs() <= slack)


def _merged_log_prob(sizes: Tensor, log_omega: Tensor, m: Tensor, n: Tensor) -> Tensor:
    remaining = n.to(log_omega.dtype)
    log_prob = torch.zeros_like(remaining)
    for k in range(sizes.shape[-1] - 1):
        m_left, drawn = m[..., k], sizes[..., k]
        m_right, log_omega_right = merged_classes(log_omega[..., k + 1 :], m[..., k + 1 :])
        logits = hypergeometric_log_weights(log_omega[..., k], log_omega_right, m_left, m_right, remaining)
        left_over = remaining - drawn
        chosen = (
            drawn * log_omega[..., k]
            + left_over * log_omega_right
            + log_factorial_ratio(m_left.to(drawn.dtype), drawn)
            + log_factorial_ratio(m_right.to(drawn.dtype), left_over)
        )
        log_prob = log_prob + chosen - safe_logsumexp(logits)
        remaining = left_over
    return log_prob
