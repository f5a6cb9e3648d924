"""Tables of docs/demo.md from the result files of the demo."""

import statistics
from pathlib import Path
from typing import Any

from experiments.runner.records import read_runs

SCORES = ("ari", "nmi", "acc")
OPTIONS = (
    ("", "bound, merged conditionals (default)"),
    ("exact_conditionals", "bound, exact conditionals"),
    ("exact_kl", "exact KL, exact conditionals"),
)


def mean_and_spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def mean_and_error(values: list[float]) -> str:
    """Mean ± standard error, and how many of those the mean is away from zero."""
    mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:+.3f} ± {error:.3f}" + (f" (t = {mean / error:.1f})" if error > 0.0 else "")


def provenance(runs: list[dict[str, Any]]) -> str:
    first = runs[0]
    seconds = [run["training_seconds"] for run in runs]
    commits = ", ".join(sorted({run["commit"][:12] for run in runs}))
    return (
        f"seeds {', '.join(str(run['seed']) for run in runs)}; {first['machine']['processor']}, "
        f"{first['machine']['threads']} thread(s), {min(seconds):.0f}–{max(seconds):.0f} s of training; "
        f"torch {first['versions']['torch']}, scikit-learn {first['versions']['scikit-learn']}, commit {commits}"
    )


def score_table(folder: Path) -> str:
    """Every method's scores, mean and standard deviation over the seeds of one folder."""
    runs = read_runs(folder)
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
    return "\n".join([*lines, "", f"Mean ± standard deviation over {provenance(runs)}."])


def comparison_table(folder: Path) -> str:
    """What training adds to the initialisation, and the exact KL to the bound, paired over the seeds."""
    runs = {option: read_runs(folder / option) for option, _ in OPTIONS}
    seeds = {tuple(run["seed"] for run in found) for found in runs.values()}
    if len(seeds) != 1 or len(next(iter(seeds))) < 2:
        return "_No results yet._"

    def scores(option: str, method: str, column: str, name: str = "ari") -> list[float]:
        return [run["methods"][method][column][name] for run in runs[option]]

    def gains(option: str, column: str) -> list[float]:
        return _differences(scores(option, "drpm", column), scores(option, "initialisation", column))

    lines = ["| held-out ARI | initialisation | trained | gain of the partition | gain of the responsibilities |"]
    lines.append("|---" * 5 + "|")
    for option, title in OPTIONS:
        cells = [mean_and_spread(scores(option, method, "partition")) for method in ("initialisation", "drpm")]
        cells += [mean_and_error(gains(option, column)) for column in ("partition", "gaussian")]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| trained: exact KL minus bound, both with exact conditionals | ARI | NMI | ACC |",
        "|---|---|---|---|",
    ]
    (bound, _), (exact, _) = OPTIONS[1:]
    for column, title in (("partition", "partition"), ("gaussian", "responsibilities")):
        cells = [
            mean_and_error(_differences(scores(exact, "drpm", column, name), scores(bound, "drpm", column, name)))
            for name in SCORES
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    listed = "; ".join(", ".join(f"{x:+.3f}" for x in gains(option, "partition")) for option, _ in OPTIONS)
    lines += [
        "",
        "Initialisation and trained: mean ± standard deviation of the partition's ARI. Gains and differences: mean ± "
        "standard error over the seeds, paired; t is their ratio. "
        f"Gains of the partition seed by seed, row by row: {listed}.",
    ]
    return "\n".join(lines)


def _differences(first: list[float], second: list[float]) -> list[float]:
    return [a - b for a, b in zip(first, second, strict=True)]
