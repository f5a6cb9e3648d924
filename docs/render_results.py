"""Rebuild the tables of README.md and docs/ from results/: `python docs/render_results.py` (`--check` only compares).

A block stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; NAME picks a function of BLOCKS.
`python -m experiments report` rebuilds those of the experiments alone, and their figures.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    assignment_estimators,
    assignment_speed,
    band_crossover,
    clustering_tables,
    gradient_estimators,
    k_subset_speed,
    mvhg_errors,
    mvhg_speed,
    partition_bounds,
    partition_speed,
    relaxed_sort_speed,
    subset_gradients,
)
from benchmarks.report import head_line, lead_table, series_of, series_table  # noqa: E402
from benchmarks.results import Results  # noqa: E402
from experiments.runner import report  # noqa: E402

SMALL = "results/benchmarks/small.json"
MVHG = "results/benchmarks/mvhg.json"
FULL = "results/benchmarks/full.json"
LARGE = "results/benchmarks/large.json"


def benchmark_table(file: str, op: str, variant: str | None = None) -> str:
    path = ROOT / file
    if not path.exists():
        return "_No results yet._"
    results = Results.load(path)
    parts = [head_line(results)]
    for series, entries in series_of(results, op, variant).items():
        parts += [f"**{series.replace('/', ', ')}**", series_table(entries)]
    if any(word in part for part in parts for word in ("too slow", "no fit")):
        parts.append(limits(results))
    return "\n\n".join(parts)


def limits(results: Results) -> str:
    settings = results.head.get("settings", {})
    return (
        f"`too slow`: one call took more than {settings['cap']:g} s, or a check more than {settings['check_cap']:g} s; "
        f"`no fit`: more than {settings['memory_limit'] / 2**30:.0f} GB."
    )


def benchmark_leads(file: str) -> str:
    path = ROOT / file
    if not path.exists():
        return "_No results yet._"
    results = Results.load(path)
    return "\n\n".join([head_line(results), lead_table(series_of(results)), limits(results)])


def short_leads(file: str, rows: dict[str, str]) -> str:
    """Of the leads over the whole grid those of a few contestants, under names that say what they are."""
    path = ROOT / file
    if not path.exists():
        return "_No results yet._"
    results = Results.load(path)
    lines = [
        "| times slower than the kernel | forward: smallest, median, largest | forward + backward |",
        "|---|---|---|",
    ]
    for line in lead_table(series_of(results)).splitlines()[2:]:
        op, contestant, _, forward, both, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        if f"{op}: {contestant}" in rows:
            cells = (re.sub(r" \(.*?\)", "", cell) for cell in (forward, both))
            lines.append(f"| {rows[f'{op}: {contestant}']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", head_line(results).partition(" Medians in ms")[0]])


def script_table(file: str, table: Callable[[dict], str]) -> str:
    """The table that a script of benchmarks/ makes of its own result file."""
    path = ROOT / file
    return table(json.loads(path.read_text())) if path.exists() else "_No results yet._"


BLOCKS: dict[str, Callable[[], str]] = {
    **report.blocks(ROOT / "results"),
    "assignment estimators": lambda: script_table("results/estimators/assignment.json", assignment_estimators.table),
    "assignment speed": lambda: script_table("results/partition/assignment_speed.json", assignment_speed.table),
    "gradient estimators": lambda: script_table("results/estimators/gradients.json", gradient_estimators.table),
    "subset gradients": lambda: script_table("results/estimators/subsets.json", subset_gradients.table),
    "k_subset speed": lambda: script_table("results/k_subset/speed.json", k_subset_speed.table),
    "partition bounds": lambda: script_table("results/partition/bounds.json", partition_bounds.table),
    "partition speed": lambda: script_table("results/partition/speed.json", partition_speed.table),
    "clustering of tables": lambda: script_table("results/sklearn/clustering.json", clustering_tables.table),
    "MVHG errors": lambda: script_table("results/mvhg/errors.json", mvhg_errors.table),
    "MVHG speed": lambda: script_table("results/mvhg/speed.json", mvhg_speed.table),
    "mvhg_sample benchmark": lambda: benchmark_table(MVHG, "mvhg_sample"),
    "mvhg_log_prob benchmark": lambda: benchmark_table(MVHG, "mvhg_log_prob"),
    "mvhg_mean benchmark": lambda: benchmark_table(MVHG, "mvhg_mean"),
    "mvhg_kl benchmark": lambda: benchmark_table(MVHG, "mvhg_kl"),
    "random_partition benchmark": lambda: benchmark_table(SMALL, "random_partition", "merged"),
    "partition benchmark": lambda: benchmark_table(SMALL, "partition"),
    "relaxed_sort benchmark": lambda: benchmark_table(SMALL, "relaxed_sort"),
    "leads of the full grid": lambda: benchmark_leads(FULL),
    "speed in short": lambda: short_leads(
        FULL,
        {
            "partition, hard: reference": "plain PyTorch (`drpm.reference`)",
            "partition, hard: compiled reference": "the same under `torch.compile`",
            "partition, hard: softtorch neuralsort": "SoftTorch's NeuralSort",
            "partition, hard: diffsort bitonic": "diffsort's sorting network",
        },
    ),
    **{
        f"{op} on the full grid": lambda op=op: benchmark_table(FULL, op)  # type: ignore[misc]
        for op in ("partition", "relaxed_sort", "relaxed_sort_matmul")
    },
    **{
        f"large {op}": lambda op=op: benchmark_table(LARGE, op)  # type: ignore[misc]
        for op in ("partition", "relaxed_sort_matmul")
    },
    "band crossover": lambda: script_table("results/relaxed_sort/crossover.json", band_crossover.table),
    "relaxed sort speed": lambda: script_table("results/relaxed_sort/speed.json", relaxed_sort_speed.table),
    "exact random_partition benchmark": lambda: benchmark_table(SMALL, "random_partition", "exact"),
}


def rendered(text: str) -> str:
    for name in re.findall(r"<!-- begin: (.+?) -->", text):
        BLOCKS[name]  # an unknown block is an error here
    return report.rendered(text, BLOCKS)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> int:
    stale = []
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = rendered(old)
        if new != old:
            stale.append(page.relative_to(ROOT))
            if "--check" not in sys.argv:
                page.write_text(new, encoding="utf-8")
    print(
        *([f"{'stale' if '--check' in sys.argv else 'rewritten'}: {page}" for page in stale] or ["up to date"]),
        sep="\n",
    )
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
