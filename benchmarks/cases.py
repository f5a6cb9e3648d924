"""What is measured: a case is an op at one size, dtype and variant; grids list them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch

KERNEL, REFERENCE = "kernel", "reference"  # the two columns that every op has
DIRECTIONS = ("forward", "forward+backward")

Dims = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Case:
    op: str
    variant: str
    dims: Dims  # in the order they are printed
    dtype: str = "float32"
    tau: float = 0.5

    def __getitem__(self, name: str) -> int:
        return dict(self.dims)[name]

    def get(self, name: str, default: int | None = None) -> int | None:
        return dict(self.dims).get(name, default)

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def series(self) -> str:
        return f"{self.op}/{self.variant}/{self.dtype}"

    @property
    def size_text(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.dims)

    @property
    def key(self) -> str:
        return f"{self.series}/{self.size_text}"

    def resized(self, tau: float | None = None, **dims: int) -> Case:
        new = tuple((name, dims.get(name, value)) for name, value in self.dims)
        return replace(self, dims=new, tau=self.tau if tau is None else tau)

    def at_least(self, other: Case) -> bool:
        """Whether this case is of the same series and in no dimension smaller than the other."""
        mine, theirs = dict(self.dims), dict(other.dims)
        return (
            self.series == other.series
            and mine.keys() == theirs.keys()
            and all(mine[name] >= theirs[name] for name in mine)
        )

    def to_json(self) -> dict:
        return {"op": self.op, "variant": self.variant, "dims": dict(self.dims), "dtype": self.dtype, "tau": self.tau}

    @staticmethod
    def from_json(data: dict) -> Case:
        return Case(data["op"], data["variant"], tuple(data["dims"].items()), data["dtype"], data["tau"])


VARIANTS = {
    "random_partition": ("merged", "exact"),
    "partition": ("hard", "soft"),
    "relaxed_sort": ("soft", "hard"),
    "relaxed_sort_matmul": ("soft",),
    "mvhg_sample": ("merged", "exact"),
    "mvhg_log_prob": ("merged", "exact"),
    "mvhg_mean": ("exact",),
    "mvhg_kl": ("exact",),
    "hypergeometric_log_weights": ("exact",),
    "plackett_luce_log_prob": ("order",),
    "partition_log_prob": ("exact",),
    "random_assignment": ("exact",),
    "assignment_log_prob": ("exact",),
}

# "tiny" is for tests. "small": the first table; "full": sorting without the n x n matrix; "large": where only the
# kernels fit; "mvhg": subset sizes.
BATCHES = {"tiny": (2,), "small": (1, 8, 64), "full": (1, 8, 64, 1024), "large": (1,)}
LENGTHS = {
    "tiny": (8,),
    "small": (16, 64, 256),
    "full": (16, 64, 256, 1024, 4096, 16384),
    "large": (65536, 262144, 1_000_000),
}
CLASSES = {"tiny": (3,), "small": (2, 10), "full": (2, 10), "large": (10,)}
MVHG_BATCHES = (1, 100, 10000)
MVHG_SIZES = ((3, 200, 180), (10, 256, 256), (10, 1024, 1024), (10, 4096, 4096), (100, 1000, 1000))
GRIDS = (*BATCHES, "mvhg")

MVHG_OPS = ("mvhg_sample", "mvhg_log_prob", "mvhg_mean", "mvhg_kl")
DEFAULT_OPS = {
    "tiny": tuple(VARIANTS),
    "small": tuple(VARIANTS),
    "full": ("random_partition", "partition", "relaxed_sort", "relaxed_sort_matmul"),
    "large": (
        "partition",
        "relaxed_sort_matmul",
        "plackett_luce_log_prob",
        "partition_log_prob",
        "assignment_log_prob",
    ),
    "mvhg": MVHG_OPS,
}


def _dims(op: str, grid: str) -> Iterator[Dims]:
    if grid == "mvhg":
        for (k, m, n), b in product(MVHG_SIZES, MVHG_BATCHES):
            yield (("B", b), ("K", k), ("m", m), ("n", n))
        return
    for n, b, k in product(LENGTHS[grid], BATCHES[grid], CLASSES[grid]):
        if op in MVHG_OPS:
            yield (("B", b), ("K", k), ("m", n), ("n", n))
        elif op in ("relaxed_sort", "relaxed_sort_matmul", "plackett_luce_log_prob"):
            if k == CLASSES[grid][0]:
                yield (("B", b), ("n", n))
        else:
            yield (("B", b), ("n", n), ("K", k))


def grid_cases(
    grid: str,
    ops: tuple[str, ...] | None = None,
    variants: tuple[str, ...] | None = None,
    dtypes: tuple[str, ...] = ("float32",),
    tau: float = 0.5,
) -> list[Case]:
    """The cases of a grid, smallest first within a series."""
    chosen = DEFAULT_OPS[grid] if ops is None else ops
    if grid == "mvhg" and not set(chosen) <= set(DEFAULT_OPS["mvhg"]):
        raise ValueError(f"grid mvhg holds {', '.join(DEFAULT_OPS['mvhg'])}, got {', '.join(chosen)}")
    return [
        Case(op, variant, dims, dtype, tau)
        for op in chosen
        for dtype in dtypes
        for variant in VARIANTS[op]
        if variants is None or variant in variants
        for dims in _dims(op, grid)
    ]
