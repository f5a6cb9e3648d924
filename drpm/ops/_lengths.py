"""Sets of different lengths in one batch: of the n elements of a row only the first `length` count.

The others are put below all that count, so far that no product of theirs reaches working precision: a relaxed sort's
row i <= length then differs from the one of the shorter set by a constant in its logits, which the softmax drops, and
the odds of Plackett-Luce lose nothing. What stood there, NaN included, is never read, and receives a zero gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drpm._build_info import _C
from drpm.ops._arguments import Counts, counts_tensor, is_readable, require


def reduced(scores: Tensor) -> Tensor:  # (*, n)
    """Less the largest of their row, which shifts nothing: next to it, noise would be lost in rounding."""
    return scores - scores.detach().amax(-1, keepdim=True) if scores.shape[-1] else scores


def row_lengths(op: str, lengths: Counts, n: int, device: torch.device) -> tuple[Tensor, Tensor]:  # (*), (*, n)
    """The lengths as int64, and which elements count."""
    counts = row_counts(op, lengths, n, device)
    return counts, torch.arange(n, device=device) < counts.unsqueeze(-1)


def row_counts(op: str, lengths: Counts, n: int, device: torch.device) -> Tensor:  # (*)
    """The lengths as int64."""
    counts = counts_tensor(op, "lengths", lengths, device)
    if is_readable(counts) and counts.numel():
        require(int(counts.max()) <= n, op, "lengths", f"be <= {n}", int(counts.max()))
    return counts


def row_capacities(counts: Tensor, classes: int) -> Tensor:  # (*) -> (*, K)
    """m where it is not given: each subset may take a whole row."""
    return counts.unsqueeze(-1).expand(*counts.shape, classes)


def pad_scores(scores: Tensor, mask: Tensor, spacing: float | Tensor) -> Tensor:  # (*, n), (*, n)
    """The scores, those that do not count replaced by constants: `spacing` below the lowest and below one another."""
    n = scores.shape[-1]
    if n == 0:
        return scores.expand(torch.broadcast_shapes(scores.shape, mask.shape))
    lowest = torch.where(mask, scores.detach(), torch.inf).amin(-1, keepdim=True)
    lowest = torch.where(torch.isinf(lowest), 0.0, lowest)
    # steps that survive rounding at the magnitude of the scores
    step = spacing + 16 * torch.finfo(scores.dtype).eps * (lowest.abs() + spacing * n)
    beyond = torch.cumsum(~mask, -1)
    below = (lowest - step * beyond).clamp(min=torch.finfo(scores.dtype).min)  # next to which steps count for nothing
    return torch.where(mask, scores, below)


SORT_SPACING: float = _C.sort_spacing
"""In units of tau."""

ODDS_SPACING = 80.0
"""Odds of e^-80 against one another: n e^-80 is nothing beside the rounding of float64."""
