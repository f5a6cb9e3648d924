"""Self-check of an installation: `drpm check` computes known things on every device and compares.

Every row is a kernel against `drpm.reference` (plain PyTorch) in float64, an identity, or a statistical test with a
fixed seed. It takes seconds, needs nothing but the installed package, and exits with 1 where a row fails.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import drpm
from drpm import reference
from drpm._build_info import require_compiled
from drpm.testing import TOLERANCE, relative_error
from drpm.testing.samples import SAMPLES, Inputs, Sample, Shape, draw_inputs, value_and_gradients

Outcome = tuple[float, float]
"""Largest error, and what is allowed."""

Check = Callable[[torch.device, torch.dtype], Outcome]
_SORTS = ("relaxed_sort", "relaxed_sort_matmul", "partition")  # whose reference is quick at any size

_OK, _FAILED, _ABSENT = "ok", "FAILED", "no kernel"
_MISSING_KERNEL = "Could not run 'drpm::"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    device: str
    dtype: str
    name: str
    result: str
    error: float = float("nan")
    allowed: float = float("nan")
    seconds: float = 0.0
    message: str = ""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check` and its options to the command line."""
    parser = commands.add_parser(
        "check",
        help="check this installation: what was built, and that it computes correctly on every device",
        description="Print what was built, compute known quantities on every device, compare them with the reference "
        "and print a table. Exit status: 0 if everything agrees, 1 if something does not, 2 without compiled kernels.",
    )
    parser.add_argument("--device", action="append", help="device to check, may be repeated; default: all there are")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print build, checks and verdict; give the exit status."""
    python = f"Python {platform.python_version()}"
    print(f"drpm {drpm.__version__}, torch {torch.__version__}, {python}, {platform.platform()}")
    try:
        require_compiled()
    except ImportError as error:
        print(error)
        return 2
    for name, value in drpm.build_info().items():
        print(f"  {name:<19} {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
    print(f"  {'threads':<19} {torch.get_num_threads()}")
    print()
    rows = []
    print(f"{'device':<8} {'dtype':<8} {'check':<62} {'error':>9} {'allowed':>9} {'seconds':>8}  result")
    for row in checks(arguments.device or devices()):
        rows.append(row)
        numbers = f"{row.error:>9.1e} {row.allowed:>9.1e}" if row.error == row.error else f"{'':>9} {'':>9}"
        print(f"{row.device:<8} {row.dtype:<8} {row.name:<62} {numbers} {row.seconds:>8.2f}  {row.result}", flush=True)
        if row.message:
            print(f"    {row.message}", file=sys.stderr)
    failed = sum(row.result == _FAILED for row in rows)
    absent = sum(row.result == _ABSENT for row in rows)
    print(f"\n{len(rows) - failed - absent} ok, {failed} failed" + (f", {absent} without a kernel" if absent else ""))
    if not torch.cuda.is_available():
        print("No CUDA device here: only the CPU was checked.")
    elif not drpm.build_info()["cuda_architectures"]:
        print("There is a CUDA device, but this build has no CUDA kernels (docs/cuda.md): they are absent above.")
    return 1 if failed else 0


def devices() -> list[str]:
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def checks(where: list[str]) -> Iterator[Row]:
    """Run every check on every device in both precisions."""
    for device, dtype in itertools.product(where, (torch.float64, torch.float32)):
        for check in CHECKS:
            started = time.perf_counter()
            name = check.__doc__ or check.__name__
            label = (device, str(dtype).removeprefix("torch."), name)
            try:
                error, allowed = check(torch.device(device), dtype)
            except Exception as raised:  # whatever it is, it is what the user wants to know about
                seconds = time.perf_counter() - started
                if isinstance(raised, NotImplementedError) and _MISSING_KERNEL in str(raised):
                    yield Row(*label, _ABSENT, seconds=seconds)
                else:
                    yield Row(*label, _FAILED, seconds=seconds, message=f"{type(raised).__name__}: {raised}")
                continue
            result = _OK if error <= allowed else _FAILED  # a NaN fails
            yield Row(*label, result, error, allowed, time.perf_counter() - started)


def _problem(dtype: torch.dtype, n: int = 12, classes: int = 3) -> tuple[Tensor, Tensor]:
    """log_omega (2, K) and log_scores (2, n), the same on every device, exact in float32."""
    log_omega, scores = draw_inputs(("log_omega", "scores"), Shape((2,), n, classes), torch.float32).values()
    return log_omega.to(dtype), scores.to(dtype)


def against_reference(sample: Sample) -> Check:
    """The check of a row of the table of ops: values and gradients, kernel against reference in float64.

    float32 may be off by twice what the reference in float32 is (the rule of drpm.testing).
    """
    shape = Shape((2,), 24 if sample.op in _SORTS else 5, 3)

    def check(device: torch.device, dtype: torch.dtype) -> Outcome:
        inputs = sample.inputs(shape, torch.float32)  # what is exact in float32 is the same problem in float64
        leaves = sample.leaves(inputs)

        def run(module: Any, dtype: torch.dtype, device: torch.device | str) -> list[tuple[int, Tensor]]:
            given: Inputs = {
                name: x.to(device, dtype if name in leaves else None) if isinstance(x, Tensor) else x
                for name, x in inputs.items()
            }
            values, gradients = value_and_gradients(sample.of(module), given, leaves)
            return [*((0, x.cpu()) for x in values), *((1, x.cpu()) for x in gradients)]

        want, same = run(reference, torch.float64, "cpu"), run(reference, dtype, "cpu")
        worst, allowed_there = 0.0, TOLERANCE[dtype].value
        for (is_gradient, got), (_, exact), (_, rounded) in zip(run(drpm.ops, dtype, device), want, same, strict=True):
            allowed = TOLERANCE[dtype].gradient if is_gradient else TOLERANCE[dtype].value
            if dtype != torch.float64:
                allowed = max(allowed, 2 * relative_error(rounded, exact))
            error = relative_error(got, exact)
            if not error / allowed <= worst / allowed_there:
                worst, allowed_there = error, allowed
        return worst, allowed_there

    check.__doc__ = f"{sample.name}: by the reference"
    return check


def sizes_follow_their_law(device: torch.device, dtype: torch.dtype) -> Outcome:
    """MVHG samples: sum to n, mean within 5 sigma"""
    omega = _problem(dtype)[0].to(device)
    draws = drpm.ops.mvhg_sample(omega, 40, 60, sample_shape=(4000,), seed=1)
    if not bool((draws.sum(-1) == 60).all()):
        return float("inf"), 5.0
    exact = drpm.ops.mvhg_mean(omega.double().cpu(), 40, 60)
    spread = drpm.ops.mvhg_covariance(omega.double().cpu(), 40, 60).diagonal(dim1=-2, dim2=-1).sqrt() / 4000**0.5
    return float(((draws.double().cpu().mean(0) - exact) / spread).abs().max()), 5.0


def large_partition(device: torch.device, dtype: torch.dtype) -> Outcome:
    """hard partition of 100,000: a partition, seeded"""
    omega, scores = (x.to(device) for x in _problem(dtype, n=100_000, classes=10))
    first, second = (drpm.ops.random_partition(omega[0], scores[0], 0.5, seed=3) for _ in range(2))
    counts = torch.bincount(first.labels, minlength=10)
    right = (
        torch.equal(first.labels, second.labels)
        and bool((first.assignment.sum(-2) == 1).all())
        and torch.equal(counts.to(first.sizes.dtype), first.sizes)
        and torch.equal(first.order.sort().values, torch.arange(100_000, device=device))
    )
    return (0.0 if right else float("inf")), 0.0


def same_draw_as_on_the_cpu(device: torch.device, dtype: torch.dtype) -> Outcome:
    """random partition: the draw of a seed is the CPU's"""
    omega, scores = _problem(dtype, n=200)
    draw = drpm.ops.random_partition(omega.to(device), scores.to(device), 0.5, sample_shape=(20,), seed=5)
    again = drpm.ops.random_partition(omega, scores, 0.5, sample_shape=(20,), seed=5)
    differing = float((draw.labels.cpu() != again.labels).double().mean())
    return differing, 0.0 if device.type == "cpu" else 0.01  # two outcomes may tie within rounding


def probabilities_sum_to_one(device: torch.device, dtype: torch.dtype) -> Outcome:
    """log p(partition): all partitions sum to 1"""
    omega, scores = _problem(dtype, n=6)
    labels = torch.tensor(list(itertools.product(range(3), repeat=6)), device=device)
    log_prob = drpm.ops.random_partition_log_prob(labels, omega[0].to(device), scores[0].to(device))
    return abs(float(log_prob.double().exp().sum()) - 1.0), 1e-10 if dtype == torch.float64 else 1e-5


CHECKS: tuple[Check, ...] = (
    *(against_reference(sample) for sample in SAMPLES if sample.twin),
    sizes_follow_their_law,
    large_partition,
    same_draw_as_on_the_cpu,
    probabilities_sum_to_one,
)
