"""Where the microseconds of a small call go: kernel, dispatch, the public function's Python, backward."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.cases import KERNEL, Case, grid_cases
from benchmarks.problems import cotangent, make_problem
from benchmarks.registry import contestants
from drpm.ops._tau import check_tau, with_tau_read


class _Recorder(TorchDispatchMode):
    """Keeps every operator call that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def microseconds(function: Callable[[], object], seconds: float = 0.05, repetitions: int = 7) -> float:
    """The least of several means: what the call takes when nothing interferes."""
    for _ in range(10):
        function()
    start = time.perf_counter()
    function()
    calls = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    best = float("inf")
    for _ in range(repetitions):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, (time.perf_counter() - start) / calls)
    return 1e6 * best


def small_cases(ops: tuple[str, ...] | None) -> list[Case]:
    return [case.resized(B=1, n=16, m=16, K=2) for case in grid_cases("tiny", ops)]


def measure(case: Case) -> dict | None:
    """Microseconds of one op's parts; None where the kernel does not exist."""
    kernel = next(c for c in contestants(case) if c.name == KERNEL)
    problem = make_problem(case)
    try:
        call = kernel.prepare(problem)
        gradient = cotangent(call())
    except NotImplementedError:
        return None
    leaves = list(problem.leaves.values())

    def forward() -> object:
        with torch.no_grad():
            return call()

    with torch.no_grad(), _Recorder() as recorder:
        call()
    own = [(func, args) for func, args, _ in recorder.calls if func.namespace == "drpm"]
    kernels = dispatched = 0.0
    for func, args in own:
        with torch._C._AutoDispatchBelowAutograd():
            kernels += microseconds(lambda func=func, args=args: func(*args))
        with torch.no_grad():
            dispatched += microseconds(lambda func=func, args=args: func(*args))
    return {
        "case": case,
        "kernels": kernels,
        "dispatched": dispatched,
        "forward": microseconds(forward),
        "forward with graph": microseconds(call),
        "both": microseconds(lambda: torch.autograd.grad(call(), leaves, gradient, allow_unused=True)),
        "calls": [str(func).replace(".default", "") for func, _, _ in recorder.calls],
    }


def temperature_checks() -> tuple[float, float]:
    """Microseconds that the checks of a temperature take in an eager call: a float, and a scalar tensor."""
    arguments = (torch.zeros(1, 16), torch.zeros(1, 2), 0.5, True, 0.5)

    def checks(tau: float | torch.Tensor) -> object:
        check_tau("partition", tau)
        return with_tau_read("partition", 2, arguments)

    return microseconds(lambda: checks(0.5)), microseconds(lambda: checks(torch.tensor(0.5)))


def render(ops: tuple[str, ...] | None, threads: int, calls: bool) -> str:
    torch.set_num_threads(threads)
    lines = [
        "| op (B=1, n=16, K=2), µs | kernels | dispatched | public, no graph | with graph | f+b | torch calls |",
        "|---|---|---|---|---|---|---|",
    ]
    details = []
    for case in small_cases(ops):
        found = measure(case)
        if found is None:
            continue
        keys = ("kernels", "dispatched", "forward", "forward with graph", "both")
        cells = [f"{found[key]:.1f}" for key in keys]
        lines.append("| " + " | ".join([f"{case.op}, {case.variant}", *cells, str(len(found["calls"]))]) + " |")
        details.append(f"{case.op}, {case.variant}: {' '.join(found['calls'])}")
    lines += [
        "",
        "Of it, checks of tau: {:.1f} for a float, {:.1f} for a tensor made for the call.".format(
            *temperature_checks()
        ),
    ]
    return "\n".join(lines + (["", *details] if calls else [])) + "\n"
