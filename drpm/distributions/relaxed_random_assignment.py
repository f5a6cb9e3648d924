"""Relaxed random assignments, with a pathwise gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from drpm.distributions.constraints import assignment, relaxed_assignment
from drpm.distributions.random_assignment import RandomAssignment, assignment_arguments
from drpm.ops import random_assignment
from drpm.ops._arguments import Counts
from drpm.ops._tau import Tau, check_tau
from drpm.ops.random_partition import Partition


class RelaxedRandomAssignment(Distribution):
    """Assignments by a matrix of scores that carry a gradient to both its weights and its scores.

    Args:
        tau: float > 0, temperature of sizes, orders and boundaries; no gradient.
        log_omega: (*, K) float, natural-log weights of the subsets.
        log_scores: (*, K, n) float, log-score of each element for each subset; the last row has no effect.
        hard: straight-through samples: one-hot columns, exact draws of RandomAssignment, with the relaxation's
            gradient. False: relaxed assignments, which have no density: `log_prob` then raises ValueError.
        m: int, (K,) or (*, K) int64, capacity of each subset. None: n for each.
    Values: (*, K, n) assignments.
    Gradient: of `rsample`, that of the relaxation (biased for expectations of the discrete law: docs/estimators.md); of
        `log_prob`, exact w.r.t. log_omega and log_scores.
    Raises: NotImplementedError for `mode` and `mean`, which have no closed form (docs/math/assignment.md).
    """

    arg_constraints: ClassVar[dict[str, Any]] = RandomAssignment.arg_constraints
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
        self.tau = check_tau("RelaxedRandomAssignment", tau)
        self.hard = hard
        parameters = assignment_arguments("RelaxedRandomAssignment", log_omega, log_scores, m)
        self.log_omega, self.log_scores, self.m, batch = parameters
        super().__init__(batch, log_scores.shape[-2:], validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> RelaxedRandomAssignment:
        new: RelaxedRandomAssignment = self._get_checked_instance(RelaxedRandomAssignment, _instance)
        batch_shape = torch.Size(batch_shape)
        new.tau, new.hard = self.tau, self.hard
        new.log_omega = self.log_omega.expand(*batch_shape, -1)
        new.log_scores = self.log_scores.expand(*batch_shape, -1, -1)
        new.m = None if self.m is None else self.m.expand(*batch_shape, -1)
        super(RelaxedRandomAssignment, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=False, event_dim=2)
    def support(self) -> constraints.Constraint:
        return assignment if self.hard else relaxed_assignment

    def rsample_partition(self, sample_shape: Any = ()) -> Partition:
        """A draw with its sizes, order and labels beside the assignment."""
        return random_assignment(
            self.log_omega, self.log_scores, self.tau, m=self.m, hard=self.hard, sample_shape=sample_shape
        )

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample_partition(sample_shape).assignment

    def log_prob(self, value: Tensor) -> Tensor:
        """Exact log-probability of a one-hot assignment, that of its labels under RandomAssignment."""
        if self._validate_args:
            self._validate_sample(value)
        if not self.hard:
            raise ValueError("RelaxedRandomAssignment: hard must be True for log_prob, got False: no density is known")
        return self.discrete.log_prob(value.detach().argmax(-2))

    @property
    def discrete(self) -> RandomAssignment:
        """The law of hard samples' labels."""
        return RandomAssignment(self.log_omega, self.log_scores, m=self.m, validate_args=False)

    @property
    def mode(self) -> Tensor:
        raise NotImplementedError("RelaxedRandomAssignment: the most probable partition has no known algorithm")

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError("RelaxedRandomAssignment: the mean has no closed form; average samples")
