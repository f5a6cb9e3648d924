"""Numbers that follow from a seed and indices alone, so that data can be composed on demand in any order."""

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None))  # SplitMix64


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def hashed(seed: int, stream: int, indices: Tensor) -> Tensor:
    """One whole number in [0, 2^31) for each index, independent across seeds and streams."""
    start = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1342543DE82EF95) & _MASK
    x = indices.to(torch.int64) * _signed(0x9E3779B97F4A7C15) + _signed(start)
    for _ in range(2):
        for shift, factor in _STEPS:
            x = x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))
            if factor is not None:
                x = x * _signed(factor)
    return (x >> 33) & (2**31 - 1)


def drawn(seed: int, stream: int, indices: Tensor, count: int | Tensor) -> Tensor:
    """A whole number in [0, count) for each index."""
    return (hashed(seed, stream, indices) * count) >> 31


class Partners:
    """Elements by label, to be paired with others of the same label.

    Args:
        labels: (N,) int64, of the elements.
    """

    def __init__(self, labels: Tensor, classes: int = 10) -> None:
        self.order = labels.argsort(stable=True)
        self.counts = torch.bincount(labels, minlength=classes)
        self.starts = self.counts.cumsum(0) - self.counts

    def __call__(self, seed: int, stream: int, indices: Tensor, labels: Tensor) -> Tensor:
        """An element with each label, drawn by index."""
        return self.order[self.starts[labels] + drawn(seed, stream, indices, self.counts[labels])]
