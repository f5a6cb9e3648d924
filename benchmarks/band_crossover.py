"""Where interpolated blocks begin to pay: time of the relaxed sort against the width of its bands.

    python -m benchmarks.band_crossover [--elements N] [--output results/relaxed_sort/crossover.json]

Uniform scores have bands of width 2 sqrt(T tau n) all along: tau sets the width. Each width is timed with and without
interpolation (DRPM_INTERPOLATE=0), in processes of their own, one thread, least processor time of several runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from drpm.training.provenance import write_json

WIDTHS = (50, 100, 150, 200, 300, 400, 600, 1000, 2000, 4000)
DROP = {"float32": 17.5, "float64": 38.0}


def measure(elements: int, dtype_name: str) -> dict[int, float]:
    """Milliseconds of a relaxed partition, forward and backward, by width."""
    import torch

    from drpm.ops import partition

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = getattr(torch, dtype_name)
    scores = torch.rand(elements, dtype=dtype, requires_grad=True)
    sizes = torch.full((4,), elements / 4, dtype=dtype, requires_grad=True)
    weight = torch.randn(4, elements, dtype=dtype)
    times = {}
    for width in WIDTHS:
        tau = width**2 / (4 * DROP[dtype_name] * elements)
        best = float("inf")
        begin = time.perf_counter()
        while time.perf_counter() - begin < 1.0:
            start = time.process_time()
            torch.autograd.grad(partition(scores, sizes, tau, hard=False), (scores, sizes), weight)
            best = min(best, time.process_time() - start)
        times[width] = best * 1e3
    return times


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file."""
    titles = [f"{dtype}, {how}" for dtype in DROP for how in ("every row", "as shipped")]
    lines = [f"| width, n = {content['elements']} | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for width in WIDTHS:
        times = (content["ms"][dtype][interpolate][str(width)] for dtype in DROP for interpolate in ("0", "1"))
        lines.append(f"| {width} | {' | '.join(f'{ms:.3g}' for ms in times)} |")
    return "\n".join([*lines, "", f"Milliseconds. {machine.line(content)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=16384)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", metavar="DTYPE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.elements, arguments.child)))
        return
    origin = machine.commit()
    command = [sys.executable, "-m", "benchmarks.band_crossover", "--elements", str(arguments.elements), "--child"]
    times = {
        dtype: {
            interpolate: json.loads(
                subprocess.check_output(
                    [*command, dtype], env={**os.environ, "DRPM_INTERPOLATE": interpolate}, text=True
                )
            )
            for interpolate in ("0", "1")
        }
        for dtype in DROP
    }
    content = {"machine": machine.describe(1), **origin, "date": machine.now(), "elements": arguments.elements}
    content["ms"] = times
    if arguments.output:
        write_json(content, arguments.output)
    print(table(content))


if __name__ == "__main__":
    main()
