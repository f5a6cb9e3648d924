"""Relaxed Plackett-Luce orders, with a pathwise gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from drpm.distributions.constraints import row_stochastic
from drpm.distributions.plackett_luce import PlackettLuce, perturbed
from drpm.ops import plackett_luce_log_prob, relaxed_sort
from drpm.ops._arguments import check_floating
from drpm.ops._tau import Tau, check_tau


class RelaxedPlackettLuce(Distribution):
    """NeuralSort of Gumbel-perturbed log-scores: relaxed permutation matrices.

    Args:
        tau: float > 0, temperature; no gradient.
        log_scores: (*, n) float, log-scores.
        hard: straight-through samples: exact permutation matrices with the relaxation's gradient.
    Values: (*, n, n), row i is the (relaxed) indicator of the element at rank i; rows sum to 1.
    Gradient: of `rsample`, that of the relaxation (biased for expectations of the discrete law); of `log_prob`, w.r.t.
        log_scores and the value.

    `log_prob` is that of the discrete order, log p(π; s) with x = P log s in Eq. 1 of docs/math/plackett_luce.md: exact
    at permutation matrices, elsewhere the thesis' relaxed term and no density.
    Reference: Grover et al., Stochastic optimization of sorting networks via continuous relaxations, 2019.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"log_scores": constraints.real_vector}
    support = row_stochastic
    has_rsample = True

    def __init__(self, tau: Tau, log_scores: Tensor, *, hard: bool = False, validate_args: bool | None = None) -> None:
        check_floating("RelaxedPlackettLuce", "log_scores", log_scores)
        if log_scores.dim() < 1:
            raise ValueError("RelaxedPlackettLuce: log_scores must have an element dimension, got a scalar")
        self.tau = check_tau("RelaxedPlackettLuce", tau)
        self.hard = hard
        self.log_scores = log_scores
        n = log_scores.shape[-1]
        super().__init__(log_scores.shape[:-1], torch.Size((n, n)), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> RelaxedPlackettLuce:
        new: RelaxedPlackettLuce = self._get_checked_instance(RelaxedPlackettLuce, _instance)
        batch_shape = torch.Size(batch_shape)
        new.tau, new.hard = self.tau, self.hard
        new.log_scores = self.log_scores.expand(batch_shape + self.event_shape[-1:])
        super(RelaxedPlackettLuce, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        scores = perturbed("RelaxedPlackettLuce", self.log_scores, sample_shape)
        return relaxed_sort(scores, self.tau, hard=self.hard).to(self.log_scores.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return plackett_luce_log_prob(value, self.log_scores)

    @property
    def discrete(self) -> PlackettLuce:
        """The law of the orders that hard samples have."""
        return PlackettLuce(self.log_scores, validate_args=False)

    @property
    def mode(self) -> Tensor:
        """The permutation matrix of the most probable order."""
        n = self.event_shape[-1]
        return torch.nn.functional.one_hot(self.discrete.mode, n).to(self.log_scores.dtype) if n else self.marginals

    @property
    def marginals(self) -> Tensor:
        """(*, n, n) exact expectation of the hard permutation matrix."""
        return self.discrete.marginals
