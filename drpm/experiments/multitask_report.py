"""Tables and figures of docs/experiments/multitask.md."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from drpm.data.idx import load_images
from drpm.experiments.clustering_report import read_runs
from drpm.experiments.configuration import read_row, rows
from drpm.experiments.demo_tables import mean_and_error, mean_and_spread
from drpm.experiments.multitask_figures import draw_noise_ratios, draw_sweep

LEVELS = range(10)  # tenths of the pixels
Sweep = dict[str, dict[int, list[dict[str, Any]]]]  # method -> level -> runs

_NO_RESULTS = "_No results yet._"


def tables(results: Path) -> dict[str, Callable[[], str]]:
    """Give what makes each block of the page."""
    return {
        "multitask noise ratios": partial(sweep_table, results),
        "multitask claims": partial(claims_table, results),
        "multitask variants": partial(variants_table, results),
        "multitask epochs": partial(epochs_table, results),
    }


def figures(results: Path, docs: Path) -> list[Path]:
    """Draw Fig. 5.13 from the results, and Fig. 5.11 where MNIST lies in data/ beside docs/."""
    written = []
    found = read_sweep(results)
    if found["uls"] or found["drpm"]:
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
    found = {method: {level: read_runs(results, f"{method}_{level}") for level in LEVELS} for method in ("uls", "drpm")}
    return {method: {level: runs for level, runs in by.items() if runs} for method, by in found.items()}


def values(runs: Sequence[dict[str, Any]], score: str, task: int) -> list[float]:
    """Give a score of one task, a value per run."""
    return [run["metrics"]["test"][score][task] for run in runs]


def differences(found: Sweep, level: int, task: int) -> list[float]:
    """Give the accuracy of DRPM-MTL less that of ULS on the same images, for each seed that has both."""
    accuracy = {
        method: {run["seed"]: run["metrics"]["test"]["accuracy"][task] for run in found[method].get(level, [])}
        for method in found
    }
    return [
        accuracy["drpm"][seed] - accuracy["uls"][seed] for seed in sorted(accuracy["drpm"].keys() & accuracy["uls"])
    ]


def sweep_table(results: Path) -> str:
    """Give accuracy and dimensions of both methods at every noise ratio."""
    found = read_sweep(results)
    if not found["uls"] and not found["drpm"]:
        return _NO_RESULTS
    lines = [
        "| α | ULS: left | right | DRPM-MTL: left | right | difference: left | right | neurons: left | right | seeds |",
        "|---" * 10 + "|",
    ]
    for level in LEVELS:
        uls, drpm = found["uls"].get(level, []), found["drpm"].get(level, [])
        if not uls and not drpm:
            continue
        cells = [_cell(runs, "accuracy", task) for runs in (uls, drpm) for task in (0, 1)]
        for task in (0, 1):
            apart = differences(found, level, task)
            cells.append(mean_and_error(apart).split(" (")[0] if len(apart) > 1 else "–")
        cells += [_cell(drpm, "sizes", task) for task in (0, 1)]
        seeds = ", ".join(str(seed) for seed in sorted({run["seed"] for run in [*uls, *drpm]}))
        lines.append(f"| {level / 10} | {' | '.join(cells)} | {seeds} |")
    every = [run for by in found.values() for runs in by.values() for run in runs]
    return "\n".join(
        [
            *lines,
            "",
            "Mean ± standard deviation over seeds; differences of the same seed ± standard error. " + origin(every),
        ]
    )


def claims_table(results: Path) -> str:
    """Give what the thesis says of Fig. 5.13 beside the same question put to the results."""
    found = read_sweep(results)
    levels = [level for level in LEVELS if level in found["uls"] and level in found["drpm"]]
    if levels != list(LEVELS):
        return _NO_RESULTS
    apart = {(level, task): differences(found, level, task) for level in levels for task in (0, 1)}
    mean = {key: statistics.mean(those) for key, those in apart.items()}
    error = {
        key: statistics.stdev(those) / len(those) ** 0.5 if len(those) > 1 else 0.0 for key, those in apart.items()
    }

    def count(holds: Callable[[int, int], bool]) -> str:
        left, right = ([level for level in levels if holds(level, task)] for task in (0, 1))
        return f"left {len(left)}, right {len(right)}, both {len(set(left) & set(right))} of {len(levels)}"

    neurons = {level: statistics.mean(values(found["drpm"][level], "sizes", 1)) for level in levels}
    ratios = ", ".join(f"{neurons[level]:.1f} at {level / 10}" for level in (0, 6, 7, 8, 9))
    last = [
        f"{side} {statistics.mean(values(found['drpm'][9], 'accuracy', task)):.3f} beside "
        f"{statistics.mean(values(found['uls'][9], 'accuracy', task)):.3f} of ULS"
        for task, side in enumerate(("left", "right"))
    ]
    return "\n".join(
        [
            "| thesis, Fig. 5.13 | here |",
            "|---|---|",
            "| DRPM-MTL has the same or better accuracy on both tasks for most noise ratios | "
            f"mean not below that of ULS: {count(lambda level, task: mean[level, task] >= 0)}; "
            "below it by more than two standard errors: "
            f"{count(lambda level, task: mean[level, task] < -2 * error[level, task])} |",
            f"| more dimensions go to the right task at α = 0.6–0.8 | neurons of the right task, of 50: {ratios} |",
            f"| at α = 0.9 DRPM-MTL no longer reaches the accuracy of the baseline | {'; '.join(last)} |",
        ]
    )


def variants_table(results: Path) -> str:
    """Give every row that is not a point of Fig. 5.13, and the points that they are to be compared with."""
    swept = {f"{method}_{level}" for method in ("uls", "drpm") for level in LEVELS}
    extra = [row for row in rows("multitask") if row not in swept and read_runs(results, row)]
    if not extra:
        return _NO_RESULTS
    lines = ["| α | model | accuracy of each task | neurons of each task | constancy | seeds |", "|---" * 6 + "|"]
    every: list[dict[str, Any]] = []
    noises = {(read_row("multitask", row).get("noise", 0.0)) for row in extra}
    compared = [f"{method}_{round(10 * noise)}" for noise in noises for method in ("uls", "drpm")]
    chosen = [row for row in [*compared, *extra] if read_runs(results, row)]
    place = {
        row: (read_row("multitask", row).get("digits", 2), read_row("multitask", row).get("noise", 0.0))
        for row in chosen
    }
    for row in sorted(chosen, key=lambda row: (place[row], row not in swept)):
        runs = read_runs(results, row)
        tasks = range(len(runs[0]["metrics"]["test"]["accuracy"]))
        accuracy = ", ".join(_cell(runs, "accuracy", task) for task in tasks)
        sizes, constancy = "–", "–"
        if "sizes" in runs[0]["metrics"]["test"]:
            sizes = ", ".join(_cell(runs, "sizes", task) for task in tasks)
            constancy = mean_and_spread([run["metrics"]["test"]["constancy"] for run in runs])
        title = read_row("multitask", row)["title"]
        seeds = ", ".join(str(run["seed"]) for run in runs)
        lines.append(f"| {place[row][1]} | {title} | {accuracy} | {sizes} | {constancy} | {seeds} |")
        every += runs
    return "\n".join([*lines, "", "Mean ± standard deviation over seeds. " + origin(every)])


def epochs_table(results: Path) -> str:
    """Give the mean test accuracy of each task after every epoch, to see whether it has levelled off."""
    lines = []
    length = 0
    for row in ("uls_0", "drpm_0", "uls_9", "drpm_9"):
        runs = read_runs(results, row)
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


def origin(runs: Sequence[dict[str, Any]]) -> str:
    """Say which machine, versions and commits made the runs."""
    first = runs[0]
    commits = ", ".join(sorted({run["commit"][:12] for run in runs}))
    minutes = max(run["seconds"] for run in runs) / 60
    return (
        f"{first['machine']['processor']}, {first['machine']['threads']} thread(s), up to "
        f"{minutes:.0f} minutes a run; torch {first['versions']['torch']}, commit {commits}."
    )


def _cell(runs: Sequence[dict[str, Any]], score: str, task: int) -> str:
    if not runs:
        return "–"
    text = mean_and_spread(values(runs, score, task))
    return text if score != "sizes" else " ± ".join(f"{float(part):.1f}" for part in text.split(" ± "))
