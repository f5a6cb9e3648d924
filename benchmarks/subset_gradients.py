"""Bias and variance of gradient estimators of E[f(S)], S exactly k of n, against enumeration.

    python -m benchmarks.subset_gradients [--replicates 20000] [--output results/estimators/subsets.json]

Each estimator is held to the exact gradient of its own law: conditional Bernoulli and Plackett-Luce over the C(n, k)
subsets, k independent categorical choices (whose mixtures concrete selectors take) over the n^k tuples. f is linear,
the squared error of a regression, or 2 tanh of a quadratic form, of the 0/1 vector of the subset. All numbers are
relative to the length of the exact gradient; an estimate takes 4 draws. Read by docs/exactly_k_of_n.md.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.gradient_estimators import statistics
from drpm.estimators import leave_one_out
from drpm.nn import SubsetSelector
from drpm.ops import gumbel_noise
from drpm.ops._random import STREAM_ORDER
from drpm.training.provenance import write_json

N, K, DRAWS = 8, 3, 4
DTYPE = torch.float64
_AT_ONCE = 2000  # estimates
F = Callable[[Tensor], Tensor]
Estimates = Callable[[F, Tensor, int], Tensor]  # f, parameters (B, …) of B estimates, seed -> (B,) values


def functions() -> dict[str, F]:
    torch.manual_seed(0)
    cost, pairs = torch.randn(N, dtype=DTYPE), torch.randn(N, N, dtype=DTYPE)
    x = torch.randn(30, N, dtype=DTYPE)
    y = x[:, :K].sum(-1) + 0.5 * torch.randn(30, dtype=DTYPE)
    return {
        "linear": lambda mask: mask @ cost,
        "squared error": lambda mask: (mask @ x.T - y).square().mean(-1),
        "tanh": lambda mask: 2 * torch.tanh(((mask @ pairs) * mask).sum(-1) / 4),
    }


def subsets() -> Tensor:  # (C(n, k), n)
    chosen = torch.tensor(list(itertools.combinations(range(N), K)))
    return torch.zeros(len(chosen), N, dtype=DTYPE).scatter(1, chosen, 1.0)


def exact(law: str, f: F, parameters: Tensor) -> Tensor:
    """Gradient of E[f] by the parameters."""
    parameters = parameters.clone().requires_grad_()
    if law == "mixtures":
        tuples = torch.tensor(list(itertools.product(range(N), repeat=K)))
        each = parameters.log_softmax(-1)[torch.arange(K), tuples].sum(-1)
        masks = torch.nn.functional.one_hot(tuples, N).sum(-2).to(DTYPE)
    else:
        masks = subsets()
        each = SubsetSelector(k=K, law=law).log_prob(masks, parameters.expand(masks.shape))
    (gradient,) = torch.autograd.grad((each.exp() * f(masks)).sum(), parameters)
    return gradient


def by_selector(law: str, tau: float | None = None) -> Estimates:
    """The gradient that `SubsetSelector` gives its draws."""
    select = SubsetSelector(k=K, law=law, tau=tau)

    def values(f: F, parameters: Tensor, seed: int) -> Tensor:
        return f(select(parameters, sample_shape=(DRAWS,), seed=seed).mask).mean(0)

    return values


def by_score(law: str) -> Estimates:
    """Leave-one-out on the exact log-probability."""
    select = SubsetSelector(k=K, law=law)

    def values(f: F, parameters: Tensor, seed: int) -> Tensor:
        mask = select(parameters, sample_shape=(DRAWS,), seed=seed).mask.detach()
        return leave_one_out(f(mask), select.log_prob(mask, parameters.expand(mask.shape)))

    return values


def by_mixtures(tau: float, hard: bool) -> Estimates:
    """Sums of k Gumbel-softmax vectors; hard: one-hot vectors, straight-through."""

    def values(f: F, parameters: Tensor, seed: int) -> Tensor:
        shape = (DRAWS, *parameters.shape)
        noise = gumbel_noise(
            torch.tensor([seed]), (DRAWS * len(parameters), K, N), stream=STREAM_ORDER, dtype=DTYPE
        ).reshape(shape)
        logits = parameters + noise
        soft = (logits / tau).softmax(-1)
        one_hot = torch.nn.functional.one_hot(logits.argmax(-1), N).to(DTYPE)
        vectors = one_hot + soft - soft.detach() if hard else soft
        return f(vectors.sum(-2)).mean(0)

    return values


def estimators() -> Iterator[tuple[str, str, Estimates]]:
    """Name, law and values of each."""
    exact_law, order = "conditional-bernoulli", "plackett-luce"
    yield "SIMPLE: draws with the gradient of the marginals", exact_law, by_selector(exact_law)
    yield "leave-one-out on log p", exact_law, by_score(exact_law)
    for tau in (0.1, 0.5, 1.0):
        yield f"straight-through relaxed top k, τ = {tau:g}", order, by_selector(order, tau)
    yield "leave-one-out on log p", order, by_score(order)
    for tau in (0.1, 0.5, 1.0):
        yield f"relaxed mixtures, τ = {tau:g}", "mixtures", by_mixtures(tau, False)
    yield "straight-through mixtures, τ = 0.5", "mixtures", by_mixtures(0.5, True)


def measure(replicates: int) -> list[dict[str, object]]:
    torch.manual_seed(1)
    scores, logits = torch.randn(N, dtype=DTYPE), torch.randn(K, N, dtype=DTYPE)
    found: list[dict[str, object]] = []
    for name, law, values in estimators():
        parameters = logits if law == "mixtures" else scores
        for kind, f in functions().items():
            rows = []
            for begin in range(0, replicates, _AT_ONCE):
                count = min(_AT_ONCE, replicates - begin)
                many = parameters.expand(count, *parameters.shape).clone().requires_grad_()
                rows.append(torch.autograd.grad(values(f, many, begin).sum(), many)[0].flatten(1))
            got = statistics(torch.cat(rows), exact(law, f, parameters).flatten())
            found.append({"estimator": name, "law": law, "f": kind, **got})
    return found


def table(content: dict) -> str:
    """Markdown of a result file."""
    kinds = list(dict.fromkeys(entry["f"] for entry in content["entries"]))
    head = " | ".join(f"{kind}: bias | sd" for kind in kinds)
    lines = [f"| law | estimator | {head} |", "|---" * (2 + 2 * len(kinds)) + "|"]
    by: dict[tuple[str, str], dict] = {}
    for entry in content["entries"]:
        by.setdefault((entry["law"], entry["estimator"]), {})[entry["f"]] = entry
    for (law, name), values in by.items():
        cells = [f"{v['bias']:.2g} ± {v['standard_error']:.1g} | {v['deviation']:.2g}" for v in values.values()]
        lines.append(f"| {law.replace('-', ' ')} | {name} | {' | '.join(cells)} |")
    note = f"n = {N}, k = {K}; {content['replicates']} estimates from {DRAWS} draws each. "
    return "\n".join([*lines, "", note + machine.line(content)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=20000)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    content = {
        "machine": machine.describe(torch.get_num_threads()),
        **machine.commit(),
        "date": machine.now(),
        "replicates": arguments.replicates,
        "entries": measure(arguments.replicates),
    }
    print(table(content))
    if arguments.output:
        write_json(content, arguments.output)


if __name__ == "__main__":
    main()
