"""Choose k of n elements, with k learned or given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from drpm.nn.random_partition import counts_buffer, given_counts, learned, learned_or_given
from drpm.nn.temperature import Annealed, Schedule, Temperature
from drpm.ops import (
    k_subset_log_prob,
    k_subset_marginals,
    k_subset_sample,
    mvhg_log_prob,
    mvhg_sample,
    partition_log_prob,
    random_partition,
)
from drpm.ops._arguments import (
    Counts,
    argument_error,
    as_dtype,
    as_shape,
    broadcast_batch,
    check_floating,
    is_readable,
    require,
)
from drpm.ops._modes import wants_gradient
from drpm.ops._mvhg_arguments import check_conditionals
from drpm.ops._random import seed_tensor

_OP = "SubsetSelector"


LAWS = ("plackett-luce", "conditional-bernoulli")


class Selection(NamedTuple):
    """What `SubsetSelector` returns."""

    mask: Tensor  # (..., n), 1 where the element is chosen
    size: Tensor  # (...), number of chosen elements
    order: Tensor  # (..., n) int64, the chosen elements, then the others; each part as the law says


torch.serialization.add_safe_globals([Selection])  # torch.load(weights_only=True) takes it


class SubsetSelector(Annealed):
    """Choose a subset: a random partition into two, chosen and left.

        k ~ C(n, k) C(n, n − k) ω^k
        law="plackett-luce": the chosen are the first k of a Plackett-Luce order
        law="conditional-bernoulli": p(S) ∝ Π_{i ∈ S} exp(s_i), |S| = k           (Eq. 1, docs/math/k_subset.md)

    >>> select = drpm.nn.SubsetSelector(num_elements=100)            # learns which and how many of 100 features
    >>> (features * select().mask) @ weight
    >>> select = drpm.nn.SubsetSelector(k=5)                         # a relaxed top 5, sampled by Gumbel noise
    >>> select(log_scores).mask
    >>> select = drpm.nn.SubsetSelector(k=5, law="conditional-bernoulli")    # gradient of the exact marginals

    Which law for what: docs/exactly_k_of_n.md.

    Args:
        num_elements: n, learns `log_scores` (n,), from 0. None: `forward` takes log_scores.
        k: int or (*) int64, number to choose. None: k is random and `log_odds` = log ω is learned, (1,), from 0; about
            n σ(log ω / 2) elements are then chosen.
        law: of the chosen ones given k.
        given_odds: `forward` takes log_odds instead of learning it; only where k is None.
        tau: temperature of the order, the boundary and a random k; None: 1. With "conditional-bernoulli" of a random k
            alone, and None where k is given.
        hard, conditionals, noise: as in `drpm.nn.RandomPartition`; "conditional-bernoulli" is hard.
    Gradient: none w.r.t. a given k. "plackett-luce": straight-through w.r.t. log_odds (through k) and log_scores.
        "conditional-bernoulli": w.r.t. log_scores that of the exact marginals π given k (SIMPLE); w.r.t. log_odds that
        of a straight-through k, along which the mask moves by (π(k + 1) − π(k − 1)) / 2. For unbiased ones: `log_prob`
        with `drpm.estimators.leave_one_out`.
    Raises: as `drpm.nn.RandomPartition`; ValueError for k outside [0, n] (CPU, eager).
    Reference: the two-class case of T. Sutter, thesis, Section 5.2; with k given, Xie and Ermon, Reparameterizable
        subset sampling via continuous relaxations, 2019, relax the same distribution differently; Ahmed et al., SIMPLE:
        a gradient estimator for k-subset sampling, 2023.
    """

    log_scores: nn.Parameter | None
    log_odds: nn.Parameter | None
    k: Tensor | None

    def __init__(
        self,
        num_elements: int | None = None,
        k: Counts | None = None,
        *,
        law: str = "plackett-luce",
        given_odds: bool = False,
        tau: float | Schedule | None = None,
        hard: bool = True,
        conditionals: str = "exact",
        noise: bool | None = None,
    ) -> None:
        super().__init__()
        check_conditionals(_OP, conditionals)
        require(law in LAWS, _OP, "law", f"be one of {LAWS}", repr(law))
        if k is not None and given_odds:
            raise ValueError(f"{_OP}: given_odds must be False where k is given, got {given_odds}")
        if law == "conditional-bernoulli":
            require(hard, _OP, "hard", f"be True with law={law!r}", hard)
            require(k is None or tau is None, _OP, "tau", f"be None with law={law!r} and k given", tau)
        self.register_parameter("log_scores", learned(_OP, "num_elements", num_elements, at_least=0))
        has_odds = k is None and not given_odds
        self.register_parameter("log_odds", nn.Parameter(torch.zeros(1)) if has_odds else None)
        self._given_k = given_counts(_OP, "k", k)
        self.register_buffer("k", counts_buffer(self._given_k, k))
        self.temperature = Temperature(1.0 if tau is None else tau)
        self.law, self.hard, self.conditionals, self.noise = law, hard, conditionals, noise

    def reset_parameters(self) -> None:
        """Start again from equal scores, even odds and the k that was given."""
        for parameter in (self.log_odds, self.log_scores):
            if parameter is not None:
                nn.init.zeros_(parameter)
        if self.k is not None:
            self.k.copy_(torch.tensor(self._given_k, device="cpu"))

    def forward(
        self,
        log_scores: Tensor | None = None,  # (*, n)
        log_odds: Tensor | None = None,  # (*)
        *,
        sample_shape: int | Sequence[int] = (),
        generator: torch.Generator | None = None,
        seed: int | Tensor | None = None,
    ) -> Selection:
        """Draw subsets: `Selection(mask (…, n), size (…), order (…, n))`.

        `order` begins with the `size` chosen elements. "plackett-luce": elements in the drawn order of preference.
        "conditional-bernoulli", which draws sets: the chosen by decreasing log_scores, then the others likewise, ties
        by index.

        Args:
            log_scores: (*, n) float, larger ones are chosen first; exactly when they are not learned.
                "conditional-bernoulli": −inf is never chosen.
            log_odds: (*) float, log ω; exactly with given_odds.
            sample_shape, generator, seed: as in `drpm.nn.RandomPartition`.
        """
        scores, odds = self._parameters_of(log_scores, log_odds)
        noise = self.training if self.noise is None else self.noise
        generator, seed = (generator, seed) if noise else (None, None)
        if self.law == "conditional-bernoulli":
            if noise:
                seed = seed_tensor(_OP, scores.device, noise=noise, generator=generator, seed=seed)
            return self._conditional_bernoulli(scores, odds, as_shape(_OP, sample_shape), noise, seed)
        # with m_1 + m_2 = n the sizes can only be (k, n − k)
        m = None if self.k is None else torch.stack([self.k, scores.shape[-1] - self.k], dim=-1)
        drawn = random_partition(
            scores.new_zeros(2) if odds is None else odds,
            scores,
            self.tau,
            m=m,
            hard=self.hard,
            noise=noise,
            conditionals=self.conditionals,
            sample_shape=sample_shape,
            generator=generator,
            seed=seed,
        )
        return Selection(drawn.assignment[..., 0, :], drawn.sizes[..., 0], drawn.order)

    def log_prob(
        self,
        mask: Tensor,  # (*, n)
        log_scores: Tensor | None = None,  # (*, n)
        log_odds: Tensor | None = None,  # (*)
    ) -> Tensor:  # (*)
        """Log-probability of subsets, log p(k) + log p(S | k), exact and differentiable; of a given k the second alone.

        Args:
            mask: (*, n) of 0 and 1, as `forward` draws it.
            log_scores, log_odds: as `forward` takes them.
        """
        scores, odds = self._parameters_of(log_scores, log_odds)
        chosen = mask.detach()
        size = chosen.sum(-1).long()
        if self.law == "plackett-luce":
            value = partition_log_prob((chosen == 0).long(), scores, 2)
            if self.k is not None:
                value = torch.where(size == self.k, value, -torch.inf)
        else:
            value = k_subset_log_prob(chosen, scores, size if self.k is None else self.k)
        if odds is None:
            return value
        sizes = torch.stack([size, scores.shape[-1] - size], dim=-1)
        capacities = self._capacities(scores)
        return value + mvhg_log_prob(sizes, odds, capacities, scores.shape[-1], conditionals=self.conditionals)

    def _parameters_of(self, log_scores: Tensor | None, log_odds: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Checked scores (*, n) and the log weights (*, 2) of the sizes; None with a given k."""
        scores = learned_or_given(_OP, "log_scores", self.log_scores, log_scores)
        check_floating(_OP, "log_scores", scores)
        require(scores.dim() >= 1, _OP, "log_scores", "have an element dimension", "a scalar")
        if self.k is not None:
            if log_odds is not None:
                raise TypeError(f"{_OP}: log_odds must not be given, k is")
            n = scores.shape[-1]
            if is_readable(self.k) and self.k.numel() and (largest := int(self.k.max())) > n:
                raise argument_error(_OP, "k", f"be at most the number of elements, {n}", largest)
            return scores, None
        odds = learned_or_given(_OP, "log_odds", self.log_odds, log_odds)
        odds = odds if self.log_odds is not None else odds.unsqueeze(-1)
        return scores, torch.cat([odds, torch.zeros_like(odds)], dim=-1)

    def _capacities(self, scores: Tensor) -> Tensor:  # (*, 2)
        """Items of the two classes of a random k: n, of the chosen those that can be chosen."""
        n = scores.shape[-1]
        if self.law == "plackett-luce":
            return torch.tensor([n, n], device=scores.device)
        possible = (scores.detach() != -torch.inf).sum(-1)
        return torch.stack([possible, torch.full_like(possible, n)], dim=-1)

    def _conditional_bernoulli(
        self, scores: Tensor, odds: Tensor | None, shape: tuple[int, ...], noise: bool, seed: int | Tensor | None
    ) -> Selection:
        if odds is None:
            assert self.k is not None
            mask = k_subset_sample(scores, self.k, noise=noise, sample_shape=shape, seed=seed)
            size = self.k.to(mask.dtype).expand(mask.shape[:-1])
        else:
            n = scores.shape[-1]
            batch = broadcast_batch(_OP, log_odds=odds.shape[:-1], log_scores=scores.shape[:-1])
            capacities = self._capacities(scores)
            sizes = mvhg_sample(
                odds.expand(*batch, 2),
                capacities,
                n,
                self.tau,
                noise=noise,
                conditionals=self.conditionals,
                sample_shape=shape,
                seed=seed,
            )
            size, k = sizes[..., 0], sizes[..., 0].detach().long()
            scores = scores.expand(*k.shape, n)
            mask = k_subset_sample(scores, k, noise=noise, seed=seed)
            size = as_dtype(size, mask.dtype)
            if wants_gradient(size):
                above = torch.minimum(k + 1, capacities[..., 0])
                below = (k - 1).clamp(min=0)
                fixed = scores.detach()
                moved = k_subset_marginals(fixed, above) - k_subset_marginals(fixed, below)
                slope = moved / (above - below).clamp(min=1).unsqueeze(-1)
                mask = mask + slope * (size - size.detach()).unsqueeze(-1)
        by_score = scores.detach().argsort(dim=-1, descending=True, stable=True).expand(mask.shape)
        chosen_first = mask.detach().gather(-1, by_score).argsort(dim=-1, descending=True, stable=True)
        return Selection(mask, size, by_score.gather(-1, chosen_first))

    if TYPE_CHECKING:
        __call__ = forward  # torch types a call of any module as Any

    def extra_repr(self) -> str:
        parts = [] if self.log_scores is None else [f"num_elements={self.log_scores.numel()}"]
        parts += [] if self.k is None else [f"k={self._given_k if self.k.is_meta else self.k.tolist()}"]
        parts += [
            f"law={self.law!r}",
            f"hard={self.hard}",
            f"conditionals={self.conditionals!r}",
            f"noise={self.noise}",
        ]
        return ", ".join(parts)
