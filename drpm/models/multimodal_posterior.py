"""Posteriors of a multimodal VAE over all its latent variables: what decoders read, and how likely that was."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from drpm.models.experts import GaussianMixture, gaussian_log_density
from drpm.models.pattern_sharing import (
    BlockPooling,
    BlockPosterior,
    Patterns,
    draw_blocks,
    log_density_ratio,
    read_codes,
)
from drpm.models.view_aggregation import Selection


class Experts(NamedTuple):
    """What encoders say of B rows: `means`, `log_variances` (B, M, shared) and for each modality (B, private_m) twice,
    the standard normal where missing; `observed` (B, M) bool."""

    means: Tensor
    log_variances: Tensor
    private: list[tuple[Tensor, Tensor]]
    observed: Tensor

    def only(self, places: Sequence[int]) -> "Experts":
        """The experts of some modalities, as if the others were missing."""
        kept = torch.zeros_like(self.observed[0])
        kept[list(places)] = True
        means, log_variances = (part * kept.unsqueeze(-1) for part in (self.means, self.log_variances))
        private = [(mean * keep, log * keep) for (mean, log), keep in zip(self.private, kept, strict=True)]
        return Experts(means, log_variances, private, self.observed & kept)

    def rows(self, which: slice) -> "Experts":
        """Some of the rows."""
        private = [(mean[which], log_variance[which]) for mean, log_variance in self.private]
        return Experts(self.means[which], self.log_variances[which], private, self.observed[which])


class Latents(NamedTuple):
    """Drawn variables: `shared` (L, B, …) and for each modality `private` (L, B, private_m)."""

    shared: Tensor
    private: list[Tensor]


class Posterior(Protocol):
    """What the objectives ask of a posterior over shared and private variables."""

    def sample(self, samples: int, generator: torch.Generator | None = None) -> tuple[list[Tensor], Latents]:
        """Draw: what each decoder reads (L, B, shared + private_m), and the variables."""
        ...

    def log_ratio(self, latents: Latents) -> Tensor:
        """log q - log p of drawn variables, (L, B)."""
        ...

    def representation(self, generator: torch.Generator | None = None) -> Tensor:
        """A vector (B, …) of what the given modalities say, for classifiers: means, of mixtures those of a drawn
        component."""
        ...


def normal_noise(samples: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise (samples, *like.shape)."""
    return torch.randn(samples, *like.shape, generator=generator).to(like)


def sample_private(experts: Experts, samples: int, generator: torch.Generator | None) -> list[Tensor]:
    """Private variables (L, B, private_m); from the prior where missing."""
    return [
        mean + (0.5 * log_variance).exp() * normal_noise(samples, mean, generator)
        for mean, log_variance in experts.private
    ]


def private_log_ratio(experts: Experts, private: list[Tensor]) -> Tensor:  # -> (L, B)
    """log q - log p of private variables, summed over the modalities."""
    parts = [
        (gaussian_log_density(w, mean, log_variance) - gaussian_log_density(w, 0.0, 0.0)).sum(-1)
        for w, (mean, log_variance) in zip(private, experts.private, strict=True)
    ]
    return torch.stack(parts).sum(0)


def _private_means(experts: Experts) -> Tensor:
    return torch.cat([mean for mean, _ in experts.private], -1)


class SubspacePosterior(NamedTuple):
    """A shared variable with a mixture, and private ones (Eq. 4.6)."""

    experts: Experts
    mixture: GaussianMixture

    def sample(self, samples: int, generator: torch.Generator | None = None) -> tuple[list[Tensor], Latents]:
        z = self.mixture.sample(samples, generator)
        private = sample_private(self.experts, samples, generator)
        return [torch.cat([z, w], -1) for w in private], Latents(z, private)

    def log_ratio(self, latents: Latents) -> Tensor:
        prior = gaussian_log_density(latents.shared, 0.0, 0.0).sum(-1)
        return self.mixture.log_density(latents.shared) - prior + private_log_ratio(self.experts, latents.private)

    def representation(self, generator: torch.Generator | None = None) -> Tensor:
        """The shared part; the private ones where there is none."""
        if self.mixture.means.shape[-1] == 0:
            return _private_means(self.experts)
        return self.mixture.component(self.mixture.draw(1, generator))[0][0]


class SharingPosterior(NamedTuple):
    """Variables of blocks, of which Y says which exist, and private ones."""

    experts: Experts
    selection: Selection  # `masks` one-hot
    blocks: BlockPosterior
    pooling: BlockPooling

    @classmethod
    def of(cls, experts: Experts, selection: Selection, pooling: BlockPooling) -> "SharingPosterior":
        """Pool the experts; a relaxed partition is rounded."""
        masks = torch.nn.functional.one_hot(selection.masks.argmax(1), selection.masks.shape[1])
        blocks = pooling(experts.means, experts.log_variances, experts.observed)
        return cls(experts, selection._replace(masks=masks.transpose(1, 2).to(selection.masks)), blocks, pooling)

    @property
    def patterns(self) -> Patterns:
        return self.pooling.patterns

    def sample(self, samples: int, generator: torch.Generator | None = None) -> tuple[list[Tensor], Latents]:
        blocks = draw_blocks(self.blocks, self.pooling, block_noise(samples, self.experts, generator), generator)
        private = sample_private(self.experts, samples, generator)
        codes = read_codes(blocks, self.selection.masks, self.patterns)
        return [torch.cat(parts, -1) for parts in zip(codes, private, strict=True)], Latents(blocks, private)

    def log_ratio(self, latents: Latents) -> Tensor:
        ratio = log_density_ratio(latents.shared, self.blocks, self.selection.masks, self.pooling)
        return ratio + private_log_ratio(self.experts, latents.private)

    def representation(self, generator: torch.Generator | None = None) -> Tensor:
        """In each dimension the mean of the largest block of its pattern that holds a given modality, 0 where that
        block is a single modality: what is shared."""
        noise = torch.zeros_like(self.experts.means).unsqueeze(0)
        means = draw_blocks(self.blocks, self.pooling, noise, generator)[0]  # (B, G, d)
        members = torch.zeros(len(self.patterns.blocks), self.patterns.modalities, device=means.device)
        for row, block in zip(members, self.patterns.blocks, strict=True):
            row[list(block)] = 1.0
        met = self.experts.observed.to(members) @ members.T > 0  # (B, G)
        size = members.sum(-1) * met  # (B, G)
        rank = self.patterns.holds.to(size) * size.unsqueeze(1)  # (B, K, G)
        largest, shared = rank.argmax(-1), rank.amax(-1) > 1
        rows = torch.arange(len(means), device=means.device).unsqueeze(-1)
        return (self.selection.masks * (means[rows, largest] * shared.unsqueeze(-1))).sum(1)


def block_noise(samples: int, experts: Experts, generator: torch.Generator | None) -> Tensor:
    """(L, B, M, d) standard normal, one modality after the other."""
    modalities = experts.means.shape[1]
    return torch.stack([normal_noise(samples, experts.means[:, 0], generator) for _ in range(modalities)], 2)
