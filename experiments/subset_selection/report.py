"""Tables and figures of docs/experiments/subset_selection.md."""

from collections.abc import Callable
from pathlib import Path


def tables(results: Path) -> dict[str, Callable[[], str]]:
    return {}


def figures(results: Path, docs: Path) -> list[Path]:
    return []
