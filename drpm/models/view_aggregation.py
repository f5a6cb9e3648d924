"""Which latent dimensions do views share, and what is their joint posterior (thesis 5.3.3, Eq. 5.87-5.88).

Posteriors are diagonal Gaussians: `means` and `log_variances` (B, V, d) of V views. A *group* is a set of views that
may share dimensions; the last subset of every partition, K - 1, is "private". The thesis has two views and one group,
so K = 2: shared and independent.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from drpm import ops
from drpm.estimators import partition_kl, partition_kl_bound
from drpm.models.experts import SUBSETS, drawn_component, gaussian_kl, moment_mean

PARTITION_KLS = ("bound", "loose bound", "exact")
PARTITION_ESTIMATORS = ("straight-through", "leave-one-out")
AGGREGATIONS = ("mean", *SUBSETS)


def view_divergence(means: Tensor, log_variances: Tensor) -> Tensor:  # (B, V, d) -> (B, d)
    """Mean KL over all ordered pairs of views, per dimension: small where views say the same."""
    pairs = list(itertools.permutations(range(means.shape[1]), 2))
    kls = [gaussian_kl(means[:, a], log_variances[:, a], means[:, b], log_variances[:, b]) for a, b in pairs]
    return torch.stack(kls).mean(0)


def aggregate(
    means: Tensor, log_variances: Tensor, how: str = "mean", generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Joint posterior of what V views share.

    Args:
        means, log_variances: (B, V, d).
        how: "mean": arithmetic mean of means and variances (GroupVAE, Hosoya 2018; the thesis' choice in 5.3.3);
            "product": product of experts (Eq. 3.12), precisions add; "mixture": mixture of experts, one view is drawn
            for each row; "mixture of products": a non-empty subset of views is drawn for each row, uniformly, and
            multiplied (MoPoE, Eq. 3.18). Drawn components keep their own gradient.
        generator: source of the mixtures' draws.
    Returns: mean and log-variance, each (B, d).
    Raises: ValueError for another `how`.
    """
    if how not in AGGREGATIONS:
        raise ValueError(f"aggregate: how must be one of {', '.join(AGGREGATIONS)}, got {how}")
    if how == "mean":
        return moment_mean(means, log_variances)
    return drawn_component(means, log_variances, how, generator)


class ViewPosterior(NamedTuple):
    """Posteriors of every view after the shared dimensions were aggregated.

    `means`, `log_variances` (B, V, d); `kl` (B) to the standard normal, in which what a group shares counts once.
    """

    means: Tensor
    log_variances: Tensor
    kl: Tensor


def assign(
    means: Tensor,  # (B, V, d)
    log_variances: Tensor,  # (B, V, d)
    masks: Tensor,  # (B, K, d)
    groups: Sequence[Sequence[int]],
    how: str = "mean",
    generator: torch.Generator | None = None,
) -> ViewPosterior:
    """Give every view the joint posterior where a group of its shares the dimension, its own elsewhere.

        q(z_i | x_j) = Σ_k Y_ki q_k(z_i | x_j),  q_k = f_agg over group k, for its views   (Eq. 5.87-5.88)

    Means and log-variances are mixed with the masks, so relaxed masks interpolate and straight-through ones pass
    their gradient on.

    Args:
        masks: (B, K, d), K = len(groups) + 1, the last row private; rows of Y.
        groups: sets of views; a view outside a group keeps its own posterior there.
    """
    views = means.shape[1]
    private_kl = gaussian_kl(means, log_variances, 0.0, 0.0)  # (B, V, d)
    mixed_mean = masks[:, -1:] * means
    mixed_log_variance = masks[:, -1:] * log_variances
    kl = (masks[:, -1] * private_kl.sum(1)).sum(-1)
    for k, members in enumerate(groups):
        inside = list(members)
        joint_mean, joint_log_variance = aggregate(means[:, inside], log_variances[:, inside], how, generator)
        is_member = torch.zeros(views, 1, dtype=torch.bool, device=means.device)
        is_member[inside] = True
        own_mean = torch.where(is_member, joint_mean.unsqueeze(1), means)
        own_log_variance = torch.where(is_member, joint_log_variance.unsqueeze(1), log_variances)
        mask = masks[:, k : k + 1]
        mixed_mean = mixed_mean + mask * own_mean
        mixed_log_variance = mixed_log_variance + mask * own_log_variance
        once = gaussian_kl(joint_mean, joint_log_variance, 0.0, 0.0)
        outside = torch.where(is_member, torch.zeros((), dtype=means.dtype, device=means.device), private_kl).sum(1)
        kl = kl + (masks[:, k] * (once + outside)).sum(-1)
    return ViewPosterior(mixed_mean, mixed_log_variance, kl)


class Selection(NamedTuple):
    """`masks` (B, K, d) and `sizes` (B, K) of the subsets (the last is private); `regulariser` (B), the terms that
    the selection adds to the negative ELBO, in nats; `log_prob` (B) of masks that pass no gradient on and whose
    parameters learn from the score function."""

    masks: Tensor
    sizes: Tensor
    regulariser: Tensor
    log_prob: Tensor | None = None


def _two_subsets(shared: Tensor) -> Selection:  # (B, d) bool
    masks = torch.stack([shared, ~shared], dim=1).to(torch.get_default_dtype())
    return Selection(masks, masks.sum(-1), masks.new_zeros(len(masks)))


class LabelSelection(nn.Module):
    """Label-VAE (Bouchacourt et al. 2018; Hosoya 2018): a known number of independent dimensions, the most different.

    Args:
        num_independent: int >= 0; 1 in the thesis, whatever the truth is.
    """

    def __init__(self, num_independent: int = 1) -> None:
        super().__init__()
        self.num_independent = num_independent

    def forward(self, means: Tensor, log_variances: Tensor, tau: float = 1.0) -> Selection:
        divergence = view_divergence(means, log_variances)
        most = divergence.topk(min(self.num_independent, divergence.shape[-1]), dim=-1).indices
        return _two_subsets(torch.ones_like(divergence, dtype=torch.bool).scatter(-1, most, False))


class AdaptiveSelection(nn.Module):
    """Ada-VAE (Locatello et al. 2020): shared where the views' KL lies below the middle of its range."""

    def forward(self, means: Tensor, log_variances: Tensor, tau: float = 1.0) -> Selection:
        divergence = view_divergence(means, log_variances)
        middle = 0.5 * (divergence.amin(-1, keepdim=True) + divergence.amax(-1, keepdim=True))
        return _two_subsets(divergence < middle)


class _Learned(nn.Module):
    """What the learned selections read of the views: symmetric in the views, so that their order does not matter."""

    def __init__(self, latent: int, subsets: int) -> None:
        super().__init__()
        self.size_head = nn.Linear(5 * latent, subsets)

    @staticmethod
    def features(means: Tensor, log_variances: Tensor) -> Tensor:  # (B, 5 d)
        both = (means, log_variances)
        centre = [x.mean(1) for x in both]
        spread = [(x - x.mean(1, keepdim=True)).abs().mean(1) for x in both]
        return torch.cat([*centre, *spread, view_divergence(means, log_variances).log1p()], dim=-1)


class HypergeometricSelection(_Learned):
    """HG-VAE (thesis 5.3.3): learned sizes from the MVHG; the dimensions on which the views differ least are shared.

    The assignment is a heuristic outside the ELBO: the order by view divergence carries no gradient, its boundary does.
    regulariser = KL(MVHG(ω(X)) || MVHG(ω_p = 1)), exact.

    Args:
        latent: int, d.
        subsets: int, K; only 2.
        hard: bool, one-hot masks with straight-through gradients.
    """

    def __init__(self, latent: int, subsets: int = 2, hard: bool = True) -> None:
        if subsets != 2:
            raise ValueError(f"HypergeometricSelection: subsets must be 2 (shared, private), got {subsets}")
        super().__init__(latent, subsets)
        self.hard = hard

    def forward(self, means: Tensor, log_variances: Tensor, tau: float = 1.0) -> Selection:
        latent = means.shape[-1]
        log_omega = self.size_head(self.features(means, log_variances))
        sizes = ops.mvhg_sample(log_omega, latent, latent, tau, hard=self.hard, noise=self.training)
        by_likeness = -view_divergence(means, log_variances).detach()
        masks = ops.partition(by_likeness, sizes, tau, hard=self.hard, normalize=not self.hard)
        kl = ops.mvhg_kl(log_omega, torch.zeros_like(log_omega), latent, latent)
        return Selection(masks, sizes, kl)


class PartitionSelection(_Learned):
    """DRPM-VAE (thesis 5.3.3.1): sizes and assignment are learned, by a random partition of the dimensions.

    Args:
        latent: int, d.
        subsets: int, K: the groups, then private.
        hard: bool, one-hot masks with straight-through gradients.
        conditionals: "exact" or "merged"; the same for K = 2.
        kl: how far the partition is from the prior with all ω_p = 1, all s_p = 1 (`regulariser`):
            "bound": Eq. 5.86 and A.35 as printed,
                log |Π_Y| + log q(n; ω) - log p(n) + max_{π ∈ Π_Y} log q(π; s) - log p(π),  p(π) = 1/d!;
            "loose bound": the same with the maximum over all π, as in Lemma 5.2.3 and Eq. 5.71;
            "exact": KL(q(Y) || p(Y)), its order term estimated from `kl_samples` draws (`estimators.partition_kl`).
        kl_samples: int >= 2.
        estimator: how the parameters learn from the reconstruction: "straight-through", or "leave-one-out", the score
            function over `samples` hard partitions of each row (`estimators.leave_one_out`), unbiased; needs
            kl="exact".
        samples: int >= 2, of "leave-one-out", in training.

    Gradient: of the bounds, pathwise through the relaxed sizes and at the drawn Π_Y; of "exact", unbiased.
    """

    def __init__(
        self,
        latent: int,
        subsets: int = 2,
        hard: bool = True,
        conditionals: str = "exact",
        kl: str = "bound",
        kl_samples: int = 4,
        estimator: str = "straight-through",
        samples: int = 2,
    ) -> None:
        if kl not in PARTITION_KLS:
            raise ValueError(f"PartitionSelection: kl must be one of {', '.join(PARTITION_KLS)}, got {kl}")
        if estimator not in PARTITION_ESTIMATORS:
            known = ", ".join(PARTITION_ESTIMATORS)
            raise ValueError(f"PartitionSelection: estimator must be one of {known}, got {estimator}")
        if estimator == "leave-one-out" and (kl != "exact" or samples < 2):
            raise ValueError(
                "PartitionSelection: estimator must be straight-through unless kl is exact and samples >= 2, "
                f"got {estimator} with {kl} and {samples}"
            )
        super().__init__(latent, subsets)
        self.estimator, self.samples = estimator, samples if estimator == "leave-one-out" else 1
        self.hard, self.conditionals, self.kl, self.kl_samples = hard, conditionals, kl, kl_samples
        self.score_head = nn.Linear(5 * latent, latent)

    def forward(self, means: Tensor, log_variances: Tensor, tau: float = 1.0) -> Selection:
        features = self.features(means, log_variances)
        log_omega, log_scores = self.size_head(features), self.score_head(features)
        if self.estimator == "leave-one-out":
            with torch.no_grad():
                drawn = ops.random_partition(log_omega, log_scores, noise=self.training)
            regulariser = _exact_divergence(log_omega, log_scores, self.kl_samples)
            log_prob = ops.random_partition_log_prob(drawn.labels, log_omega, log_scores) if self.training else None
            return Selection(drawn.assignment, drawn.sizes, regulariser, log_prob)
        return drawn_selection(
            log_omega,
            log_scores,
            tau,
            len(means),
            hard=self.hard,
            noise=self.training,
            conditionals=self.conditionals,
            kl=self.kl,
            kl_samples=self.kl_samples,
        )


def drawn_selection(
    log_omega: Tensor,  # (R, K)
    log_scores: Tensor,  # (R, d)
    tau: float,
    rows: int,
    *,
    hard: bool,
    noise: bool,
    conditionals: str,
    kl: str,
    kl_samples: int,
) -> Selection:
    """Random partitions of the dimensions, one for each of `rows` rows, with their divergence `kl` from the uniform one
    (see `PartitionSelection`). R is `rows`, or 1 where all rows share the parameters; "exact" is then estimated once.
    """
    omega, scores = log_omega.expand(rows, -1), log_scores.expand(rows, -1)
    drawn = ops.random_partition(omega, scores, tau, hard=hard, noise=noise, conditionals=conditionals)
    if kl == "exact":
        regulariser = _exact_divergence(log_omega, log_scores, kl_samples).expand(rows)
    else:
        regulariser = _bounded_divergence(drawn, omega, scores, kl, conditionals)
    masks = drawn.assignment
    if not hard:
        masks = masks / masks.sum(dim=1, keepdim=True)  # NeuralSort's columns do not sum to one
    return Selection(masks, drawn.sizes, regulariser)


def _exact_divergence(log_omega: Tensor, log_scores: Tensor, samples: int) -> Tensor:
    with torch.no_grad():
        labels = ops.random_partition(log_omega, log_scores, sample_shape=(samples,)).labels
    kl = partition_kl(labels, log_omega, torch.zeros_like(log_omega), log_scores, torch.zeros_like(log_scores))
    return kl.sizes + kl.order


def _bounded_divergence(
    drawn: ops.Partition, log_omega: Tensor, log_scores: Tensor, kl: str, conditionals: str
) -> Tensor:
    loose = partition_kl_bound(drawn.sizes, log_omega, log_scores, conditionals=conditionals)
    if kl == "loose bound":
        return loose.sizes + loose.order
    # Within Π_Y the most probable order is by decreasing score inside each subset.
    by_score = log_scores.detach().argsort(dim=-1, descending=True, stable=True)
    order = by_score.gather(-1, drawn.labels.gather(-1, by_score).argsort(dim=-1, stable=True))
    log_orders = math.lgamma(log_scores.shape[-1] + 1)
    return loose.sizes + ops.plackett_luce_log_prob(order, log_scores) + log_orders
