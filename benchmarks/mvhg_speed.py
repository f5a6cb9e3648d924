"""Time per row of the exact MVHG on one thread; optionally beside the design's prototypes.

    python -m benchmarks.mvhg_speed [--prototypes FOLDER] [--output results/mvhg/speed.json]

Kernel entries, 8 rows a call, float32, weights of standard deviation 0.5, tau = 0.5. The prototype
`FOLDER/mvhg_cpp.cpp` is compiled here (g++ -O3 -march=native) and called through ctypes: its contour sums with and
without means (truncated at e^-20, as float32 results are), and its float tables of the suffix totals cut at e^-30,
which a sampler needs and which draw nothing. `batch` is the sampler at 1000 rows. Medians; contestants take turns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import drpm.ops  # noqa: F401
from benchmarks import machine, speed_script
from benchmarks.cases import MVHG_SIZES
from benchmarks.speed_script import compiled, medians

ROWS, BATCH = 8, 1000
CONTOUR = ("log_normalizer", "mean", "log_prob", "covariance product", "kl", "prototype", "prototype, means")
SAMPLE = ("draw", "sample", "sample, statistics", "backward", "prototype tables", "prototype tables, reverse")
THREADS = ("batch, 1 thread", "batch, 2 threads")


def prototype_calls(library: Any, rows: np.ndarray, m: int, n: int) -> dict[str, Callable[[], Any]]:
    doubles = ctypes.POINTER(ctypes.c_double)
    classes = rows.shape[1]
    counts, out = np.full(classes, float(m)), np.zeros(classes)
    log_sum, tilt, width = ctypes.c_double(), ctypes.c_double(), ctypes.c_double()

    def pointer(array: np.ndarray) -> Any:
        return array.ctypes.data_as(doubles)

    def contour(mean: Any) -> Callable[[], None]:
        def run() -> None:
            for row in rows:
                library.contour_d(
                    classes, pointer(row), pointer(counts), n, ctypes.c_double(20.0), ctypes.byref(log_sum), mean,
                    ctypes.byref(tilt),
                )  # fmt: skip

        return run

    def tables(name: str, result: Any) -> Callable[[], None]:
        function = getattr(library, name)
        function.restype = ctypes.c_double

        def run() -> None:
            for row in rows:
                function(classes, pointer(row), pointer(counts), n, ctypes.c_double(30.0), result)

        return run

    return {
        "prototype": contour(None),
        "prototype, means": contour(pointer(out)),
        "prototype tables": tables("win_f", ctypes.byref(width)),
        "prototype tables, reverse": tables("winbwd_f", pointer(out)),
    }


def measure_size(classes: int, m: int, n: int, seconds: float, library: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    weights = 0.5 * torch.randn(ROWS, classes, generator=generator, dtype=torch.float64)
    w, ops = weights.float(), torch.ops.drpm
    m_row, n_row = torch.full((1, classes), m), torch.full((1,), n)
    seed = torch.zeros(1, dtype=torch.int64)
    sizes = torch.full_like(w, n / classes)
    other, gradient = w.flip(0).contiguous(), torch.randn(ROWS, classes, generator=generator)
    many = w.repeat(BATCH // ROWS, 1) + 0.01 * torch.randn(BATCH, classes, generator=generator)

    def sample(rows: torch.Tensor, statistics: bool) -> Any:
        return ops.mvhg_sample_exact(rows, m_row, n_row, seed, None, 0.5, 1, True, statistics)

    _, statistics = sample(w, True)
    calls: dict[str, Callable[[], Any]] = {
        "log_normalizer": lambda: ops.mvhg_log_normalizer(w, m_row, n_row, False),
        "mean": lambda: ops.mvhg_log_normalizer(w, m_row, n_row, True),
        "log_prob": lambda: ops.mvhg_log_prob(sizes, w, m_row, n_row, False),
        "covariance product": lambda: ops.mvhg_covariance_product(w, m_row, n_row, other),
        "kl": lambda: ops.mvhg_kl(w, other, m_row, n_row),
        "draw": lambda: ops.mvhg_draw(w, m_row, n_row, seed, 1, 20000),
        "sample": lambda: sample(w, False),
        "sample, statistics": lambda: sample(w, True),
        "backward": lambda: ops.mvhg_sample_exact_backward(gradient, w, m_row, n_row, seed, None, 0.5, 1, statistics),
    }
    if library is not None:
        calls.update(prototype_calls(library, weights.numpy(), m, n))
    times = {name: 1e3 * ms / ROWS for name, ms in medians(calls, seconds, {}).items()}
    batches = {name: (lambda: sample(many, False)) for name in THREADS}
    for name, ms in medians(batches, seconds, {THREADS[1]: 2}).items():
        times[name] = 1e3 * ms / BATCH
    return {"K": classes, "m": m, "n": n, "us": times}


def measure(prototypes: Path | None, seconds: float) -> list[dict[str, Any]]:
    library = None if prototypes is None else compiled(prototypes / "mvhg_cpp.cpp")
    return [measure_size(*size, seconds, library) for size in MVHG_SIZES]


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file."""
    parts = []
    for names in (CONTOUR, SAMPLE + THREADS):
        lines = ["| µs a row; K, m, n | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
        for case in content["cases"]:
            cells = [f"{case['us'][name]:.3g}" if name in case["us"] else "–" for name in names]
            lines.append(f"| {case['K']}, {case['m']}, {case['n']} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, machine.line(content)])


if __name__ == "__main__":
    speed_script.main(__doc__, measure, table, seconds=0.2)
