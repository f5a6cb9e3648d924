"""What the sizes of the clusters may be: parameters of the estimator as whole bounds on every size."""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class SizeRule(NamedTuple):
    """Bounds on the numbers of rows; equal ones are given sizes."""

    low: NDArray[np.int64]  # (K,)
    high: NDArray[np.int64]  # (K,)

    @property
    def given(self) -> bool:
        return bool((self.low == self.high).all())

    def binds(self, rows: int) -> bool:
        return len(self.low) > 1 and bool((self.low > 0).any() or (self.high < rows).any())

    def of_sample(self, rows: int, sampled: int) -> SizeRule:
        """The same shares of fewer rows."""
        share = sampled / rows
        if self.given:
            sizes = rounded(self.low * share, sampled)
            return SizeRule(sizes, sizes)
        return SizeRule(np.floor(self.low * share).astype(np.int64), np.ceil(self.high * share).astype(np.int64))

    def tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.low), torch.from_numpy(self.high)


def size_rule(estimator: Any, rows: int) -> SizeRule:
    """Of an estimator's `n_clusters`, `sizes`, `size_min` and `size_max`; ValueError where they can not be met."""
    clusters, sizes = estimator.n_clusters, estimator.sizes
    low, high = np.zeros(clusters, dtype=np.int64), np.full(clusters, rows)
    bounded = estimator.size_min is not None or estimator.size_max is not None
    if isinstance(sizes, str) and sizes == "learned":
        if estimator.size_min is not None:
            low = _whole(estimator, "size_min", rows, np.floor)
        if estimator.size_max is not None:
            high = np.minimum(_whole(estimator, "size_max", rows, np.ceil), rows)
        if (low > high).any():
            raise _complaint(estimator, "size_min", f"be at most size_max, {estimator.size_max!r}")
        if low.sum() > rows:
            raise _complaint(estimator, "size_min", f"sum to at most the number of samples, {rows}")
        if high.sum() < rows:
            raise _complaint(estimator, "size_max", f"sum to at least the number of samples, {rows}")
        return SizeRule(low, high)
    if bounded:
        argument = "size_min" if estimator.size_min is not None else "size_max"
        raise _complaint(estimator, argument, "be None where sizes are given")
    whole = _given(estimator, rows)
    return SizeRule(whole, whole)


def _given(estimator: Any, rows: int) -> NDArray[np.int64]:
    clusters, sizes = estimator.n_clusters, estimator.sizes
    if isinstance(sizes, str):
        if sizes != "balanced":
            raise _complaint(estimator, "sizes", "be 'learned', 'balanced' or numbers")
        return rounded(np.full(clusters, rows / clusters), rows)
    given = _numbers(sizes)
    if given.shape != (clusters,) or not np.isfinite(given).all() or (given < 0).any():
        raise _complaint(estimator, "sizes", f"hold {clusters} numbers >= 0")
    if given.sum() == rows and bool((given == np.round(given)).all()):
        return given.astype(np.int64)
    if abs(given.sum() - 1.0) >= 1e-6:
        raise _complaint(estimator, "sizes", f"sum to the number of samples, {rows}, or to 1")
    return rounded(given / given.sum() * rows, rows)


def _whole(estimator: Any, argument: str, rows: int, rounding: Any) -> NDArray[np.int64]:
    """Numbers of rows: ints are some already, floats are fractions of them, one for all or one for each."""
    value = getattr(estimator, argument)
    given = _numbers(value)
    if given.shape not in ((), (estimator.n_clusters,)) or not np.isfinite(given).all() or (given < 0).any():
        raise _complaint(estimator, argument, f"be one number >= 0 or {estimator.n_clusters} of them")
    whole = np.asarray(value).dtype.kind in "iu" or isinstance(value, numbers.Integral)
    if not whole:
        if (given > 1).any():
            raise _complaint(estimator, argument, "hold ints, or fractions <= 1")
        given = rounding(given * rows * (1 + np.copysign(1e-12, 1 if rounding is np.floor else -1)))
    return np.broadcast_to(given, (estimator.n_clusters,)).astype(np.int64)


def _numbers(value: Any) -> NDArray[np.float64]:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            return np.empty(0)
        return array.astype(np.float64)
    except (TypeError, ValueError):
        return np.empty(0)


def _complaint(estimator: Any, argument: str, contract: str) -> ValueError:
    return ValueError(f"{type(estimator).__name__}: {argument} must {contract}, got {getattr(estimator, argument)!r}")


def rounded(sizes: NDArray[Any], total: int) -> NDArray[np.int64]:
    """Whole numbers near the sizes that sum to total: the largest remainders are rounded up."""
    whole: NDArray[np.int64] = np.floor(sizes).astype(np.int64)
    order = np.argsort(-(sizes - whole), kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return whole
