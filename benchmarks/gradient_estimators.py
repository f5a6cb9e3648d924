"""Bias and variance of the gradient estimators of drpm.estimators, against exact gradients.

    python -m benchmarks.gradient_estimators [--output results/estimators/gradients.json] [--figure docs/figures/…png]

Three expectations E[f(Y)] over a random partition: f linear and f nonlinear at n = 6, K = 3 (exact gradient by
enumeration of all 729 partitions) and f linear at n = 64, K = 5 (exact gradient by the marginals). For the gradients by
log s and by log ω it prints the relative bias of the mean estimate (with its standard error) and the relative standard
deviation of one estimate from S = 4 draws, and draws the relative root mean square error against S (the variance
scaled from S = 4 by 1/S). Results and recommendation: docs/estimators.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import machine
from drpm.distributions import RandomPartition
from drpm.estimators import expectation
from drpm.ops import partition_marginals
from drpm.training.provenance import write_json

TEMPERATURES = (0.1, 0.5, 1.0)
DRAWS = 4  # S of one estimate
DTYPE = torch.float64
Results = dict[str, dict[str, dict[str, dict[str, float]]]]  # problem, method, parameter, statistic


@dataclass(frozen=True)
class Problem:
    name: str
    f: Callable[[Tensor], Tensor]
    log_omega: Tensor
    log_scores: Tensor
    enumerable: bool

    def exact_gradient(self) -> tuple[Tensor, Tensor]:
        log_omega, log_scores = self.log_omega.clone().requires_grad_(), self.log_scores.clone().requires_grad_()
        if not self.enumerable:
            value = self.f(partition_marginals(log_omega, log_scores))
        else:
            law = RandomPartition(log_omega, log_scores)
            labels = law.enumerate_support()
            one_hot = (labels.unsqueeze(-2) == torch.arange(law.num_subsets).unsqueeze(-1)).to(DTYPE)
            value = (law.log_prob(labels).exp() * self.f(one_hot)).sum()
        by_omega, by_scores = torch.autograd.grad(value, (log_omega, log_scores))
        return by_scores, by_omega


def problems() -> list[Problem]:
    torch.manual_seed(0)
    n, num_subsets = 6, 3
    log_omega, log_scores = torch.tensor([0.5, 0.0, -0.7], dtype=DTYPE), torch.randn(n, dtype=DTYPE)
    cost = torch.randn(num_subsets, n, dtype=DTYPE)
    pairs = torch.randn(num_subsets * n, num_subsets * n, dtype=DTYPE)
    many = torch.randn(5, 64, dtype=DTYPE)

    def nonlinear(y: Tensor) -> Tensor:
        flat = y.flatten(-2)
        return 2 * torch.tanh(((flat @ pairs) * flat).sum(-1) / 6)

    return [
        Problem("linear, n = 6", lambda y: (y * cost).sum((-1, -2)), log_omega, log_scores, True),
        Problem("nonlinear, n = 6", nonlinear, log_omega, log_scores, True),
        Problem(
            "linear, n = 64",
            lambda y: (y * many).sum((-1, -2)),
            torch.randn(5, dtype=DTYPE) * 0.5,
            torch.randn(64, dtype=DTYPE),
            False,
        ),
    ]


def estimates(problem: Problem, replicates: int, method: str, tau: float) -> tuple[Tensor, Tensor]:
    """Gradients by log s and log ω of independent estimates, one a row."""
    by_scores, by_omega = [], []
    for begin in range(0, replicates, 2000):
        count = min(2000, replicates - begin)
        log_omega = problem.log_omega.expand(count, -1).clone().requires_grad_()
        log_scores = problem.log_scores.expand(count, -1).clone().requires_grad_()
        value = expectation(problem.f, log_omega, log_scores, method=method, samples=DRAWS, tau=tau)
        grad_omega, grad_scores = torch.autograd.grad(value.sum(), (log_omega, log_scores))
        by_scores.append(grad_scores)
        by_omega.append(grad_omega)
    return torch.cat(by_scores), torch.cat(by_omega)


def statistics(got: Tensor, exact: Tensor) -> dict[str, float]:
    """All relative to the length of the exact gradient."""
    scale = exact.norm()
    spread = (got.var(0).sum() / scale**2).sqrt() if got.shape[0] > 1 else torch.zeros(())
    return {
        "bias": float((got.mean(0) - exact).norm() / scale),
        "standard_error": float(spread / got.shape[0] ** 0.5),
        "deviation": float(spread),
        "cosine": float(torch.nn.functional.cosine_similarity(got.mean(0), exact, dim=0)),
    }


def measure(replicates: int) -> Results:
    results: Results = {}
    for problem in problems():
        exact = problem.exact_gradient()
        methods = [("score function", "score", 1.0)]
        methods += [(f"straight-through, τ = {tau:g}", "straight-through", tau) for tau in TEMPERATURES]
        methods += [("marginals", "marginals", 1.0)]
        for name, method, tau in methods:
            got = estimates(problem, 1 if method == "marginals" else replicates, method, tau)
            results.setdefault(problem.name, {})[name] = {
                "log s": statistics(got[0], exact[0]),
                "log ω": statistics(got[1], exact[1]),
            }
    return results


def table(content: dict) -> str:
    """Markdown of a result file."""
    lines = ["| f | estimator | log s: bias | sd | log ω: bias | sd |", "|---|---|---|---|---|---|"]
    for problem, methods in content["problems"].items():
        for name, by in methods.items():
            cells = " | ".join(
                f"{v['bias']:.2g} ± {v['standard_error']:.1g} | {v['deviation']:.2g}" for v in by.values()
            )
            lines.append(f"| {problem} | {name} | {cells} |")
    head = f"{content['replicates']} estimates from {DRAWS} draws each. "
    return "\n".join([*lines, "", head + machine.line(content)])


def draw(results: Results, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(results), figsize=(11, 6), sharex=True, sharey=True, layout="constrained")
    samples = torch.logspace(torch.log10(torch.tensor(2.0)), 4, 60)
    colours = {"score function": "black", "marginals": "tab:red"}
    straight = iter(["#9ecae1", "#4292c6", "#08519c"] * len(results) * 2)
    for column, (problem, methods) in enumerate(results.items()):
        for row, parameter in enumerate(("log s", "log ω")):
            axis = axes[row][column]
            for name, by in methods.items():
                value = by[parameter]
                exact = name == "score function" or (name == "marginals" and value["bias"] < 1e-6)
                bias = 0.0 if exact else value["bias"]
                error = (bias**2 + value["deviation"] ** 2 * DRAWS / samples).sqrt()
                colour = colours.get(name) or next(straight)
                if error.max() > 0:
                    axis.loglog(samples, error, color=colour, label=name)
            axis.set_title(f"{problem}: gradient by {parameter}", fontsize=10)
            axis.grid(True, which="major", alpha=0.3)
            if column == 0:
                axis.set_ylabel("relative RMS error")
            if row == 1:
                axis.set_xlabel("draws S")
    handles, labels = axes[0][1].get_legend_handles_labels()
    labels = [f"{label} (exact for linear f)" if label == "marginals" else label for label in labels]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=40000)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    content = {
        "machine": machine.describe(torch.get_num_threads()),
        **machine.commit(),
        "date": machine.now(),
        "replicates": arguments.replicates,
        "problems": measure(arguments.replicates),
    }
    print(table(content))
    if arguments.figure:
        draw(content["problems"], arguments.figure)
    if arguments.output:
        write_json(content, arguments.output)


if __name__ == "__main__":
    main()
