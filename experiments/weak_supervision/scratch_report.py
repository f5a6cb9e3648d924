"""Tables and the figure of the runs from scratch, docs/experiments/weak_supervision.md."""

import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from drpm.training.figures import pyplot, save_figure
from experiments.runner.configuration import read_row
from experiments.runner.records import read_runs, runs_line
from experiments.weak_supervision import parts
from experiments.weak_supervision.accuracy import THESIS, Runs, nats_shared, part_accuracy, probes_accuracy, spread

_NAME = "weak_supervision"
_METHODS = ("label", "ada", "hg", "drpm")
_DIAGNOSED = ("oracle", "none", "ada", "hg", "drpm", "exact", "score")
_EARLY = "early_beta_n3_drpm"
_NONE = "_No results yet._"


def tables(results: Path) -> dict[str, Callable[[], str]]:
    return {
        "weak supervision from scratch": partial(scratch_table, results),
        "weak supervision diagnosis": partial(diagnosis_table, results),
        "weak supervision probes": partial(probe_table, results),
        "weak supervision nats": partial(nats_table, results),
        "weak supervision shared part": partial(_parts_table, results / "parts.json"),
    }


def _title(row: str) -> str:
    return str(read_row(_NAME, row)["title"])


def _seeds(runs: Runs) -> str:
    return ", ".join(str(run["seed"]) for run in runs)


def scratch_table(results: Path) -> str:
    """Give sizes and what the parts hold (Fig. 5.16, Table 5.3), beside the first round's and the thesis'."""
    lines = [
        "| n_s | method | shared dimensions of 10 | MSE, raw | nats shared | S | I | S, first round | I, first round "
        "| S, thesis | I, thesis | seeds |",
        "|---" * 12 + "|",
    ]
    every: Runs = []
    for n in (1, 3, 5):
        for number, method in enumerate(_METHODS):
            runs, first = (read_runs(results / f"{kind}_n{n}_{method}") for kind in ("scratch", "arm"))
            if not runs:
                continue
            sizes = [run["metrics"]["test"]["sizes"][0] for run in runs]
            columns = [spread(size[name] for size in sizes) for name in ("mean", "squared_error")]
            columns.append(spread(map(nats_shared, runs)))
            columns += [spread(part_accuracy(run, part) for run in of) for of in (runs, first) for part in _PARTS]
            columns += [f"{THESIS[n, part][number]:.2f}" for part in _PARTS]
            lines.append(f"| {n} | {_title(f'scratch_n{n}_{method}')} | {' | '.join(columns)} | {_seeds(runs)} |")
            every += runs
    return "\n".join([*lines, "", runs_line(every)]) if every else _NONE


_PARTS = ("shared", "private")


def _diagnosed(results: Path) -> dict[str, Runs]:
    found = {row: read_runs(results / row) for row in [*(f"scratch_n3_{name}" for name in _DIAGNOSED), _EARLY]}
    return {row: runs for row, runs in found.items() if runs}


def diagnosis_table(results: Path) -> str:
    """Give, for three shared factors, what each selection shares, what its shared part holds of every factor, and the
    terms of the bound."""
    found = _diagnosed(results)
    if not found:
        return _NONE
    (first, *_), *_ = found.values()
    names = list(first["metrics"]["test"]["probes"][0]["accuracy"])
    lines = [
        f"| selection | shared dimensions | nats shared | S | I | S: {' | '.join(names)} "
        "| reconstruction | latent KL | seeds |",
        "|---" * (len(names) + 8) + "|",
    ]
    for row, runs in found.items():
        tests = [run["metrics"]["test"] for run in runs]
        columns = [spread(test["sizes"][0]["mean"] for test in tests), spread(map(nats_shared, runs))]
        columns += [spread(part_accuracy(run, part) for run in runs) for part in _PARTS]
        columns += [spread(test["probes"][0]["accuracy"][name] for test in tests) for name in names]
        columns += [spread((test["bound"][name] for test in tests), 1) for name in ("reconstruction", "kl")]
        lines.append(f"| {_title(row)} | {' | '.join(columns)} | {_seeds(runs)} |")
    return "\n".join([*lines, "", runs_line([run for runs in found.values() for run in runs])])


def nats_table(results: Path) -> str:
    """Give how much of what the first round's latent vectors hold lies in the dimensions that are shared."""
    lines = ["| n_s | method | shared dimensions of 10 | nats shared | S | seeds |", "|---" * 6 + "|"]
    every: Runs = []
    for n in (1, 3, 5):
        for method in _METHODS:
            runs = read_runs(results / f"arm_n{n}_{method}")
            if not runs:
                continue
            sizes = spread((run["metrics"]["test"]["sizes"][0]["mean"] for run in runs), 1)
            shares, accuracy = spread(map(nats_shared, runs)), spread(part_accuracy(run, "shared") for run in runs)
            title = _title(f"arm_n{n}_{method}")
            lines.append(f"| {n} | {title} | {sizes} | {shares} | {accuracy} | {_seeds(runs)} |")
            every += runs
    return "\n".join([*lines, "", runs_line(every)]) if every else _NONE


def _parts_table(path: Path) -> str:
    return parts.table(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else _NONE


def _curve(runs: Runs, value: Callable[[dict[str, Any]], float | None]) -> list[tuple[int, float | None]]:
    """The mean over seeds at every probe."""
    points = []
    for at in zip(*(run["metrics"]["probed"] for run in runs), strict=True):
        known = [found for found in map(value, at) if found is not None]
        points.append((at[0]["step"], statistics.mean(known) if known else None))
    return points


def _part(point: dict[str, Any], part: str) -> float | None:
    return probes_accuracy([probe for probe in point["probes"] if probe["part"] == part])


def probe_table(results: Path) -> str:
    """Give what the shared part holds every few thousand steps, and how far it still moved at the end."""
    found = {row: runs for row, runs in _diagnosed(results).items() if runs[0]["metrics"]["probed"]}
    if not found:
        return _NONE
    steps = [point["step"] for point in next(iter(found.values()))[0]["metrics"]["probed"]]
    lines = [
        f"| selection | part | {' | '.join(str(step) for step in steps)} | change over the last three |",
        "|---" * (len(steps) + 3) + "|",
    ]
    for row, runs in found.items():
        for part in _PARTS:
            values = [value for _, value in _curve(runs, partial(_part, part=part))]
            cells = " | ".join("–" if value is None else f"{value:.2f}" for value in values)
            lines.append(f"| {_title(row)} | {'S' if part == 'shared' else 'I'} | {cells} | {_change(values)} |")
    return "\n".join(lines)


def _change(values: Sequence[float | None]) -> str:
    last = [value for value in values[-3:] if value is not None]
    return f"{last[-1] - last[0]:+.2f}" if len(last) > 1 else "–"


def draw_scratch(results: Path, path: Path) -> list[Path]:
    """Draw, for three shared factors, sizes, both parts' accuracy and the reconstruction over training."""
    found = {row: runs for row, runs in _diagnosed(results).items() if runs[0]["metrics"]["probed"]}
    if not found:
        return []
    drawn: tuple[tuple[str, Callable[[dict[str, Any]], float | None]], ...] = (
        ("shared dimensions of 10", lambda point: point["sizes"][0]),
        ("accuracy, shared part", partial(_part, part="shared")),
        ("accuracy, independent part", partial(_part, part="private")),
        ("reconstruction, nats", lambda point: point["bound"]["reconstruction"]),
    )
    figure, axes = pyplot().subplots(1, len(drawn), figsize=(12, 3.2), layout="constrained")
    for axis, (title, value) in zip(axes, drawn, strict=True):
        for number, (row, runs) in enumerate(found.items()):
            points = [(step, y) for step, y in _curve(runs, value) if y is not None]
            if points:
                axis.plot(*zip(*points, strict=True), color=f"C{number}", label=_title(row), linewidth=1.3)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=7)
    save_figure(figure, path, dpi=120)
    return [path]
