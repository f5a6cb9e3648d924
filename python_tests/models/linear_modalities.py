"""A multimodal VAE whose every part is linear and Gaussian: log p(X) is known exactly."""

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from drpm.models.likelihoods import Gaussian
from drpm.models.multimodal_vae import Modality, MultimodalVAE

NAMES = ("image", "sound", "text")
SIZES, PRIVATE, SCALES = (3, 2, 4), (1, 0, 2), (1.0, 2.0, 0.7)
SHARED = 2


class LinearEncoder(nn.Module):
    """Mean linear in the data, constant log-variances."""

    def __init__(self, size: int, latent: int, log_variance: float) -> None:
        super().__init__()
        self.mean = nn.Linear(size, latent)
        with torch.no_grad():
            self.mean.weight.mul_(0.6)
        self.log_variance = nn.Parameter(log_variance + 0.3 * torch.randn(latent))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.mean(x)
        return mean, self.log_variance.expand_as(mean)


def modalities(private=PRIVATE, shared=SHARED, seed=0, log_variance=0.0, **options) -> dict[str, Modality]:
    torch.manual_seed(seed)
    found = {}
    for name, size, own, scale in zip(NAMES, SIZES, private, SCALES, strict=True):
        encoder = LinearEncoder(size, shared + own, log_variance)
        decoder = nn.Linear(shared + own, size)
        settings = {"weight": 1.0} | options
        found[name] = Modality(encoder, decoder, Gaussian(scale), (size,), private=own, **settings).double()
    return found


def data(rows=5, seed=0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(rows, size, generator=generator, dtype=torch.float64)
        for name, size in zip(NAMES, SIZES, strict=True)
    }


def exact_log_prob(model: MultimodalVAE, x: dict[str, Tensor], reads: list[Tensor] | None = None) -> Tensor:
    """log p(X) of the modalities in `x`.

    Args:
        reads: for each modality (shared, variables) 0-1, which variable each shared dimension of its decoder reads; by
            default the same `shared` variables.
    """
    variables = model.shared if reads is None else reads[0].shape[1]
    width = variables + sum(m.private for _, _, m in model.each())
    offset, loadings, means, noises = variables, [], [], []
    for place, name, modality in model.each():
        weight = modality.decoder.weight.detach()
        loading = weight.new_zeros(len(weight), width)
        shared = torch.eye(variables, dtype=weight.dtype) if reads is None else reads[place]
        loading[:, :variables] = weight[:, : model.shared] @ shared
        loading[:, offset : offset + modality.private] = weight[:, model.shared :]
        offset += modality.private
        if name in x:
            loadings.append(loading)
            means.append(modality.decoder.bias.detach())
            noises.append(weight.new_full((len(weight),), modality.likelihood.scale**2))
    loading = torch.cat(loadings)
    covariance = loading @ loading.T + torch.cat(noises).diag()
    return MultivariateNormal(torch.cat(means), covariance).log_prob(torch.cat(list(x.values()), 1))
