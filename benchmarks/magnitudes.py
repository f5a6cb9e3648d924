"""Process time of rows of any magnitude against each op's slowest ordinary row.

    python -m benchmarks.magnitudes [--elements 100] [--output results/magnitudes.json]

Ordinary: normal values, and all equal (which fills a band). Others: elements 100 apart, a few clusters far apart,
values of 1e30, the largest and least numbers. One thread, float64, a row, medians of process time; by op and variant
of `drpm.testing.samples`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from drpm import ops
from drpm.testing.samples import SAMPLES, Sample, Shape, value_and_gradients
from drpm.training.provenance import provenance, write_json

MOST = torch.finfo(torch.float64).max


def ordinary(x: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"normal": x, "equal": torch.zeros_like(x)}


def extreme(x: torch.Tensor) -> dict[str, torch.Tensor]:
    at = torch.arange(x.shape[-1], dtype=x.dtype).expand_as(x)
    return {
        "100 apart": 100.0 * at,
        "clusters": x - 1e9 * (at % 3),
        "1e30": 1e30 * x,
        "extremes": torch.where(at % 2 == 0, 1.0, -1.0).to(x.dtype) * MOST,
    }


def seconds(sample: Sample, inputs: dict[str, Any], gradients: bool) -> float:
    """Of a call, the median of five; a slow one is called less often."""
    leaves = sample.leaves(inputs) if gradients else ()
    times: list[float] = []
    while len(times) < 5 and sum(times) < 0.3:
        start = time.process_time()
        calls = 0
        while calls == 0 or (calls < 200 and time.process_time() - start < 0.004):
            value_and_gradients(sample.of(ops), inputs, leaves)
            calls += 1
        times.append((time.process_time() - start) / calls)
    return statistics.median(times)


def measure(sample: Sample, name: str, elements: int) -> dict[str, Any]:
    inputs = sample.inputs(Shape((1,), elements, 4))
    row: dict[str, Any] = {"op": sample.name, "argument": name, "elements": elements}
    for label, gradients in (("forward", False), ("with gradients", True)):
        if gradients and not sample.leaves(inputs):
            continue
        usual = {k: seconds(sample, {**inputs, name: x}, gradients) for k, x in ordinary(inputs[name]).items()}
        slowest = max(usual.values())
        others = {k: seconds(sample, {**inputs, name: x}, gradients) for k, x in extreme(inputs[name]).items()}
        row[label] = {"ordinary, us": round(1e6 * slowest, 1), **{k: round(t / slowest, 2) for k, t in others.items()}}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, nargs="+", default=[100])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for elements in arguments.elements:
        for sample in SAMPLES:
            for name in {"scores", "log_omega", "affinities"} & set(sample.arguments):
                row = measure(sample, name, elements)
                rows.append(row)
                worst = {k: max(list(row[k].values())[1:]) for k in ("forward", "with gradients") if k in row}
                print(f"{elements:5d}  {sample.name:45s} {name:10s}", worst, flush=True)
    if arguments.output is not None:
        write_json({"rows": rows, **provenance()}, arguments.output)


if __name__ == "__main__":
    main()
