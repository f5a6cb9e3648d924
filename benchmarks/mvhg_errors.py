"""Largest errors of the exact MVHG quantities, per quantity and dtype, as docs/math/mvhg.md quotes them.

Small settings against enumeration with integer binomials (K <= 5, m <= 6, weights within ±80); the normaliser, mean and
probability at large counts against the central case in 40 digits. Errors are relative to max(1, |value|).

    python -m benchmarks.mvhg_errors [--output results/mvhg/errors.json]
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from drpm.ops import mvhg_covariance, mvhg_entropy, mvhg_kl, mvhg_log_normalizer, mvhg_log_prob, mvhg_mean
from drpm.training.provenance import write_json

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def law(m, n, log_omega):
    support = [x for x in itertools.product(*[range(c + 1) for c in m]) if sum(x) == n]
    weights = [
        sum(math.log(math.comb(c, x)) + x * w for c, x, w in zip(m, sizes, log_omega.tolist(), strict=True))
        for sizes in support
    ]
    log_weights = torch.tensor(weights, dtype=torch.float64)
    log_p0 = log_weights.logsumexp(0)
    return torch.tensor(support, dtype=torch.float64), log_p0, log_weights - log_p0


def error(got, want):
    return float(((got.double() - want).abs() / want.abs().clamp(min=1)).max())


def small_errors(dtype, settings=400):
    generator = torch.Generator().manual_seed(0)
    worst: dict[str, float] = {}
    for index in range(settings):
        classes = 1 + index % 5
        m = torch.randint(0, 7, (classes,), generator=generator)
        n = int(torch.randint(0, int(m.sum()) + 1, (1,), generator=generator))
        spread = (0.3, 2.0, 6.0, 40.0)[index % 4]
        q, p = (spread * torch.randn(2, classes, generator=generator)).clamp(-80, 80)
        support, log_p0, log_q = law(m.tolist(), n, q.double())
        log_p = law(m.tolist(), n, p.double())[2]
        prob = log_q.exp()
        mean = prob @ support
        q, p = q.to(dtype), p.to(dtype)
        errors = {
            "log normaliser": error(mvhg_log_normalizer(q, m, n), log_p0),
            "log probability": error(mvhg_log_prob(support, q, m, n), log_q),
            "mean": error(mvhg_mean(q, m, n), mean),
            "covariance": error(mvhg_covariance(q, m, n), (support - mean).T @ ((support - mean) * prob[:, None])),
            "KL": error(mvhg_kl(q, p, m, n), (prob * (log_q - log_p)).sum()),
            "entropy": error(mvhg_entropy(q, m, n), -(prob * log_q).sum()),
        }
        for name, value in errors.items():
            worst[name] = max(worst.get(name, 0.0), value)
    return worst


def large_errors(dtype):
    import mpmath

    mpmath.mp.dps = 40
    worst: dict[str, float] = {}
    for n in (10**3, 10**5, 10**7):
        omega = torch.zeros(10, dtype=dtype)
        want = mpmath.log(mpmath.binomial(10 * n, n))
        sizes = torch.full((10,), n // 10, dtype=dtype)
        log_prob = 10 * mpmath.log(mpmath.binomial(n, n // 10)) - want
        variance = n * 0.1 * 0.9 * (10 * n - n) / (10 * n - 1)
        covariance = variance * (torch.eye(10, dtype=torch.float64) * 10 - 1) / 9
        errors = {
            "log normaliser": error(mvhg_log_normalizer(omega, n, n), torch.tensor(float(want), dtype=torch.float64)),
            "log probability": error(
                mvhg_log_prob(sizes, omega, n, n), torch.tensor(float(log_prob), dtype=torch.float64)
            ),
            "mean": error(mvhg_mean(omega, n, n), sizes.double()),
            "covariance": error(mvhg_covariance(omega, n, n), covariance),
        }
        for name, value in errors.items():
            worst[name] = max(worst.get(name, 0.0), value)
    return worst


COLUMNS = {
    "float64, small": ("small", "float64"),
    "float32, small": ("small", "float32"),
    "float64, n to 1e7": ("large", "float64"),
    "float32, n to 1e7": ("large", "float32"),
}


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file."""
    lines = ["| quantity | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    errors = content["errors"]
    for quantity in errors["small"]["float64"]:
        found = [errors[size][dtype].get(quantity) for size, dtype in COLUMNS.values()]
        lines.append(f"| {quantity} | " + " | ".join("–" if x is None else f"{x:.1e}" for x in found) + " |")
    return "\n".join([*lines, "", machine.line(content)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    content = {"machine": machine.describe(torch.get_num_threads()), **machine.commit(), "date": machine.now()}
    content["errors"] = {
        "small": {name: small_errors(dtype) for name, dtype in DTYPES.items()},
        "large": {name: large_errors(dtype) for name, dtype in DTYPES.items()},
    }
    if arguments.output:
        write_json(content, arguments.output)
    print(table(content))


if __name__ == "__main__":
    main()
