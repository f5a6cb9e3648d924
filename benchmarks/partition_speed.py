"""Time of the exact partition likelihood, the marginals and the mode; optionally beside the design's prototypes.

    python -m benchmarks.partition_speed [--prototypes FOLDER] [--output results/partition/speed.json]

`partition_log_prob` with its gradient, one row, K = 10: the kernel entry and the public function (value, then
backward), with one and two threads, beside the prototype `FOLDER/pl_cpp.cpp` (compiled here; one thread; elements given
in the order of their subsets). `partition_marginals` at n = 256, `partition_mode` at n = 512 and 2048. Medians;
contestants take turns. Log-scores of standard deviation 1, subsets as equal as possible, Plackett-Luce orders.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import drpm.ops
from benchmarks import machine, speed_script
from benchmarks.partition_bounds import draw
from benchmarks.speed_script import compiled, medians

SIZES = (256, 16384, 1_000_000)
SUBSETS = 10
DTYPES = {"float32": torch.float32, "float64": torch.float64}
PROTOTYPE_RULES = {"float32": ("part_f", 32, 16.0), "float64": ("part_d", 64, 26.0)}  # function, nodes, drop


class Prototype:
    """The likelihood of the design's prototypes: value and gradient of one row."""

    def __init__(self, folder: Path) -> None:
        self.library = compiled(folder / "pl_cpp.cpp", "-ffast-math", "-fopenmp")
        ctypes.CDLL("libgomp.so.1").omp_set_num_threads(1)

    def prepare(self, log_scores: Tensor, labels: Tensor, dtype: str) -> Callable[[], tuple[float, np.ndarray]]:
        name, nodes, drop = PROTOTYPE_RULES[dtype]
        function = getattr(self.library, name)
        function.restype = ctypes.c_double
        by_subset = labels.argsort(stable=True)
        scores = np.ascontiguousarray(log_scores[by_subset].double().numpy())
        ends = torch.bincount(labels, minlength=SUBSETS).cumsum(0)
        offsets = np.concatenate([[0], ends.numpy()]).astype(np.int32)
        nodes_at, weights = np.polynomial.legendre.leggauss(nodes)
        gradient = np.zeros(len(scores))
        doubles, ints = ctypes.POINTER(ctypes.c_double), ctypes.POINTER(ctypes.c_int)

        def pointer(array: np.ndarray) -> Any:
            return array.ctypes.data_as(ints if array.dtype == np.int32 else doubles)

        def run() -> tuple[float, np.ndarray]:
            value = function(
                pointer(scores), pointer(offsets), SUBSETS, nodes, pointer(nodes_at), pointer(weights),
                ctypes.c_double(drop), pointer(gradient), None,
            )  # fmt: skip
            return value, gradient

        return run


def likelihood(n: int, dtype: str, seconds: float, prototype: Prototype | None) -> dict[str, Any]:
    torch.manual_seed(0)
    log_scores, _, labels = draw(n, SUBSETS, 1.0, 1)
    rows = log_scores.to(DTYPES[dtype])

    def kernel() -> tuple[Tensor, Tensor]:
        return torch.ops.drpm.partition_log_prob(rows, labels, SUBSETS, True)

    leaf = rows[0].clone().requires_grad_()

    def public() -> None:
        leaf.grad = None
        drpm.ops.partition_log_prob(labels[0], leaf, SUBSETS).backward()

    contestants: dict[str, Callable[[], Any]] = {
        "kernel": kernel, "kernel, 2 threads": kernel, "public": public, "public, 2 threads": public,
    }  # fmt: skip
    errors: dict[str, float] = {}
    if prototype is not None:
        contestants["prototype"] = prototype.prepare(rows[0], labels[0], dtype)
        value, gradient = kernel()
        other, other_gradient = contestants["prototype"]()
        by_subset = labels[0].argsort(stable=True)
        exact, exact_gradient = torch.ops.drpm.partition_log_prob(rows.double(), labels, SUBSETS, True)
        errors = {
            "kernel value": float((value - exact).abs() / exact.abs()),
            "prototype value": float(abs(other - exact) / exact.abs()),
            "kernel gradient": float((gradient - exact_gradient).abs().max()),
            "prototype gradient": float((torch.from_numpy(other_gradient) - exact_gradient[0, by_subset]).abs().max()),
        }
        if dtype == "float64":  # the kernel is its own yardstick there
            errors = {name: error for name, error in errors.items() if name.startswith("prototype")}
    times = medians(contestants, seconds, {name: 2 for name in contestants if name.endswith("2 threads")})
    return {"op": "partition_log_prob", "n": n, "K": SUBSETS, "dtype": dtype, "ms": times, "errors": errors}


def marginals(dtype: str, seconds: float, n: int = 256) -> dict[str, Any]:
    torch.manual_seed(0)
    log_omega = torch.randn(SUBSETS, dtype=DTYPES[dtype]) * 0.5
    log_scores = torch.randn(n, dtype=DTYPES[dtype])
    cost = torch.randn(SUBSETS, n, dtype=DTYPES[dtype])
    leaves = [log_omega.clone().requires_grad_(), log_scores.clone().requires_grad_()]
    out = (drpm.ops.partition_marginals(*leaves) * cost).sum()
    contestants: dict[str, Callable[[], Any]] = {
        "value": lambda: drpm.ops.partition_marginals(log_omega, log_scores),
        "gradient": lambda: torch.autograd.grad(out, leaves, retain_graph=True),
        "value, 2 threads": lambda: drpm.ops.partition_marginals(log_omega, log_scores),
        "gradient, 2 threads": lambda: torch.autograd.grad(out, leaves, retain_graph=True),
    }
    times = medians(contestants, seconds, {name: 2 for name in contestants if name.endswith("2 threads")})
    return {"op": "partition_marginals", "n": n, "K": SUBSETS, "dtype": dtype, "ms": times}


def mode(n: int, seconds: float) -> dict[str, Any]:
    torch.manual_seed(0)
    log_omega, log_scores = torch.randn(SUBSETS) * 0.5, torch.randn(n)
    call = {"value": lambda: drpm.ops.partition_mode(log_omega, log_scores)}
    return {"op": "partition_mode", "n": n, "K": SUBSETS, "dtype": "float32", "ms": medians(call, seconds, {})}


def measure(prototypes: Path | None, seconds: float) -> list[dict[str, Any]]:
    prototype = None if prototypes is None else Prototype(prototypes)
    cases = [likelihood(n, dtype, seconds, prototype) for n in SIZES for dtype in DTYPES]
    cases += [marginals(dtype, seconds) for dtype in DTYPES]
    return [*cases, mode(512, seconds), mode(2048, seconds)]


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file."""

    def cell(case: dict[str, Any], name: str) -> str:
        value = case["ms"].get(name)
        return "–" if value is None else f"{value:.3g}"

    lines = [
        "| `partition_log_prob` + gradient, ms | kernel | prototype | kernel, 2 threads | public | public, 2 threads |",
        "|---" * 6 + "|",
    ]
    names = ("kernel", "prototype", "kernel, 2 threads", "public", "public, 2 threads")
    for case in content["cases"]:
        if case["op"] == "partition_log_prob":
            cells = " | ".join(cell(case, name) for name in names)
            lines.append(f"| n = {case['n']}, {case['dtype']} | {cells} |")
    lines += ["", "| others, ms | value | gradient | value, 2 threads | gradient, 2 threads |", "|---" * 5 + "|"]
    for case in content["cases"]:
        if case["op"] != "partition_log_prob":
            cells = " | ".join(cell(case, x) for x in ("value", "gradient", "value, 2 threads", "gradient, 2 threads"))
            lines.append(f"| `{case['op']}`, n = {case['n']}, {case['dtype']} | {cells} |")
    names = ("kernel value", "prototype value", "kernel gradient", "prototype gradient")
    if any(case.get("errors") for case in content["cases"]):
        lines += ["", "| error against the float64 kernel | " + " | ".join(names) + " |", "|---" * 5 + "|"]
        for case in content["cases"]:
            if case.get("errors"):
                cells = " | ".join(f"{case['errors'][x]:.1e}" if x in case["errors"] else "–" for x in names)
                lines.append(f"| n = {case['n']}, {case['dtype']} | {cells} |")
        lines += ["", "Errors of the value are relative, of the gradient absolute, the largest over all elements."]
    return "\n".join([*lines, "", machine.line(content)])


if __name__ == "__main__":
    speed_script.main(__doc__, measure, table)
