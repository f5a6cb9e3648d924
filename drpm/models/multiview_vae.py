"""Weakly supervised learning from views that share some factors: one VAE, interchangeable selections (Fig. 5.15)."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drpm.estimators import leave_one_out
from drpm.models.view_aggregation import Selection, ViewPosterior, assign

_KERNELS = {64: (4, 4, 2, 2), 32: (4, 4, 2)}  # side of the images -> the encoder's convolutions


def _kernels(side: int) -> tuple[int, ...]:
    if side not in _KERNELS:
        raise ValueError(f"MultiviewVAE: side must be one of {sorted(_KERNELS)}, got {side}")
    return _KERNELS[side]


class ConvEncoder(nn.Module):
    """64 x 64 images to a diagonal Gaussian posterior; the encoder of Locatello et al. (2020).

    Four convolutions with stride 2 (32, 32, 64, 64 channels; kernels 4, 4, 2, 2), a dense layer of 256, two heads.

    Args:
        side: 64, or 32: then without the last convolution.
        width: channels of the first convolution; all other widths go with it.
    """

    def __init__(self, latent: int = 10, channels: int = 3, side: int = 64, width: int = 32) -> None:
        super().__init__()
        kernels = _kernels(side)
        widths = (channels, width, width, 2 * width, 2 * width)[: len(kernels) + 1]
        layers: list[nn.Module] = []
        for (a, b), kernel in zip(itertools.pairwise(widths), kernels, strict=True):
            layers += [nn.Conv2d(a, b, kernel, stride=2, padding=kernel // 2 - 1), nn.ReLU(inplace=True)]
        dense = nn.Linear(32 * width, 8 * width)
        self.layers = nn.Sequential(*layers, nn.Flatten(), dense, nn.ReLU(inplace=True))
        self.heads = nn.Linear(8 * width, 2 * latent)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # (B, C, side, side) -> (B, d), (B, d)
        mean, log_variance = self.heads(self.layers(images)).chunk(2, dim=-1)
        return mean, log_variance


class ConvDecoder(nn.Module):
    """The decoder of Locatello et al. (2020): dense 256 and 1024, four transposed convolutions. Returns logits.

    Args: as of `ConvEncoder`; for a side of 32 without the first transposed convolution.
    """

    def __init__(self, latent: int = 10, channels: int = 3, side: int = 64, width: int = 32) -> None:
        super().__init__()
        widths = (*(2 * width, 2 * width, width, width)[4 - len(_kernels(side)) :], channels)
        layers: list[nn.Module] = [nn.Linear(latent, 8 * width), nn.ReLU(inplace=True)]
        layers += [nn.Linear(8 * width, 16 * widths[0]), nn.ReLU(inplace=True), nn.Unflatten(1, (widths[0], 4, 4))]
        for a, b in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, z: Tensor) -> Tensor:  # (B, d) -> (B, C, side, side)
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
        """The partition of the dimensions and the views' posteriors after aggregation.

        A selection that takes S samples in training (`Selection.log_prob`) gives S · B rows, sample by sample.
        """
        means, log_variances = self.encode(views)
        samples = int(getattr(self.selection, "samples", 1)) if self.training else 1
        if samples > 1:
            means, log_variances = means.repeat(samples, 1, 1), log_variances.repeat(samples, 1, 1)
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
        samples = len(z) // len(views[0])
        rows = z.new_zeros(len(z))
        for view, decoded in zip(views, self.decode(z), strict=True):
            wanted = torch.cat([view] * samples)
            if self.likelihood == "bernoulli":
                lost = F.binary_cross_entropy_with_logits(decoded, wanted, reduction="none")
            else:
                lost = 0.5 * (decoded - wanted).square()
            rows = rows - lost.flatten(1).sum(1)
        kl, regulariser = posterior.kl.mean(), selection.regulariser.mean()
        expected = (rows - beta * posterior.kl).unflatten(0, (samples, -1))
        if selection.log_prob is not None:
            expected = leave_one_out(expected, selection.log_prob.unflatten(0, (samples, -1)))
        return MultiviewBound(expected.mean() - gamma * regulariser, rows.mean(), kl, regulariser)
