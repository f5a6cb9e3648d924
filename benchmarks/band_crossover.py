"""Where interpolated blocks begin to pay: time of the relaxed sort against the width of its bands.

    python -m benchmarks.band_crossover [--elements N] [--dtype float32]

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=16384)
    parser.add_argument("--dtype", choices=sorted(DROP), default="float32")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.elements, arguments.dtype)))
        return
    results = {}
    for interpolate in ("0", "1"):
        command = [sys.executable, "-m", "benchmarks.band_crossover", "--child"]
        command += ["--elements", str(arguments.elements), "--dtype", arguments.dtype]
        env = {**os.environ, "DRPM_INTERPOLATE": interpolate}
        results[interpolate] = json.loads(subprocess.check_output(command, env=env, text=True))
    print(f"n = {arguments.elements}, {arguments.dtype}, forward and backward, ms")
    print(f"{'width':>6} {'every row':>10} {'interpolated':>13} {'ratio':>6}")
    for width in WIDTHS:
        rows, nodes = results["0"][str(width)], results["1"][str(width)]
        print(f"{width:6d} {rows:10.2f} {nodes:13.2f} {rows / nodes:6.2f}")


if __name__ == "__main__":
    main()
