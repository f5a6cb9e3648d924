"""Gradients of expectations over random partitions, E[f(Y)]: straight-through, score function, exact marginals; the KL.

Which to use for what, with measured bias and variance: docs/estimators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from drpm.ops import (
    assignment_log_prob,
    mvhg_kl,
    mvhg_log_prob,
    partition_log_prob,
    partition_marginals,
    plackett_luce_log_prob,
    random_assignment,
    random_assignment_log_prob,
    random_partition,
    random_partition_log_prob,
)
from drpm.ops._arguments import Counts, argument_error, check_floating, check_tensor
from drpm.ops._tau import Tau
from drpm.ops.random_partition_log_prob import partition_sizes

__all__ = ["METHODS", "PartitionKL", "expectation", "leave_one_out", "partition_kl", "partition_kl_bound"]

METHODS = ("marginals", "score", "straight-through")  # what `expectation` knows


def leave_one_out(
    values: Tensor,  # (S, *)
    log_prob: Tensor,  # (S, *)
) -> Tensor:  # (*)
    """Mean of the values whose gradient is the score-function estimate with leave-one-out baselines.

        ∇ ≈ 1/S Σ_s [(f_s − mean of the others) ∇ log p(Y_s) + ∇ f_s]

    Unbiased for E[f(Y)] where the S samples are independent draws of p.

    Args:
        values: (S, *) f at each sample; its own gradient (to parameters of f) is kept.
        log_prob: (S, *) log-probability of each sample, differentiable in the parameters of p.
    Returns: (*), the mean of the values.
    Raises: ValueError for fewer than 2 samples or shapes that differ.
    Reference: Kool et al., Buy 4 REINFORCE samples, get a baseline for free, 2019.
    """
    check_tensor("leave_one_out", "values", values)
    check_tensor("leave_one_out", "log_prob", log_prob)
    if values.shape != log_prob.shape or values.dim() < 1 or values.shape[0] < 2:
        raise ValueError(
            "leave_one_out: values must be (S, *) with S >= 2 as log_prob is, "
            f"got {tuple(values.shape)} and {tuple(log_prob.shape)}"
        )
    samples = values.shape[0]
    fixed = values.detach()
    advantage = (fixed - fixed.mean(0)) * (samples / (samples - 1))  # f_s minus the mean of the others
    surrogate = (advantage * log_prob).mean(0)
    return values.mean(0) + surrogate - surrogate.detach()


class PartitionKL(NamedTuple):
    """The two terms of a KL divergence between random partition models; their sum is KL(q ‖ p)."""

    sizes: Tensor  # (*) KL(q(n) ‖ p(n)), closed form
    order: Tensor  # (*) E_q[log q(Y | n) − log p(Y | n)], estimated


torch.serialization.add_safe_globals([PartitionKL])  # torch.load(weights_only=True) takes it


def partition_kl(
    labels: Tensor,  # (S, *, n) int64
    log_omega_q: Tensor,  # (*, K)
    log_omega_p: Tensor,  # (*, K)
    log_scores_q: Tensor,  # (*, n) or (*, K, n)
    log_scores_p: Tensor,  # (*, n) or (*, K, n)
    *,
    m: Counts | None = None,
    by_subset: bool = False,
) -> PartitionKL:
    """Both terms of KL(q ‖ p) between two random partition models, from draws of q, with unbiased gradients.

        KL(q ‖ p) = KL(q(n) ‖ p(n)) + E_q[log q(Y | n) − log p(Y | n)]

    Args:
        labels: (S, *, n) int64, S >= 2 independent draws of q.
        log_omega_q, log_omega_p: (*, K) float, natural-log weights of the subsets.
        log_scores_q, log_scores_p: (*, n) float, Plackett-Luce log-scores; (*, K, n) with by_subset.
        m: capacity of each subset, of both. None: n for each.
        by_subset: a row of scores for each subset: q and p are laws of `random_assignment`.
    Returns: PartitionKL; exactly 0 where q and p are equal.
    Gradient: of `sizes`, exact; of `order`, the leave-one-out score function of the whole log q(Y) for q (log q(Y | n)
        at the draws has a zero-mean gradient, which is left out), −∇ log p(Y | n) at the draws for p.
    """
    check_tensor("partition_kl", "labels", labels)
    for name, weights in (("log_omega_q", log_omega_q), ("log_omega_p", log_omega_p)):
        check_floating("partition_kl", name, weights)
    num_subsets, n = log_omega_q.shape[-1], labels.shape[-1]
    m = n if m is None else m
    if by_subset:
        log_q, log_p = (assignment_log_prob(labels, scores) for scores in (log_scores_q, log_scores_p))
    else:
        log_q, log_p = (partition_log_prob(labels, scores, num_subsets) for scores in (log_scores_q, log_scores_p))
    score = log_q + mvhg_log_prob(partition_sizes(labels, num_subsets), log_omega_q, m, n)
    ratio = log_q.detach() - log_p
    order = leave_one_out(*torch.broadcast_tensors(ratio, score))
    return PartitionKL(mvhg_kl(log_omega_q, log_omega_p, m, n), order)


def partition_kl_bound(
    sizes: Tensor,  # (*, K)
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n)
    *,
    conditionals: str = "exact",
) -> PartitionKL:
    """The thesis' upper bound on KL(q ‖ p) for the uniform prior p (all ω_k = 1, all s_i = 1), both of its terms.

        sizes: log |Π_Y| + log q(n; ω) − log p(n),  |Π_Y| = Π_k n_k!              (thesis Eq. 5.70)
        order: max_π log q(π; s) + log n!                                        (thesis Eq. 5.71)

    Args:
        sizes: (*, K), drawn from q; may be relaxed.
        log_omega: (*, K) float, natural-log weights of the subsets; every capacity is n.
        log_scores: (*, n) float, Plackett-Luce log-scores.
        conditionals: "exact" or "merged", as `mvhg_log_prob` takes it.
    Returns: PartitionKL; `order` does not depend on the draw.
    Gradient: w.r.t. log_omega, log_scores and, pathwise, relaxed or straight-through `sizes`.
    Reference: T. Sutter, thesis, Lemma 5.2.3.
    """
    check_tensor("partition_kl_bound", "sizes", sizes)
    check_floating("partition_kl_bound", "log_omega", log_omega)
    check_floating("partition_kl_bound", "log_scores", log_scores)
    n = log_scores.shape[-1]
    log_permutations = torch.lgamma(sizes + 1.0).sum(-1)
    log_q = mvhg_log_prob(sizes, log_omega, n, n, conditionals=conditionals)
    log_p = mvhg_log_prob(sizes, torch.zeros_like(log_omega), n, n, conditionals=conditionals)
    # The most probable order is the sorted one; under equal scores every order has the probability 1 / n!.
    best = log_scores.detach().argsort(dim=-1, descending=True, stable=True)
    order = plackett_luce_log_prob(best, log_scores) + math.lgamma(n + 1.0)
    return PartitionKL(log_permutations + log_q - log_p, order)


def expectation(
    f: Callable[[Tensor], Tensor],
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n) or (*, K, n)
    *,
    method: str = "score",
    samples: int = 8,
    tau: Tau = 1.0,
    m: Counts | None = None,
    by_subset: bool = False,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
) -> Tensor:  # (*)
    """E[f(Y)] over random partitions, differentiable in log_omega, log_scores and the parameters of f.

    Args:
        f: maps assignments (S, *, K, n) to (S, *), a number for each; "marginals" calls it with S = 1.
        log_omega: (*, K) float, natural-log weights of the subsets.
        log_scores: (*, n) float, Plackett-Luce log-scores; (*, K, n) with by_subset.
        method: "score": unbiased, for any f, needs no gradient of f by the assignment;
            "straight-through": hard samples with the relaxation's gradient: biased, f must be differentiable;
            "marginals": f at the exact marginals: exact where f is linear (affine) in the assignment, and only then.
        samples: S, number of draws; unused by "marginals".
        tau: float > 0, temperature of "straight-through".
        m: int, (K,) or (*, K) int64, capacity of each subset. None: n for each.
        by_subset: a row of scores for each subset, the law of `random_assignment`, which has no marginals.
        generator, seed: where the noise comes from; at most one of the two.
    Returns: (*), the estimate.
    Gradient: as `method` says.
    Raises: ValueError for an unknown method, no sample (fewer than 2 for "score"), or an f of another shape; TypeError
        where f gives no tensor.
    """
    if method not in METHODS:
        raise ValueError(f"expectation: method must be one of {METHODS}, got {method!r}")
    if by_subset and method == "marginals":
        raise argument_error("expectation", "method", "be 'score' or 'straight-through' with by_subset", repr(method))
    draw = random_assignment if by_subset else random_partition

    def evaluated(assignments: Tensor) -> Tensor:  # (S, *, K, n) -> (S, *)
        values, wanted = f(assignments), assignments.shape[:-2]
        if not isinstance(values, Tensor):
            raise TypeError(f"expectation: f must give a tensor, got {type(values).__name__}")
        if values.shape != wanted:
            contract = f"map assignments {tuple(assignments.shape)} to {tuple(wanted)}"
            raise argument_error("expectation", "f", contract, tuple(values.shape))
        return values

    if method == "marginals":
        return evaluated(partition_marginals(log_omega, log_scores, m=m).unsqueeze(0)).squeeze(0)
    fewest = 2 if method == "score" else 1
    if samples < fewest:
        raise ValueError(f"expectation: samples must be >= {fewest} for method {method!r}, got {samples}")
    if method == "straight-through":
        drawn = draw(log_omega, log_scores, tau, m=m, sample_shape=(samples,), generator=generator, seed=seed)
        return evaluated(drawn.assignment).mean(0)
    with torch.no_grad():
        drawn = draw(log_omega, log_scores, m=m, sample_shape=(samples,), generator=generator, seed=seed)
    law = random_assignment_log_prob if by_subset else random_partition_log_prob
    log_prob = law(drawn.labels, log_omega, log_scores, m=m)
    return leave_one_out(evaluated(drawn.assignment), log_prob)
