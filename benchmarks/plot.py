"""Time and peak memory against n on log axes, with fitted slopes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.cases import KERNEL, Case
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


def plot(
    results: Results,
    path: Path,
    op: str = "partition",
    variant: str | None = None,
    fixed: dict[str, int] | None = None,
    direction: str = "forward+backward",
    columns: Sequence[str] | None = None,
) -> None:
    """Draw one series against n. `fixed` picks the other dimensions; by default the first that the file has.

    Raises: ValueError where the file has no such case.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    series = report.series_of(results, op, variant)
    if not series:
        raise ValueError(f"plot: the file has no case of op {op}, variant {variant or 'any'}")
    name, entries = next(iter(series.items()))
    first = Case.from_json(entries[0]["case"])
    held = {key: value for key, value in first.dims if key not in ("n", "m")} | (fixed or {})
    entries = [e for e in entries if all(e["case"]["dims"].get(key) == value for key, value in held.items())]
    if not entries:
        raise ValueError(f"plot: no case of {name} with {held}")

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), constrained_layout=True)
    measures = ((axes[0], report.seconds, 1e3, "time, ms"), (axes[1], report.peak_bytes, 2**-20, "peak memory, MB"))
    for axis, measure, scale, label in measures:
        for index, contestant in enumerate(report.columns_of(entries, columns)):
            points = [(e["case"]["dims"]["n"], measure(e, contestant, direction)) for e in entries]
            drawn = sorted((n, y * scale) for n, y in points if y)
            if not drawn:
                continue
            exponent = slope(drawn)
            name_slope = contestant if exponent is None else f"{contestant}  ~ n^{exponent:.2f}"
            style = {"linewidth": 2.4} if contestant == KERNEL else {"linewidth": 1.3}
            (line,) = axis.plot(*zip(*drawn, strict=True), marker="o", markersize=4, label=name_slope, **style)
            ends = {report.outcome(e, contestant, direction).get("status") for e in entries} & {
                "does not fit",
                "too slow",
            }
            if ends:
                axis.annotate(
                    " or ".join(sorted(ends)),
                    drawn[-1],
                    xytext=(5, 5 - 9 * (index % 2)),
                    textcoords="offset points",
                    fontsize=7,
                    color=line.get_color(),
                )
        axis.set(xscale="log", yscale="log", xlabel="n", ylabel=label)
        axis.grid(True, which="major", alpha=0.3)
        axis.legend(fontsize=7)
    size = ", ".join(f"{key} = {value}" for key, value in held.items())
    head = results.head
    figure.suptitle(
        f"{op}, {first.variant}, {first.dtype}, {direction}, {size}; {head['cpu']}, {head['threads']} threads",
        fontsize=9,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
