"""Plackett-Luce log-probability: the readable twin of `drpm.ops.plackett_luce_log_prob`."""

import torch
from torch import Tensor


def plackett_luce_log_prob(
    order: Tensor,  # (*, n) int64, or (*, n, n) floating point
    log_scores: Tensor,  # (*, n)
    *,
    lengths: Tensor | None = None,  # (*)
) -> Tensor:  # (*)
    """Log-probability of an ordering under the Plackett-Luce model.

    log p(pi; s) = sum_i [ log s_(i) - log sum_{j >= i} s_(j) ]            (thesis Eq. 2.63)

    with s_(i) the score of the element at position i.
    Args:
        order: (*, n) int64, order[i] is the element at position i; or a (relaxed) permutation matrix
            (*, n, n), for which log s_(i) is read as (pi log s)_i. At a permutation this equals the
            log (pi s)_i of thesis Eq. 2.64, and its gradient stays finite for any spread of the scores.
        log_scores: (*, n).
        lengths: (*) int64, how many of the n elements count, which the first ranks name.
    Returns: (*).
    Gradient: exact w.r.t. log_scores and, when it is a matrix, order.
    """
    counted = None
    if lengths is not None:
        counted = torch.arange(log_scores.shape[-1], device=log_scores.device) < lengths.unsqueeze(-1)
        log_scores = torch.where(counted, log_scores, 0.0)
        both = counted.unsqueeze(-1) & counted.unsqueeze(-2) if order.is_floating_point() else counted
        order = torch.where(both, order, 0)
    if order.is_floating_point():
        ordered = (order @ log_scores.unsqueeze(-1)).squeeze(-1)
    else:
        batch = torch.broadcast_shapes(order.shape[:-1], log_scores.shape[:-1])
        n = log_scores.shape[-1]
        ordered = log_scores.expand(*batch, n).gather(-1, order.expand(*batch, n))
    if counted is not None:
        nothing = torch.finfo(ordered.dtype).min / 4
        log_remaining = torch.where(counted, ordered, nothing).flip(-1).logcumsumexp(-1).flip(-1)
        return torch.where(counted, ordered - log_remaining, 0.0).sum(-1)
    log_remaining = ordered.flip(-1).logcumsumexp(-1)  # log of the scores not yet placed, last first
    return ordered.sum(-1) - log_remaining.sum(-1)
