"""Pictures of one clustering run: a sampled partition beside images generated from each cluster; the latent space.

A run keeps what they show in one small file, so that the report can draw them without the model.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drpm.demo.figures import subset_rows
from drpm.models import VariationalPartitionClustering
from drpm.training.figures import pyplot, save_figure

_GENERATED = 10  # images per cluster
_DRAWN, _SHOWN = 2000, 120  # elements in the picture of the latent space and of a partition


@torch.no_grad()
def picture_data(model: VariationalPartitionClustering, images: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Give what the pictures of a model show, as small arrays.

    Args:
        images: (N, num_features) in [0, 1], of which the first are used: the same for every model.
        labels: (N,) true classes, for the colours of the latent space only.
    """
    config = model.config
    generator = torch.Generator().manual_seed(config.seed)
    shown = images[:_SHOWN]
    sampled = model.partition(shown, noise=True, generator=generator)
    mode = model.partition(shown)
    noise = torch.randn(config.num_clusters, _GENERATED, config.latent_dim, generator=generator).to(model.prior_mean)
    z = model.prior_mean[:, None] + (0.5 * model.prior_log_variance).exp()[:, None] * noise
    generated = model.decode(z.flatten(0, 1)).sigmoid()

    embedded = model.embed(images[:_DRAWN]).double()
    centre = model.prior_mean.double().mean(0)
    axes = torch.linalg.svd(model.prior_mean.double() - centre, full_matrices=False).Vh[:2].T
    kept = {
        "images": _bytes(shown),
        "generated": _bytes(generated),
        "sampled_labels": sampled.labels[0].to(torch.uint8),
        "sampled_order": sampled.order[0].to(torch.uint8),
        "labels": mode.labels[0].to(torch.uint8),
        "order": mode.order[0].to(torch.uint8),
        "latent": ((embedded - centre) @ axes).half(),
        "priors": ((model.prior_mean.double() - centre) @ axes).half(),
        "classes": labels[:_DRAWN].to(torch.uint8),
    }
    return {name: values.cpu().numpy() for name, values in kept.items()}


def _bytes(pixels: Tensor) -> Tensor:
    return (255.0 * pixels).round().to(torch.uint8)


def draw_partition(data: dict[str, Any], path: Path, sampled: bool = True) -> None:
    """Draw a partition of the images, a row per subset, and images decoded from draws of each subset's prior.

    Args:
        data: of `picture_data`.
        sampled: a random sample of the partition; False: the partition without noise.
    Reference: thesis Fig. 5.10.
    """
    prefix = "sampled_" if sampled else ""
    images, generated, labels, order = (
        torch.from_numpy(np.asarray(data[name]))
        for name in ("images", "generated", f"{prefix}labels", f"{prefix}order")
    )
    clusters = len(generated) // _GENERATED
    owner = torch.arange(clusters).repeat_interleave(_GENERATED)
    panels = (
        ("a sampled partition" if sampled else "the partition without noise", images, labels.long(), order.long()),
        ("drawn from each cluster's prior", generated, owner, torch.arange(len(owner))),
    )
    widths = (int(torch.bincount(labels.long()).max()), _GENERATED)
    figure, axes = pyplot().subplots(
        1, 2, figsize=(1.0 + 0.36 * sum(widths), 0.6 + 0.38 * clusters), width_ratios=widths, layout="constrained"
    )
    for axis, (title, pixels, subset, place), width in zip(axes, panels, widths, strict=True):
        canvas = subset_rows(pixels.float() / 255.0, subset, place, clusters, width)
        axis.imshow(canvas, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
        height = canvas.shape[0] / clusters
        axis.set_yticks([(k + 0.5) * height - 0.5 for k in range(clusters)], [str(k + 1) for k in range(clusters)])
        axis.set_xticks([])
        axis.tick_params(length=0)
        axis.set_title(title, fontsize=10, loc="left")
    axes[0].set_ylabel("subset")
    save_figure(figure, path, dpi=110)


def draw_latent_space(data: dict[str, Any], path: Path) -> None:
    """Draw the embeddings on the first two principal axes of the cluster priors (crosses), coloured by true class.

    Args:
        data: of `picture_data`.
    """
    latent, priors = (np.asarray(data[name], dtype=np.float64) for name in ("latent", "priors"))
    figure, axis = pyplot().subplots(figsize=(5.6, 5.2), layout="constrained")
    points = axis.scatter(latent[:, 0], latent[:, 1], c=data["classes"], cmap="tab10", s=3, linewidths=0)
    axis.scatter(priors[:, 0], priors[:, 1], c="black", marker="x", s=60)
    axis.set_title("Latent space, first two principal axes of the priors", fontsize=11, loc="left")
    figure.colorbar(points, label="true class", shrink=0.8)
    save_figure(figure, path, dpi=110)


def draw_curves(title: str, runs_of: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw the test ARI over the epochs of training.

    Args:
        runs_of: method -> its runs, one per seed.
    """
    figure, axes = pyplot().subplots(1, 2, figsize=(9.6, 3.8), layout="constrained", sharey=True)
    for axis, column in zip(axes, ("partition", "responsibilities"), strict=True):
        for number, (method, runs) in enumerate(runs_of.items()):
            points = [[point[column]["ari"] for point in run["metrics"]["curve"] if column in point] for run in runs]
            if not points[0]:
                continue
            epochs = [point["epoch"] for point in runs[0]["metrics"]["curve"]]
            by_epoch = np.array(points)
            (line,) = axis.plot(epochs, by_epoch.mean(0), label=method, color=f"C{number}")
            axis.fill_between(epochs, by_epoch.min(0), by_epoch.max(0), color=line.get_color(), alpha=0.15, linewidth=0)
        axis.set_title(f"{title}: ARI of the {column}", fontsize=11, loc="left")
        axis.set_xlabel("epoch of training (0: initialisation)")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test ARI (mean, range over seeds)")
    axes[1].legend(frameon=False, fontsize=9)
    save_figure(figure, path, dpi=110)


def draw_sizes(run_of: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the mean sizes of the subsets under the learned importances over training, beside the sizes of the classes.

    Args:
        run_of: title -> one run.
    """
    columns = min(2, len(run_of))
    lines = -(-len(run_of) // columns)
    figure, axes = pyplot().subplots(
        lines, columns, figsize=(4.8 * columns, 3.2 * lines), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(run_of) :]:
        axis.set_visible(False)
    for axis, (title, run) in zip(axes.flat, run_of.items(), strict=False):
        curve, classes = run["metrics"]["curve"], run["metrics"]["class_sizes"]
        axis.plot([point["epoch"] for point in curve], [point["mean_sizes"] for point in curve], linewidth=1.2)
        edge = curve[-1]["epoch"]
        axis.scatter([edge * 1.04] * len(classes), classes, color="black", marker="_", s=60)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("epoch of training; marks: true classes", fontsize=9)
        axis.set_ylabel("elements")
        axis.grid(alpha=0.3)
    save_figure(figure, path, dpi=110)
