"""The Plackett-Luce law of orders."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from drpm.distributions.constraints import permutation
from drpm.ops import STREAM_ORDER, gumbel_noise, partition_marginals, plackett_luce_log_prob
from drpm.ops._arguments import as_shape, check_floating
from drpm.ops._lengths import reduced
from drpm.ops._random import seed_tensor

_ENUMERATED = 8  # 40,320 orders


def perturbed(op: str, log_scores: Tensor, sample_shape: Any) -> Tensor:  # (*, n) -> sample_shape + (*, n)
    """log_scores, up to a constant, + standard Gumbel noise, from torch's own generator; their decreasing sort is
    Plackett-Luce."""
    shape = torch.Size(as_shape(op, sample_shape)) + log_scores.shape
    dtype = log_scores.dtype if log_scores.dtype == torch.float64 else torch.float32
    seed = seed_tensor(op, log_scores.device, generator=None, seed=None)
    noise = gumbel_noise(seed, (math.prod(shape[:-1]), 1, shape[-1]), stream=STREAM_ORDER, dtype=dtype)
    return reduced(log_scores) + noise.reshape(shape)


class PlackettLuce(Distribution):
    """Orders of n elements, drawn without replacement with odds proportional to the scores.

        log p(π; s) = Σ_i [x_i − log Σ_{j>=i} exp x_j],  x_i = log s_{π(i)}          (Eq. 1, docs/math/plackett_luce.md)

    Args:
        log_scores: (*, n) float, log-scores.
    Values: (*, n) int64, value[i] = index of the element at rank i.
    Gradient: of `log_prob` and `marginals`, exact w.r.t. log_scores; samples carry none (see RelaxedPlackettLuce).
    Reference: T. Sutter, thesis, Definition 2.4.2; Plackett, The analysis of permutations, 1975.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"log_scores": constraints.real_vector}
    support = permutation

    def __init__(self, log_scores: Tensor, validate_args: bool | None = None) -> None:
        check_floating("PlackettLuce", "log_scores", log_scores)
        if log_scores.dim() < 1:
            raise ValueError("PlackettLuce: log_scores must have an element dimension, got a scalar")
        self.log_scores = log_scores
        super().__init__(log_scores.shape[:-1], log_scores.shape[-1:], validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PlackettLuce:
        new: PlackettLuce = self._get_checked_instance(PlackettLuce, _instance)
        batch_shape = torch.Size(batch_shape)
        new.log_scores = self.log_scores.expand(batch_shape + self.event_shape)
        super(PlackettLuce, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            scores = perturbed("PlackettLuce", self.log_scores, sample_shape)
            return scores.sort(dim=-1, descending=True, stable=True).indices

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return plackett_luce_log_prob(value, self.log_scores)

    @property
    def mode(self) -> Tensor:
        """The most probable order: decreasing scores, ties by index."""
        return self.log_scores.detach().sort(dim=-1, descending=True, stable=True).indices

    @property
    def marginals(self) -> Tensor:
        """(*, n, n) exact Pr[element i at rank r], row r; doubly stochastic."""
        n = self.event_shape[0]
        ranks = torch.zeros(n, dtype=self.log_scores.dtype, device=self.log_scores.device)
        return (
            partition_marginals(ranks, self.log_scores, m=1)
            if n
            else self.log_scores.new_zeros(*self.batch_shape, 0, 0)
        )

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.event_shape[0] <= _ENUMERATED

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All n! orders, for n <= 8: (n!, *, n)."""
        n = self.event_shape[0]
        if n > _ENUMERATED:
            raise NotImplementedError(f"PlackettLuce: n must be <= {_ENUMERATED} to enumerate n! orders, got {n}")
        orders = torch.tensor(list(itertools.permutations(range(n))), device=self.log_scores.device).long()
        orders = orders.reshape(math.factorial(n), *(1,) * len(self.batch_shape), n)
        return orders.expand(-1, *self.batch_shape, n) if expand else orders
