"""Least times of the CUDA kernels on one device: bytes and operations over published peaks. Not measured times.

Counts are of one launch at SHAPE, in terms of its letters. Bytes are those of global memory that must move at least
once; what stays in the caches is not counted. Operations are counted in the source, a fused multiply-add as two:
exp 40 (double) and 25 (float), log 45, 1 - e^-z and e^-z together 40 and 25, a division 20 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass

DEVICE = "H100 SXM"
BANDWIDTH, PEAK64, PEAK32 = 3.35e12, 34e12, 67e12  # bytes, operations a second: the data sheet, without tensor cores
# Rows, elements, subsets; mean width of the band (T = 16, standard normal scores); nodes of the quadratures
# (partition_marginals; the law's width there; partition_mode; partition_log_prob); outcomes in a size's window.
SHAPE = {"B": 64, "n": 4096, "K": 10, "w": 430, "N": 571, "W": 650, "J": 370, "L": 32, "x": 700}


@dataclass(frozen=True)
class Estimate:
    kernel: str
    bytes: str
    double: str  # operations
    single: str = "0"


# float32 arguments.
ESTIMATES = (
    Estimate("noise", "4*B*n", "0", "B*n*60"),
    Estimate("hypergeometric, log weights", "B*n*4", "B*n*12"),
    Estimate("mvhg_merged, a class of the chain", "B*(24*K)", "B*K*x*12", "B*K*x*60"),
    Estimate("mvhg_contour, log probability", "B*(16*K)", "B*34*K*110"),
    Estimate("relaxed_sort, gather of scores", "B*n*(4+8+8)", "B*n"),
    Estimate("relaxed_sort, row sums", "B*n*(8+4)", "B*n*w*10", "B*n*w*28"),
    Estimate("relaxed_sort, dense rows", "B*n*n*4 + B*n*(8+8)", "B*n*w*20", "B*n*w*55"),
    Estimate("relaxed_sort, dense backward sums", "2*B*n*w*4 + B*n*(8+8+8)", "B*n*w*24", "B*n*w*60"),
    Estimate("partition, hard labels and assignment", "B*n*(8+8+8) + B*K*n*4", "B*n*log2(n)"),
    Estimate("partition, relaxed columns", "2*B*K*n*4 + B*n*(8+4)", "B*n*w*10*ceil(K/8)", "B*n*w*(28*ceil(K/8)+2*K)"),
    Estimate("partition, hard backward sums", "B*K*n*4 + B*n*(8+8+8+4)", "B*n*w*24", "B*n*w*62"),
    Estimate("plackett_luce, value and gradient", "B*n*(8+4+4)", "B*n*150"),
    Estimate("partition_log_prob, factors", "B*n*(8+8+4+8)", "B*n*60", "B*n*(L+14)*32"),
    Estimate("partition_marginals, nodes", "B*N*(3*n*8) + B*K*n*8", "B*N*(n*90 + n*W*3 + n*W*(4+2*3))"),
    Estimate("partition_marginals, nodes backward", "B*N*(3*n*8 + 4*n*W*8)", "B*N*(n*90 + n*W*3 + n*W*(14+4*K))"),
    Estimate("partition_mode, intervals", "B*n*n/2*8", "B*n*n/2*(J*0.6)*44"),
    Estimate("partition_mode, boundaries", "B*K*n*n/2*8", "B*K*n*n/2*3"),
)


def evaluate(formula: str) -> float:
    from math import ceil, log2

    return float(eval(formula, {"__builtins__": {}}, {**SHAPE, "ceil": ceil, "log2": log2}))


def print_roofline() -> None:
    letters = ", ".join(f"{name} = {value}" for name, value in SHAPE.items())
    print("## Roofline\n")
    peaks = f"{BANDWIDTH / 1e12:.2f} TB/s, {PEAK64 / 1e12:.0f} (double) and {PEAK32 / 1e12:.0f} (single)"
    print(f"Least time of a launch on an {DEVICE} by its data sheet: {peaks} T operations a second, for")
    print(f"{letters}: rows, elements, subsets, mean width of the band, nodes and law")
    print(
        "of partition_marginals, nodes of partition_mode and of partition_log_prob, outcomes in a window. Real kernels"
    )
    print("stay above: shuffles, integer work and latency are not counted.\n")
    print("| kernel | bytes | double operations | single operations | memory, ms | arithmetic, ms | bound by |")
    print("|---|---|---|---|---|---|---|")
    for estimate in ESTIMATES:
        moved, double, single = (evaluate(f) for f in (estimate.bytes, estimate.double, estimate.single))
        memory, arithmetic = 1e3 * moved / BANDWIDTH, 1e3 * (double / PEAK64 + single / PEAK32)
        bound = "memory" if memory > arithmetic else "arithmetic"
        counts = " | ".join(
            f"`{formula}` = {value:.3g}" if value else ""
            for formula, value in ((estimate.bytes, moved), (estimate.double, double), (estimate.single, single))
        )
        print(f"| {estimate.kernel} | {counts} | {memory:.4f} | {arithmetic:.4f} | {bound} |")
    print()
