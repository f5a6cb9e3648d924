"""Tables and figures of docs/experiments/subset_selection.md."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from drpm.data import load_blood_cells
from experiments.runner.configuration import read_row
from experiments.runner.records import read_runs, runs_line
from experiments.subset_selection.figures import draw_panel, draw_pixels

METHODS = ("exact", "order", "concrete", "gates", "l1", "information", "variable", "random")
IMAGES = {
    "mnist": "MNIST",
    "fashion": "Fashion-MNIST",
    "mnist_published": "MNIST, 4,000 + 6,000",
    "fashion_published": "Fashion-MNIST, 4,000 + 6,000",
}
_NAME = "subset_selection"
_NO_RESULTS = "_No results yet._"
Runs = list[dict[str, Any]]


def tables(results: Path) -> dict[str, Callable[[], str]]:
    """Give what makes each block of the page."""
    cells = [f"cells_{method}_{k}" for k in (8, 16, 32, 64) for method in METHODS]
    cells += [f"cells_learned_{price}" for price in (0.02, 0.01, 0.005, 0.002)]
    return {
        "subset selection, cells": partial(classes_table, results, cells, "cell type"),
        "subset selection, recall": partial(recall_table, results, [f"cells_{method}_16" for method in METHODS]),
        "subset selection, tasks": partial(tasks_table, results),
        **{
            f"subset selection, {task}": partial(
                classes_table,
                results,
                [*(f"{task}_{method}_{k}" for k in (8, 16, 32) for method in METHODS), f"{task}_learned_0.02"],
                task,
            )
            for task in ("lineage", "subtype")
        },
        "subset selection, pixels": partial(pixels_table, results),
    }


def figures(results: Path, docs: Path) -> list[Path]:
    """Draw the chosen pixels, and the chosen genes where the cells lie in data/ beside docs/."""
    written = []
    chosen = {
        (title, row_title(f"{data}_{method}")): runs[0]["metrics"]["chosen"][0]
        for data, title in IMAGES.items()
        for method in (*METHODS, "learned")
        if (runs := read_runs(results / f"{data}_{method}"))
    }
    if chosen:
        written.append(docs / "figures" / "subset_selection_pixels.png")
        draw_pixels(chosen, written[-1])
    runs = read_runs(results / "cells_exact_16")
    if runs:
        try:
            cells = load_blood_cells(docs.parent / "data")
        except (FileNotFoundError, ModuleNotFoundError):
            return written
        names = [name for run in runs for fold in run["metrics"]["names"] for name in fold]
        written.append(docs / "figures" / "subset_selection_genes.png")
        draw_panel(cells, names, sum(len(run["metrics"]["names"]) for run in runs), written[-1])
    return written


def row_title(row: str) -> str:
    return str(read_row(_NAME, row)["title"])


def found_rows(results: Path, rows: Iterable[str]) -> dict[str, Runs]:
    """Give the runs of those rows that have any."""
    found = {row: read_runs(results / row) for row in rows}
    return {row: runs for row, runs in found.items() if runs}


def values(runs: Runs, task: str, score: str) -> list[float]:
    """Give a score of every fold of every run."""
    return [fold[task][score] for run in runs for fold in run["metrics"]["folds"]]


def classes_table(results: Path, rows: Sequence[str], task: str) -> str:
    """Give accuracy, stability, repetitions and time of each method; means and deviations over folds."""
    found = found_rows(results, rows)
    if not found:
        return _NO_RESULTS
    lines = ["| k | method | accuracy | balanced accuracy | Jaccard | repeated | s a fold | seeds |", "|---" * 8 + "|"]
    for row, runs in found.items():
        cells = [_spread(values(runs, task, score)) for score in ("accuracy", "balanced_accuracy")]
        lines.append(
            f"| {_size(runs)} | {row_title(row)} | {' | '.join(cells)} | {_stability(runs)} | {_repeated(runs)} "
            f"| {_seconds(runs)} | {_seeds(runs)} |"
        )
    return "\n".join([*lines, "", _note(found)])


def recall_table(results: Path, rows: Sequence[str]) -> str:
    """Give the recall of every class: the mean over the folds in which it is scored."""
    found = found_rows(results, rows)
    if not found:
        return _NO_RESULTS
    classes = sorted({int(label) for runs in found.values() for recall in _recalls(runs) for label in recall})
    lines = [f"| method | {' | '.join(f'class {label}' for label in classes)} |", "|---" * (len(classes) + 1) + "|"]
    for row, runs in found.items():
        means = [statistics.mean(recall[str(c)] for recall in _recalls(runs) if str(c) in recall) for c in classes]
        lines.append(f"| {row_title(row)} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return "\n".join(lines)


def tasks_table(results: Path) -> str:
    """Give balanced accuracy of every task: of a predictor trained anew, and of the model that selected."""
    rows = [f"tasks_{method}_{k}" for k in (16, 32) for method in METHODS if method not in ("information", "variable")]
    found = found_rows(results, [*rows, "tasks_learned_0.01"])
    if not found:
        return _NO_RESULTS
    tasks = list(next(iter(found.values()))[0]["metrics"]["folds"][0])
    head = " | ".join(f"{task}: anew | own model" for task in tasks)
    lines = [f"| k | method | {head} | Jaccard | seeds |", "|---" * (4 + 2 * len(tasks)) + "|"]
    for row, runs in found.items():
        cells = []
        for task in tasks:
            cells.append(_spread(values(runs, task, "balanced_accuracy")))
            own = "own_balanced_accuracy" in runs[0]["metrics"]["folds"][0][task]
            cells.append(_spread(values(runs, task, "own_balanced_accuracy")) if own else "–")
        lines.append(
            f"| {_size(runs)} | {row_title(row)} | {' | '.join(cells)} | {_stability(runs)} | {_seeds(runs)} |"
        )
    return "\n".join([*lines, "", _note(found)])


def pixels_table(results: Path) -> str:
    """Give errors of the reconstruction, accuracy of extra trees, repetitions and time."""
    rows = {f"{data}_{method}": title for data, title in IMAGES.items() for method in (*METHODS, "learned")}
    found = found_rows(results, rows)
    if not found:
        return _NO_RESULTS
    head = "| images | method | k | error | error of the rest | accuracy, extra trees | repeated | s | seeds |"
    lines = [head, "|---" * 9 + "|"]
    for row, runs in found.items():
        errors = [_spread(values(runs, "reconstruction", score), 4) for score in ("error", "error_of_rest")]
        lines.append(
            f"| {rows[row]} | {row_title(row)} | {_size(runs)} | {' | '.join(errors)} "
            f"| {_spread(values(runs, 'digit', 'accuracy'))} | {_repeated(runs)} | {_seconds(runs)} | {_seeds(runs)} |"
        )
    return "\n".join([*lines, "", _note(found)])


def _recalls(runs: Runs) -> list[dict[str, float]]:
    return [fold["cell type"]["recall"] for run in runs for fold in run["metrics"]["folds"]]


def _size(runs: Runs) -> str:
    sizes = [
        size + more
        for run in runs
        for size, more in zip(run["metrics"]["size"], run["metrics"]["duplicates"], strict=True)
    ]
    return str(sizes[0]) if len(set(sizes)) == 1 else f"{statistics.mean(sizes):.1f} ({min(sizes)}–{max(sizes)})"


def _stability(runs: Runs) -> str:
    return f"{statistics.mean(run['metrics']['jaccard'] for run in runs):.2f}"


def _repeated(runs: Runs) -> str:
    return f"{statistics.mean(count for run in runs for count in run['metrics']['duplicates']):.1f}"


def _seconds(runs: Runs) -> str:
    folds = len(runs[0]["metrics"]["folds"])
    return f"{statistics.mean(run['processor_seconds'] for run in runs) / folds:.1f}"


def _spread(numbers: list[float], digits: int = 3) -> str:
    mean = f"{statistics.mean(numbers):.{digits}f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):.{digits}f}"


def _seeds(runs: Runs) -> str:
    return ", ".join(str(run["seed"]) for run in runs)


def _note(found: dict[str, Runs]) -> str:
    runs = [run for runs in found.values() for run in runs]
    return runs_line(runs).replace("over seeds", "over folds and seeds", 1)
