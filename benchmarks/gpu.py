"""`make bench-gpu`: every op on a CUDA device beside the reference and torch.compile of it.

Times are medians of CUDA-event times after a warm-up; forward, and forward + backward. "of copy" is the bandwidth of
reading the arguments and writing the results once (and their gradients), over that of a device-to-device copy measured
in the same run: what an op that only moves its own data would reach at 100 %.
`--device cpu` runs the same program on the host clock; it only shows that the program works.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from drpm import ops, reference
from drpm.testing.samples import SAMPLES, Inputs, Sample, Shape, value_and_gradients

COPY_BYTES = 1 << 28


def milliseconds(call: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median time of a call, after two that do not count."""
    for _ in range(2):
        call()
    times = []
    for _ in range(rounds):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        else:
            begin = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def copy_bandwidth(device: torch.device, rounds: int) -> float:
    """Bytes read and written in a second by a copy."""
    count = COPY_BYTES if device.type == "cuda" else COPY_BYTES // 16
    source = torch.empty(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / (1e-3 * milliseconds(lambda: target.copy_(source), device, rounds))


def moved_bytes(tensors: list[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def measure(
    call: Callable[..., object], inputs: Inputs, leaves: tuple[str, ...], device: torch.device, rounds: int
) -> tuple[float, float, int, int]:
    """Milliseconds and bytes of the forward, and of forward + backward."""
    values, gradients = value_and_gradients(call, inputs, leaves)
    tensors = [x for x in inputs.values() if isinstance(x, Tensor)]
    forward_bytes = moved_bytes([*tensors, *values])
    both_bytes = forward_bytes + moved_bytes([*tensors, *values, *gradients])
    with torch.no_grad():
        forward = milliseconds(lambda: call(*inputs.values()), device, rounds)
    both = milliseconds(lambda: value_and_gradients(call, inputs, leaves), device, rounds) if gradients else forward
    return forward, both, forward_bytes, both_bytes if gradients else forward_bytes


def contestants(sample: Sample, compiled: bool) -> dict[str, Callable[..., object]]:
    found = {"drpm": sample.of(ops)}
    if sample.twin:
        found["reference"] = sample.of(reference)
        if compiled:
            found["torch.compile"] = torch.compile(found["reference"])
    return found


def run(arguments: argparse.Namespace) -> None:
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the host's clock: not a GPU time"
    copy = copy_bandwidth(device, arguments.rounds)
    dtype = getattr(torch, arguments.dtype)
    print(f"torch {torch.__version__}, {name}, {arguments.dtype}; copy {copy / 1e9:.3g} GB/s; milliseconds\n")
    print("| op | B | n | K | contestant | forward | forward + backward | of copy, forward | of copy, both |")
    print("|---|---|---|---|---|---|---|---|---|")
    for sample in SAMPLES:
        if arguments.ops and sample.op not in arguments.ops.split(","):
            continue
        for shape in arguments.shapes.split(","):
            rows, n, classes = (int(x) for x in shape.split("x"))
            if sample.quadratic and rows * n * n > 1 << 31:
                continue
            inputs = sample.inputs(Shape((rows,), n, classes), dtype, device)
            for contestant, call in contestants(sample, not arguments.no_compile).items():
                start = f"| {sample.name} | {rows} | {n} | {classes} | {contestant} |"
                try:
                    measured = measure(call, inputs, sample.leaves(inputs), device, arguments.rounds)
                except (RuntimeError, NotImplementedError, torch.OutOfMemoryError) as error:
                    print(start, f"{type(error).__name__}: {str(error).splitlines()[0][:60]} | | | |", flush=True)
                    continue
                forward, both, forward_bytes, both_bytes = measured
                shares = [100 * b / (1e-3 * t) / copy for t, b in ((forward, forward_bytes), (both, both_bytes))]
                print(start, f"{forward:.3f} | {both:.3f} | {shares[0]:.1f} % | {shares[1]:.1f} % |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--ops", default="", help="names, comma separated; default: all")
    parser.add_argument("--shapes", default="1x4096x10,64x256x10,64x1024x10,1024x256x10", help="BxnxK, comma separated")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("bench-gpu: no CUDA device is visible")
    run(arguments)


if __name__ == "__main__":
    main()
