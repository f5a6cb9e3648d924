"""How generated data resemble real ones, in the features of a classifier."""

import numpy as np
import torch
from torch import Tensor

from drpm.ops._arguments import require


def prd_curve(
    real: Tensor, generated: Tensor, clusters: int = 20, angles: int = 1001, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of a generator (Sajjadi et al. 2018): histograms p, q over clusters of both sets together,

        precision(λ) = Σ min(λ p, q),  recall(λ) = precision(λ) / λ,  λ = tan of equally spaced angles.

    Args:
        real, generated: (N, d) features, as many of each.
    Returns: precision and recall, (angles,) each.
    """
    from sklearn.cluster import MiniBatchKMeans

    require(len(real) == len(generated), "prd_curve", "generated", f"be {len(real)}, as real", len(generated))
    both = torch.cat([real, generated]).float().numpy()
    number = min(clusters, len(np.unique(both, axis=0)))
    found = MiniBatchKMeans(number, n_init=3, batch_size=2048, random_state=seed).fit(both).labels_
    p, q = (np.bincount(part, minlength=number) / len(real) for part in np.split(found, 2))
    slopes = np.tan(np.linspace(1e-6, np.pi / 2 - 1e-6, angles))
    precision = np.minimum(slopes[:, None] * p, q).sum(1)
    return precision.clip(0, 1), (precision / slopes).clip(0, 1)


def average_precision(real: Tensor, generated: Tensor, **options: int) -> float:
    """Area under the curve of precision over recall: 1 for equal histograms, 0 for disjoint ones."""
    precision, recall = prd_curve(real, generated, **options)
    return float(np.trapezoid(precision[::-1], recall[::-1]))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a.float(), b.float())


def density_coverage(real: Tensor, generated: Tensor, neighbours: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020): how many balls to the k-th neighbour around real data hold a generated
    datum, over k; and the share of balls that hold one."""
    require(1 <= neighbours < len(real), "density_coverage", "neighbours", f"lie in [1, {len(real)})", neighbours)
    radii = torch.cat([_distances(part, real).kthvalue(neighbours + 1, dim=1).values for part in real.split(1000)])
    inside = torch.cat([_distances(part, real) <= radii for part in generated.split(1000)])  # (generated, real)
    density = float(inside.sum()) / (neighbours * len(generated))
    return density, float(inside.any(0).double().mean())


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """|μ - ν|² + tr(Σ + Γ - 2 (Σ Γ)^½) of Gaussians with the sets' moments (Heusel et al. 2017)."""
    a, b = real.double(), generated.double()
    first, second = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return float(gap + first.trace() + second.trace() - 2 * cross)
