"""Bias and variance of the gradient estimators of random assignments, against enumeration.

    python -m benchmarks.assignment_estimators [--output results/estimators/assignment.json] [--figure docs/figures/…]

n = 6, K = 3, several instances: log ω and a row of scores for every subset at random, f linear (a random cost for each
pair) and quadratic (a random form). For each estimator the relative bias of the mean gradient and the relative standard
deviation of the gradient of one draw, means over the instances. Three laws: a row of scores for each subset
(`random_assignment`, with and without the counterfactual of Eq. 8, docs/math/assignment.md), and one shared axis
(`random_partition` with the first row's scores), each against its own exact gradient.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import machine
from drpm.ops import (
    mvhg_sample,
    partition,
    random_assignment,
    random_assignment_log_prob,
    random_partition,
    random_partition_log_prob,
)
from drpm.testing.accuracy import relative_error
from drpm.training.provenance import write_json

ELEMENTS, SUBSETS, INSTANCES = 6, 3, 8
TEMPERATURES = (0.3, 1.0)
BATCH = 4000
DTYPE = torch.float64
F = Callable[[Tensor], Tensor]  # assignments (*, K, n) -> (*)
Draw = Callable[[Tensor, Tensor, float], Tensor]  # log_omega, log_scores, tau -> assignments


def rows(log_omega: Tensor, log_scores: Tensor, tau: float) -> Tensor:
    return random_assignment(log_omega, log_scores, tau).assignment


def without_counterfactual(log_omega: Tensor, log_scores: Tensor, tau: float) -> Tensor:
    """The chain of Eq. 6 with u = 0 and unchanged sizes outside of what remains, element by element."""
    sizes = mvhg_sample(log_omega, ELEMENTS, ELEMENTS, tau)
    noisy = log_scores - torch.empty_like(log_scores).exponential_().log()
    rest, remains = torch.ones_like(noisy[:, 0]), torch.ones_like(noisy[:, 0], dtype=torch.bool)
    planes = []
    for k in range(SUBSETS - 1):
        beyond = -1e3 * torch.arange(1, ELEMENTS + 1, dtype=DTYPE)
        both = torch.stack([sizes[:, k], ELEMENTS - sizes[:, k]], -1)
        u = torch.where(remains, partition(torch.where(remains, noisy[:, k], beyond), both, tau)[:, 0], 0.0)
        planes.append(rest * u)
        rest, remains = rest * (1 - u), remains & (u.detach() == 0)
    return torch.stack([*planes, rest], -2)


def shared(log_omega: Tensor, log_scores: Tensor, tau: float) -> Tensor:
    return random_partition(log_omega, log_scores[:, 0], tau).assignment


def log_prob_of(by_rows: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if by_rows:
        return random_assignment_log_prob
    return lambda labels, log_omega, log_scores: random_partition_log_prob(labels, log_omega, log_scores[..., 0, :])


def exact_gradient(f: F, parameters: tuple[Tensor, Tensor], by_rows: bool) -> tuple[Tensor, Tensor]:
    log_omega, log_scores = (x.clone().requires_grad_() for x in parameters)
    labels = torch.tensor(list(itertools.product(range(SUBSETS), repeat=ELEMENTS)))
    one_hot = torch.nn.functional.one_hot(labels, SUBSETS).mT.to(DTYPE)
    probability = log_prob_of(by_rows)(labels, log_omega, log_scores).exp()
    assert relative_error(probability.sum(), torch.ones((), dtype=DTYPE)) < 1e-10
    by_omega, by_scores = torch.autograd.grad((probability * f(one_hot)).sum(), (log_omega, log_scores))
    return by_scores, by_omega


def estimates(f: F, parameters: tuple[Tensor, Tensor], draw: Draw, tau: float | None, count: int) -> list[Tensor]:
    """Gradients by scores and log ω of single draws; tau None: the score function with the other draws' mean."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for begin in range(0, count, BATCH):
        size = min(BATCH, count - begin)
        log_omega, log_scores = (x.expand(size, *x.shape).clone().requires_grad_() for x in parameters)
        if tau is not None:
            value = f(draw(log_omega, log_scores, tau))
        else:
            with torch.no_grad():
                y = draw(log_omega, log_scores, 1.0)
                values = f(y)
                advantage = (values - values.mean()) * size / (size - 1)
            value = advantage * log_prob_of(draw is not shared)(y.argmax(-2), log_omega, log_scores)
        by_omega, by_scores = torch.autograd.grad(value.sum(), (log_omega, log_scores))
        found[0].append(by_scores)
        found[1].append(by_omega)
    return [torch.cat(x) for x in found]


def instance(seed: int) -> tuple[tuple[Tensor, Tensor], dict[str, F]]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=DTYPE)

    cost, form = normal(SUBSETS, ELEMENTS), normal(SUBSETS * ELEMENTS, SUBSETS * ELEMENTS)

    def quadratic(y: Tensor) -> Tensor:
        flat = y.flatten(-2)
        return ((flat @ form) * flat).sum(-1) / ELEMENTS

    parameters = 0.5 * normal(SUBSETS), normal(SUBSETS, ELEMENTS)
    return parameters, {"linear": lambda y: (y * cost).sum((-1, -2)), "quadratic": quadratic}


def measure(count: int, instances: int = INSTANCES) -> list[dict]:
    methods: list[tuple[str, str, Draw, float | None]] = []
    for law, draw in (("a row for each subset", rows), ("one axis", shared)):
        methods.append((law, "score function", draw, None))
        methods += [(law, f"straight-through, τ = {tau:g}", draw, tau) for tau in TEMPERATURES]
        if draw is rows:
            methods += [
                (law, f"without the counterfactual, τ = {tau:g}", without_counterfactual, tau) for tau in TEMPERATURES
            ]
    results = []
    for name in ("linear", "quadratic"):
        for law, method, draw, tau in methods:
            entries: dict[str, list[tuple[float, float]]] = {"scores": [], "log ω": []}
            for seed in range(instances):
                torch.manual_seed(seed)
                parameters, functions = instance(seed)
                exact = exact_gradient(functions[name], parameters, draw is not shared)
                got = estimates(functions[name], parameters, draw, tau, count)
                for parameter, one, want in zip(entries, got, exact, strict=True):
                    scale = want.norm()
                    bias, deviation = (one.mean(0) - want).norm() / scale, (one.var(0).sum().sqrt()) / scale
                    entries[parameter].append((float(bias), float(deviation)))
            row: dict = {"f": name, "law": law, "estimator": method}
            for parameter, pairs in entries.items():
                biases, deviations = zip(*pairs, strict=True)
                row[parameter] = {
                    "bias": sum(biases) / instances,
                    "standard_error": sum(deviations) / instances / count**0.5,
                    "deviation": sum(deviations) / instances,
                }
            results.append(row)
    return results


def table(content: dict) -> str:
    """Markdown of a result file."""
    lines = ["| f | law | estimator | scores: bias | sd | log ω: bias | sd |", "|---|---|---|---|---|---|---|"]
    for row in content["results"]:
        cells = " | ".join(
            f"{row[p]['bias']:.2f} ± {row[p]['standard_error']:.1g} | {row[p]['deviation']:.2g}"
            for p in ("scores", "log ω")
        )
        lines.append(f"| {row['f']} | {row['law']} | {row['estimator']} | {cells} |")
    head = f"Means over {content['instances']} instances; {content['draws']} single draws each. "
    return "\n".join([*lines, "", head + machine.line(content)])


def plot(content: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, parameter in zip(axes, ("scores", "log ω"), strict=True):
        for marker, f in (("o", "linear"), ("s", "quadratic")):
            for colour, law in (("tab:blue", "a row for each subset"), ("tab:grey", "one axis")):
                for row in content["results"]:
                    if (row["f"], row["law"]) != (f, law):
                        continue
                    without = row["estimator"].startswith("without")
                    axis.scatter(
                        row[parameter]["deviation"],
                        max(row[parameter]["bias"], 2e-3),
                        marker=marker,
                        facecolors="none" if without else colour,
                        edgecolors="tab:red" if without else colour,
                        label=f"{f}, {'rows without counterfactual' if without else law}",
                    )
        axis.set(xscale="log", yscale="log", xlabel="relative sd of one draw", title=f"gradient by {parameter}")
        axis.grid(True, alpha=0.3)
    axes[0].set_ylabel("relative bias")
    handles, labels = axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40000)
    parser.add_argument("--instances", type=int, default=INSTANCES)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    content = {
        "machine": machine.describe(torch.get_num_threads()),
        **machine.commit(),
        "date": machine.now(),
        "draws": arguments.draws,
        "instances": arguments.instances,
        "results": measure(arguments.draws, arguments.instances),
    }
    print(table(content))
    if arguments.figure:
        plot(content, arguments.figure)
    if arguments.output:
        write_json(content, arguments.output)


if __name__ == "__main__":
    main()
