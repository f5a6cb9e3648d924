"""Table of DRPM-VC that trains all layers, docs/experiments/clustering.md."""

from pathlib import Path
from typing import Any

from experiments.demo.report import mean_and_error, mean_and_spread
from experiments.runner.configuration import read_row
from experiments.runner.records import read_runs, runs_line

_REFERENCES = ("latent_gmm", "vade", "drpm_exact")
_VARIANTS = ("whole_marginals", "whole_beta", "whole_noise")


def _ari(run: dict[str, Any], column: str) -> float | None:
    scores = run["metrics"]["test"].get(column)
    return None if scores is None else scores["ari"]


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return mean_and_spread(known) if known else "–"


def _less(own: dict[int, dict[str, Any]], base: dict[int, dict[str, Any]]) -> str:
    """Difference of the responsibilities' ARI, paired over seeds that started from the same weights and mixture."""
    apart = []
    for seed in sorted(own.keys() & base):
        if own[seed]["metrics"]["start"] == base[seed]["metrics"]["start"]:
            one, two = (_ari(run, "responsibilities") for run in (own[seed], base[seed]))
            assert one is not None and two is not None
            apart.append(one - two)
    if not apart:
        return "–"
    return mean_and_error(apart) if len(apart) > 1 else f"{apart[0]:+.3f}"


def whole_table(results: Path) -> str:
    """Give the ARI of the variants beside that of the first round's methods, on the variants' seeds."""
    lines = [
        "| data | method | ARI, partition | ARI, responsibilities | less VaDE | less DRPM-VC, last layer | seeds |",
        "|---" * 7 + "|",
    ]
    every: list[dict[str, Any]] = []
    for data in ("mnist", "fashion_mnist"):
        rows = {name: read_runs(results / f"{data}_{name}") for name in (*_REFERENCES, *_VARIANTS)}
        found = {name: {run["seed"]: run for run in runs} for name, runs in rows.items()}
        seeds = {seed for name in _VARIANTS for seed in found[name]}
        for name, by_seed in found.items():
            runs = [by_seed[seed] for seed in sorted(seeds & by_seed.keys())]
            if not runs:
                continue
            cells = [_cell([_ari(run, column) for run in runs]) for column in ("partition", "responsibilities")]
            kept = {run["seed"]: run for run in runs}
            cells += ["–" if name == other else _less(kept, found[other]) for other in ("vade", "drpm_exact")]
            title = read_row("clustering", f"{data}_{name}")["title"]
            words = ", ".join(str(run["seed"]) for run in runs)
            lines.append(f"| {data.replace('_', '-')} | {title} | {' | '.join(cells)} | {words} |")
            every += runs
    note = "Differences: responsibilities, paired, mean ± standard error. "
    return "\n".join([*lines, "", note + runs_line(every)]) if every else "_No results yet._"
