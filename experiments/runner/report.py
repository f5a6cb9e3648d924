"""Every table and figure of the experiments, rebuilt from their result files."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from experiments.demo import report as demo_report
from experiments.mvhg import ks_test, minimal_example
from experiments.runner.registry import EXPERIMENTS


def blocks(results: Path) -> dict[str, Callable[[], str]]:
    """Give what makes each block that the pages of docs/ may hold between `<!-- begin: NAME -->` and its end."""
    found: dict[str, Callable[[], str]] = {
        "demo": partial(demo_report.score_table, results / "demo"),
        "demo, exact KL": partial(demo_report.score_table, results / "demo" / "exact_kl"),
        "demo comparison": partial(demo_report.comparison_table, results / "demo"),
        "MVHG Kolmogorov-Smirnov test": partial(_table, ks_test.table, results / "mvhg" / "ks_test.json"),
        "MVHG minimal example": partial(_table, minimal_example.table, results / "mvhg" / "minimal_example.json"),
    }
    for name, entry in EXPERIMENTS.items():
        found |= entry.load_tables()(results / name)
    return found


def _table(table: Callable[[dict[str, Any]], str], path: Path) -> str:
    return table(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else "_No results yet._"


def rendered(text: str, found: Mapping[str, Callable[[], str]]) -> str:
    """Fill the blocks of a page that are known."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- begin: {name} -->\n{found[name]()}\n<!-- end: {name} -->" if name in found else match.group(0)

    return re.sub(r"<!-- begin: (.+?) -->\n.*?<!-- end: \1 -->", replace, text, flags=re.DOTALL)


def rebuild(root: Path, check: bool = False) -> int:
    """Rewrite README.md, docs/**/*.md and the figures of a checkout; with `check` only say what is stale.

    Returns: 1 where `check` found something, else 0.
    """
    found = blocks(root / "results")
    stale = []
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        old = page.read_text(encoding="utf-8")
        new = rendered(old, found)
        if new != old:
            stale.append(page)
            if not check:
                page.write_text(new, encoding="utf-8")
    written: list[Path] = []
    if not check:
        for name, entry in EXPERIMENTS.items():
            written += entry.load_figures()(root / "results" / name, root / "docs")
    verb = "stale" if check else "rewritten"
    print(*([f"{verb}: {path}" for path in [*stale, *written]] or ["up to date"]), sep="\n")
    if check and stale:
        print("rebuild with: python -m experiments report", file=sys.stderr)
    return int(check and bool(stale))
