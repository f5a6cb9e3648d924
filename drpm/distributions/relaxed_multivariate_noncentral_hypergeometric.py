"""The multivariate noncentral hypergeometric distribution with reparametrised samples."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from drpm.distributions.constraints import SizesOf, weights_vector
from drpm.distributions.multivariate_noncentral_hypergeometric import (
    MultivariateNoncentralHypergeometric,
    broadcast_counts,
    check_possible,
    kl_of_equal_counts,
)
from drpm.ops import mvhg_sample
from drpm.ops._arguments import as_dtype, plain_int
from drpm.ops._mvhg_arguments import beyond_float32
from drpm.ops._tau import Tau, check_tau


class RelaxedMultivariateNoncentralHypergeometric(Distribution):
    """Sizes that carry a gradient: Gumbel-softmax over each exact conditional (`drpm.ops.mvhg_sample`).

    With hard=True (straight-through) samples are whole numbers with the exact law, and log_prob is that of
    `MultivariateNoncentralHypergeometric`. With hard=False samples are relaxed; they have no density in closed form,
    and log_prob is that of the exact distribution continued to real sizes.

    Args:
        tau: float > 0, temperature.
        m, n, log_omega: as in `MultivariateNoncentralHypergeometric`.
        hard: straight-through samples.
        conditionals: "exact", or the thesis' "merged".
    """

    arg_constraints: ClassVar = {
        "m": constraints.independent(constraints.nonnegative_integer, 1),
        "n": constraints.nonnegative_integer,
        "log_omega": weights_vector,
    }
    has_rsample = True

    def __init__(
        self,
        tau: Tau,
        m: int | Tensor,
        n: int | Tensor,
        log_omega: Tensor,
        *,
        hard: bool = True,
        conditionals: str = "exact",
        validate_args: bool | None = None,
    ) -> None:
        op = "RelaxedMultivariateNoncentralHypergeometric"
        self.tau = check_tau(op, tau)
        self.hard, self.conditionals = hard, conditionals
        self.m, self.n, self.log_omega = broadcast_counts(op, m, n, log_omega)
        self._beyond_float32 = beyond_float32(plain_int(m), plain_int(n))
        super().__init__(self.log_omega.shape[:-1], self.log_omega.shape[-1:], validate_args=validate_args)
        if self._validate_args:
            check_possible(type(self).__name__, self.m, self.n, self.log_omega)

    def expand(self, batch_shape: Any, _instance: Any = None) -> RelaxedMultivariateNoncentralHypergeometric:
        new: RelaxedMultivariateNoncentralHypergeometric = self._get_checked_instance(
            RelaxedMultivariateNoncentralHypergeometric, _instance
        )
        batch = torch.Size(batch_shape)
        new.tau, new.hard, new.conditionals = self.tau, self.hard, self.conditionals
        new.m, new.n = self.m.expand(batch + self.event_shape), self.n.expand(batch)
        new.log_omega = self.log_omega.expand(batch + self.event_shape)
        new._beyond_float32 = self._beyond_float32
        super(RelaxedMultivariateNoncentralHypergeometric, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def base(self) -> MultivariateNoncentralHypergeometric:
        """The distribution that the hard samples follow."""
        return MultivariateNoncentralHypergeometric(self.m, self.n, self.log_omega, validate_args=False)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> SizesOf:
        return SizesOf(self.m, self.n, relaxed=not self.hard)

    @property
    def mean(self) -> Tensor:
        """Of the hard samples."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """Of the hard samples."""
        return self.base.variance

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return mvhg_sample(
            as_dtype(self.log_omega, torch.float64) if self._beyond_float32 else self.log_omega,
            self.m,
            self.n,
            self.tau,
            hard=self.hard,
            conditionals=self.conditionals,
            sample_shape=sample_shape,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.base.log_prob(value)

    def entropy(self) -> Tensor:
        """Of the hard samples."""
        return self.base.entropy()


@register_kl(RelaxedMultivariateNoncentralHypergeometric, RelaxedMultivariateNoncentralHypergeometric)
@register_kl(RelaxedMultivariateNoncentralHypergeometric, MultivariateNoncentralHypergeometric)
def _kl(p: RelaxedMultivariateNoncentralHypergeometric, q: Any) -> Tensor:
    """Between the distributions of the hard samples."""
    return kl_of_equal_counts(p, q)
