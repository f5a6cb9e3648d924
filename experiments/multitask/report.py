"""Tables and figures of docs/experiments/multitask.md."""

import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from drpm.data.idx import load_images
from experiments.demo.report import mean_and_error, mean_and_spread
from experiments.multitask import race_report
from experiments.multitask.cells import cell, seeds, values
from experiments.multitask.figures import draw_noise_ratios, draw_sweep
from experiments.multitask.probe import table as probe_table
from experiments.runner.configuration import read_row, rows
from experiments.runner.records import read_runs, runs_line

LEVELS = range(10)  # tenths of the pixels
METHODS = ("uls", "drpm", "drpm_even")  # the names of their rows before _LEVEL
Sweep = dict[str, dict[int, list[dict[str, Any]]]]  # method -> level -> runs

_NO_RESULTS = "_No results yet._"


def tables(results: Path) -> dict[str, Callable[[], str]]:
    """Give what makes each block of the page."""
    return {
        "multitask noise ratios": partial(sweep_table, results, "drpm"),
        "multitask noise ratios, size term": partial(sweep_table, results, "drpm_even"),
        "multitask claims": partial(claims_table, results),
        "multitask variants": partial(variants_table, results),
        "multitask epochs": partial(epochs_table, results),
        "multitask probe": partial(_probe_table, results / "probe.json"),
        **race_report.tables(results),
    }


def figures(results: Path, docs: Path) -> list[Path]:
    """Draw Fig. 5.13 from the results, and Fig. 5.11 where MNIST lies in data/ beside docs/."""
    written = []
    found = read_sweep(results)
    if any(found.values()):
        written.append(docs / "figures" / "multitask.png")
        draw_sweep(found, written[-1])
    try:
        mnist = load_images("mnist", docs.parent / "data")
    except FileNotFoundError:
        return written
    written.append(docs / "figures" / "multitask_noise.png")
    draw_noise_ratios(mnist.test_images, mnist.test_labels, written[-1])
    return written


def read_sweep(results: Path) -> Sweep:
    """Give the runs of Fig. 5.13 by method and tenths of noise, those levels that have any."""
    found = {method: {level: read_runs(results / f"{method}_{level}") for level in LEVELS} for method in METHODS}
    return {method: {level: runs for level, runs in by.items() if runs} for method, by in found.items()}


def differences(found: Sweep, method: str, level: int, task: int) -> list[float]:
    """Give the accuracy of a method less that of ULS on the same images, for each seed that has both."""
    own, base = (
        {run["seed"]: run["metrics"]["test"]["accuracy"][task] for run in found[name].get(level, [])}
        for name in (method, "uls")
    )
    return [own[seed] - base[seed] for seed in sorted(own.keys() & base)]


def sweep_table(results: Path, method: str) -> str:
    """Give accuracy and neurons of a method beside ULS at every noise ratio."""
    found = read_sweep(results)
    if not found[method]:
        return _NO_RESULTS
    title = read_row("multitask", f"{method}_0")["title"]
    lines = [
        f"| α | ULS: left | right | {title}: left | right | difference: left | right | neurons: left | right | seeds |",
        "|---" * 10 + "|",
    ]
    for level in LEVELS:
        base, own = found["uls"].get(level, []), found[method].get(level, [])
        if not own:
            continue
        cells = [cell(runs, "accuracy", task) for runs in (base, own) for task in (0, 1)]
        for task in (0, 1):
            apart = differences(found, method, level, task)
            cells.append(mean_and_error(apart).split(" (")[0] if len(apart) > 1 else "–")
        cells += [cell(own, "sizes", task) for task in (0, 1)]
        lines.append(f"| {level / 10} | {' | '.join(cells)} | {seeds(own)} |")
    every = [run for name in ("uls", method) for runs in found[name].values() for run in runs]
    note = "Differences of the same seed: mean ± standard error. "
    return "\n".join([*lines, "", note + runs_line(every)])


def claims_table(results: Path) -> str:
    """Give what the thesis says of Fig. 5.13 beside the same question put to the results."""
    found = read_sweep(results)
    methods = [method for method in METHODS[1:] if all(level in found[method] for level in LEVELS)]
    if not methods or any(level not in found["uls"] for level in LEVELS):
        return _NO_RESULTS
    titles = " | ".join(read_row("multitask", f"{method}_0")["title"] for method in methods)
    answers = zip(*(_answers(found, method) for method in methods), strict=True)
    questions = (
        "the same or better accuracy on both tasks for most noise ratios",
        "more dimensions for the right task at α = 0.6–0.8",
        "at α = 0.9 the accuracy of the baseline is no longer reached",
    )
    lines = [f"| thesis, Fig. 5.13 | {titles} |", "|---" * (1 + len(methods)) + "|"]
    return "\n".join([*lines, *(f"| {q} | {' | '.join(those)} |" for q, those in zip(questions, answers, strict=True))])


def _answers(found: Sweep, method: str) -> list[str]:
    apart = {(level, task): differences(found, method, level, task) for level in LEVELS for task in (0, 1)}
    mean = {key: statistics.mean(those) for key, those in apart.items()}
    error = {key: statistics.stdev(those) / len(those) ** 0.5 for key, those in apart.items() if len(those) > 1}

    def count(holds: Callable[[int, int], bool]) -> str:
        left, right = ([level for level in LEVELS if holds(level, task)] for task in (0, 1))
        return f"left {len(left)}, right {len(right)}, both {len(set(left) & set(right))}"

    def means(score: str, method: str, level: int, task: int) -> float:
        return statistics.mean(values(found[method][level], score, task))

    neurons = ", ".join(f"{means('sizes', method, level, 1):.1f} at {level / 10}" for level in (0, 6, 7, 8, 9))
    last = [
        f"{side} {means('accuracy', method, 9, task):.3f} beside {means('accuracy', 'uls', 9, task):.3f}"
        for task, side in enumerate(("left", "right"))
    ]
    return [
        f"mean at least that of ULS less half a point, of {len(LEVELS)} ratios: "
        f"{count(lambda level, task: mean[level, task] >= -0.005)}; below "
        f"ULS by more than two standard errors, of the {len(error) // 2} ratios with two seeds or more: "
        f"{count(lambda level, task: (level, task) in error and mean[level, task] < -2 * error[level, task])}",
        f"right task, of 50: {neurons}",
        "; ".join(last),
    ]


def variants_table(results: Path) -> str:
    """Give every row that is not a point of Fig. 5.13, and the points that they are to be compared with."""
    swept = {f"{method}_{level}" for method in METHODS for level in LEVELS}
    kept = [row for row in rows("multitask") if not row.startswith(race_report.PREFIXES)]
    extra = [row for row in kept if row not in swept and read_runs(results / row)]
    if not extra:
        return _NO_RESULTS
    lines = ["| α | model | accuracy of each task | neurons of each task | constancy | seeds |", "|---" * 6 + "|"]
    every: list[dict[str, Any]] = []
    noises = {(read_row("multitask", row).get("noise", 0.0)) for row in extra}
    compared = [f"{method}_{round(10 * noise)}" for noise in noises for method in METHODS]
    chosen = [row for row in [*compared, *extra] if read_runs(results / row)]
    place = {
        row: (read_row("multitask", row).get("digits", 2), read_row("multitask", row).get("noise", 0.0))
        for row in chosen
    }
    for row in sorted(chosen, key=lambda row: (place[row], row not in swept)):
        runs = read_runs(results / row)
        tasks = range(len(runs[0]["metrics"]["test"]["accuracy"]))
        accuracy = ", ".join(cell(runs, "accuracy", task) for task in tasks)
        sizes, constancy = "–", "–"
        if "sizes" in runs[0]["metrics"]["test"]:
            sizes = ", ".join(cell(runs, "sizes", task) for task in tasks)
            constancy = mean_and_spread([run["metrics"]["test"]["constancy"] for run in runs])
        title = read_row("multitask", row)["title"]
        lines.append(f"| {place[row][1]} | {title} | {accuracy} | {sizes} | {constancy} | {seeds(runs)} |")
        every += runs
    return "\n".join([*lines, "", runs_line(every)])


def epochs_table(results: Path) -> str:
    """Give the mean test accuracy of each task after every epoch, to see whether it has levelled off."""
    lines = []
    length = 0
    for row in ("uls_0", "drpm_even_0", "uls_6", "drpm_even_6"):
        runs = read_runs(results / row)
        if not runs:
            continue
        curves = [run["metrics"]["curve"] for run in runs]
        length = max(length, len(curves[0]))
        title, noise = read_row("multitask", row)["title"], read_row("multitask", row).get("noise", 0.0)
        for task, side in enumerate(("left", "right")):
            means = [
                statistics.mean(point["accuracy"][task] for point in points) for points in zip(*curves, strict=True)
            ]
            lines.append(f"| {noise} | {title} | {side} | {' | '.join(f'{value:.3f}' for value in means)} |")
    if not lines:
        return _NO_RESULTS
    head = [
        f"| α | model | task | {' | '.join(f'epoch {epoch + 1}' for epoch in range(length))} |",
        "|---" * (3 + length) + "|",
    ]
    return "\n".join([*head, *lines])


def _probe_table(path: Path) -> str:
    return probe_table(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else _NO_RESULTS
