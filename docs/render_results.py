"""Rebuild the tables of README.md and docs/ from results/: `python docs/render_results.py` (`--check` only compares).

A block stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; NAME picks a function of BLOCKS.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import partition_bounds, partition_speed  # noqa: E402
from benchmarks.report import head_line, series_of, series_table  # noqa: E402
from benchmarks.results import Results  # noqa: E402

SMALL = "results/benchmarks/small.json"
SCORES = ("ari", "nmi", "acc")


def mean_and_spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def demo_table(folder: str = "results/demo") -> str:
    """Mean and standard deviation over the seeds of results/demo/*.json."""
    runs = [json.loads(path.read_text()) for path in sorted((ROOT / folder).glob("seed*.json"))]
    if not runs:
        return "_No results yet._"
    head = "| held-out digits | " + " | ".join(
        f"{name.upper()}, {column}" for column in ("partition", "responsibilities") for name in SCORES
    )
    lines = [head + " |", "|---" * 7 + "|"]
    for key, method in runs[0]["methods"].items():
        cells = []
        for column in ("partition", "gaussian"):
            for name in SCORES:
                found = [run["methods"][key][column][name] for run in runs if run["methods"][key].get(column)]
                cells.append(mean_and_spread(found) if found else "–")
        lines.append(f"| {method['title']} | " + " | ".join(cells) + " |")
    first = runs[0]
    seeds = ", ".join(str(run["seed"]) for run in runs)
    seconds = [run["training_seconds"] for run in runs]
    commits = ", ".join(sorted({run["commit"][:12] for run in runs}))
    lines += [
        "",
        f"Mean ± standard deviation over seeds {seeds}; {first['machine']['processor']}, "
        f"{first['machine']['threads']} thread(s), {min(seconds):.0f}–{max(seconds):.0f} s of training; "
        f"torch {first['versions']['torch']}, scikit-learn {first['versions']['scikit-learn']}, "
        f"commit {commits}.",
    ]
    return "\n".join(lines)


def benchmark_table(file: str, op: str, variant: str | None = None) -> str:
    path = ROOT / file
    if not path.exists():
        return "_No results yet._"
    results = Results.load(path)
    parts = [head_line(results)]
    for series, entries in series_of(results, op, variant).items():
        parts += [f"**{series.replace('/', ', ')}**", series_table(entries)]
    return "\n\n".join(parts)


def script_table(file: str, table: Callable[[dict], str]) -> str:
    """The table that a script of benchmarks/ makes of its own result file."""
    path = ROOT / file
    return table(json.loads(path.read_text())) if path.exists() else "_No results yet._"


BLOCKS: dict[str, Callable[[], str]] = {
    "demo": demo_table,
    "partition bounds": lambda: script_table("results/partition/bounds.json", partition_bounds.table),
    "partition speed": lambda: script_table("results/partition/speed.json", partition_speed.table),
    "random_partition benchmark": lambda: benchmark_table(SMALL, "random_partition", "merged"),
    "partition benchmark": lambda: benchmark_table(SMALL, "partition"),
    "relaxed_sort benchmark": lambda: benchmark_table(SMALL, "relaxed_sort"),
    "exact random_partition benchmark": lambda: benchmark_table(SMALL, "random_partition", "exact"),
}


def rendered(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- begin: {name} -->\n{BLOCKS[name]()}\n<!-- end: {name} -->"

    return re.sub(r"<!-- begin: (.+?) -->\n.*?<!-- end: \1 -->", replace, text, flags=re.DOTALL)


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
