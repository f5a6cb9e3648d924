"""What the phases of training VariationalPartitionClustering compute, for whoever drives the steps."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from drpm.models.clustering_config import BoundWeights
from drpm.models.contrastive import cluster_contrastive_loss, contrastive_loss, random_affine_views

if TYPE_CHECKING:
    from drpm.models.clustering import VariationalPartitionClustering

# The heads read features of an autoencoder that never saw them: they need larger steps than the rest, whose
# structure the partition phase must not tear.
_WARM_START_LEARNING_RATE = 1e-2
_CHUNK = 8192  # elements encoded at once where all are needed


def parameter_groups(model: VariationalPartitionClustering, phase: str) -> list[dict[str, Any]]:
    """Give what the optimiser of a phase ("pretrain", "warm_start", "partition") trains, and how fast."""
    config = model.config
    heads = [*model.size_head.parameters(), *model.score_head.parameters()]
    if phase == "pretrain":
        parts = [model.layers, model.mean_head, model.decoder]
        if model.contrast_head is not None:
            parts.append(model.contrast_head)
        return [{"params": [p for part in parts for p in part.parameters()], "lr": config.pretrain_learning_rate}]
    if phase == "warm_start":
        return [{"params": heads, "lr": _WARM_START_LEARNING_RATE}]
    heads.append(model.log_score_scale)
    frozen = [p for layer in model.layers[: config.frozen_layers] for p in layer.parameters()]
    for p in frozen:
        p.requires_grad_(False)
    unused = [] if model.contrast_head is None else [*model.contrast_head.parameters()]
    left_out = {id(p) for p in (*frozen, *heads, *unused)}
    rest = [p for p in model.parameters() if id(p) not in left_out]
    return [
        {"params": rest, "lr": config.learning_rate},
        {"params": heads, "lr": config.learning_rate * config.head_rate},
    ]


def pretrain_loss(model: VariationalPartitionClustering, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Reconstruction, and similar embeddings for two random views of an image, or for the image and one of them."""
    config = model.config
    contrast = config.contrast_weight if config.image_shape is not None else 0.0
    views = [batch]
    if config.image_shape is not None and contrast > 0.0:
        shape = config.image_shape
        views += [random_affine_views(batch, shape, generator=generator) for _ in range(config.contrast_views)]
    embedded = model.embed(torch.cat(views)).chunk(len(views))
    reconstruction = model.reconstruction_loss(embedded[0], batch) / len(batch)
    loss = (1.0 - contrast) * config.reconstruction_scale * reconstruction
    if len(views) > 1:
        first, second = embedded[-2:]
        between = contrastive_loss(first, second, config.contrast_temperature)
        if model.contrast_head is not None:
            p, q = (model.contrast_head(z).softmax(-1) for z in (first, second))
            between = between + config.cluster_weight * cluster_contrastive_loss(p, q, temperature=1.0)
        loss = loss + contrast * between
    return loss


def warm_start_loss(model: VariationalPartitionClustering, batch: Tensor, mixture_log_weights: Tensor) -> Tensor:
    """Cross-entropy of both heads to the responsibilities of the mixture; the encoder stays as it is."""
    with torch.no_grad():
        hidden = model.hidden(batch)
        density = model.gaussian_log_density(model.mean_head(hidden))
        target = (density + mixture_log_weights).softmax(-1)
    return F.cross_entropy(model.size_head(hidden), target) + F.cross_entropy(model.score_head(hidden), target)


def partition_loss(
    model: VariationalPartitionClustering, batch: Tensor, weights: BoundWeights, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Minus the bound on a random view of the batch, and what keeps the heads near the priors; its terms to log."""
    config = model.config
    if config.augment and config.image_shape is not None:
        batch = random_affine_views(batch, config.image_shape, noise=0.0, generator=generator)
        batch = batch.clamp(0.0, 1.0)
    bound = model.bound(batch, weights, generator)
    terms = {name: float(value.detach()) for name, value in bound._asdict().items()}
    return config.amortisation * bound.amortisation - bound.elbo, terms


@torch.no_grad()
def embed_all(model: VariationalPartitionClustering, x: Tensor) -> Tensor:  # (N, num_features) -> (N, latent_dim)
    """Latent means of all rows, in parts that fit into memory."""
    return torch.cat([model.embed(part) for part in x.split(_CHUNK)])


@torch.no_grad()
def initialise_from_mixture(model: VariationalPartitionClustering, x: Tensor, starts: int = 20) -> Tensor:  # -> (K,)
    """Standardise the latent space, fit a Gaussian mixture in it and make its components the cluster priors.

    Args:
        x: (N, num_features).
        starts: random starts of the mixture, of which the best is kept.
    Returns: (K,) log weights of the mixture.
    """
    config = model.config
    z = embed_all(model, x)
    centre = z.mean(0)
    spread = (z - centre).square().mean().sqrt()
    # The contrastive loss leaves the scale of z free (it came out near 0.05), but step sizes and the initial
    # posterior variance are absolute. Both linear maps around z absorb the change; the autoencoder stays the same.
    model.mean_head.bias.sub_(centre).div_(spread)
    model.mean_head.weight.div_(spread)
    first = model.decoder[0]
    assert isinstance(first, torch.nn.Linear)
    first.bias.add_(first.weight @ centre)
    first.weight.mul_(spread)

    z = embed_all(model, x)
    log_weights, means, variances = fit_gaussian_mixture(z, config.num_clusters, config.seed, starts)
    model.prior_mean.copy_(means)
    model.prior_log_variance.copy_(variances.log())
    # Posteriors start narrower than their clusters, or sampling z would blur what pre-training separated.
    model.log_variance_head.weight.zero_()
    model.log_variance_head.bias.fill_(float(variances.mean().log()) + 2.0 * math.log(config.posterior_scale))
    return log_weights.to(z)


@torch.no_grad()
def order_clusters(model: VariationalPartitionClustering, x: Tensor) -> list[int]:
    """Renumber the clusters so that those which are confused with each other get neighbouring numbers.

    The score is one number: an element that hesitates between subsets 2 and 7 lands among those between them, and
    pushes every boundary on its way by one. Between neighbours it can only land in one of its two candidates.

    Returns: the old number of each new cluster.
    """
    temperature = model.config.vote_temperature_init
    votes = torch.cat([model(part, temperature).score_votes for part in x.split(_CHUNK)]).softmax(-1)
    affinity = votes.T @ votes
    order = linear_arrangement(affinity.fill_diagonal_(0.0))
    for head in (model.size_head, model.score_head):
        head.weight.copy_(head.weight[order])
        head.bias.copy_(head.bias[order])
    model.prior_mean.copy_(model.prior_mean[order])
    model.prior_log_variance.copy_(model.prior_log_variance[order])
    return order


def fit_gaussian_mixture(
    z: Tensor, num_clusters: int, seed: int, starts: int = 20, floor: float = 1e-4
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a diagonal Gaussian mixture, the best of some starts.

    Args:
        z: (N, d).
        floor: added to every variance.
    Returns: log weights (K,), means (K, d), variances (K, d).
    Raises: ModuleNotFoundError when scikit-learn is missing.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "VariationalPartitionClustering.fit: needs scikit-learn; pip install 'drpm[demo]'"
        ) from error
    mixture = GaussianMixture(
        num_clusters, covariance_type="diag", n_init=starts, reg_covar=floor, max_iter=300, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(z.double().numpy())
    fields = (mixture.weights_, mixture.means_, mixture.covariances_)
    weights, means, variances = (torch.from_numpy(field).to(z) for field in fields)
    return weights.log(), means, variances


def linear_arrangement(affinity: Tensor) -> list[int]:  # (K, K) symmetric
    """Order K items so that strongly linked ones stand near each other.

    min over orders of sum_{k, l} affinity_kl |position_k - position_l|

    The cost is the sum, over every place where the order can be cut, of the affinity across the cut: exact dynamic
    programming over sets for K <= 12; beyond, the order of the second eigenvector of the Laplacian.
    """
    count = len(affinity)
    if count > 12:
        laplacian = torch.diag(affinity.sum(1)) - affinity
        return torch.linalg.eigh(laplacian).eigenvectors[:, 1].argsort().tolist()
    links = affinity.double().tolist()
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for chosen in range(1, 1 << count):
        inside = [k for k in range(count) if chosen >> k & 1]
        outside = [k for k in range(count) if not chosen >> k & 1]
        cut = sum(links[k][other] for k in inside for other in outside)
        cost, last = min((best[chosen & ~(1 << k)][0], k) for k in inside)
        best[chosen] = (cost + cut, [*best[chosen & ~(1 << last)][1], last])
    return best[(1 << count) - 1][1]
