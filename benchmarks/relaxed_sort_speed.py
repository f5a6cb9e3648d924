"""Time of the relaxed sort applied to a partition, on one and two threads; optionally beside the design's prototypes.

    python -m benchmarks.relaxed_sort_speed [--prototypes FOLDER] [--output results/relaxed_sort/speed.json]

`partition`, K = 10, tau = 1, float32, one row of standard normal log-scores: the kernel entries (forward, backward),
the public function with its backward on one and two threads, beside the prototype `FOLDER/nsort.cpp` (compiled here,
one thread, banded and with interpolated blocks; it is given the weights of the subsets and returns their gradient).
`relaxed_sort`, the dense matrix, beside `torch.empty(...).fill_()` of its size and its own backward. Medians;
contestants take turns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import drpm.ops
from benchmarks import machine, speed_script
from benchmarks.speed_script import compiled, medians
from drpm.reference.partition import subset_weights

SIZES = (256, 1024, 4096, 16384, 1_000_000)
DENSE = (1024, 4096)
SUBSETS = 10
BANDED, INTERPOLATED = 0, 24  # nodes of a block


class Prototype:
    """The banded relaxed sort of the design's prototypes: forward and backward of one row."""

    def __init__(self, folder: Path) -> None:
        self.library = compiled(folder / "nsort.cpp", "-ffast-math", "-fopenmp")
        self.library.ns_plan.restype = ctypes.c_void_p

    def prepare(self, scores: Tensor, weights: Tensor, grad: Tensor, tau: float, nodes: int) -> Callable[[], Any]:
        lib, n, classes = self.library, scores.shape[0], weights.shape[0]
        weights, grad = weights.contiguous(), grad.contiguous()
        out, grad_weights, grad_scores = torch.empty_like(weights), torch.empty_like(weights), torch.empty_like(scores)
        width = ctypes.c_double()

        def pointer(x: Tensor) -> Any:
            return ctypes.cast(x.data_ptr(), ctypes.POINTER(ctypes.c_float))

        def run() -> tuple[Tensor, Tensor, float]:
            plan = ctypes.c_void_p(
                lib.ns_plan(pointer(scores), n, ctypes.c_double(tau), ctypes.c_double(18.0), nodes, ctypes.byref(width))
            )
            lib.ns_fwd(plan, classes, pointer(weights), nodes, pointer(out), 1)
            lib.ns_bwd(
                plan, classes, pointer(weights), nodes, pointer(grad), pointer(grad_weights), pointer(grad_scores), 1
            )
            lib.ns_free(plan)
            return out, grad_scores, width.value

        return run


def applied(n: int, hard: bool, seconds: float, prototype: Prototype | None, tau: float = 1.0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(n, generator=generator)
    sizes = torch.softmax(torch.randn(SUBSETS, generator=generator) * 0.3, 0) * n
    if hard:
        sizes = sizes.floor()
        sizes[0] += n - sizes.sum()
    grad = torch.randn(SUBSETS, n, generator=generator)

    def kernel(scores: Tensor = scores, sizes: Tensor = sizes, grad: Tensor = grad) -> tuple[Tensor, Tensor]:
        rows = scores[None], sizes[None]
        value, order, _ = torch.ops.drpm.partition(*rows, tau, hard, 0.5)
        return value, torch.ops.drpm.partition_backward(grad[None], *rows, order, tau, hard, 0.5)[0]

    leaves = scores.clone().requires_grad_(), sizes.clone().requires_grad_()

    def public() -> None:
        torch.autograd.grad(drpm.ops.partition(*leaves, tau, hard=hard), leaves, grad)

    contestants: dict[str, Callable[[], Any]] = {
        "kernel": kernel, "kernel, 2 threads": kernel, "public": public, "public, 2 threads": public,
    }  # fmt: skip
    errors: dict[str, float] = {}
    width = None
    if prototype is not None and not hard:
        weights = subset_weights(sizes, n, tau, hard=False)
        names = {"prototype, banded": BANDED} if n < 1_000_000 else {}
        if n >= 4096:
            names["prototype, interpolated"] = INTERPOLATED
        exact = kernel(scores.double(), sizes.double(), grad.double())
        found = {"kernel": kernel()}
        for name, nodes in names.items():
            contestants[name] = prototype.prepare(scores, weights, grad, tau, nodes)
            value, gradient, width = contestants[name]()
            found[name] = value.clone()[None], gradient.clone()[None]
        for name, pair in found.items():
            for part, ours, theirs in zip(("value", "gradient"), exact, pair, strict=True):
                errors[f"{name}, {part}"] = float((ours - theirs).abs().max() / ours.abs().max())
    times = medians(contestants, seconds, {name: 2 for name in contestants if name.endswith("2 threads")})
    variant = "hard" if hard else "soft"
    return {
        "op": "partition", "variant": variant, "n": n, "K": SUBSETS, "tau": tau, "ms": times, "errors": errors,
        "band width": width,
    }  # fmt: skip


def dense(n: int, seconds: float, tau: float = 0.1) -> dict[str, Any]:
    scores = torch.randn(n, generator=torch.Generator().manual_seed(0))
    leaf = scores.clone().requires_grad_()
    out = drpm.ops.relaxed_sort(leaf, tau)
    grad = torch.randn(n, n, generator=torch.Generator().manual_seed(1))
    width = float((out > 2e-8 * out.amax(-1, keepdim=True)).sum(-1).double().mean())
    contestants: dict[str, Callable[[], Any]] = {}
    for suffix in ("", ", 2 threads"):
        contestants["forward" + suffix] = lambda: drpm.ops.relaxed_sort(scores, tau)
        contestants["backward" + suffix] = lambda: torch.autograd.grad(out, leaf, grad, retain_graph=True)
        contestants["fill_" + suffix] = lambda: torch.empty(n, n).fill_(0.5)
        contestants["zeros" + suffix] = lambda: torch.zeros(n, n)
    times = medians(contestants, seconds, {name: 2 for name in contestants if name.endswith("2 threads")})
    return {"op": "relaxed_sort", "n": n, "tau": tau, "ms": times, "band width": width}


def measure(prototypes: Path | None, seconds: float) -> list[dict[str, Any]]:
    prototype = None if prototypes is None else Prototype(prototypes)
    cases = [applied(n, hard, seconds, prototype) for hard in (False, True) for n in SIZES]
    return cases + [dense(n, seconds) for n in DENSE]


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file."""

    def cell(case: dict[str, Any], name: str) -> str:
        value = case["ms"].get(name)
        return "–" if value is None else f"{value:.3g}"

    def gain(case: dict[str, Any], name: str) -> str:
        return f"{cell(case, name + ', 2 threads')} ({case['ms'][name] / case['ms'][name + ', 2 threads']:.2f}×)"

    lines = [
        "| `partition` + gradient, ms | kernel | prototype, banded | prototype, interpolated | kernel, 2 threads "
        "| public | public, 2 threads |",
        "|---" * 7 + "|",
    ]
    names = ("kernel", "prototype, banded", "prototype, interpolated")
    for case in content["cases"]:
        if case["op"] == "partition":
            cells = [cell(case, name) for name in names] + [gain(case, "kernel"), cell(case, "public")]
            lines.append(f"| {case['variant']}, n = {case['n']} | {' | '.join(cells)} | {gain(case, 'public')} |")
    lines += [
        "",
        "| `relaxed_sort`, ms | mean width | forward | `fill_` | zeros | backward | forward, 2 threads "
        "| `fill_`, 2 threads | zeros, 2 threads | backward, 2 threads |",
        "|---" * 10 + "|",
    ]
    names = ("forward", "fill_", "zeros", "backward")
    for case in content["cases"]:
        if case["op"] == "relaxed_sort":
            cells = [cell(case, name) for name in (*names, *(f"{name}, 2 threads" for name in names))]
            lines.append(f"| n = {case['n']}, τ = {case['tau']} | {case['band width']:.0f} | {' | '.join(cells)} |")
    with_errors = [case for case in content["cases"] if case.get("errors")]
    if with_errors:
        names = ("kernel", "prototype, banded", "prototype, interpolated")
        lines += ["", "| error against the float64 kernel: value, gradient | " + " | ".join(names) + " |"]
        lines.append("|---" * 4 + "|")
        for case in with_errors:
            cells = [
                f"{case['errors'][f'{name}, value']:.1e}, {case['errors'][f'{name}, gradient']:.1e}"
                if f"{name}, value" in case["errors"]
                else "–"
                for name in names
            ]
            lines.append(f"| n = {case['n']} | {' | '.join(cells)} |")
        lines += ["", "Errors are the largest over all elements, relative to the largest entry."]
    return "\n".join([*lines, "", machine.line(content)])


if __name__ == "__main__":
    speed_script.main(__doc__, measure, table)
