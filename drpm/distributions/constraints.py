"""Supports that torch.distributions.constraints lacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint


class _Permutation(Constraint):
    """(*, n) int64 rows that hold each of 0 … n−1 once."""

    is_discrete = True
    event_dim = 1

    def check(self, value: Tensor) -> Any:
        if value.is_floating_point():
            return torch.zeros(value.shape[:-1], dtype=torch.bool, device=value.device)
        return (value.sort(-1).values == torch.arange(value.shape[-1], device=value.device)).all(-1)


class _RowStochastic(Constraint):
    """(*, n, n) matrices of non-negative rows that sum to one, such as relaxed permutations."""

    event_dim = 2

    def check(self, value: Tensor) -> Any:
        # sums of half and bfloat16 values, each of which was rounded once
        rounding = 1e-4 + (torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0)
        rows = (value >= 0).all(-1) & ((value.double().sum(-1) - 1).abs() < rounding)
        return rows.all(-1)


class _Assignment(Constraint):
    """(*, K, n) matrices with one 1 in each column and zeros elsewhere."""

    is_discrete = True
    event_dim = 2

    def check(self, value: Tensor) -> Any:
        whole = ((value == 0) | (value == 1)).all(-1).all(-1)
        return whole & (value.sum(-2) == 1).all(-1)


class _RelaxedAssignment(Constraint):
    """(*, K, n) matrices of non-negative numbers that sum to n, such as relaxed assignments."""

    event_dim = 2

    def check(self, value: Tensor) -> Any:
        n, whole = value.shape[-1], value.double()
        rounding = 1e-4 + (torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0)
        return (whole >= 0).all(-1).all(-1) & ((whole.sum((-2, -1)) - n).abs() <= rounding * (1 + n))


class _ScoreMatrix(Constraint):
    """(*, K, n) rows of scores without infinities or NaN; the last one may hold anything."""

    event_dim = 2

    def check(self, value: Tensor) -> Any:
        return torch.isfinite(value[..., :-1, :]).all(-1).all(-1)


class _WeightsVector(Constraint):
    """(*, n) rows of log-weights: finite, or -inf for a weight of zero."""

    event_dim = 1

    def check(self, value: Tensor) -> Any:
        return ((value < torch.inf) & ~torch.isnan(value)).all(-1)


class SubsetOf(Constraint):
    """(*, n) rows of 0 and 1 with k ones."""

    is_discrete = True
    event_dim = 1

    def __init__(self, k: Tensor) -> None:
        self.k = k
        super().__init__()

    def check(self, value: Tensor) -> Any:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == self.k)


class SizesOf(Constraint):
    """(*, K) rows with 0 <= n_k <= m_k and Σ n_k = n; whole numbers unless relaxed."""

    event_dim = 1

    def __init__(self, m: Tensor, n: Tensor, *, relaxed: bool = False) -> None:
        self.m, self.n, self.relaxed = m, n, relaxed
        self.is_discrete = not relaxed
        super().__init__()

    def __repr__(self) -> str:
        return f"SizesOf(m={self.m.tolist()}, n={self.n.tolist()}, relaxed={self.relaxed})"

    def check(self, value: Tensor) -> Any:
        total = value.sum(-1)
        if self.relaxed:  # the last size is n minus the others and may leave [0, m_K]
            return torch.isfinite(value).all(-1) & ((total - self.n).abs() <= 1e-5 * (1 + self.n))
        inside = ((value >= 0) & (value <= self.m)).all(-1)
        return inside & (total == self.n) & (value == value.round()).all(-1)


score_matrix = _ScoreMatrix()
weights_vector = _WeightsVector()
permutation = _Permutation()
row_stochastic = _RowStochastic()
assignment = _Assignment()
relaxed_assignment = _RelaxedAssignment()
