"""The Gumbel noise that a seed stands for."""

from __future__ import annotations

import torch
from torch import Tensor

from drpm.ops._arguments import require
from drpm.ops._random import STREAM_ASSIGNMENT, STREAM_ORDER, STREAM_SIZES, seed_tensor
from drpm.ops._vmap import fold, register_vmap

_OP = "gumbel_noise"


def gumbel_noise(
    seed: int | Tensor,
    shape: tuple[int, int, int],  # (rows, classes, width)
    *,
    stream: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:  # (rows, classes, width)
    """Write out the standard Gumbel noise that the sampling kernels draw for a seed.

        g = -log(-log(1 - u)),  u = (bits + 1/2) 2^-b from Philox4x32-10

    Args:
        seed: int or (1,) int64.
        shape: (rows, classes, width): rows are samples times batch, flattened; `width` counts the outcomes of a class
            (sizes) or the elements (order, with one class). A variate does not depend on the shape: a larger one
            starts with the same values.
        stream: `drpm.ops.STREAM_SIZES` (0), `STREAM_ORDER` (1) or `STREAM_ASSIGNMENT` (4; a class is a row of scores).
        dtype: float32 (b = 32, values in [-2.81, 22.9]) or float64 (b = 53, values in [-3.62, 37.5]); the two are
            different draws.
    Returns: (rows, classes, width) of `dtype`.
    Gradient: none.
    Raises: ValueError for another dtype, a negative size or an unknown stream.
    Reference: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011.
    """
    require(dtype in (torch.float32, torch.float64), _OP, "dtype", "be float32 or float64", dtype)
    require(len(shape) == 3 and min(shape) >= 0, _OP, "shape", "be three sizes >= 0", tuple(shape))
    known = (STREAM_SIZES, STREAM_ORDER, STREAM_ASSIGNMENT)
    require(stream in known, _OP, "stream", "be 0 (sizes), 1 (order) or 4 (assignment)", stream)
    if device is None:
        device = seed.device if isinstance(seed, Tensor) else "cpu"
    drawn = seed_tensor(_OP, torch.device(device), generator=None, seed=seed)
    noise: Tensor = torch.ops.drpm.gumbel_noise(drawn, stream, *shape, dtype == torch.float64)
    return noise


@torch.library.register_fake("drpm::gumbel_noise")
def _fake(seed: Tensor, stream: int, rows: int, classes: int, width: int, float64: bool) -> Tensor:
    return seed.new_empty((rows, classes, width), dtype=torch.float64 if float64 else torch.float32)


register_vmap("gumbel_noise", fold(counts=(2,)))
