"""A random partition by a matrix of scores as a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from drpm.nn.random_partition import RandomPartition
from drpm.ops import Partition, random_assignment


class RandomAssignment(RandomPartition):
    """Partition elements into K ordered subsets by a row of scores for each, with learned or given sizes and scores.

    >>> layer = drpm.nn.RandomAssignment(num_subsets=3)        # learns log_omega, takes scores from a network
    >>> y = layer(logits.mT)                                   # (*, K, n) -> y.assignment (*, K, n), y.sizes (*, K)

    Args:
        num_subsets: K, learns `log_omega` (K,), from 0: all subsets equally important. None: `forward` takes log_omega.
        num_elements: n, learns `log_scores` (K, n), from 0; with num_subsets. None: `forward` takes log_scores.
        others: as `drpm.nn.RandomPartition`.
    Gradient: w.r.t. log_omega and log_scores, straight-through; see `drpm.ops.random_assignment`.
    Raises: as `drpm.nn.RandomPartition`; ValueError for num_elements without num_subsets.
    Reference: docs/math/assignment.md.
    """

    _name: ClassVar[str] = "RandomAssignment"
    _draw: ClassVar[Callable[..., Partition]] = staticmethod(random_assignment)

    def __init__(self, num_subsets: int | None = None, num_elements: int | None = None, **options: Any) -> None:
        super().__init__(num_subsets, num_elements, **options)
        if self.log_scores is not None:
            if self.log_omega is None:
                raise ValueError(f"{self._name}: num_subsets must be given with num_elements, got None")
            self.log_scores = nn.Parameter(torch.zeros(len(self.log_omega), len(self.log_scores)))
