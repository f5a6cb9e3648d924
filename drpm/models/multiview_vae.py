"""Weakly supervised learning from views that share some factors: one VAE, interchangeable selections (Fig. 5.15)."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drpm.models.view_aggregation import Selection, ViewPosterior, assign


class ConvEncoder(nn.Module):
    """64 x 64 images to a diagonal Gaussian posterior; the encoder of Locatello et al. (2020).

    Four convolutions with stride 2 (32, 32, 64, 64 channels; kernels 4, 4, 2, 2), a dense layer of 256, two heads.
    """

    def __init__(self, latent: int = 10, channels: int = 3) -> None:
        super().__init__()
        widths = (channels, 32, 32, 64, 64)
        layers: list[nn.Module] = []
        for (a, b), kernel in zip(itertools.pairwise(widths), (4, 4, 2, 2), strict=True):
            layers += [nn.Conv2d(a, b, kernel, stride=2, padding=kernel // 2 - 1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(inplace=True))
        self.heads = nn.Linear(256, 2 * latent)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # (B, C, 64, 64) -> (B, d), (B, d)
        mean, log_variance = self.heads(self.layers(images)).chunk(2, dim=-1)
        return mean, log_variance


class ConvDecoder(nn.Module):
    """The decoder of Locatello et al. (2020): dense 256 and 1024, four transposed convolutions. Returns logits."""

    def __init__(self, latent: int = 10, channels: int = 3) -> None:
        super().__init__()
        widths = (64, 64, 32, 32, channels)
        layers: list[nn.Module] = [nn.Linear(latent, 256), nn.ReLU(inplace=True)]
        layers += [nn.Linear(256, 1024), nn.ReLU(inplace=True), nn.Unflatten(1, (64, 4, 4))]
        for a, b in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, z: Tensor) -> Tensor:  # (B, d) -> (B, C, 64, 64)
        return self.layers(z)


class DenseEncoder(nn.Module):
    """Feature vectors to a diagonal Gaussian posterior: two hidden layers."""

    def __init__(self, features: int, latent: int = 10, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (B, D) -> (B, d), (B, d)
        mean, log_variance = self.layers(x).chunk(2, dim=-1)
        return mean, log_variance


class DenseDecoder(nn.Sequential):
    """Latent vectors to feature means: two hidden layers."""

    def __init__(self, features: int, latent: int = 10, hidden: int = 256) -> None:
        super().__init__(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, features)
        )


class MultiviewBound(NamedTuple):
    """Means over the batch, in nats; `elbo` (higher is better) = reconstruction - β kl - γ regulariser."""

    elbo: Tensor
    reconstruction: Tensor
    kl: Tensor
    regulariser: Tensor


class MultiviewVAE(nn.Module):
    """A VAE of V views whose latent dimensions are shared by groups of views or private (thesis 5.3.3, Eq. 5.86).

    Args:
        encoders: one for all views, or one per view; each maps a view to mean and log-variance (B, d).
        decoders: likewise; each maps z (B, d) to logits ("bernoulli") or means ("gaussian").
        selection: gives the partition of the dimensions from all views' posteriors (`drpm.models.view_aggregation`).
        groups: the sets of views that may share dimensions; by default one, of all `num_views` views.
        num_views: int, V.
        aggregation: how shared posteriors are joined, see `view_aggregation.aggregate`.
        likelihood: "bernoulli" (values in [0, 1]) or "gaussian" (unit variance).
        precision: "float32" or "bf16": encoders and decoders compute in bfloat16 where torch.autocast lets them; what
            they return, and everything else, stays float32.
    """

    def __init__(
        self,
        encoders: nn.Module | Sequence[nn.Module],
        decoders: nn.Module | Sequence[nn.Module],
        selection: nn.Module,
        *,
        num_views: int = 2,
        groups: Sequence[Sequence[int]] | None = None,
        aggregation: str = "mean",
        likelihood: str = "bernoulli",
        precision: str = "float32",
    ) -> None:
        super().__init__()
        if precision not in ("float32", "bf16"):
            raise ValueError(f"MultiviewVAE: precision must be float32 or bf16, got {precision}")
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"MultiviewVAE: likelihood must be bernoulli or gaussian, got {likelihood}")
        self.num_views, self.aggregation, self.likelihood = num_views, aggregation, likelihood
        self.precision = precision
        self.groups = [tuple(range(num_views))] if groups is None else [tuple(group) for group in groups]
        self.encoders = self._modules_of("encoders", encoders)
        self.decoders = self._modules_of("decoders", decoders)
        self.selection = selection

    def _modules_of(self, name: str, given: nn.Module | Sequence[nn.Module]) -> nn.ModuleList:
        modules = [given] if isinstance(given, nn.Module) else list(given)
        if len(modules) not in (1, self.num_views):
            raise ValueError(f"MultiviewVAE: {name} must be 1 or {self.num_views} modules, got {len(modules)}")
        return nn.ModuleList(modules)

    def _of_view(self, modules: nn.ModuleList, view: int) -> nn.Module:
        return modules[view if len(modules) > 1 else 0]

    def encode(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:  # V tensors (B, …) -> (B, V, d) twice
        """Posteriors of the views, each by itself."""
        if len(views) != self.num_views:
            raise ValueError(f"MultiviewVAE: views must be {self.num_views} tensors, got {len(views)}")
        with self._autocast(views[0]):
            if len(self.encoders) == 1:  # one call for all views
                mean, log_variance = self.encoders[0](torch.cat(list(views)))
                shape = (self.num_views, len(views[0]), -1)
                return mean.float().view(shape).transpose(0, 1), log_variance.float().view(shape).transpose(0, 1)
            found = [encoder(view) for encoder, view in zip(self.encoders, views, strict=True)]
            means = torch.stack([mean for mean, _ in found], 1)
            return means.float(), torch.stack([log for _, log in found], 1).float()

    def _autocast(self, on: Tensor) -> torch.autocast:
        return torch.autocast(on.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def infer(
        self, views: Sequence[Tensor], tau: float = 1.0, generator: torch.Generator | None = None
    ) -> tuple[Selection, ViewPosterior]:
        """The partition of the dimensions and the views' posteriors after aggregation."""
        means, log_variances = self.encode(views)
        selection = self.selection(means, log_variances, tau)
        if selection.masks.shape[1] != len(self.groups) + 1:
            raise ValueError(
                f"MultiviewVAE: selection must give {len(self.groups) + 1} subsets (groups and private), "
                f"got {selection.masks.shape[1]}"
            )
        return selection, assign(means, log_variances, selection.masks, self.groups, self.aggregation, generator)

    def decode(self, z: Tensor) -> list[Tensor]:  # (B, V, d) -> V tensors (B, …)
        """Logits or means of every view."""
        with self._autocast(z):
            if len(self.decoders) == 1:
                flat = self.decoders[0](z.transpose(0, 1).flatten(0, 1))
                return list(flat.float().chunk(self.num_views))
            return [decoder(z[:, view]).float() for view, decoder in enumerate(self.decoders)]

    def bound(
        self,
        views: Sequence[Tensor],
        tau: float = 1.0,
        beta: float = 1.0,
        gamma: float = 0.25,
        generator: torch.Generator | None = None,
    ) -> MultiviewBound:
        """One-sample estimate of the ELBO (Eq. 5.86 with the weights of Eq. A.35).

        Args:
            views: V tensors (B, …); in [0, 1] for the Bernoulli likelihood.
            tau: temperature of the relaxed partition.
            beta: weight of the latent KL.
            gamma: weight of the partition's terms.
            generator: source of z and of the mixtures' draws.
        """
        return self.bound_of(views, *self.infer(views, tau, generator), beta, gamma, generator)

    def bound_of(
        self,
        views: Sequence[Tensor],
        selection: Selection,
        posterior: ViewPosterior,
        beta: float = 1.0,
        gamma: float = 0.25,
        generator: torch.Generator | None = None,
    ) -> MultiviewBound:
        """`bound`, for what `infer` gave."""
        noise = torch.randn(posterior.means.shape, generator=generator).to(posterior.means)
        z = posterior.means + (0.5 * posterior.log_variances).exp() * noise
        reconstruction = z.new_zeros(())
        for view, decoded in zip(views, self.decode(z), strict=True):
            if self.likelihood == "bernoulli":
                reconstruction = reconstruction - F.binary_cross_entropy_with_logits(decoded, view, reduction="sum")
            else:
                reconstruction = reconstruction - 0.5 * (decoded - view).square().sum()
        reconstruction = reconstruction / len(views[0])
        kl, regulariser = posterior.kl.mean(), selection.regulariser.mean()
        return MultiviewBound(reconstruction - beta * kl - gamma * regulariser, reconstruction, kl, regulariser)
