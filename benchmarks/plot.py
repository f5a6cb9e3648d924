"""Time and peak memory against n on log axes, with fitted slopes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.cases import KERNEL, VARIANTS, Case
from benchmarks.results import Results

SLOPE_FROM = 256  # call overhead bends the curves below


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares exponent of y ~ x^p over the larger sizes; None with fewer than two of them."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x >= SLOPE_FROM and y > 0]
    if len(logs) < 2:
        return None
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread if spread else None


def _entries(results: Results, op: str, variant: str | None, fixed: dict[str, int]) -> tuple[Case, list[dict]]:
    """The cases of one series that differ in n alone: those of `fixed`, else of the first case's other dimensions.

    Raises: ValueError where the file has no such case.
    """
    series = report.series_of(results, op, variant)
    if not series:
        raise ValueError(f"plot: the file has no case of op {op}, variant {variant or 'any'}")
    name, entries = next(iter(series.items()))
    first = Case.from_json(entries[0]["case"])
    held = {key: value for key, value in first.dims if key not in ("n", "m")}
    held |= {key: value for key, value in fixed.items() if key in held}
    entries = [e for e in entries if all(e["case"]["dims"].get(key) == value for key, value in held.items())]
    if not entries:
        raise ValueError(f"plot: no case of {name} with {held}")
    return Case.from_json(entries[0]["case"]), entries


def _draw(axis, entries: list[dict], contestants: Sequence[str], measure, scale: float, direction: str, colors) -> None:
    ended: dict[tuple[float, str], tuple[float, int]] = {}  # where curves end and why -> the highest of them
    for contestant in contestants:
        points = [(e["case"]["dims"]["n"], measure(e, contestant, direction)) for e in entries]
        drawn = sorted((n, y * scale) for n, y in points if y)
        if not drawn:
            continue
        exponent = slope(drawn)
        label = contestant if exponent is None else f"{contestant}  ~ n^{exponent:.2f}"
        width = 2.4 if contestant == KERNEL else 1.3
        axis.plot(
            *zip(*drawn, strict=True), marker="o", markersize=4, label=label, linewidth=width, color=colors[contestant]
        )
        ends = {report.outcome(e, contestant, direction).get("status") for e in entries} & {"does not fit", "too slow"}
        if ends:
            last, key = drawn[-1], (drawn[-1][0], " or ".join(sorted(ends)))
            height, count = ended.get(key, (0.0, 0))
            ended[key] = max(height, last[1]), count + 1
    for (n, reason), (height, count) in ended.items():
        text = reason if count == 1 else f"{count} × {reason}"
        axis.annotate(text, (n, height), xytext=(0, 6), textcoords="offset points", fontsize=7, ha="center")


def plot(
    results: Results,
    path: Path,
    ops: Sequence[str] = ("partition",),
    variant: str | None = None,
    fixed: dict[str, int] | None = None,
    direction: str = "forward+backward",
    columns: Sequence[str] | None = None,
) -> None:
    """Draw time and memory against n, one row of two panels per op. `fixed` picks the other dimensions; by default
    the first that the file has. A variant that an op does not have is left out of that op's choice.

    Raises: ValueError where the file has no such case.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = []
    for op in ops:
        chosen = variant if variant in VARIANTS.get(op, ()) or len(ops) == 1 else None
        rows.append(_entries(results, op, chosen, fixed or {}))
    names = list(dict.fromkeys(name for _, entries in rows for name in report.columns_of(entries, columns)))
    palette = plt.get_cmap("tab10").colors
    colors = {name: palette[index % len(palette)] for index, name in enumerate(names)}
    measures = ((report.seconds, 1e3, "time, ms"), (report.peak_bytes, 2**-20, "peak memory, MB"))

    figure, grid = plt.subplots(
        len(rows), 2, figsize=(11, 4.4 * len(rows) + 0.3), constrained_layout=True, squeeze=False
    )
    for axes, (first, entries) in zip(grid, rows, strict=True):
        contestants = report.columns_of(entries, columns)
        for axis, (measure, scale, label) in zip(axes, measures, strict=True):
            _draw(axis, entries, contestants, measure, scale, direction, colors)
            axis.set(xscale="log", yscale="log", xlabel="n", ylabel=label)
            sizes = sorted({e["case"]["dims"]["n"] for e in entries})
            axis.set_xticks(sizes, [f"{n:,}" for n in sizes], fontsize=7, rotation=30)
            axis.set_xticks([], minor=True)
            axis.grid(True, which="major", alpha=0.3)
            axis.legend(fontsize=7)
            size = ", ".join(f"{key} = {value}" for key, value in first.dims if key not in ("n", "m"))
            axis.set_title(f"{first.op}, {first.variant}, {first.dtype}, {direction}, {size}", fontsize=9)
    figure.suptitle(f"{results.head['cpu']}, {results.head['threads']} threads", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
