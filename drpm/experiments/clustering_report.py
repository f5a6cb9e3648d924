"""Tables and figures of docs/experiments/clustering.md."""

import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from drpm.experiments.configuration import read_row
from drpm.experiments.demo_tables import SCORES, mean_and_spread

_METHODS = ("gmm", "latent_gmm", "vade", "drpm_bound", "drpm_exact")
_THESIS = {  # Table 5.1, means of five seeds: ARI, NMI, ACC
    "mnist": {
        "gmm": (0.22, 0.32, 0.41),
        "latent_gmm": (0.83, 0.86, 0.88),
        "vade": (0.76, 0.84, 0.82),
        "drpm_bound": (0.88, 0.89, 0.94),
    },
    "fashion_mnist": {
        "gmm": (0.33, 0.49, 0.44),
        "latent_gmm": (0.47, 0.60, 0.62),
        "vade": (0.40, 0.56, 0.56),
        "drpm_bound": (0.51, 0.64, 0.65),
    },
}
_COLUMNS = (
    ("partition", "partition"),
    ("batches", "partition of each batch"),
    ("responsibilities", "responsibilities"),
)


def read_runs(results: Path, row: str) -> list[dict[str, Any]]:
    """Give the runs of a row, by seed."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in (results / row).glob("seed*.json")]
    return sorted(runs, key=lambda run: run["seed"])


def tables(results: Path) -> dict[str, Callable[[], str]]:
    """Give what makes the block of each data set."""
    return {f"clustering {data}": partial(table, results, data) for data in _THESIS}


def table(results: Path, data: str) -> str:
    """Give the test scores of every method, mean and spread over seeds, beside the thesis."""
    found = {method: read_runs(results, f"{data}_{method}") for method in _METHODS}
    found = {method: runs for method, runs in found.items() if runs}
    if not found:
        return "_No results yet._"
    names = " | ".join(name.upper() for name in SCORES)
    thesis_names = " | ".join(f"{name.upper()}, thesis" for name in SCORES)
    lines = [f"| test set | labels from | {names} | {thesis_names} | seeds |", "|---" * 9 + "|"]
    for method, runs in found.items():
        title = read_row("clustering", f"{data}_{method}")["title"]
        thesis = " | ".join(f"{value:.2f}" for value in _THESIS[data].get(method, ())) or "– | – | –"
        seeds = ", ".join(str(run["seed"]) for run in runs)
        for part, name in (("test", title), ("initialisation", f"{title}: initialisation alone")):
            for column, words in _COLUMNS:
                if column in runs[0]["metrics"].get(part, {}):
                    values = [
                        mean_and_spread([run["metrics"][part][column][score] for run in runs]) for score in SCORES
                    ]
                    lines.append(f"| {name} | {words} | {' | '.join(values)} | {thesis} | {seeds} |")
                    thesis = "– | – | –"
    every = [run for runs in found.values() for run in runs]
    first, minutes = every[0], max(run["seconds"] for run in every) / 60
    commits = ", ".join(sorted({run["commit"][:12] for run in every}))
    lines += [
        "",
        f"Mean ± standard deviation over seeds. {first['machine']['processor']}, {first['machine']['threads']} "
        f"thread(s), up to {minutes:.0f} minutes a run; torch {first['versions']['torch']}, commit {commits}.",
    ]
    return "\n".join(lines)


def figures(results: Path, docs: Path) -> list[Path]:
    """Draw the test ARI over the epochs of training, for each data set that has results."""
    written = []
    for data in _THESIS:
        curves = {method: read_runs(results, f"{data}_{method}") for method in _METHODS}
        curves = {method: runs for method, runs in curves.items() if runs and "curve" in runs[0]["metrics"]}
        if curves:
            path = docs / "figures" / f"clustering_{data}.png"
            _draw(data, curves, path)
            written.append(path)
    return written


def _draw(data: str, curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained", sharey=True)
    for axis, column in zip(axes, ("partition", "responsibilities"), strict=True):
        for method, runs in curves.items():
            points = [[point[column]["ari"] for point in run["metrics"]["curve"] if column in point] for run in runs]
            if not points[0]:
                continue
            epochs = [point["epoch"] for point in runs[0]["metrics"]["curve"]]
            by_epoch = list(zip(*points, strict=True))
            middle = [statistics.mean(values) for values in by_epoch]
            (line,) = axis.plot(epochs, middle, label=read_row("clustering", f"{data}_{method}")["title"])
            low, high = [min(values) for values in by_epoch], [max(values) for values in by_epoch]
            axis.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axis.set_title(f"{data.replace('_', '-')}: ARI of the {column}", fontsize=11, loc="left")
        axis.set_xlabel("epoch of training (0: initialisation)")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test ARI (mean, range over seeds)")
    axes[1].legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
