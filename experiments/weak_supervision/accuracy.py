"""What the tables of the weakly supervised experiment read off a result, and the thesis' numbers."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

THESIS = {  # Table 5.3, means of five seeds: (n_s, part) -> Label, Ada, HG, DRPM
    (0, "private"): (0.14, 0.12, 0.18, 0.26),
    (1, "shared"): (0.19, 0.19, 0.22, 0.39),
    (1, "private"): (0.16, 0.15, 0.19, 0.20),
    (3, "shared"): (0.10, 0.10, 0.08, 0.15),
    (3, "private"): (0.23, 0.22, 0.28, 0.29),
    (5, "shared"): (0.34, 0.33, 0.28, 0.42),
    (5, "private"): (0.00, 0.00, 0.01, 0.01),
}
Runs = list[dict[str, Any]]


def spread(values: Iterable[float | None], digits: int = 2) -> str:
    """Mean ± standard deviation of what is known."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{statistics.mean(known):.{digits}f} ± {statistics.stdev(known):.{digits}f}"


def probes_accuracy(probes: Sequence[dict[str, Any]]) -> float | None:
    """Mean adjusted balanced accuracy over the factors of each probe, then over the probes."""
    means = []
    for probe in probes:
        known = [score for score in probe["accuracy"].values() if score is not None]
        if known:
            means.append(statistics.mean(known))
    return statistics.mean(means) if means else None


def part_accuracy(run: dict[str, Any], part: str, level: int | None = None) -> float | None:
    """`probes_accuracy` of a part: over the views (private) or of one group (shared)."""
    probes = [probe for probe in run["metrics"]["test"]["probes"] if probe["part"] == part]
    return probes_accuracy(probes if level is None else probes[level : level + 1])


def nats_shared(run: dict[str, Any]) -> float:
    """Share of the latent KL in shared dimensions: the mean KL of each, times how often it is shared."""
    test = run["metrics"]["test"]
    shared = [sum(of) for of in zip(*test["shared_by_dimension"][:-1], strict=True)]
    nats = test["kl_by_dimension"]
    return sum(n * s for n, s in zip(nats, shared, strict=True)) / sum(nats)
