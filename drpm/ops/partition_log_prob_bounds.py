"""The thesis' bounds of the log-probability of a random partition."""

from __future__ import annotations

import torch
from torch import Tensor

from drpm.ops._arguments import (
    Counts,
    argument_error,
    as_dtype,
    broadcast_batch,
    check_floating,
    check_same_device,
    check_tensor,
    compute_dtype,
    is_readable,
    require,
    result_dtype,
)
from drpm.ops._lengths import ODDS_SPACING, pad_scores, row_capacities, row_lengths
from drpm.ops.mvhg_log_prob import mvhg_log_prob
from drpm.ops.plackett_luce_log_prob import plackett_luce_log_prob
from drpm.ops.random_partition_log_prob import partition_sizes

_OP = "partition_log_prob_bounds"


def partition_log_prob_bounds(
    labels: Tensor,  # (*, n) int64
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n)
    order: Tensor | None = None,  # (*, n) int64 or (*, n, n)
    sizes: Tensor | None = None,  # (*, K)
    *,
    m: Counts | None = None,  # int, (K,) or (*, K)
    lengths: Counts | None = None,  # int or (*)
) -> tuple[Tensor, Tensor]:  # (*), (*)
    """Lower and upper bound of `random_partition_log_prob`, for comparison and reproduction.

        lower = log p(n; ω) + log p(π; s)                                            (thesis Eq. 5.55)
        upper = Σ_k log n_k! + log p(n; ω) + max_π log p(π; s)                       (thesis Eq. 5.56, 5.54)

    At n = 256, K = 3 they are hundreds of nats apart; `random_partition_log_prob` is exact at a similar cost.

    Args:
        labels: (*, n) int64, the subset of each element, in [0, K).
        log_omega: (*, K) float, natural-log weights of the subsets. −inf: always empty.
        log_scores: (*, n) float, Plackett-Luce log-scores; finite.
        order: an order that fills the subsets as `labels` says, or a (relaxed) permutation matrix. None: by decreasing
            score within each subset, which is the best one.
        sizes: (*, K), possibly relaxed. None: those of `labels`.
        m: int, (K,) or (*, K) int64, capacity of each subset; >= 0, at least n together. None: n for each.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are ignored and get zero
            gradients; an order's first ranks name those that count.
    Returns: (lower, upper), each (*); both −inf where a subset exceeds its capacity.
    Gradient: w.r.t. log_omega, log_scores and relaxed `order` and `sizes` (the pathwise gradient of thesis Eq. 5.70).
    Numerics: those of `mvhg_log_prob` and `plackett_luce_log_prob`.
    Raises: ValueError for values out of range, an order that does not fill the subsets (CPU, eager), TypeError for
        wrong dtypes.
    Reference: T. Sutter, thesis, Lemma 5.2.3.
    """
    check_floating(_OP, "log_omega", log_omega)
    require(log_omega.dim() >= 1, _OP, "log_omega", "have at least one dimension (*, K)", "a scalar")
    check_floating(_OP, "log_scores", log_scores)
    require(log_scores.dim() >= 1, _OP, "log_scores", "have an element dimension", "a scalar")
    check_tensor(_OP, "labels", labels)
    if labels.dtype != torch.int64:
        raise TypeError(f"{_OP}: labels must be int64, got {labels.dtype}")
    for name, given in (("order", order), ("sizes", sizes)):
        if given is not None:
            check_tensor(_OP, name, given)
    check_same_device(_OP, log_scores, log_omega=log_omega, labels=labels, order=order, sizes=sizes)
    n, num_subsets = log_scores.shape[-1], log_omega.shape[-1]
    if labels.dim() < 1 or labels.shape[-1] != n:
        raise argument_error(_OP, "labels", f"be (*, {n})", tuple(labels.shape))
    relaxed = [x for x in (order, sizes) if x is not None and x.is_floating_point()]
    result, dtype = result_dtype(log_omega, log_scores, *relaxed), compute_dtype(log_omega, log_scores)
    log_omega, log_scores = as_dtype(log_omega, dtype), as_dtype(log_scores, dtype)
    drawn: Counts = n
    capacity: Counts = n
    mask, to_sort = None, log_scores.detach()
    if lengths is not None:
        drawn, mask = row_lengths(_OP, lengths, n, log_scores.device)
        capacity = row_capacities(drawn, num_subsets)
        labels = torch.where(mask, labels, num_subsets)  # those that do not count come last
        to_sort = pad_scores(to_sort, mask, ODDS_SPACING)
    if is_readable(labels):
        wrong = labels if mask is None else torch.where(mask, labels, 0)
        wrong = wrong[(wrong < 0) | (wrong >= num_subsets)]
        if wrong.numel():
            raise argument_error(_OP, "labels", f"be in [0, {num_subsets})", int(wrong[0]))
    by_score = to_sort.sort(dim=-1, descending=True, stable=True).indices
    if order is None:
        batch = broadcast_batch(_OP, labels=labels.shape[:-1], log_scores=by_score.shape[:-1])
        ranked, label = by_score.expand(*batch, n), labels.expand(*batch, n)
        order = ranked.gather(-1, label.gather(-1, ranked).sort(dim=-1, stable=True).indices)
    elif not order.is_floating_point() and is_readable(order) and is_readable(labels):
        batch = broadcast_batch(_OP, labels=labels.shape[:-1], order=order.shape[:-1])
        filled = labels.expand(*batch, n).gather(-1, order.expand(*batch, n).clamp(0, max(n - 1, 0)))
        if mask is not None:
            filled = torch.where(mask, filled, num_subsets)
        if bool((filled.diff(dim=-1) < 0).any()):
            raise argument_error(_OP, "order", "fill the subsets in turn, as labels says", "another order")
    if sizes is None:
        sizes = partition_sizes(labels, num_subsets, mask).to(log_omega.dtype)
    log_prob_sizes = mvhg_log_prob(sizes, log_omega, capacity if m is None else m, drawn)
    lower = log_prob_sizes + plackett_luce_log_prob(order, log_scores, lengths=lengths)
    log_num_orders = torch.lgamma(sizes + 1).sum(-1)
    upper = log_num_orders + log_prob_sizes + plackett_luce_log_prob(by_score, log_scores, lengths=lengths)
    return as_dtype(lower, result), as_dtype(upper, result)
