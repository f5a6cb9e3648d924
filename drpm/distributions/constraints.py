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
        rows = (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-4)
        return rows.all(-1)


class _Assignment(Constraint):
    """(*, K, n) matrices with one 1 in each column and zeros elsewhere."""

    is_discrete = True
    event_dim = 2

    def check(self, value: Tensor) -> Any:
        whole = ((value == 0) | (value == 1)).all(-1).all(-1)
        return whole & (value.sum(-2) == 1).all(-1)


permutation = _Permutation()
row_stochastic = _RowStochastic()
assignment = _Assignment()
