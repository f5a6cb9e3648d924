"""Contrastive pre-training of an autoencoder: random views of small images, and the loss on them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def random_affine_views(
    images: Tensor,  # (n, height * width)
    image_shape: tuple[int, int],
    *,
    rotation: float = 0.25,
    scale: float = 0.15,
    shear: float = 0.2,
    shift: float = 0.2,
    noise: float = 0.15,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one randomly rotated, scaled, sheared, shifted and noisy view of each image.

    Args:
        images: (n, height * width) float, grey values.
        image_shape: (height, width).
        rotation: largest angle, radians. scale, shear, shift: largest change, in units of half the image.
        noise: standard deviation of the Gaussian noise added to each pixel.
    Returns: (n, height * width), same dtype.
    """
    n = images.shape[0]

    def uniform(limit: float, *shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) * 2.0 - 1.0).to(images) * limit

    angle, zoom, slant, offset = uniform(rotation, n), 1.0 + uniform(scale, n), uniform(shear, n), uniform(shift, n, 2)
    top = torch.stack([zoom * angle.cos(), slant - angle.sin(), offset[:, 0]], dim=1)
    bottom = torch.stack([angle.sin(), zoom * angle.cos(), offset[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([top, bottom], dim=1), [n, 1, *image_shape], align_corners=False)
    views = F.grid_sample(images.view(n, 1, *image_shape), grid, align_corners=False).view(n, -1)
    return views + noise * torch.randn(views.shape, generator=generator).to(views)


def contrastive_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:  # (n, d), (n, d) -> ()
    """Normalised temperature-scaled cross-entropy: each view has to find its sibling among 2n - 1 others.

    Args:
        first, second: (n, d), embeddings of two views of the same n images.
        temperature: float > 0.
    Returns: () mean loss in nats.
    Reference: Chen et al. 2020 (SimCLR); used per instance by Li et al. 2022 (twin contrastive learning).
    """
    views = F.normalize(torch.cat([first, second]), dim=1)
    logits = views @ views.T / temperature
    logits = logits.masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), -math.inf)
    siblings = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(logits, siblings)


def cluster_contrastive_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:  # (n, K), (n, K) -> ()
    """Contrast clusters instead of elements: a cluster's members among n views find their siblings', all K are used.

        loss = contrastive_loss(first^T, second^T) + sum over both views of log K - H(mean_i p_i)

    Args:
        first, second: (n, K), probabilities of the clusters for two views of the same n images.
        temperature: float > 0.
    Returns: () loss in nats; the second part is 0 where the clusters are equally large.
    Reference: Li et al. 2021 (contrastive clustering), 2022 (twin contrastive learning).
    """
    loss = contrastive_loss(first.T, second.T, temperature)
    for probabilities in (first, second):
        mean = probabilities.mean(0)
        loss = loss + math.log(len(mean)) + (mean * mean.clamp_min(1e-30).log()).sum()
    return loss
