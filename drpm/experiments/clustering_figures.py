"""Pictures of one clustering run: a sampled partition beside images generated from each cluster; the latent space."""

from pathlib import Path

import torch
from torch import Tensor

from drpm.experiments.demo_figures import subset_rows
from drpm.models import PartitionClustering

_GENERATED = 10  # images per cluster


@torch.no_grad()
def draw_generated(model: PartitionClustering, images: Tensor, path: Path, sampled: bool = True) -> None:
    """Draw a partition of the images, a row per subset, and images decoded from draws of each subset's prior.

    Args:
        images: (n, num_features) in [0, 1], one batch.
        sampled: a random sample of the partition; False: the partition without noise.
    Reference: thesis Fig. 5.10.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    clusters = model.config.num_clusters
    generator = torch.Generator().manual_seed(model.config.seed)
    drawn = model.partition(images, noise=sampled, generator=generator)
    counts = torch.bincount(drawn.labels[0], minlength=clusters)
    noise = torch.randn(_GENERATED, clusters, model.config.latent_dim, generator=generator)
    z = model.prior_mean + (0.5 * model.prior_log_variance).exp() * noise.to(model.prior_mean)
    generated = model.decoder(z.transpose(0, 1).reshape(clusters * _GENERATED, -1)).sigmoid()
    owner = torch.arange(clusters).repeat_interleave(_GENERATED)
    panels = (
        ("a sampled partition" if sampled else "the partition without noise", images, drawn.labels[0], drawn.order[0]),
        ("drawn from each cluster's prior", generated, owner, torch.arange(len(owner))),
    )
    widths = (int(counts.max()), _GENERATED)
    figure, axes = pyplot.subplots(
        1, 2, figsize=(1.0 + 0.36 * sum(widths), 0.6 + 0.38 * clusters), width_ratios=widths, layout="constrained"
    )
    for axis, (title, pixels, labels, order), width in zip(axes, panels, widths, strict=True):
        canvas = subset_rows(pixels.cpu(), labels.cpu(), order.cpu(), clusters, width)
        axis.imshow(canvas, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
        height = canvas.shape[0] / clusters
        axis.set_yticks([(k + 0.5) * height - 0.5 for k in range(clusters)], [str(k + 1) for k in range(clusters)])
        axis.set_xticks([])
        axis.tick_params(length=0)
        axis.set_title(title, fontsize=10, loc="left")
    axes[0].set_ylabel("subset")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


@torch.no_grad()
def draw_latent_space(model: PartitionClustering, images: Tensor, labels: Tensor, path: Path) -> None:
    """Draw the embeddings on their first two principal axes, coloured by true class; crosses are the cluster priors.

    Args:
        labels: (n,) true classes, for the colours only.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    z = model.embed(images).cpu().double()
    centre = z.mean(0)
    axes_of = torch.linalg.svd(z - centre, full_matrices=False).Vh[:2].T
    flat, priors = (((points.double() - centre) @ axes_of).numpy() for points in (z, model.prior_mean.cpu()))
    figure, axis = pyplot.subplots(figsize=(5.6, 5.2), layout="constrained")
    points = axis.scatter(flat[:, 0], flat[:, 1], c=labels.numpy(), cmap="tab10", s=3, linewidths=0)
    axis.scatter(priors[:, 0], priors[:, 1], c="black", marker="x", s=60)
    axis.set_title("Latent space, first two principal axes", fontsize=11, loc="left")
    figure.colorbar(points, label="true class", shrink=0.8)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
