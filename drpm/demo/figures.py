"""The demo's pictures: a partition of held-out digits, the subset sizes, the training curve."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drpm.models import VariationalPartitionClustering
from drpm.training.figures import pyplot, save_figure

_INK, _MUTED, _GRID = "#1f2933", "#6b7785", "#dde2e7"
_FILE = {"dpi": 150, "facecolor": "white"}
_BLUE, _ORANGE, _GREY = "#2f6db5", "#d9772b", "#a9b4bf"


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Any:
    figure, axes = pyplot().subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(_MUTED)
        axis.tick_params(colors=_INK, labelsize=9)
        axis.set_axisbelow(True)
    return figure, list(axes.flat)


def subset_rows(images: Tensor, labels: Tensor, order: Tensor, clusters: int, width: int) -> np.ndarray:
    """Lay out the images, one row of tiles per subset, in the order of the partition; empty places stay white."""
    side = int(images.shape[1] ** 0.5)
    cell = side + 2
    canvas = np.zeros((clusters * cell, width * cell), dtype=np.float32)
    ranked = order[torch.argsort(labels[order], stable=True)]
    for k in range(clusters):
        for column, element in enumerate(ranked[labels[ranked] == k]):
            tile = images[element].reshape(side, side).numpy()
            top, left = k * cell + 1, column * cell + 1
            canvas[top : top + side, left : left + side] = tile
    return canvas


def draw_partition(model: VariationalPartitionClustering, images: Tensor, path: Path) -> None:
    """Draw the images, as one batch, twice: the partition without noise, and one sample. Uses no labels."""
    clusters = model.config.num_clusters
    generator = torch.Generator().manual_seed(model.config.seed)
    drawn = (model.partition(images), model.partition(images, noise=True, generator=generator))
    counts = [torch.bincount(part.labels[0], minlength=clusters) for part in drawn]
    width = int(max(count.max() for count in counts))
    figure, axes = _figure(0.9 + 0.2 * width, 0.5 + 2 * (0.35 + 0.205 * clusters), rows=2)
    titles = ("Without noise: what predict() returns", "One random sample: sizes and order with noise")
    for axis, title, part, count in zip(axes, titles, drawn, counts, strict=True):
        canvas = subset_rows(images, part.labels[0], part.order[0], clusters, width)
        axis.imshow(canvas, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="equal")
        height = canvas.shape[0] / clusters
        axis.set_yticks([(k + 0.5) * height - 0.5 for k in range(clusters)])
        axis.set_yticklabels([f"{k + 1}  ({int(count[k])})" for k in range(clusters)])
        for k in range(1, clusters):
            axis.axhline(k * height - 0.5, color=_GRID, linewidth=0.8)
        axis.set_xticks([])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_title(title, fontsize=10, color=_INK, loc="left")
        axis.set_ylabel("subset (size)", fontsize=9, color=_MUTED)
    figure.suptitle(
        f"{len(images)} held-out digits partitioned into {clusters} subsets, learned without labels",
        fontsize=11.5, color=_INK, fontweight="bold",
    )  # fmt: skip
    save_figure(figure, path, **_FILE)


def draw_sizes(sizes: dict[str, Any], path: Path) -> None:
    """Draw the subset sizes of the held-out digits beside the sizes of the matched true classes."""
    order = np.argsort(sizes["class_of_subset"])
    places = np.arange(len(order))
    figure, (axis,) = _figure(7.6, 3.6)
    pick = {name: np.asarray(values, dtype=float)[order] for name, values in sizes.items()}
    axis.bar(places - 0.2, pick["true"], 0.38, color=_GREY, label="true class size")
    axis.bar(places + 0.2, pick["noise_free"], 0.38, color=_BLUE, label="learned size, without noise")
    axis.errorbar(
        places + 0.2, pick["sampled_mean"], pick["sampled_sd"], fmt="o", markersize=3.5, color=_ORANGE,
        elinewidth=1.2, capsize=2.5, label="sampled sizes (mean, sd)",
    )  # fmt: skip
    axis.set_xticks(places, [str(int(c)) for c in pick["class_of_subset"]])
    axis.set_xlabel("digit that the subset is matched with (labels used for this picture only)", color=_INK)
    axis.set_ylabel("elements", color=_INK)
    axis.grid(axis="y", color=_GRID, linewidth=0.8)
    top = max(pick["true"].max(), pick["noise_free"].max(), (pick["sampled_mean"] + pick["sampled_sd"]).max())
    axis.set_ylim(0, 1.28 * top)
    axis.legend(frameon=False, fontsize=8.5, loc="upper left", ncols=3, columnspacing=1.2, handletextpad=0.5)
    total = int(pick["true"].sum())
    axis.set_title(
        f"Subset sizes among {total} held-out digits", loc="left", fontsize=11.5, fontweight="bold", color=_INK
    )
    save_figure(figure, path, **_FILE)


def draw_training(history: list[dict[str, Any]], metrics: dict[str, Any], path: Path) -> None:
    """Draw the bound during partition training, and the held-out ARI scored afterwards."""
    rows = [row for row in history if row["phase"] == "partition"]
    epochs = [row["epoch"] for row in rows]
    figure, (left, right) = _figure(9.6, 3.8, columns=2)
    left.plot(epochs, [row["elbo"] for row in rows], color=_BLUE, linewidth=1.8)
    left.set_ylabel("bound per digit (nats)", color=_INK)
    left.set_title("Training objective", loc="left", fontsize=11.5, fontweight="bold", color=_INK)
    curve = metrics["held_out_ari"]
    at = [point["epoch"] for point in curve]
    right.plot(at, [p["partition"] for p in curve], color=_BLUE, linewidth=1.8, label="partition")
    right.plot(at, [p["gaussian"] for p in curve], color=_ORANGE, linewidth=1.8, label="responsibilities")
    baselines = (("gmm_latent", "GMM on the latent space", "--"), ("gmm_pixels", "GMM on pixels", ":"))
    for name, label, style in baselines:
        level = metrics["methods"][name]["gaussian"]["ari"]
        right.axhline(level, color=_MUTED, linewidth=1.2, linestyle=style, label=label)
    right.set_ylabel("held-out ARI", color=_INK)
    right.set_title("Agreement with the true digits", loc="left", fontsize=11.5, fontweight="bold", color=_INK)
    figure.legend(*right.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=4)
    for axis in (left, right):
        axis.set_xlabel("epoch of partition training", color=_INK)
        axis.grid(color=_GRID, linewidth=0.8)
        axis.margins(x=0.02, y=0.12)
    save_figure(figure, path, **_FILE)
