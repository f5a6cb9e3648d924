"""Time of random assignments and of their log-probability, beside the shared axis: a ratio for each.

    python -m benchmarks.assignment_speed [--output results/partition/assignment_speed.json]

`random_assignment` beside `random_partition` (hard draw; with backward) and `assignment_log_prob` beside
`partition_log_prob` (value; with backward), the same sizes, weights and number of threads; medians of calls that take
turns. Scores of standard deviation 1, equal weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, speed_script
from benchmarks.speed_script import medians
from drpm.ops import assignment_log_prob, partition_log_prob, random_assignment, random_partition

SIZES = ((512, 16), (64, 256), (16, 1024), (4, 4096), (1, 65536), (1, 1_000_000))  # rows, elements
CLASSES = (3, 10)
DTYPES = {"float32": torch.float32, "float64": torch.float64}
WHAT = ("draw", "draw + backward", "log p", "log p + backward")


def calls(
    rows: int, n: int, classes: int, dtype: torch.dtype
) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """By what is measured: with one axis, with a row for each subset."""
    generator = torch.Generator().manual_seed(0)
    log_omega = torch.zeros(rows, classes, dtype=dtype)
    axis = torch.randn(rows, n, generator=generator, dtype=dtype)
    matrix = torch.randn(rows, classes, n, generator=generator, dtype=dtype)
    labels = torch.randint(classes, (rows, n), generator=generator)
    weight = torch.randn(rows, classes, n, generator=generator, dtype=dtype)

    def trained(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Callable[[], Any]:
        leaves = [x.clone().requires_grad_() for x in inputs]
        return lambda: torch.autograd.grad(function(*leaves), leaves)

    return {
        "draw": (
            lambda: random_partition(log_omega, axis, seed=1),
            lambda: random_assignment(log_omega, matrix, seed=1),
        ),
        "draw + backward": (
            trained(lambda o, s: (random_partition(o, s, seed=1).assignment * weight).sum(), log_omega, axis),
            trained(lambda o, s: (random_assignment(o, s, seed=1).assignment * weight).sum(), log_omega, matrix),
        ),
        "log p": (lambda: partition_log_prob(labels, axis, classes), lambda: assignment_log_prob(labels, matrix)),
        "log p + backward": (
            trained(lambda s: partition_log_prob(labels, s, classes).sum(), axis),
            trained(lambda s: assignment_log_prob(labels, s).sum(), matrix),
        ),
    }


def measure(_: Path | None, seconds: float) -> list[dict[str, Any]]:
    results = []
    for dtype in DTYPES:
        for classes in CLASSES:
            for rows, n in SIZES:
                for what, (one, by_row) in calls(rows, n, classes, DTYPES[dtype]).items():
                    times = medians({"axis": one, "rows": by_row}, seconds, {})
                    results.append({"dtype": dtype, "K": classes, "B": rows, "n": n, "what": what, "ms": times})
    return results


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file."""
    lines = ["| dtype | K | B × n | " + " | ".join(f"{x}, ms | ratio" for x in WHAT) + " |", "|---" * 11 + "|"]
    found = {(c["dtype"], c["K"], c["B"], c["n"], c["what"]): c["ms"] for c in content["cases"]}
    for dtype, classes, rows, n in dict.fromkeys(key[:4] for key in found):
        cells = []
        for what in WHAT:
            ms = found[dtype, classes, rows, n, what]
            cells += [f"{ms['axis']:.3g} → {ms['rows']:.3g}", f"{ms['rows'] / ms['axis']:.2f}"]
        lines.append(f"| {dtype} | {classes} | {rows} × {n:,} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", machine.line(content)])


if __name__ == "__main__":
    speed_script.main(__doc__, measure, table, seconds=0.3)
