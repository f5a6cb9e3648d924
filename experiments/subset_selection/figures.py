"""Pictures of the chosen features: pixels on their grid, a panel of genes over the cell types."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from drpm.data import Expression
from drpm.training.figures import pyplot, save_figure

_PANEL = 24  # genes


def draw_pixels(chosen: Mapping[tuple[str, str], Sequence[int]], path: Path) -> None:
    """Draw a mask for each data set (a row) and method (a column); chosen: (data set, method) -> pixels of 784."""
    sets, methods = (list(dict.fromkeys(key[part] for key in chosen)) for part in (0, 1))
    size = (1.45 * len(methods) + 0.5, 1.75 * len(sets) + 0.3)
    figure, axes = pyplot().subplots(len(sets), len(methods), figsize=size, layout="constrained", squeeze=False)
    for row, name in enumerate(sets):
        for column, method in enumerate(methods):
            axis = axes[row, column]
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(name, fontsize=9)
            if row == 0:
                axis.set_title(method.replace(" ", "\n", 1), fontsize=8)
            if (name, method) not in chosen:
                axis.axis("off")
                continue
            mask = np.zeros(784)
            mask[list(chosen[name, method])] = 1.0
            axis.imshow(mask.reshape(28, 28), cmap="Greys", vmin=0.0, vmax=1.0, interpolation="nearest")
    save_figure(figure, path, dpi=120)


def draw_panel(cells: Expression, names: Sequence[str], folds: int, path: Path) -> None:
    """Draw the mean of the genes that were chosen most often, in units of their deviation, over the cell types.

    Args:
        names: of the chosen genes, all folds after one another; folds: how many those are.
    """
    counts = Counter(names).most_common(_PANEL)
    columns = [cells.genes.index(name) for name, _ in counts]
    x = cells.values[:, columns]
    x = (x - x.mean(0)) / x.std(0)
    types, classes = cells.labels["cell type"], cells.classes["cell type"]
    means = torch.stack([x[types == label].mean(0) for label in range(len(classes))], dim=1)
    order = means.argmax(1).argsort(stable=True)  # genes of a type beside one another
    labels = [f"{counts[int(j)][0]}  {counts[int(j)][1]}/{folds}" for j in order]
    figure, axis = pyplot().subplots(figsize=(6.6, 6.8), layout="constrained")
    image = axis.imshow(means[order].numpy(), cmap="RdBu_r", vmin=-2.0, vmax=2.0, aspect="auto")
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    sizes = torch.bincount(types, minlength=len(classes)).tolist()
    named = [f"{name} ({count})" for name, count in zip(classes, sizes, strict=True)]
    axis.set_xticks(range(len(named)), named, fontsize=8, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_title("genes chosen most often (folds of all), and cell types (cells)", fontsize=9, loc="left")
    figure.colorbar(image, ax=axis, shrink=0.6, label="mean, in standard deviations")
    save_figure(figure, path, dpi=120)
