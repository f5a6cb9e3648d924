"""Choose k of n elements, with k learned or given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from drpm.nn.random_partition import counts_buffer, given_counts, learned, learned_or_given
from drpm.nn.temperature import Annealed, Schedule, Temperature
from drpm.ops import random_partition
from drpm.ops._arguments import Counts, argument_error, check_floating, is_readable, require
from drpm.ops._mvhg_arguments import check_conditionals

_OP = "SubsetSelector"


class Selection(NamedTuple):
    """What `SubsetSelector` returns."""

    mask: Tensor  # (..., n), 1 where the element is chosen
    size: Tensor  # (...), number of chosen elements
    order: Tensor  # (..., n) int64, elements in the order of preference; the first `size` are chosen


torch.serialization.add_safe_globals([Selection])  # torch.load(weights_only=True) takes it


class SubsetSelector(Annealed):
    """Choose a subset: a random partition into two, chosen and left.

        k ~ C(n, k) C(n, n − k) ω^k,  the chosen: the first k of a Plackett-Luce order

    >>> select = drpm.nn.SubsetSelector(num_elements=100)            # learns which and how many of 100 features
    >>> (features * select().mask) @ weight
    >>> select = drpm.nn.SubsetSelector(k=5)                         # a relaxed top 5, sampled by Gumbel noise
    >>> select(log_scores).mask

    Args:
        num_elements: n, learns `log_scores` (n,), from 0. None: `forward` takes log_scores.
        k: int or (*) int64, number to choose. None: k is random and `log_odds` = log ω is learned, (1,), from 0; about
            n σ(log ω / 2) elements are then chosen.
        given_odds: `forward` takes log_odds instead of learning it; only where k is None.
        tau, hard, conditionals, noise: as in `drpm.nn.RandomPartition`.
    Gradient: w.r.t. log_odds (through k) and log_scores, straight-through; none w.r.t. a given k.
    Raises: as `drpm.nn.RandomPartition`; ValueError for k outside [0, n] (CPU, eager).
    Reference: the two-class case of T. Sutter, thesis, Section 5.2; with k given, Xie and Ermon, Reparameterizable
        subset sampling via continuous relaxations, 2019, relax the same distribution differently.
    """

    log_scores: nn.Parameter | None
    log_odds: nn.Parameter | None
    k: Tensor | None

    def __init__(
        self,
        num_elements: int | None = None,
        k: Counts | None = None,
        *,
        given_odds: bool = False,
        tau: float | Schedule = 1.0,
        hard: bool = True,
        conditionals: str = "exact",
        noise: bool | None = None,
    ) -> None:
        super().__init__()
        check_conditionals(_OP, conditionals)
        if k is not None and given_odds:
            raise ValueError(f"{_OP}: given_odds must be False where k is given, got {given_odds}")
        self.register_parameter("log_scores", learned(_OP, "num_elements", num_elements, at_least=0))
        has_odds = k is None and not given_odds
        self.register_parameter("log_odds", nn.Parameter(torch.zeros(1)) if has_odds else None)
        self._given_k = given_counts(_OP, "k", k)
        self.register_buffer("k", counts_buffer(self._given_k, k))
        self.temperature = Temperature(tau)
        self.hard, self.conditionals, self.noise = hard, conditionals, noise

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

        Args:
            log_scores: (*, n) float, larger ones are chosen first; exactly when they are not learned.
            log_odds: (*) float, log ω; exactly with given_odds.
            sample_shape, generator, seed: as in `drpm.nn.RandomPartition`.
        """
        scores = learned_or_given(_OP, "log_scores", self.log_scores, log_scores)
        check_floating(_OP, "log_scores", scores)
        require(scores.dim() >= 1, _OP, "log_scores", "have an element dimension", "a scalar")
        n = scores.shape[-1]
        m = None
        if self.k is not None:
            if log_odds is not None:
                raise TypeError(f"{_OP}: log_odds must not be given, k is")
            if is_readable(self.k) and self.k.numel() and (largest := int(self.k.max())) > n:
                raise argument_error(_OP, "k", f"be at most the number of elements, {n}", largest)
            # m_1 + m_2 = n: the sizes can only be (k, n − k)
            m = torch.stack([self.k, n - self.k], dim=-1)
            odds = scores.new_zeros(1)
        elif self.log_odds is not None:
            odds = learned_or_given(_OP, "log_odds", self.log_odds, log_odds)
        else:
            odds = learned_or_given(_OP, "log_odds", None, log_odds).unsqueeze(-1)
        noise = self.training if self.noise is None else self.noise
        drawn = random_partition(
            torch.cat([odds, torch.zeros_like(odds)], dim=-1),
            scores,
            self.tau,
            m=m,
            hard=self.hard,
            noise=noise,
            conditionals=self.conditionals,
            sample_shape=sample_shape,
            generator=generator if noise else None,
            seed=seed if noise else None,
        )
        return Selection(drawn.assignment[..., 0, :], drawn.sizes[..., 0], drawn.order)

    if TYPE_CHECKING:
        __call__ = forward  # torch types a call of any module as Any

    def extra_repr(self) -> str:
        parts = [] if self.log_scores is None else [f"num_elements={self.log_scores.numel()}"]
        parts += [] if self.k is None else [f"k={self._given_k if self.k.is_meta else self.k.tolist()}"]
        return ", ".join([*parts, f"hard={self.hard}", f"conditionals={self.conditionals!r}", f"noise={self.noise}"])
