"""Joint posteriors of several diagonal Gaussian experts: products, means and mixtures over subsets (thesis 3.2).

Experts: `means` and `log_variances` (B, M, d) of M modalities or views; `observed` (B, M) bool, what is missing takes
no part and is not read. Formulas: docs/math/expert_pooling.md.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from drpm.ops._arguments import require

SUBSETS = ("product", "mixture", "mixture of products")
INSIDE = ("product", "geometric mean", "power mean")
KLS = ("closed", "bound", "monte carlo")
_LOG_2_PI = math.log(2 * math.pi)

Subsets = str | Sequence[Sequence[int]]


def gaussian_kl(
    mean_q: Tensor, log_variance_q: Tensor, mean_p: Tensor | float, log_variance_p: Tensor | float
) -> Tensor:
    """KL(N(mean_q, exp log_variance_q) || N(mean_p, exp log_variance_p)) of each dimension, in nats."""
    log_variance_p = torch.as_tensor(log_variance_p, dtype=mean_q.dtype, device=mean_q.device)
    gap = (mean_q - mean_p).square()
    return 0.5 * (log_variance_p - log_variance_q + (gap + log_variance_q.exp()) * (-log_variance_p).exp() - 1.0)


def gaussian_log_density(z: Tensor, mean: Tensor | float, log_variance: Tensor | float) -> Tensor:
    """log N(z; mean, exp log_variance) of each dimension."""
    log_variance = torch.as_tensor(log_variance, dtype=z.dtype, device=z.device)
    return -0.5 * (_LOG_2_PI + log_variance + (z - mean).square() * (-log_variance).exp())


def subset_members(subsets: Subsets, modalities: int) -> Tensor:  # -> (S, M) bool
    """Which modalities each subset of 𝔸 holds (Def. 3.2.1).

    Args:
        subsets: "product": all modalities together (Corollary 3.2.1); "mixture": each by itself (3.2.2); "mixture of
            products": every non-empty subset, subset A at place Σ_{m ∈ A} 2^m - 1 (3.2.3); or a list of subsets.
        modalities: int, M >= 1.
    Raises: ValueError for another name, and for an empty, repeated or unknown subset.
    """
    if isinstance(subsets, str):
        require(subsets in SUBSETS, "Pooling", "subsets", f"be a list or one of {', '.join(SUBSETS)}", subsets)
        if subsets == "product":
            return torch.ones(1, modalities, dtype=torch.bool)
        if subsets == "mixture":
            return torch.eye(modalities, dtype=torch.bool)
        codes = torch.arange(1, 2**modalities).unsqueeze(-1)
        return ((codes >> torch.arange(modalities)) & 1).bool()
    chosen = [tuple(subset) for subset in subsets]
    known = all(subset and set(subset) <= set(range(modalities)) for subset in chosen)
    require(bool(chosen) and known, "Pooling", "subsets", f"be non-empty sets of 0 to {modalities - 1}", subsets)
    different = {frozenset(subset) for subset in chosen}
    apart = len(different) == len(chosen) and all(len(set(subset)) == len(subset) for subset in chosen)
    require(apart, "Pooling", "subsets", "not repeat a subset or a member", subsets)
    members = torch.zeros(len(chosen), modalities, dtype=torch.bool)
    for row, subset in zip(members, chosen, strict=True):
        row[list(subset)] = True
    return members


def subset_shares(members: Tensor, observed: Tensor) -> Tensor:  # (S, M), (B, M) -> (B, S)
    """Weight of each subset where only some modalities are observed: equal on the different non-empty A ∩ O, so that
    what is missing is as if it had been left out. Zero everywhere where no subset meets O."""
    seen, row_of = observed.cpu().unique(dim=0, return_inverse=True)
    inside = members & seen.unsqueeze(1)  # (patterns, S, M)
    same = (inside.unsqueeze(2) == inside.unsqueeze(1)).all(-1)
    first = ~(same & torch.ones_like(same[0]).tril(-1)).any(-1) & inside.any(-1)
    shares = first / first.sum(-1, keepdim=True).double().clamp(min=1)
    return shares[row_of].to(observed.device)


def _precision_weighted(total: Tensor, weighted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the Gaussian with this precision and this precision times mean (Eq. 3.5-3.6)."""
    return weighted / total, -total.log()


def _product(means: Tensor, log_variances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Product of the Gaussians whose weight is 1 (B, M, 1); precisions add."""
    precision = weights * (-log_variances).exp()
    return _precision_weighted(precision.sum(1), (precision * means).sum(1))


def subset_products(
    means: Tensor, log_variances: Tensor, power: Tensor, members: Tensor, average: bool = False
) -> tuple[Tensor, Tensor]:
    """∏ q_m^{power} over the experts of each subset, or with `average` over powers that sum to one (Eq. 2-3).

    Args:
        means, log_variances: (B, M, d).
        power: (B, M), 0 where missing.
        members: (S, M), 0 or 1.
    Returns: means and log-variances (B, S, d); the standard normal where nobody takes part.
    """
    precision = power.unsqueeze(-1) * (-log_variances).exp()
    total, weighted = members @ precision, members @ (precision * means)
    norm = (power @ members.T).unsqueeze(-1)
    nobody = norm == 0
    if average:
        norm = torch.where(nobody, 1.0, norm)
        total, weighted = total / norm, weighted / norm
    return _precision_weighted(total + nobody.to(total), weighted)


def moment_mean(means: Tensor, log_variances: Tensor) -> tuple[Tensor, Tensor]:  # (B, M, d) -> (B, d)
    """Gaussian with the experts' mean mean and mean variance (GroupVAE, Hosoya 2018)."""
    return means.mean(1), log_variances.exp().mean(1).log()


def drawn_component(
    means: Tensor, log_variances: Tensor, subsets: Subsets, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Product of the experts of one subset, drawn uniformly for each row; the others are not computed.

    Args:
        means, log_variances: (B, M, d), all observed.
        subsets: see `subset_members`.
        generator: source of the draws; not used where there is but one subset.
    Returns: mean and log-variance, each (B, d). Drawn components keep their own gradient.
    """
    rows, modalities = means.shape[:2]
    members = subset_members(subsets, modalities)
    if len(members) == 1:
        return _product(means, log_variances, members[0].to(means).view(1, -1, 1).expand_as(means[..., :1]))
    chosen = torch.randint(len(members), (rows,), generator=generator)
    if bool((members.sum(1) == 1).all()):
        expert, one = members.int().argmax(1)[chosen].to(means.device), torch.arange(rows, device=means.device)
        return means[one, expert], log_variances[one, expert]
    return _product(means, log_variances, members[chosen].unsqueeze(-1).to(means))


def drawn_index(shares: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
    """Independent draws from the categorical distributions (..., C) of the last axis: (samples, ...) int64.

    Nothing is drawn where C = 1.
    """
    number = shares.shape[-1]
    if number == 1:
        return torch.zeros(samples, *shares.shape[:-1], dtype=torch.int64, device=shares.device)
    upto = shares.double().cumsum(-1)
    uniform = torch.rand(samples, *shares.shape[:-1], 1, dtype=torch.float64, generator=generator).to(upto.device)
    last = number - 1 - (shares > 0).flip(-1).int().argmax(-1)  # rounding never reaches a share of zero
    return torch.minimum((uniform * upto[..., -1:] >= upto).sum(-1), last)


class GaussianMixture(NamedTuple):
    """Mixtures of diagonal Gaussians, one for each of B rows.

    `means`, `log_variances` (B, C, d); `log_weights` (B, C), -inf where a row has no such component.
    """

    means: Tensor
    log_variances: Tensor
    log_weights: Tensor

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> Tensor:  # -> (samples, B) int64
        """Components, independent over samples and rows; without a draw where there is but one."""
        return drawn_index(self.log_weights.detach().exp(), samples, generator)

    def component(self, index: Tensor) -> tuple[Tensor, Tensor]:  # (L, B) -> (L, B, d) twice
        """Mean and log-variance of chosen components."""
        rows = torch.arange(index.shape[-1], device=index.device)
        return self.means[rows, index], self.log_variances[rows, index]

    def sample(self, samples: int = 1, generator: torch.Generator | None = None) -> Tensor:  # -> (samples, B, d)
        """Independent draws, differentiable in the drawn component."""
        mean, log_variance = self.component(self.draw(samples, generator))
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return mean + (0.5 * log_variance).exp() * noise

    def log_density(self, z: Tensor) -> Tensor:  # (..., B, d) -> (..., B)
        """Of the mixture itself: log Σ_c w_c N(z; c)."""
        each = gaussian_log_density(z.unsqueeze(-2), self.means, self.log_variances).sum(-1)
        return (self.log_weights + each).logsumexp(-1)

    def component_kl(self) -> Tensor:  # -> (B, C)
        """KL of each component to the standard normal."""
        return gaussian_kl(self.means, self.log_variances, 0.0, 0.0).sum(-1)

    def kl(self, how: str = "bound", z: Tensor | None = None) -> Tensor:  # -> (B,)
        """KL to the standard normal.

        Args:
            how: "closed": exact, for one component; "bound": Σ_c w_c KL(c || p), which is not below it (Eq. 3.15);
                "monte carlo": log q(z) - log p(z) of the mixture at its own draws, averaged over them.
            z: (L, B, d) draws for "monte carlo".
        Raises: ValueError for another `how`, "closed" with several components, "monte carlo" without `z`.
        """
        require(how in KLS, "GaussianMixture.kl", "how", f"be one of {', '.join(KLS)}", how)
        if how == "monte carlo":
            require(z is not None, "GaussianMixture.kl", "z", "be draws of the mixture for monte carlo", None)
            assert z is not None
            return (self.log_density(z) - gaussian_log_density(z, 0.0, 0.0).sum(-1)).mean(0)
        number = self.log_weights.shape[1]
        require(how == "bound" or number == 1, "GaussianMixture.kl", "how", "be bound or monte carlo", how)
        return (self.log_weights.exp() * self.component_kl()).sum(-1)


@dataclasses.dataclass(frozen=True)
class Pooling:
    """How experts become one posterior: a mixture, with equal weights, over subsets of what each subset gives.

        q(z | X; 𝔸) = 1/|𝔸| Σ_{A ∈ 𝔸} q_A(z)                                  (Eq. 3.25, docs/math/expert_pooling.md)

    Args:
        subsets: 𝔸, see `subset_members`. Rows that miss modalities have the different non-empty A ∩ O instead.
        inside: q_A of the experts in A: "product" ∝ ∏ q_m; "geometric mean" ∝ ∏ q_m^{w_m}; "power mean"
            ∝ (Σ w_m √q_m)², exactly: a mixture over pairs. Weights are normalised over the experts that take part.
        weights: w_m > 0 of a mean; None: equal.
        prior_weight: >= 0; where positive, the standard normal is one more expert of every subset, with this weight
            (of a product: with this power).
    Called with means, log_variances (B, M, d) and observed (B, M) bool or None (all); returns a `GaussianMixture` whose
    components are the subsets in order, or for the power mean the pairs m <= n, the prior last.
    Gradient: w.r.t. means and log-variances where observed.
    Raises: ValueError for bad options, shapes that differ, a row in which no subset has an observed member, and values
        that are not finite where observed.
    """

    subsets: Subsets = "mixture of products"
    inside: str = "product"
    weights: tuple[float, ...] | None = None
    prior_weight: float = 0.0

    def __post_init__(self) -> None:
        require(self.inside in INSIDE, "Pooling", "inside", f"be one of {', '.join(INSIDE)}", self.inside)
        if isinstance(self.subsets, str):
            subset_members(self.subsets, 1)
        weights = self.weights or ()
        positive = all(weight > 0 and math.isfinite(weight) for weight in weights)
        require(positive, "Pooling", "weights", "be > 0", self.weights)
        mean = self.weights is None or self.inside != "product"
        require(mean, "Pooling", "weights", "be None for a product", self.weights)
        fine = self.prior_weight >= 0 and math.isfinite(self.prior_weight)
        require(fine, "Pooling", "prior_weight", "be >= 0", self.prior_weight)

    def __call__(self, means: Tensor, log_variances: Tensor, observed: Tensor | None = None) -> GaussianMixture:
        means, log_variances, present = self._checked(means, log_variances, observed)
        members = subset_members(self.subsets, means.shape[1])
        if observed is None or bool(present.all()):
            shares = present.new_full((len(means), len(members)), 1 / len(members), dtype=means.dtype)
        else:
            shares = subset_shares(members, present).to(means)
        met = bool((shares > 0).any(-1).all())
        require(met, "Pooling", "observed", "meet a subset in every row", "a row that meets none")
        members, weights = members.to(means), self._weights(means)
        if self.prior_weight:
            zeros = torch.zeros_like(means[:, :1])
            means, log_variances = torch.cat([means, zeros], 1), torch.cat([log_variances, zeros], 1)
            present = torch.cat([present, torch.ones_like(present[:, :1])], 1)
            members = torch.cat([members, torch.ones_like(members[:, :1])], 1)
        if self.inside == "power mean":
            return _power_mean(means, log_variances, weights * present, members, shares)
        mean, log_variance = subset_products(
            means, log_variances, weights * present, members, average=self.inside == "geometric mean"
        )
        return GaussianMixture(mean, log_variance, shares.log())

    def _checked(self, means: Tensor, log_variances: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        shape = tuple(means.shape)
        require(means.ndim == 3 and shape[1] >= 1, "Pooling", "means", "have shape (B, M, d), M >= 1", shape)
        same = log_variances.shape == means.shape
        require(same, "Pooling", "log_variances", f"have the shape {shape} of means", tuple(log_variances.shape))
        if observed is None:
            present = torch.ones(shape[:2], dtype=torch.bool, device=means.device)
        else:
            fits = observed.shape == means.shape[:2] and observed.dtype == torch.bool
            got = f"{tuple(observed.shape)} {observed.dtype}"
            require(fits, "Pooling", "observed", f"be a bool tensor of shape {shape[:2]}", got)
            present = observed.to(means.device)
            require(bool(present.any(-1).all()), "Pooling", "observed", "have something observed in every row", "none")
            means = torch.where(present.unsqueeze(-1), means, 0.0)
            log_variances = torch.where(present.unsqueeze(-1), log_variances, 0.0)
        for name, value in (("means", means), ("log_variances", log_variances)):
            finite = value.detach().isfinite()
            if not bool(finite.all()):
                require(False, "Pooling", name, "be finite where observed", value.detach()[~finite][0].item())
        return means, log_variances, present

    def _weights(self, means: Tensor) -> Tensor:  # -> (M,) or (M + 1,)
        modalities = means.shape[1]
        given = self.weights if self.weights is not None else (1.0,) * modalities
        require(len(given) == modalities, "Pooling", "weights", f"be {modalities} numbers", self.weights)
        return means.new_tensor([*given, self.prior_weight] if self.prior_weight else given)


def _power_mean(
    means: Tensor, log_variances: Tensor, weights: Tensor, members: Tensor, shares: Tensor
) -> GaussianMixture:
    """(Σ_m w_m √q_m)² of each subset: pairs weigh w_m w_n ∫√(q_m q_n), their Gaussian is √(q_m q_n) normalised.

    Args:
        weights: (B, M), 0 where missing.
        members: (S, M), 0 or 1.
        shares: (B, S), of the subsets.
    """
    pairs = list(itertools.combinations_with_replacement(range(means.shape[1]), 2))
    first, second = (torch.tensor(side, device=means.device) for side in zip(*pairs, strict=True))
    precision = (-log_variances).exp()
    p, q = precision[:, first], precision[:, second]
    total = 0.5 * (p + q)
    mean, log_variance = _precision_weighted(total, 0.5 * (p * means[:, first] + q * means[:, second]))
    # Bhattacharyya coefficient of each dimension; the gap divided by the sum of variances, p q / (p + q).
    gap = (means[:, first] - means[:, second]).square() * (p * q / (p + q))
    overlap = -0.5 * (total.log() + 0.5 * (log_variances[:, first] + log_variances[:, second])) - 0.25 * gap
    twice = torch.where(first == second, 1.0, 2.0).to(means)
    both = twice * weights[:, first] * weights[:, second]  # (B, P)
    inside = both.unsqueeze(1) * (members[:, first] * members[:, second])  # (B, S, P)
    log_overlap = overlap.sum(-1)
    mass = inside * log_overlap.exp().unsqueeze(1)  # a pair m = n has overlap 1: the sum is never tiny
    norm = mass.sum(-1, keepdim=True)
    pooled = (shares.unsqueeze(-1) * mass / torch.where(norm > 0, norm, 1.0)).sum(1)
    log_weights = torch.where(pooled > 0, torch.where(pooled > 0, pooled, 1.0).log(), -math.inf)
    return GaussianMixture(mean, log_variance, log_weights)
