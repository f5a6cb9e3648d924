"""Kullback-Leibler divergences that have no closed form, by Monte Carlo over exact log-probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import register_kl

from drpm.distributions.plackett_luce import PlackettLuce
from drpm.distributions.random_assignment import RandomAssignment
from drpm.distributions.random_partition import RandomPartition
from drpm.distributions.relaxed_random_assignment import RelaxedRandomAssignment
from drpm.distributions.relaxed_random_partition import RelaxedRandomPartition
from drpm.estimators import leave_one_out, partition_kl

SAMPLES = 64  # of torch.distributions.kl_divergence, which takes no further argument


def kl_monte_carlo(
    q: RandomPartition | RandomAssignment | PlackettLuce,
    p: RandomPartition | RandomAssignment | PlackettLuce,
    samples: int = SAMPLES,
) -> Tensor:  # (*)
    """Unbiased estimate of KL(q ‖ p), with an unbiased gradient to both.

        RandomPartition, RandomAssignment:  KL(q(n) ‖ p(n)) + E_q[log q(Y | n) − log p(Y | n)]
        PlackettLuce:                       E_q[log q(π) − log p(π)]

    The first term of the former is in closed form.

    The gradient is that of the closed form, the leave-one-out score function for q, and −∇ log p at the samples for p
    (log q at the samples has a zero-mean gradient, which is left out).

    Args:
        q, p: of one kind, over the same number of elements and subsets; batch shapes broadcast.
        samples: S >= 2 draws of q.
    Returns: (*); exactly 0 for equal parameters; +inf where q puts a subset above p's capacity.
    Raises: ValueError where q and p differ in kind or event shape, or samples < 2.
    """
    if type(q) is not type(p) and not (isinstance(q, type(p)) or isinstance(p, type(q))):
        raise ValueError(f"kl_monte_carlo: p must be of q's kind, got {type(p).__name__} for {type(q).__name__}")
    if q.event_shape != p.event_shape:
        raise ValueError(f"kl_monte_carlo: p must have event shape {tuple(q.event_shape)}, got {tuple(p.event_shape)}")
    batch = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    value = q.expand(batch).sample((samples,))
    if isinstance(q, PlackettLuce):
        log_q, log_p = q.log_prob(value), p.log_prob(value)
        return leave_one_out(log_q.detach() - log_p, log_q.expand_as(log_p))
    assert isinstance(p, (RandomPartition, RandomAssignment))
    if q.num_subsets != p.num_subsets:
        raise ValueError(f"kl_monte_carlo: p must have {q.num_subsets} subsets, got {p.num_subsets}")
    if q.m is p.m or (q.m is not None and p.m is not None and torch.equal(q.m, p.m)):
        by_subset = isinstance(q, RandomAssignment)
        parameters = q.log_omega, p.log_omega, q.log_scores, p.log_scores
        kl = partition_kl(value, *parameters, m=q.m, by_subset=by_subset)
        return kl.sizes + kl.order
    log_q, log_p = q.log_prob(value), p.log_prob(value)  # other capacities: no closed form of the size part
    return leave_one_out(log_q.detach() - log_p, log_q.expand_as(log_p))


@register_kl(RandomPartition, RandomPartition)
def _kl_random_partition(q: RandomPartition, p: RandomPartition) -> Tensor:
    return kl_monte_carlo(q, p)


@register_kl(RandomAssignment, RandomAssignment)
def _kl_random_assignment(q: RandomAssignment, p: RandomAssignment) -> Tensor:
    return kl_monte_carlo(q, p)


@register_kl(RelaxedRandomAssignment, RelaxedRandomAssignment)
def _kl_relaxed_random_assignment(q: RelaxedRandomAssignment, p: RelaxedRandomAssignment) -> Tensor:
    """That of the hard samples' law."""
    return kl_monte_carlo(q.discrete, p.discrete)


@register_kl(PlackettLuce, PlackettLuce)
def _kl_plackett_luce(q: PlackettLuce, p: PlackettLuce) -> Tensor:
    return kl_monte_carlo(q, p)


@register_kl(RelaxedRandomPartition, RelaxedRandomPartition)
def _kl_relaxed_random_partition(q: RelaxedRandomPartition, p: RelaxedRandomPartition) -> Tensor:
    """That of the hard samples' law."""
    return kl_monte_carlo(q.discrete, p.discrete)
