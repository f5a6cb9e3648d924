"""Tables of the multitask runs without a race: 12 epochs, the exact KL and how its weight was chosen."""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from experiments.demo.report import mean_and_error
from experiments.multitask.cells import cell, seeds
from experiments.runner.configuration import read_row, rows
from experiments.runner.records import read_runs, runs_line

_NO_RESULTS = "_No results yet._"
_METHODS = ("uls", "even", "kl")
_LEVELS = (0, 4, 6, 8)
PREFIXES = ("race_", "choose_")


def tables(results: Path) -> dict[str, Callable[[], str]]:
    return {
        "multitask without a race": partial(race_table, results),
        "multitask weight of the KL": partial(weight_table, results),
    }


def _difference(own: list[dict[str, Any]], base: list[dict[str, Any]], task: int) -> str:
    first = {run["seed"]: run["metrics"]["test"]["accuracy"][task] for run in base}
    apart = [run["metrics"]["test"]["accuracy"][task] - first[run["seed"]] for run in own if run["seed"] in first]
    if not apart:
        return "–"
    return mean_and_error(apart).split(" (")[0] if len(apart) > 1 else f"{apart[0]:+.3f}"


def _last_epochs(runs: list[dict[str, Any]]) -> str:
    """How far the accuracy of the right task moved over the last three epochs."""
    moved = [run["metrics"]["curve"][-1]["accuracy"][1] - run["metrics"]["curve"][-4]["accuracy"][1] for run in runs]
    return f"{statistics.mean(moved):+.3f}"


def race_table(results: Path) -> str:
    """Give accuracy and neurons of every method, and the difference to ULS of the same seed."""
    lines = [
        "| α | model | accuracy: left | right | less ULS: left | right | neurons: left | right "
        "| right task, last three epochs | seeds |",
        "|---" * 10 + "|",
    ]
    every: list[dict[str, Any]] = []
    for level in _LEVELS:
        base = read_runs(results / f"race_uls_{level}")
        for method in _METHODS:
            runs = read_runs(results / f"race_{method}_{level}")
            if not runs:
                continue
            columns = [cell(runs, "accuracy", task) for task in (0, 1)]
            columns += ["–" if method == "uls" else _difference(runs, base, task) for task in (0, 1)]
            columns += ["–" if method == "uls" else cell(runs, "sizes", task) for task in (0, 1)]
            columns += [_last_epochs(runs), seeds(runs)]
            title = read_row("multitask", f"race_{method}_{level}")["title"]
            lines.append(f"| {level / 10} | {title} | {' | '.join(columns)} |")
            every += runs
    note = "Differences of the same seed: mean ± standard error. "
    return "\n".join([*lines, "", note + runs_line(every)]) if every else _NO_RESULTS


def weight_table(results: Path) -> str:
    """Give the scores, on a tenth of the training digits, by which the weight of the KL was chosen."""
    lines = ["| α | weight | accuracy: left | right | mean | neurons: left | right | seeds |", "|---" * 8 + "|"]
    every: list[dict[str, Any]] = []
    found = [read_runs(results / row) for row in rows("multitask") if row.startswith("choose_")]
    chosen = sorted(filter(None, found), key=lambda runs: (runs[0]["config"]["noise"], runs[0]["config"]["kl_weight"]))
    for runs in chosen:
        config = runs[0]["config"]
        columns = [cell(runs, "accuracy", task) for task in (0, 1)]
        columns.append(f"{statistics.mean(a for run in runs for a in run['metrics']['test']['accuracy']):.3f}")
        columns += [cell(runs, "sizes", task) for task in (0, 1)]
        lines.append(f"| {config['noise']} | {config['kl_weight']} | {' | '.join(columns)} | {seeds(runs)} |")
        every += runs
    return "\n".join([*lines, "", runs_line(every)]) if every else _NO_RESULTS
