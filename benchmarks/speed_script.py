"""What the scripts share that time kernels beside the design's prototypes: compiling, taking turns, the result file."""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from drpm.training.provenance import write_json

FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")


def compiled(source: Path, *flags: str) -> ctypes.CDLL:
    """The prototype as a library: g++ with FLAGS and `flags`."""
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch) / f"lib{source.stem}.so"
        subprocess.run(["g++", *FLAGS, *flags, str(source), "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))


def medians(contestants: dict[str, Callable[[], Any]], seconds: float, threads: dict[str, int]) -> dict[str, float]:
    """Milliseconds of each, in turns A B C A B C … for about `seconds` each; at least 3 turns, at most 201."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    repeats = {}
    for name, call in contestants.items():
        torch.set_num_threads(threads.get(name, 1))
        call()
        started = time.perf_counter()
        call()
        repeats[name] = max(1, int(2e-3 / (time.perf_counter() - started)))
    started = time.perf_counter()
    turns = 0
    while turns < 3 or (turns < 201 and time.perf_counter() - started < seconds * len(contestants)):
        for name, call in contestants.items():
            torch.set_num_threads(threads.get(name, 1))
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            times[name].append((time.perf_counter() - begin) / repeats[name])
        turns += 1
    torch.set_num_threads(1)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def main(
    description: str | None,
    measure: Callable[[Path | None, float], list[dict[str, Any]]],
    table: Callable[[dict[str, Any]], str],
    seconds: float = 1.0,
) -> None:
    """The command line of a script: measure(folder of the prototypes, seconds), with one thread to begin with."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prototypes", type=Path, metavar="FOLDER", help="folder with the design's prototypes")
    parser.add_argument("--seconds", type=float, default=seconds, help="time per contestant and case")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    commit = machine.commit()
    cases = measure(arguments.prototypes, arguments.seconds)
    content = {"machine": machine.describe(2), **commit, "date": machine.now(), "cases": cases}
    if arguments.output:
        write_json(content, arguments.output)
    print(table(content))
