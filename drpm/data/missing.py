"""Modalities that are missing at random."""

from collections.abc import Sequence

import torch
from torch import Tensor

from drpm.ops._arguments import require


def mask_at_random(
    rate: float | Sequence[float] | Sequence[Sequence[float]],
    rows: int,
    modalities: int,
    *,
    labels: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Which rows have which modality: each is missing with probability `rate`, and no row is left with nothing.

    Rows that would miss everything keep one modality, drawn uniformly.

    Args:
        rate: one for all; one per modality (M); or, with `labels`, per label and modality (classes, M): missing that
            depends on what is to be predicted.
        labels: (rows,) int64.
        seed: int; the same mask for the same seed.
    Returns: (rows, M) bool, True where observed.
    Raises: ValueError for a rate outside [0, 1), of another shape, or for unknown labels.
    """
    rates = torch.as_tensor(rate, dtype=torch.float64)
    valid = bool(((rates >= 0) & (rates < 1)).all())
    require(valid, "mask_at_random", "rate", "lie in [0, 1)", rate)
    if labels is None:
        fits = rates.ndim == 0 or tuple(rates.shape) == (modalities,)
        require(fits, "mask_at_random", "rate", f"be one number or {modalities}", tuple(rates.shape))
        rates = rates.expand(rows, modalities)
    else:
        fits = rates.ndim == 2 and rates.shape[1] == modalities and len(labels) == rows
        require(fits, "mask_at_random", "rate", f"have shape (classes, {modalities}) with labels", tuple(rates.shape))
        known = bool(((labels >= 0) & (labels < len(rates))).all())
        require(known, "mask_at_random", "labels", f"lie in [0, {len(rates)})", labels.tolist()[:10])
        rates = rates[labels]
    generator = torch.Generator().manual_seed(seed)
    observed = torch.rand(rows, modalities, generator=generator, dtype=torch.float64) >= rates
    kept = torch.randint(modalities, (rows,), generator=generator)
    nothing = ~observed.any(-1)
    observed[nothing, kept[nothing]] = True
    return observed
