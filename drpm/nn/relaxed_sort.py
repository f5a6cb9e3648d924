"""The relaxed sort as a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from drpm.nn.temperature import Annealed, Schedule, Temperature
from drpm.ops import relaxed_sort, relaxed_sort_matmul


class RelaxedSort(Annealed):
    """Sort in decreasing order of scores, differentiably (NeuralSort).

    >>> sort = drpm.nn.RelaxedSort(tau=0.1)
    >>> sort(scores)                              # (*, n) -> (*, n, n), the relaxed permutation matrix
    >>> sort(scores, values)                      # (*, n), (*, n, d) -> (*, n, d), the sorted values, in O(n d) memory

    Args:
        tau: temperature, a float or a schedule; `advance` (or `advance_temperatures`) counts the steps.
        hard: the exact permutation with the gradient of the relaxation (straight-through).
    Gradient: w.r.t. scores and values; see `drpm.ops.relaxed_sort` and `drpm.ops.relaxed_sort_matmul`.
    Reference: Grover et al., Stochastic optimization of sorting networks via continuous relaxations, 2019.
    """

    def __init__(self, tau: float | Schedule = 1.0, *, hard: bool = False) -> None:
        super().__init__()
        self.temperature = Temperature(tau)
        self.hard = hard

    def forward(
        self,
        scores: Tensor,  # (*, n)
        values: Tensor | None = None,  # (*, n, d)
    ) -> Tensor:  # (*, n, n) or (*, n, d)
        """Give the relaxed permutation matrix, or its product with `values`."""
        if values is None:
            return relaxed_sort(scores, self.tau, hard=self.hard)
        return relaxed_sort_matmul(scores, values, self.tau, hard=self.hard)

    if TYPE_CHECKING:
        __call__ = forward  # torch types a call of any module as Any

    def extra_repr(self) -> str:
        return f"hard={self.hard}"
