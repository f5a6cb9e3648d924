"""Results of the corpus in long double, for float64 cases of the sorts and of the log-probabilities of orders and
partitions: values and gradients.

The formulas are those of python_tests/ops/relaxed_sort_oracle.py, written apart from the kernels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))
from result_corpus import Case, generator_of, weights_of

from python_tests.ops import relaxed_sort_oracle as oracle

Array = np.ndarray
Split = tuple[Tensor, Tensor]  # the nearest float64, and what is left


def split(x: Array) -> Split:
    high = x.astype(np.float64)
    return torch.from_numpy(high), torch.from_numpy((x - high).astype(np.float64))


def plackett_luce(ranked: Array, grad: Array) -> tuple[Array, Array]:
    """Value and gradient by rank: sum of x_i - log sum_{j>=i} exp x_j."""
    top = ranked.max()
    tails = np.cumsum(np.exp(ranked - top)[::-1])[::-1]
    value = (ranked - top - np.log(tails)).sum()
    return value, grad * (1 - np.exp(ranked - top) * np.cumsum(1 / tails))


NODES = np.linspace(-7, 8, 3001, dtype=np.longdouble)  # x of t = exp(x - exp(-x)): a double exponential rule


def first_of_all(x: Array, chosen: Array) -> tuple[Array, Array]:
    """log Pr[the chosen elements come first] and its gradient: clocks of rates a_i = exp(x_i - log Z), Z of the others,
    Pr = integral of exp(-t) prod (1 - exp(-a_i t)) dt."""
    gradient = np.zeros_like(x)
    if chosen.all() or not chosen.any():
        return np.longdouble(0), gradient
    top = x[~chosen].max()
    rest = np.exp(x[~chosen] - top)
    rate = np.exp(x[chosen] - top) / rest.sum()
    t = np.exp(NODES - np.exp(-NODES))
    at = np.multiply.outer(t, rate)
    log_density = np.log(-np.expm1(-at)).sum(1) - t + np.log(t * (1 + np.exp(-NODES)))
    mass = np.exp(log_density - log_density.max())
    gradient[chosen] = mass @ (at / np.expm1(at)) / mass.sum()
    gradient[~chosen] = -rest / rest.sum() * gradient[chosen].sum()
    return log_density.max() + np.log(mass.sum() * (NODES[1] - NODES[0])), gradient


def partition(labels: Array, x: Array, subsets: int, grad: Array) -> tuple[Array, Array]:
    value, gradient = np.longdouble(0), np.zeros_like(x)
    for k in range(subsets):
        left = labels >= k
        log_prob, of_left = first_of_all(x[left], labels[left] == k)
        value += log_prob
        gradient[left] += grad * of_left
    return value, gradient


def rows(case: Case, grad: Array) -> list[tuple[Array, ...]] | None:
    """Value and gradients of every row of the batch, or None where there is no oracle."""
    options = {"tau": 1.0, "hard": False, **case.call.keywords} if hasattr(case.call, "keywords") else {}
    if "lengths" in options or options.get("normalize"):
        return None
    tau, hard = options.get("tau"), options.get("hard")
    data = [oracle.to_long(x).reshape(-1, *x.shape[case.inputs[0].dim() - 1 :]) for x in case.inputs]
    if case.op == "relaxed_sort":
        computed = (oracle.relaxed_sort(x, tau, g) for x, g in zip(data[0], grad, strict=True))
        return [(oracle.hard_weights(x) if hard else y, d[0]) for x, (y, d) in zip(data[0], computed, strict=True)]
    if case.op == "relaxed_sort_matmul":
        found = [oracle.relaxed_sort_matmul(x, v, tau, hard, g) for x, v, g in zip(*data, grad, strict=True)]
        return [(y, d[0], v) for y, d, v in found]
    if case.op == "partition":
        found = [oracle.partition(x, z, tau, hard, g) for x, z, g in zip(*data, grad, strict=True)]
        return [(y, d[0], z) for y, d, z in found]
    if case.op == "partition_log_prob":
        labels = case.inputs[0].reshape(data[0].shape).numpy()
        subsets = options["num_subsets"]
        return [partition(y, x, subsets, g) for y, x, g in zip(labels, data[1], grad, strict=True)]
    if case.op == "plackett_luce_log_prob":
        orders = case.inputs[0].reshape(data[0].shape).numpy()
        result = []
        for order, x, g in zip(orders, data[1], grad, strict=True):
            value, by_rank = plackett_luce(x[order], g)
            gradient = np.zeros_like(x)
            gradient[order] = by_rank
            result.append((value, gradient))
        return result
    return None


def reference(case: Case, shape: torch.Size) -> dict[str, Split]:
    """Parts of `result_corpus.run` for a float64 case; `shape` is that of its value. Empty where there is no oracle."""
    batch = case.inputs[0].shape[:-1]
    relaxed_order = case.op == "plackett_luce_log_prob" and case.inputs[0].is_floating_point()
    if case.inputs[0].numel() == 0 or relaxed_order:
        return {}
    grad = oracle.to_long(weights_of(shape, generator_of(case.key, "weights")))
    of_rows = rows(case, grad.reshape(batch.numel(), *shape[len(batch) :]))
    if of_rows is None:
        return {}
    names = ["value 0", *(f"gradient {i}" for i in range(len(of_rows[0]) - 1))]
    stacked = [np.stack(part) for part in zip(*of_rows, strict=True)]
    return {
        name: tuple(x.reshape([*batch, *part.shape[1:]]) for x in split(part))  # type: ignore[misc]
        for name, part in zip(names, stacked, strict=True)
    }
