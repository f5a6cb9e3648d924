"""Variational deep embedding (VaDE): the mixture baseline of the clustering experiment, on the same network.

Jiang et al. 2017. Every element has its own, independent cluster: z is drawn from a Gaussian mixture with weights pi.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from drpm.models.clustering import VariationalPartitionClustering


class MixtureBound(NamedTuple):
    """The bound on log p(x) and its terms, each per element; higher `elbo` is better."""

    elbo: Tensor
    reconstruction: Tensor  # E log p(x | z)
    latent_kl: Tensor  # sum_c gamma_c KL(q(z | x) || p(z | c))
    label_kl: Tensor  # KL(gamma || pi)


class VaDE(nn.Module):
    """Mixture model on encoder, decoder and cluster priors of a VariationalPartitionClustering.

    Args:
        network: gives encoder, decoder and the Gaussians of the clusters; its two heads are not used.
        log_weights: (K,) first log weights of the mixture.
    Reference: Jiang et al., Variational deep embedding, 2017, Eq. 12, 16.
    """

    def __init__(self, network: VariationalPartitionClustering, log_weights: Tensor) -> None:
        super().__init__()
        self.network = network
        self.logits = nn.Parameter(log_weights.detach().clone())

    def trained_parameters(self) -> list[nn.Parameter]:
        """Give all parameters but those of the two heads, which the mixture does not have."""
        network = self.network
        heads = {id(p) for head in (network.size_head, network.score_head) for p in head.parameters()}
        heads.add(id(network.log_score_scale))
        return [p for p in self.parameters() if id(p) not in heads]

    def responsibilities(self, z: Tensor) -> Tensor:  # (n, d) -> (n, K)
        """Give p(c | z)."""
        return (self.network.gaussian_log_density(z) + self.logits.log_softmax(-1)).softmax(-1)

    def bound(self, x: Tensor, beta: float = 1.0, generator: torch.Generator | None = None) -> MixtureBound:
        """Estimate the bound on one batch with one draw of z.

        Args:
            x: (n, num_features) in [0, 1].
            beta: weight of both divergences.
        """
        network, n = self.network, len(x)
        hidden = network.hidden(x)
        mean, log_variance = network.mean_head(hidden), network.log_variance_head(hidden)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        z = mean + (0.5 * log_variance).exp() * noise
        reconstruction = -network.reconstruction_loss(z, x)
        gamma = self.responsibilities(z)
        latent_kl = (gamma * network.latent_kl(mean, log_variance)).sum()
        label_kl = (gamma * (gamma.clamp_min(1e-30).log() - self.logits.log_softmax(-1))).sum()
        elbo = reconstruction - beta * (latent_kl + label_kl)
        return MixtureBound(*(term / n for term in (elbo, reconstruction, latent_kl, label_kl)))

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:  # (N, num_features) -> (N,) int64
        """Label each element with its most probable cluster at its posterior mean."""
        return self.responsibilities(self.network.embed(x)).argmax(-1)
