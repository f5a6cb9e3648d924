"""Tables and figures of docs/experiments/weak_supervision.md."""

import statistics
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from drpm.training.figures import pyplot, save_figure
from experiments.runner.configuration import read_row, rows
from experiments.runner.records import read_runs, runs_line
from experiments.weak_supervision import scratch_report
from experiments.weak_supervision.accuracy import THESIS, Runs, part_accuracy, spread
from experiments.weak_supervision.figures import draw_traversals

_NAME = "weak_supervision"
_METHODS = ("label", "ada", "hg", "drpm")
_SHARED = (0, 1, 3, 5)
_PICTURED = ("arm_n3_drpm",)
_NONE = "_No results yet._"


def tables(results: Path) -> dict[str, Callable[[], str]]:
    return {
        "weak supervision sizes": partial(size_table, results),
        "weak supervision accuracy": partial(accuracy_table, results),
        "weak supervision three views": partial(level_table, results, "three_"),
        "weak supervision digit pairs": partial(digit_table, results, "digits_"),
        "weak supervision six views": partial(digit_table, results, "six_"),
        **scratch_report.tables(results),
    }


def _main_runs(results: Path) -> dict[tuple[int, str], Runs]:
    found = {(n, method): read_runs(results / f"arm_n{n}_{method}") for n in _SHARED for method in _METHODS}
    return {cell: runs for cell, runs in found.items() if runs}


def size_table(results: Path) -> str:
    """Give the estimated number of shared factors and its error, as thesis Fig. 5.16 shows it."""
    found = _main_runs(results)
    if not found:
        return _NONE
    lines = ["| n_s | method | shared dimensions of 10 | MSE, raw | MSE, scaled | seeds |", "|---" * 6 + "|"]
    for (n, method), runs in found.items():
        sizes = [run["metrics"]["test"]["sizes"][0] for run in runs]
        columns = [spread(size[name] for size in sizes) for name in ("mean", "squared_error", "squared_error_scaled")]
        title, seeds = read_row(_NAME, f"arm_n{n}_{method}")["title"], ", ".join(str(run["seed"]) for run in runs)
        lines.append(f"| {n} | {title} | {' | '.join(columns)} | {seeds} |")
    return "\n".join([*lines, "", runs_line([run for runs in found.values() for run in runs])])


def accuracy_table(results: Path) -> str:
    """Give the adjusted balanced accuracies beside those of thesis Table 5.3."""
    found = _main_runs(results)
    if not found:
        return _NONE
    titles = [read_row(_NAME, f"arm_n0_{method}")["title"] for method in _METHODS]
    names = " | ".join(f"{title}, {whose}" for whose in ("ours", "thesis") for title in titles)
    lines = [f"| n_s | part | {names} |", "|---" * 10 + "|"]
    for (n, part), thesis in THESIS.items():
        ours = [spread(part_accuracy(run, part) for run in found.get((n, method), [])) for method in _METHODS]
        theirs = " | ".join(f"{value:.2f}" for value in thesis)
        lines.append(f"| {n} | {'S' if part == 'shared' else 'I'} | {' | '.join(ours)} | {theirs} |")
    return "\n".join([*lines, "", runs_line([run for runs in found.values() for run in runs])])


def _rows_with(results: Path, prefix: str) -> dict[str, Runs]:
    found = {row: read_runs(results / row) for row in rows(_NAME) if row.startswith(prefix)}
    return {row: runs for row, runs in found.items() if runs}


def _views(members: Iterable[int], names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[view] for view in members)


def level_table(results: Path, prefix: str) -> str:
    """Give true and estimated sizes of every level of sharing, and what its part of the latent vector holds."""
    found = _rows_with(results, prefix)
    if not found:
        return _NONE
    lines = [
        "| row | method | level | true factors | dimensions of 10 | MSE, scaled | accuracy | seeds |",
        "|---" * 8 + "|",
    ]
    for row, runs in found.items():
        views = runs[0]["config"]["num_views"]
        groups = runs[0]["config"]["groups"] or [list(range(views))]
        title, seeds = read_row(_NAME, row)["title"], ", ".join(str(run["seed"]) for run in runs)
        for k in range(len(groups) + 1):
            sizes = [run["metrics"]["test"]["sizes"][k] for run in runs]
            private = k == len(groups)
            level = "private" if private else f"views {_views(groups[k], [str(v + 1) for v in range(views)])}"
            true = str(sizes[0].get("true", "–"))
            accuracy = [part_accuracy(run, "private" if private else "shared", None if private else k) for run in runs]
            columns = [spread(size["mean"] for size in sizes)]
            columns += [spread(size.get("squared_error_scaled") for size in sizes), spread(accuracy)]
            lines.append(f"| `{row}` | {title} | {level} | {true} | {' | '.join(columns)} | {seeds} |")
    return "\n".join([*lines, "", runs_line([run for runs in found.values() for run in runs])])


def digit_table(results: Path, prefix: str) -> str:
    """Give the sizes on the UCI digits and how well the digit can be read off every part."""
    found = _rows_with(results, prefix)
    if not found:
        return _NONE
    lines = [
        "| views | method | level | dimensions of 10 | accuracy of the digit | test ELBO | seeds |",
        "|---" * 7 + "|",
    ]
    for row, runs in found.items():
        names = runs[0]["config"]["digit_views"]
        groups = runs[0]["config"]["groups"] or [list(range(len(names)))]
        title, seeds = read_row(_NAME, row)["title"], ", ".join(str(run["seed"]) for run in runs)
        elbo = spread((run["metrics"]["test"]["bound"]["elbo"] for run in runs), 1)
        for k in range(len(groups) + 1):
            private = k == len(groups)
            level = "private" if private else "all" if len(groups[k]) == len(names) else _views(groups[k], names)
            size = spread((run["metrics"]["test"]["sizes"][k]["mean"] for run in runs), 1)
            accuracy = [part_accuracy(run, "private" if private else "shared", None if private else k) for run in runs]
            end = f"{elbo} | {seeds}" if k == 0 else " | "
            lines.append(f"| {', '.join(names)} | {title} | {level} | {size} | {spread(accuracy)} | {end} |")
    return "\n".join([*lines, "", runs_line([run for runs in found.values() for run in runs])])


def figures(results: Path, docs: Path) -> list[Path]:
    """Draw the errors of the estimated number of shared factors (thesis Fig. 5.16), the estimates over training, and
    the traversals of the runs that kept theirs."""
    scratch = scratch_report.draw_scratch(results, docs / "figures" / "weak_supervision_scratch.png")
    found = _main_runs(results)
    if not found:
        return scratch
    paths = [docs / "figures" / "weak_supervision_sizes.png", docs / "figures" / "weak_supervision_training.png"]
    _draw_errors(found, paths[0])
    _draw_training(found, paths[1])
    for row in _PICTURED:
        kept = results / row / "pictures_seed0.npz"
        if kept.exists():
            paths.append(docs / "figures" / f"weak_supervision_{row}_traversals.png")
            with np.load(kept) as content:
                draw_traversals(content, paths[-1])
    return [*paths, *scratch]


def _draw_errors(found: dict[tuple[int, str], Runs], path: Path) -> None:
    figure, axes = pyplot().subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    kinds = (("squared_error", "10 latent dimensions, raw"), ("squared_error_scaled", "scaled to 7 factors"))
    for axis, (name, title) in zip(axes, kinds, strict=True):
        for number, method in enumerate(_METHODS):
            label = read_row(_NAME, f"arm_n0_{method}")["title"]
            for place, n in enumerate(_SHARED):
                errors = [run["metrics"]["test"]["sizes"][0][name] for run in found.get((n, method), [])]
                if errors:
                    x = place + 0.2 * (number - 1.5)
                    axis.bar(x, statistics.mean(errors), 0.18, color=f"C{number}", label=label, alpha=0.75)
                    axis.plot([x] * len(errors), errors, "k.", markersize=3)
                    label = "_"
        axis.set_xticks(range(len(_SHARED)), [str(n) for n in _SHARED])
        axis.set_xlabel("true number of shared factors $n_s$")
        axis.set_title(title, fontsize=11, loc="left")
        axis.grid(alpha=0.3, axis="y")
    axes[0].set_ylabel("MSE of the estimate (points: seeds)")
    axes[1].legend(frameon=False, fontsize=9)
    save_figure(figure, path, dpi=120)


def _draw_training(found: dict[tuple[int, str], Runs], path: Path) -> None:
    figure, axes = pyplot().subplots(1, len(_SHARED), figsize=(9.6, 2.8), layout="constrained", sharey=True)
    for axis, n in zip(axes, _SHARED, strict=True):
        for number, method in enumerate(_METHODS):
            runs = found.get((n, method), [])
            if runs:
                steps = [point["step"] for point in runs[0]["metrics"]["curve"]]
                each = [[point["sizes"][0] for point in run["metrics"]["curve"]] for run in runs]
                mean = [statistics.mean(values) for values in zip(*each, strict=True)]
                title = read_row(_NAME, f"arm_n{n}_{method}")["title"]
                axis.plot(steps, mean, color=f"C{number}", label=title, linewidth=1.2)
        axis.axhline(10 * n / 7, color="black", linestyle=":", linewidth=1)
        axis.set_title(f"$n_s$ = {n}", fontsize=10, loc="left")
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("shared dimensions of 10")
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[-1].legend(list(handles.values()), list(handles), frameon=False, fontsize=7)
    save_figure(figure, path, dpi=120)
