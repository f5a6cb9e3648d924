"""Relaxed random partitions, with a pathwise gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from drpm.distributions.constraints import assignment, relaxed_assignment, weights_vector
from drpm.distributions.random_partition import RandomPartition, partition_arguments
from drpm.ops import random_partition
from drpm.ops._arguments import Counts
from drpm.ops._tau import Tau, check_tau
from drpm.ops.random_partition import Partition


class RelaxedRandomPartition(Distribution):
    """Assignments of a random partition that carry a gradient to both its weights and its scores.

    Args:
        tau: float > 0, temperature of sizes, order and boundaries; no gradient.
        log_omega: (*, K) float, natural-log weights of the subsets.
        log_scores: (*, n) float, Plackett-Luce log-scores.
        hard: straight-through samples: one-hot columns, exact draws of RandomPartition, with the relaxation's gradient.
            False: relaxed assignments, which have no density: `log_prob` then raises ValueError.
        m: int, (K,) or (*, K) int64, capacity of each subset. None: n for each.
    Values: (*, K, n) assignments.
    Gradient: of `rsample`, that of the relaxation (biased for expectations of the discrete law: docs/estimators.md); of
        `log_prob`, exact w.r.t. log_omega and log_scores.
    Reference: T. Sutter, thesis, Section 5.2.1.2.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "log_omega": weights_vector,
        "log_scores": constraints.real_vector,
    }
    has_rsample = True

    def __init__(
        self,
        tau: Tau,
        log_omega: Tensor,
        log_scores: Tensor,
        *,
        hard: bool = True,
        m: Counts | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.tau = check_tau("RelaxedRandomPartition", tau)
        self.hard = hard
        parameters = partition_arguments("RelaxedRandomPartition", log_omega, log_scores, m)
        self.log_omega, self.log_scores, self.m, batch = parameters
        event = torch.Size((log_omega.shape[-1], log_scores.shape[-1]))
        super().__init__(batch, event, validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> RelaxedRandomPartition:
        new: RelaxedRandomPartition = self._get_checked_instance(RelaxedRandomPartition, _instance)
        batch_shape = torch.Size(batch_shape)
        new.tau, new.hard = self.tau, self.hard
        new.log_omega = self.log_omega.expand(*batch_shape, -1)
        new.log_scores = self.log_scores.expand(*batch_shape, -1)
        new.m = None if self.m is None else self.m.expand(*batch_shape, -1)
        super(RelaxedRandomPartition, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=False, event_dim=2)
    def support(self) -> constraints.Constraint:
        return assignment if self.hard else relaxed_assignment

    def rsample_partition(self, sample_shape: Any = ()) -> Partition:
        """A draw with its sizes, order and labels beside the assignment."""
        return random_partition(
            self.log_omega, self.log_scores, self.tau, m=self.m, hard=self.hard, sample_shape=sample_shape
        )

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample_partition(sample_shape).assignment

    def log_prob(self, value: Tensor) -> Tensor:
        """Exact log-probability of a one-hot assignment, that of its labels under RandomPartition."""
        if self._validate_args:
            self._validate_sample(value)
        if not self.hard:
            raise ValueError("RelaxedRandomPartition: hard must be True for log_prob, got False: no density is known")
        return self.discrete.log_prob(value.detach().argmax(-2))

    @property
    def discrete(self) -> RandomPartition:
        """The law of hard samples' labels."""
        return RandomPartition(self.log_omega, self.log_scores, m=self.m, validate_args=False)

    @property
    def mode(self) -> Tensor:
        """The assignment of the most probable partition."""
        labels = self.discrete.mode.unsqueeze(-2)
        subsets = torch.arange(self.event_shape[0], device=labels.device).unsqueeze(-1)
        return (labels == subsets).to(self.log_scores.dtype)

    @property
    def mean(self) -> Tensor:
        """(*, K, n) exact expectation of hard samples."""
        return self.discrete.marginals
