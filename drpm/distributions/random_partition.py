"""The law of random partitions: sizes from the MVHG, order from Plackett-Luce."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from drpm.distributions.constraints import weights_vector
from drpm.ops import partition_marginals, partition_mode, random_partition, random_partition_log_prob
from drpm.ops._arguments import Counts, check_floating, counts_tensor

_ENUMERATED = 65536


def partition_arguments(
    name: str,
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n)
    m: Counts | None,
) -> tuple[Tensor, Tensor, Tensor | None, torch.Size]:
    """The parameters broadcast to one batch shape."""
    check_floating(name, "log_omega", log_omega)
    check_floating(name, "log_scores", log_scores)
    if log_omega.dim() < 1 or log_scores.dim() < 1:
        raise ValueError(f"{name}: log_omega and log_scores must have a last dimension, got a scalar")
    counts = None if m is None else counts_tensor(name, "m", m, log_omega.device)
    shapes = [log_omega.shape[:-1], log_scores.shape[:-1]]
    if counts is not None:
        counts = counts.expand(log_omega.shape[-1]) if counts.dim() == 0 else counts
        shapes.append(counts.shape[:-1])
    try:
        batch = torch.broadcast_shapes(*shapes)
    except RuntimeError as error:
        raise ValueError(f"{name}: batch shapes must broadcast, got {[tuple(s) for s in shapes]}") from error
    if counts is not None:
        counts = counts.expand(*batch, log_omega.shape[-1])
    return log_omega.expand(*batch, -1), log_scores.expand(*batch, -1), counts, batch


class LabelledPartitions(Distribution):
    """What laws of labels (*, n) have in common; `log_omega` (*, K) and `log_scores` are theirs."""

    log_omega: Tensor
    log_scores: Tensor

    @property
    def num_subsets(self) -> int:
        return self.log_omega.shape[-1]

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.independent(constraints.integer_interval(0, self.num_subsets - 1), 1)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return bool(self.num_subsets ** self.event_shape[0] <= _ENUMERATED)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All K^n labelled partitions, up to 65,536: (K^n, *, n)."""
        n = self.event_shape[0]
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"{type(self).__name__}: K^n must be <= {_ENUMERATED} to enumerate, got {self.num_subsets}^{n}"
            )
        every = list(itertools.product(range(self.num_subsets), repeat=n))
        labels = torch.tensor(every, dtype=torch.int64, device=self.log_scores.device)
        labels = labels.reshape(self.num_subsets**n, *(1,) * len(self.batch_shape), n)
        return labels.expand(-1, *self.batch_shape, n) if expand else labels


class RandomPartition(LabelledPartitions):
    """Partitions of n elements into K ordered subsets, some of them possibly empty.

        log p(Y; ω, s) = log p(n; ω) + log p(Y | n; s)                (docs/math/partition_log_prob.md: exact)

    Args:
        log_omega: (*, K) float, natural-log weights of the subsets. −inf: always empty.
        log_scores: (*, n) float, Plackett-Luce log-scores.
        m: int, (K,) or (*, K) int64, capacity of each subset. None: n for each.
    Values: (*, n) int64 labels, the subset of each element.
    Gradient: of `log_prob` and `marginals`, exact w.r.t. log_omega and log_scores; samples carry none (see
        RelaxedRandomPartition and drpm.estimators).
    Reference: T. Sutter, thesis, Definition 5.2.1, Proposition 5.2.1.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "log_omega": weights_vector,
        "log_scores": constraints.real_vector,
    }

    def __init__(
        self,
        log_omega: Tensor,
        log_scores: Tensor,
        *,
        m: Counts | None = None,
        validate_args: bool | None = None,
    ) -> None:
        parameters = partition_arguments("RandomPartition", log_omega, log_scores, m)
        self.log_omega, self.log_scores, self.m, batch = parameters
        super().__init__(batch, log_scores.shape[-1:], validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> RandomPartition:
        new: RandomPartition = self._get_checked_instance(RandomPartition, _instance)
        batch_shape = torch.Size(batch_shape)
        new.log_omega = self.log_omega.expand(*batch_shape, -1)
        new.log_scores = self.log_scores.expand(*batch_shape, -1)
        new.m = None if self.m is None else self.m.expand(*batch_shape, -1)
        super(RandomPartition, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            drawn = random_partition(self.log_omega, self.log_scores, m=self.m, sample_shape=sample_shape)
        return drawn.labels

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return random_partition_log_prob(value, self.log_omega, self.log_scores, m=self.m)

    @property
    def mode(self) -> Tensor:
        """The most probable labels (n <= 4096)."""
        return partition_mode(self.log_omega, self.log_scores, m=self.m)

    @property
    def marginals(self) -> Tensor:
        """(*, K, n) exact Pr[element i in subset k], the expectation of the one-hot assignment."""
        return partition_marginals(self.log_omega, self.log_scores, m=self.m)
