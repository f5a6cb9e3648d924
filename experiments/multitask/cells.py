"""What the tables of the multitask experiment read off result files."""

from collections.abc import Sequence
from typing import Any

from experiments.demo.report import mean_and_spread

Runs = Sequence[dict[str, Any]]


def values(runs: Runs, score: str, task: int) -> list[float]:
    """Give a score of one task, a value per run."""
    return [run["metrics"]["test"][score][task] for run in runs]


def cell(runs: Runs, score: str, task: int) -> str:
    if not runs:
        return "–"
    text = mean_and_spread(values(runs, score, task))
    return text if score != "sizes" else " ± ".join(f"{float(part):.1f}" for part in text.split(" ± "))


def seeds(runs: Runs) -> str:
    return ", ".join(str(run["seed"]) for run in runs)
