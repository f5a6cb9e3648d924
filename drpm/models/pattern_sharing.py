"""Which modalities share each latent dimension: a random partition of the dimensions into patterns of sharing.

A *pattern* is a set partition of the modalities; every block of it holds one variable of its own, which the decoders of
its members read. Chapter 4 fixes how many dimensions all modalities share and how many are private; here chapter 5's
partition learns it, for any patterns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from drpm.models.experts import (
    SUBSETS,
    drawn_index,
    gaussian_kl,
    gaussian_log_density,
    subset_members,
    subset_products,
    subset_shares,
)
from drpm.models.view_aggregation import PARTITION_KLS, Selection, drawn_selection
from drpm.ops._arguments import require

Pattern = tuple[tuple[int, ...], ...]


def group_patterns(modalities: int) -> list[Pattern]:
    """One pattern for each group of two or more modalities, the others private, and last the one with all private.

    Returns: 2^M - M patterns; group G at the place of Σ_{m ∈ G} 2^m among groups.
    """
    found = []
    for members in subset_members("mixture of products", modalities):
        group = tuple(members.nonzero().flatten().tolist())
        if len(group) > 1:
            found.append((group, *((m,) for m in range(modalities) if m not in group)))
    return [*found, tuple((m,) for m in range(modalities))]


class Patterns:
    """Patterns of M modalities, and the different blocks that occur in them.

    Attributes:
        blocks: the blocks, as tuples; G of them.
        holds: (K, G) bool, whether a pattern has the block.
        read_by: for each modality the places of the blocks that hold it.
    Raises: ValueError where a pattern is no set partition of the modalities, or occurs twice.
    """

    def __init__(self, patterns: Sequence[Sequence[Sequence[int]]], modalities: int) -> None:
        self.patterns = [tuple(tuple(sorted(block)) for block in pattern) for pattern in patterns]
        self.modalities = modalities
        whole = list(range(modalities))
        partitions = all(all(p) and sorted(m for block in p for m in block) == whole for p in self.patterns)
        contract = f"be set partitions of 0 to {modalities - 1}"
        require(bool(self.patterns) and partitions, "Patterns", "patterns", contract, patterns)
        apart = len({frozenset(pattern) for pattern in self.patterns}) == len(self.patterns)
        require(apart, "Patterns", "patterns", "be different", patterns)
        self.blocks = sorted({block for pattern in self.patterns for block in pattern})
        place = {block: g for g, block in enumerate(self.blocks)}
        self.holds = torch.tensor([[block in pattern for block in self.blocks] for pattern in self.patterns])
        self.read_by = [torch.tensor([place[b] for b in self.blocks if m in b]) for m in whole]

    def __len__(self) -> int:
        return len(self.patterns)


class FixedSharing(nn.Module):
    """A known pattern for every dimension.

    Args:
        labels: d numbers, the pattern of each dimension.
        modalities: int, M.
        patterns: set partitions of the modalities; None: `group_patterns`.
    """

    labels: Tensor

    def __init__(
        self, labels: Sequence[int], modalities: int, patterns: Sequence[Sequence[Sequence[int]]] | None = None
    ) -> None:
        super().__init__()
        self.patterns = Patterns(group_patterns(modalities) if patterns is None else patterns, modalities)
        known = all(0 <= label < len(self.patterns) for label in labels)
        require(known and bool(labels), "FixedSharing", "labels", f"lie in [0, {len(self.patterns)})", labels)
        self.latent = len(labels)
        self.register_buffer("labels", torch.tensor(labels))

    def forward(self, means: Tensor, log_variances: Tensor, observed: Tensor, tau: float = 1.0) -> Selection:
        masks = nn.functional.one_hot(self.labels, len(self.patterns)).T.to(means).expand(len(means), -1, -1)
        return Selection(masks, masks.sum(-1), masks.new_zeros(len(masks)))


class SharingSelection(nn.Module):
    """A learned pattern for every dimension: Y ~ DRPM(ω, s) over the d dimensions and K patterns (Eq. 5.84-5.86).

    Args:
        latent: int, d.
        modalities: int, M.
        patterns: set partitions of the modalities; None: `group_patterns`, K = 2^M - M.
        amortised: bool; False: log ω (K,) and log-scores (d,) are parameters, each row draws its own partition of them;
            True: both are linear in the observed experts' means and log-variances.
        hard, conditionals, kl, kl_samples: as in `view_aggregation.PartitionSelection`.
    Without noise in eval mode. Gradient: straight-through, through the relaxed partition.
    """

    def __init__(
        self,
        latent: int,
        modalities: int,
        patterns: Sequence[Sequence[Sequence[int]]] | None = None,
        *,
        amortised: bool = False,
        hard: bool = True,
        conditionals: str = "exact",
        kl: str = "bound",
        kl_samples: int = 4,
    ) -> None:
        super().__init__()
        require(latent >= 1, "SharingSelection", "latent", "be >= 1", latent)
        require(kl in PARTITION_KLS, "SharingSelection", "kl", f"be one of {', '.join(PARTITION_KLS)}", kl)
        self.patterns = Patterns(group_patterns(modalities) if patterns is None else patterns, modalities)
        self.latent, self.amortised = latent, amortised
        self.hard, self.conditionals, self.kl, self.kl_samples = hard, conditionals, kl, kl_samples
        if amortised:
            features = 2 * modalities * latent + modalities
            self.size_head = nn.Linear(features, len(self.patterns))
            self.score_head = nn.Linear(features, latent)
        else:
            self.log_omega = nn.Parameter(torch.zeros(len(self.patterns)))
            self.log_scores = nn.Parameter(torch.zeros(latent))

    def forward(self, means: Tensor, log_variances: Tensor, observed: Tensor, tau: float = 1.0) -> Selection:
        """
        Args:
            means, log_variances: (B, M, d) experts, zero where missing.
            observed: (B, M) bool.
            tau: temperature of the relaxed partition.
        """
        if self.amortised:
            features = torch.cat([means.flatten(1), log_variances.flatten(1), observed.to(means)], 1)
            log_omega, log_scores = self.size_head(features), self.score_head(features)
        else:
            log_omega, log_scores = self.log_omega.unsqueeze(0), self.log_scores.unsqueeze(0)
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


class BlockPosterior(NamedTuple):
    """Posteriors of all blocks' variables, for every dimension, whether or not its pattern has the block.

    `means`, `log_variances` (B, S, d) of the pooled subsets; `shares` (B, G, S), block g's mixture over them. Where
    nothing of a block is observed it has the standard normal.
    """

    means: Tensor
    log_variances: Tensor
    shares: Tensor

    def kl(self) -> Tensor:  # -> (B, G, d)
        """KL to the prior of each block and dimension, of mixtures its bound; zero where nothing is observed."""
        return self.shares @ gaussian_kl(self.means, self.log_variances, 0.0, 0.0)


class BlockPooling:
    """Posterior of every block of some patterns: its observed members, pooled.

    Args:
        patterns: see `Patterns`.
        subsets: 𝔸 inside each block: "product", "mixture" or "mixture of products" (`experts.subset_members`).
    """

    def __init__(self, patterns: Patterns, subsets: str = "product") -> None:
        require(subsets in SUBSETS, "BlockPooling", "subsets", f"be one of {', '.join(SUBSETS)}", subsets)
        self.patterns, modalities = patterns, patterns.modalities
        families = []
        for block in patterns.blocks:
            inside = torch.zeros(len(rows := subset_members(subsets, len(block))), modalities, dtype=torch.bool)
            inside[:, list(block)] = rows
            families.append([tuple(row.nonzero().flatten().tolist()) for row in inside])
        found = sorted({subset for family in families for subset in family})
        self.members = torch.tensor([[m in subset for m in range(modalities)] for subset in found])  # (S, M)
        self.family = [torch.tensor([found.index(subset) for subset in family]) for family in families]
        self.single = subsets == "product"
        self.first = torch.tensor([block[0] for block in patterns.blocks])  # the modality that lends a block its noise
        self._known: dict[tuple[bool, ...], Tensor] = {}

    def __call__(self, means: Tensor, log_variances: Tensor, observed: Tensor) -> BlockPosterior:
        """
        Args:
            means, log_variances: (B, M, d), finite everywhere.
            observed: (B, M) bool.
        """
        pooled = subset_products(means, log_variances, observed.to(means), self.members.to(means))
        return BlockPosterior(*pooled, self._shares(observed).to(means))

    def _shares(self, observed: Tensor) -> Tensor:  # -> (B, G, S)
        seen, row_of = observed.cpu().unique(dim=0, return_inverse=True)
        return torch.stack([self._shares_of(row) for row in seen])[row_of]

    def _shares_of(self, observed: Tensor) -> Tensor:  # (M,) -> (G, S)
        key = tuple(observed.tolist())
        if key not in self._known:
            shares = torch.zeros(len(self.family), len(self.members), dtype=torch.float64)
            for row, family in zip(shares, self.family, strict=True):
                row[family] = subset_shares(self.members[family], observed.unsqueeze(0))[0]
                if not bool(row.any()):
                    row[family[0]] = 1.0  # nothing observed: its product is the prior
            self._known[key] = shares
        return self._known[key]


def draw_blocks(
    posterior: BlockPosterior, pooling: BlockPooling, noise: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """One variable of every block and dimension; a block's dimensions come from one component of its mixture.

    Args:
        noise: (L, B, M, d) standard normal; a block takes that of its first member, so blocks of a pattern are
            independent.
        generator: source of the components.
    Returns: (L, B, G, d).
    """
    samples, rows = noise.shape[:2]
    if pooling.single:
        family = torch.cat(pooling.family).to(noise.device)
        mean, log_variance = posterior.means[:, family], posterior.log_variances[:, family]
    else:
        index = drawn_index(posterior.shares, samples, generator)  # (L, B, G)
        row = torch.arange(rows, device=noise.device).view(1, -1, 1)
        mean, log_variance = posterior.means[row, index], posterior.log_variances[row, index]
    return mean + (0.5 * log_variance).exp() * noise[..., pooling.first.to(noise.device), :]


def read_codes(blocks: Tensor, masks: Tensor, patterns: Patterns) -> list[Tensor]:
    """What each decoder reads: z_i^(m) = Σ_k Y_ki z_{block of m in k, i}.

    Args:
        blocks: (..., B, G, d) variables.
        masks: (B, K, d), Y.
    Returns: M tensors (..., B, d).
    """
    codes = []
    for mine in patterns.read_by:
        weights = patterns.holds[:, mine].T.to(masks) @ masks  # (B, blocks of m, d)
        codes.append((weights * blocks[..., mine.to(blocks.device), :]).sum(-2))
    return codes


def sharing_kl(posterior: BlockPosterior, masks: Tensor, patterns: Patterns) -> Tensor:  # -> (B,)
    """KL of the variables to their priors: one term for each block of each dimension's pattern."""
    of_pattern = patterns.holds.to(masks) @ posterior.kl()  # (B, K, d)
    return (masks * of_pattern).sum((-2, -1))


def log_density_ratio(blocks: Tensor, posterior: BlockPosterior, masks: Tensor, pooling: BlockPooling) -> Tensor:
    """log q(z | Y) - log p(z) of drawn variables, those of the blocks that the patterns of Y have.

    Args:
        blocks: (L, B, G, d) variables.
        masks: (B, K, d), one-hot over K.
    Returns: (L, B).
    """
    there = pooling.patterns.holds.T.to(masks) @ masks  # (B, G, d)
    total = blocks.new_zeros(blocks.shape[:2])
    for g, family in enumerate(pooling.family):
        if not bool(there[:, g].any()):
            continue
        z, mask = blocks[:, :, g], there[:, g]
        each = gaussian_log_density(z.unsqueeze(-2), posterior.means[:, family], posterior.log_variances[:, family])
        density = ((mask.unsqueeze(-2) * each).sum(-1) + posterior.shares[:, g, family].log()).logsumexp(-1)
        total = total + density - (mask * gaussian_log_density(z, 0.0, 0.0)).sum(-1)
    return total
