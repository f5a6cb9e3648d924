"""The law of random assignments: sizes from the MVHG, subsets filled in turn by a row of scores each."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from drpm.distributions.constraints import score_matrix, weights_vector
from drpm.distributions.random_partition import LabelledPartitions
from drpm.ops import random_assignment, random_assignment_log_prob
from drpm.ops._arguments import Counts, argument_error, check_floating, counts_tensor


def assignment_arguments(
    name: str,
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, K, n)
    m: Counts | None,
) -> tuple[Tensor, Tensor, Tensor | None, torch.Size]:
    """The parameters broadcast to one batch shape."""
    check_floating(name, "log_omega", log_omega)
    check_floating(name, "log_scores", log_scores)
    num_subsets = log_omega.shape[-1] if log_omega.dim() else 0
    if log_scores.dim() < 2 or log_scores.shape[-2] != num_subsets:
        contract = f"be (*, {num_subsets}, n), a row for each of log_omega"
        raise argument_error(name, "log_scores", contract, tuple(log_scores.shape))
    counts = None if m is None else counts_tensor(name, "m", m, log_omega.device)
    shapes = [log_omega.shape[:-1], log_scores.shape[:-2]]
    if counts is not None:
        counts = counts.expand(num_subsets) if counts.dim() == 0 else counts
        shapes.append(counts.shape[:-1])
    try:
        batch = torch.broadcast_shapes(*shapes)
    except RuntimeError as error:
        raise ValueError(f"{name}: batch shapes must broadcast, got {[tuple(s) for s in shapes]}") from error
    if counts is not None:
        counts = counts.expand(*batch, num_subsets)
    return log_omega.expand(*batch, -1), log_scores.expand(*batch, -1, -1), counts, batch


class RandomAssignment(LabelledPartitions):
    """Partitions of n elements into K ordered subsets, some of them possibly empty, by a row of scores for each.

        log p(Y; ω, L) = log p(n; ω) + log p(Y | n; L)                                (Eq. 5, docs/math/assignment.md)

    Args:
        log_omega: (*, K) float, natural-log weights of the subsets.
        log_scores: (*, K, n) float, log-score of each element for each subset; the last row has no effect.
        m: int, (K,) or (*, K) int64, capacity of each subset. None: n for each.
    Values: (*, n) int64 labels, the subset of each element.
    Gradient: of `log_prob`, exact w.r.t. log_omega and log_scores; samples carry none (see RelaxedRandomAssignment and
        drpm.estimators).
    Raises: NotImplementedError for `mode` and `marginals`, which have no closed form (docs/math/assignment.md).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "log_omega": weights_vector,
        "log_scores": score_matrix,
    }

    def __init__(
        self,
        log_omega: Tensor,
        log_scores: Tensor,
        *,
        m: Counts | None = None,
        validate_args: bool | None = None,
    ) -> None:
        parameters = assignment_arguments("RandomAssignment", log_omega, log_scores, m)
        self.log_omega, self.log_scores, self.m, batch = parameters
        super().__init__(batch, log_scores.shape[-1:], validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> RandomAssignment:
        new: RandomAssignment = self._get_checked_instance(RandomAssignment, _instance)
        batch_shape = torch.Size(batch_shape)
        new.log_omega = self.log_omega.expand(*batch_shape, -1)
        new.log_scores = self.log_scores.expand(*batch_shape, -1, -1)
        new.m = None if self.m is None else self.m.expand(*batch_shape, -1)
        super(RandomAssignment, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            drawn = random_assignment(self.log_omega, self.log_scores, m=self.m, sample_shape=sample_shape)
        return drawn.labels

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return random_assignment_log_prob(value, self.log_omega, self.log_scores, m=self.m)

    @property
    def mode(self) -> Tensor:
        raise NotImplementedError("RandomAssignment: the most probable partition has no known algorithm")

    @property
    def marginals(self) -> Tensor:
        raise NotImplementedError("RandomAssignment: marginals have no closed form; average samples")
