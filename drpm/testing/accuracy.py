"""The one tolerance table, and comparison against float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float32, torch.float64)  # what every op takes and keeps


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted deviation, relative to the largest magnitude of the expected values."""

    value: float
    gradient: float


# float64: kernel against the float64 reference on well-conditioned inputs. float32: a floor below which the rule
# "at most twice the error of the reference in float32, both against float64" is not applied.
TOLERANCE = {
    torch.float64: Tolerance(value=1e-10, gradient=1e-10),
    torch.float32: Tolerance(value=2e-6, gradient=1e-5),
}


def relative_error(got: Tensor, want: Tensor) -> float:
    """max |got - want| / max(|want|, 1), in float64; equal infinities do not count, a NaN gives NaN."""
    got, want = got.detach().double(), want.detach().double()
    if got.shape != want.shape:
        raise AssertionError(f"shapes differ: {tuple(got.shape)} and {tuple(want.shape)}")
    same = got == want
    difference = torch.where(same, torch.zeros_like(got), got - want)
    finite = torch.where(torch.isfinite(want), want, torch.zeros_like(want))
    if difference.numel() == 0:
        return 0.0
    return float(difference.abs().max() / finite.abs().max().clamp(min=1.0))


def assert_matches_reference(
    got: Tensor,
    reference_float64: Tensor,
    reference_same_dtype: Tensor | None = None,
    *,
    gradient: bool = False,
) -> None:
    """The accuracy rule of the project.

    float64: within TOLERANCE of the reference. float32: within TOLERANCE, or within twice the error that the reference
    itself makes in float32.
    """
    table = TOLERANCE[torch.float64 if got.dtype == torch.float64 else torch.float32]
    allowed = table.gradient if gradient else table.value
    if got.dtype != torch.float64 and reference_same_dtype is not None:
        allowed = max(allowed, 2 * relative_error(reference_same_dtype, reference_float64))
    error = relative_error(got, reference_float64)
    if not error <= allowed:
        raise AssertionError(f"error {error:.3g} > {allowed:.3g} (relative to the largest expected magnitude)")
