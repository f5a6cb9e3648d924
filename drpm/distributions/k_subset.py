"""The conditional Bernoulli law of subsets of exactly k elements."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from drpm.distributions.constraints import SubsetOf, weights_vector
from drpm.ops import (
    k_subset_entropy,
    k_subset_log_prob,
    k_subset_marginals,
    k_subset_sample,
    mvhg_covariance,
    mvhg_kl,
    mvhg_log_normalizer,
)
from drpm.ops._k_subset_arguments import classes_of

_LARGEST_SUPPORT = 100_000  # subsets that enumerate_support is willing to list


class KSubset(Distribution):
    """Subsets of exactly k of n elements, p(S) ∝ Π_{i ∈ S} exp(l_i)  (Eq. 1, docs/math/k_subset.md).

    Independent Bernoulli variables of log odds l_i, given that k of them are 1. Probabilities, inclusion
    probabilities, entropy and divergence are exact and differentiable in log_weights; samples are exact, in O(n)
    memory. Not the law of the first k of a Plackett-Luce order.

    Args:
        k: int or (*) int64, elements to choose; at most as many as have a weight above zero.
        log_weights: (*, n) float, log odds; a common constant does not matter, −inf: never chosen.
    Values: (*, n) of 0 and 1 in the dtype of log_weights.
    Gradient: of log_prob, mean and entropy w.r.t. log_weights; samples carry none (`drpm.ops.k_subset_sample` does).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"k": constraints.nonnegative_integer, "log_weights": weights_vector}
    has_rsample = False

    def __init__(self, k: int | Tensor, log_weights: Tensor, validate_args: bool | None = None) -> None:
        if not isinstance(log_weights, Tensor) or log_weights.dim() < 1:
            raise ValueError(f"KSubset: log_weights must be a tensor of shape (*, n), got {log_weights!r}")
        counts = torch.as_tensor(k, device=log_weights.device)
        if counts.is_floating_point() or counts.dtype == torch.bool:
            raise ValueError(f"KSubset: k must be whole (int or int64), got {counts.dtype}")
        batch = torch.broadcast_shapes(counts.shape, log_weights.shape[:-1])
        self.k = counts.to(torch.int64).expand(batch)
        self.log_weights = log_weights.expand(*batch, log_weights.shape[-1])
        super().__init__(batch, log_weights.shape[-1:], validate_args)
        if self._validate_args and not bool((self.k <= torch.isfinite(self.log_weights).sum(-1)).all()):
            raise ValueError("KSubset: k must be <= the number of weights above zero in every batch entry")

    def expand(self, batch_shape: Any, _instance: Any = None) -> KSubset:
        new: KSubset = self._get_checked_instance(KSubset, _instance)
        batch = torch.Size(batch_shape)
        new.k, new.log_weights = self.k.expand(batch), self.log_weights.expand(batch + self.event_shape)
        super(KSubset, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> SubsetOf:
        return SubsetOf(self.k)

    @property
    def mean(self) -> Tensor:
        """(*, n) exact inclusion probabilities."""
        return k_subset_marginals(self.log_weights, self.k)

    @property
    def covariance_matrix(self) -> Tensor:
        """(*, n, n); O(n²) memory."""
        n = self.event_shape[0]
        weights, m = classes_of(self.log_weights.reshape(-1, n))
        m = m.expand(weights.shape).reshape(self.log_weights.shape)
        return mvhg_covariance(weights.reshape(self.log_weights.shape), m, self.k)

    @property
    def variance(self) -> Tensor:
        mean = self.mean
        return mean * (1 - mean)

    @property
    def mode(self) -> Tensor:
        """The k largest weights, ties by index."""
        return k_subset_sample(self.log_weights.detach(), self.k, noise=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return k_subset_sample(self.log_weights.detach(), self.k, sample_shape=tuple(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return k_subset_log_prob(value, self.log_weights, self.k)

    def entropy(self) -> Tensor:
        return k_subset_entropy(self.log_weights, self.k)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether all batch entries share k and there are few subsets."""
        if self.k.numel() == 0 or not bool((self.k == self.k.reshape(-1)[0]).all()):
            return False
        return math.comb(self.event_shape[0], int(self.k.reshape(-1)[0])) <= _LARGEST_SUPPORT

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All subsets of k elements, those of probability zero included: (C(n, k), *, n)."""
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"enumerate_support needs one k for the whole batch and at most {_LARGEST_SUPPORT} subsets"
            )
        n, k = self.event_shape[0], int(self.k.reshape(-1)[0])
        chosen = torch.tensor(list(itertools.combinations(range(n), k)), device=self.log_weights.device)
        values = torch.zeros(math.comb(n, k), n, dtype=self.log_weights.dtype, device=self.log_weights.device)
        values = values.scatter(1, chosen.long(), 1.0) if k else values
        values = values.reshape(-1, *(1,) * len(self.batch_shape), n)
        return values.expand(-1, *self.batch_shape, n) if expand else values


@register_kl(KSubset, KSubset)
def _kl(p: KSubset, q: KSubset) -> Tensor:
    """KL(p ‖ q), (Eq. 3); k must be the same. +inf where p may choose what q can not."""
    if not torch.compiler.is_compiling() and not bool((p.k == q.k).all()):
        raise NotImplementedError("kl_divergence: k of the two distributions must be equal")
    zero_p, zero_q = torch.isneginf(p.log_weights), torch.isneginf(q.log_weights)
    weights_p = torch.where(zero_p, 0.0, p.log_weights)
    weights_q = torch.where(zero_q, 0.0, q.log_weights)
    if not torch.compiler.is_compiling() and not bool(zero_p.any() or zero_q.any()):
        return mvhg_kl(weights_p, weights_q, 1, p.k)
    m_p, m_q = (~zero_p).long(), (~zero_q).long()
    mean = torch.where(zero_p, 0.0, p.mean)
    moved = (mean * (weights_p - weights_q)).sum(-1)
    kl = moved - mvhg_log_normalizer(weights_p, m_p, p.k) + mvhg_log_normalizer(weights_q, m_q, q.k)
    return torch.where((zero_q & (mean > 0)).any(-1), torch.inf, kl)
