"""Exactly k of n: time and memory of the tree and of the contour beside the O(nk) recurrence and its suffix tables.

    python -m benchmarks.k_subset_speed [--seconds 1] [--output results/k_subset/speed.json]

float32 weights of standard deviation 1. The recurrence is that of `drpm.reference`, in torch, float64, all rows of the
batch at once: e_j of the elements from i on for the normaliser, and the chain along the elements on these tables for a
draw, as SIMPLE has it. Its tables take 8 (n + 1)(k + 1) bytes a row, printed for all cases. Beside single rows stands
torch.sort of as many float32. Medians; contestants take turns. Memory: growth of the resident set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, speed_script
from benchmarks.speed_script import medians
from drpm import ops
from drpm.reference.k_subset import k_subset_draw, k_subset_log_normalizer
from drpm.testing.memory import resident_growth

CASES = ((64, 1000, 50), (1, 10_000, 1000), (1, 1_000_000, 100_000))  # rows, n, k
_TABLES = 64 * 1000 * 50  # products of the three above which no table is made
_DRAWS = 11


def contestants(rows: int, n: int, k: int) -> dict[str, Callable[[], Any]]:
    weights = torch.randn(rows, n, generator=torch.Generator().manual_seed(0))
    mask = ops.k_subset_sample(weights, k, seed=0)
    calls: dict[str, Callable[[], Any]] = {
        "draw": lambda: ops.k_subset_sample(weights, k, seed=1),
        "draw, 2 threads": lambda: ops.k_subset_sample(weights, k, seed=1),
        f"{_DRAWS} draws, 2 threads": lambda: ops.k_subset_sample(weights, k, sample_shape=(_DRAWS,), seed=1),
        "log-probability": lambda: ops.k_subset_log_prob(mask, weights, k),
        "marginals": lambda: ops.k_subset_marginals(weights, k),
    }
    if rows * n * k <= _TABLES:
        exact = weights.double()
        uniforms = torch.rand(rows, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        calls["recurrence: normaliser"] = partial(k_subset_log_normalizer, exact, k)
        calls["recurrence: tables and draw"] = partial(k_subset_draw, exact, k, uniforms)
    if rows == 1:
        calls["torch.sort"] = lambda: weights.sort()
        calls["torch.sort, 2 threads"] = calls["torch.sort"]
    return calls


def memory(rows: int, n: int, k: int) -> dict[str, int]:
    """Bytes beyond the output, of one draw on one thread; and what the tables of the recurrence take."""
    weights = torch.randn(rows, n, generator=torch.Generator().manual_seed(0))
    growth = resident_growth(lambda: ops.k_subset_sample(weights, k, seed=1))
    return {"draw": max(0, growth - weights.numel() * 4), "tables": rows * (n + 1) * (k + 1) * 8}


def measure(_: Path | None, seconds: float) -> list[dict[str, Any]]:
    found = []
    for rows, n, k in CASES:
        calls = contestants(rows, n, k)
        threads = {name: 2 for name in calls if name.endswith("2 threads")}
        used = memory(rows, n, k)
        found.append({"rows": rows, "n": n, "k": k, "milliseconds": medians(calls, seconds, threads), "bytes": used})
    return found


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file: milliseconds of a call, a column per case."""
    cases = content["cases"]
    names = list(dict.fromkeys(name for case in cases for name in case["milliseconds"]))
    head = " | ".join(f"{case['rows']} × ({case['n']:,}, {case['k']:,})" for case in cases)
    lines = [f"| ms a call | {head} |", "|---" * (len(cases) + 1) + "|"]
    for name in names:
        cells = [f"{case['milliseconds'][name]:.3g}" if name in case["milliseconds"] else "–" for case in cases]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name, title in (("draw", "memory of a draw beyond the output"), ("tables", "suffix tables of the recurrence")):
        cells = [f"{case['bytes'][name] / 1e6:,.3g} MB" for case in cases]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", machine.line(content)])


if __name__ == "__main__":
    speed_script.main(__doc__, measure, table)
