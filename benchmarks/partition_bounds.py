"""The exact log-probability of a partition beside the thesis' bounds (Lemma 5.2.3).

    python -m benchmarks.partition_bounds [--output results/partition/bounds.json]

Partitions are drawn from the model: scores of the given standard deviation, subsets as equal in size as possible, the
order from Plackett-Luce. "lower, drawn" takes the order that was drawn, "lower, best" decreasing scores within
each subset. Means over the draws, in nats; log p(n) is the same in all columns, with equal weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from drpm.ops import partition_log_prob_bounds, random_partition_log_prob
from drpm.training.provenance import write_json

CASES = ((6, 3), (20, 3), (20, 10), (256, 3), (256, 10))
SPREADS = (1.0, 3.0)
COLUMNS = ("exact", "lower, drawn", "lower, best", "upper")


def draw(n: int, num_subsets: int, spread: float, draws: int) -> tuple[Tensor, Tensor, Tensor]:
    """log_scores, order and labels, each (draws, n)."""
    log_scores = torch.randn(draws, n, dtype=torch.float64) * spread
    gumbel = -torch.log(-torch.log(torch.rand(draws, n, dtype=torch.float64)))
    order = (log_scores + gumbel).argsort(-1, descending=True)
    sizes = torch.tensor([n // num_subsets + (k < n % num_subsets) for k in range(num_subsets)])
    by_rank = torch.arange(num_subsets).repeat_interleave(sizes).expand(draws, n)
    return log_scores, order, torch.empty_like(order).scatter_(-1, order, by_rank)


def row(n: int, num_subsets: int, spread: float, draws: int) -> list[float]:
    log_scores, order, labels = draw(n, num_subsets, spread, draws)
    log_omega = torch.zeros(num_subsets, dtype=torch.float64)
    exact = random_partition_log_prob(labels, log_omega, log_scores)
    lower_drawn, upper = partition_log_prob_bounds(labels, log_omega, log_scores, order=order)
    lower_best, _ = partition_log_prob_bounds(labels, log_omega, log_scores)
    assert (lower_drawn <= lower_best + 1e-9).all() and (lower_best <= exact + 1e-9).all()
    assert (exact <= upper + 1e-9).all()
    return [x.mean().item() for x in (exact, lower_drawn, lower_best, upper)]


def measure(draws: int, seed: int) -> list[dict[str, Any]]:
    torch.manual_seed(seed)
    cases: list[dict[str, Any]] = []
    for n, num_subsets in CASES:
        for spread in SPREADS:
            numbers = dict(zip(COLUMNS, row(n, num_subsets, spread, draws), strict=True))
            cases.append({"n": n, "K": num_subsets, "sd": spread, **numbers})
    return cases


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file."""
    lines = ["| n | K | sd of log s | " + " | ".join(COLUMNS) + " | width |", "|---" * (len(COLUMNS) + 4) + "|"]
    for case in content["cases"]:
        numbers = [*(case[name] for name in COLUMNS), case["upper"] - case["lower, best"]]
        cells = " | ".join(f"{x:.2f}" for x in numbers)
        lines.append(f"| {case['n']} | {case['K']} | {case['sd']:g} | {cells} |")
    head = f"Means over {content['draws']} draws, seed {content['seed']}. "
    return "\n".join([*lines, "", head + machine.line(content)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    content = {
        "machine": machine.describe(torch.get_num_threads()),
        **machine.commit(),
        "date": machine.now(),
        "draws": arguments.draws,
        "seed": arguments.seed,
        "cases": measure(arguments.draws, arguments.seed),
    }
    if arguments.output:
        write_json(content, arguments.output)
    print(table(content))


if __name__ == "__main__":
    main()
