"""Pictures of the multitask experiment: accuracy and neurons over the noise ratio; what the noise looks like."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from drpm.training.figures import pyplot, save_figure
from experiments.multitask.multi_mnist import make_multi_mnist

_SHOWN = 4  # pairs of digits
_COLOURS = {"uls": "tab:gray", "drpm": "tab:orange", "drpm_even": "tab:blue"}
_TITLES = {"uls": "ULS", "drpm": "DRPM-MTL", "drpm_even": "DRPM-MTL, size term"}
_SIDES = (("left", "-", "o"), ("right", "--", "s"))


def draw_sweep(found: Mapping[str, Mapping[int, list[dict[str, Any]]]], path: Path) -> None:
    """Draw accuracy per task and neurons per task over the noise ratio: means, and the range over seeds as a band.

    Args:
        found: method ("uls", "drpm", "drpm_even") -> tenths of noise -> result files.
    Reference: thesis Fig. 5.13.
    """
    figure, (upper, lower) = pyplot().subplots(2, 1, figsize=(6.4, 6.6), layout="constrained", sharex=True)
    for method, by_level in found.items():
        for task, (side, line, marker) in enumerate(_SIDES):
            style = {"linestyle": line, "marker": marker, "markersize": 4, "label": f"{_TITLES[method]}, {side}"}
            _band(upper, by_level, "accuracy", task, _COLOURS[method], style)
            if method != "uls":
                _band(lower, by_level, "sizes", task, _COLOURS[method], style)
    upper.set_ylabel("test accuracy")
    lower.set_ylabel("neurons of the task")
    lower.set_xlabel("noise ratio α of the right digit")
    for axis in (upper, lower):
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=9)
    upper.set_title("noisyMultiMNIST (mean, range over seeds)", fontsize=11, loc="left")
    save_figure(figure, path, dpi=130)


def _band(
    axis: Any, by_level: Mapping[int, list[dict[str, Any]]], score: str, task: int, colour: str, style: Any
) -> None:
    levels = sorted(by_level)
    points = [[run["metrics"]["test"][score][task] for run in by_level[level]] for level in levels]
    if not points:
        return
    ratios = [level / 10 for level in levels]
    axis.plot(ratios, [statistics.mean(those) for those in points], color=colour, **style)
    axis.fill_between(
        ratios,
        [min(those) for those in points],
        [max(those) for those in points],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )


def draw_noise_ratios(images: Tensor, labels: Tensor, path: Path, seed: int = 0) -> None:
    """Draw the same pairs of digits at noise ratios from 0 to 0.9, a row per pair.

    Args:
        images, labels: MNIST's, as `make_multi_mnist` takes them.
    Reference: thesis Fig. 5.11.
    """
    ratios = [level / 10 for level in range(10)]
    made = [make_multi_mnist(images, labels, _SHOWN, noise, seed) for noise in ratios]
    figure, axes = pyplot().subplots(_SHOWN, len(ratios), figsize=(10, 4.4), layout="constrained")
    for column, (ratio, data) in enumerate(zip(ratios, made, strict=True)):
        for row in range(_SHOWN):
            axis = axes[row, column]
            axis.imshow(data.images[row, 0].numpy(), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(f"α = {ratio}", fontsize=10)
            if column == 0:
                left, right = data.labels[row].tolist()
                axis.set_ylabel(f"{left}, {right}", fontsize=10, rotation=0, labelpad=14, va="center")
    save_figure(figure, path, dpi=110)
