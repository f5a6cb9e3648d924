"""Exact draws from the multivariate noncentral hypergeometric distribution, without a relaxation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drpm.ops._arguments import Counts, check_tensor
from drpm.ops._mvhg_arguments import mvhg_arguments, sample_count
from drpm.ops._random import seed_tensor
from drpm.ops._vmap import fold, register_vmap

_OP = "mvhg_draw"
_LARGEST_TABLE = 20000  # n from which a rejection step (about 10 contour sums) is cheaper than its tables


def mvhg_draw(
    log_omega: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
    *,
    sample_shape: int | Sequence[int] = (),
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    largest_table: int = _LARGEST_TABLE,
) -> Tensor:  # sample_shape + (*, K)
    """Draw sizes by the exact conditionals p(n_k | n_1 … n_{k−1}), one class after the other.

    Up to n = largest_table by inversion in the tables of the later classes' total (samples share them); above by
    rejection under the conditional's log-concave envelope, its probabilities contour sums: time does not grow with n.

    Args:
        log_omega: (*, K) float, natural-log weights of the classes. −inf: never drawn, as if m_k = 0.
        m: int, (K,) or (*, K) int64, items per class; 0 … 2^53.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
        sample_shape: independent draws per batch row.
        generator, seed: where the randomness comes from; default torch's own generator.
        largest_table: where to change the method; the law is the same.
    Returns: sample_shape + (*, K) whole numbers, float64 for float64 weights or where m and n as Python numbers allow
        sizes above 2^24, else float32; rows sum to n; a row of NaN where device counts are invalid. Counts in tensors
        keep float32, which rounds sizes above 2^24: they no longer sum to n, and `mvhg_log_prob` gives −inf for them.
    Gradient: none; see `mvhg_sample`.
    Numerics: exact up to float64's rounding of probabilities, 1e-14 by the tables, and 1e-16 √n at most by rejection;
        counts up to 2^53.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: L. Devroye, A simple generator for discrete log-concave distributions, 1987; docs/math/mvhg.md,
        section 6.
    """
    check_tensor(_OP, "log_omega", log_omega)
    arguments = mvhg_arguments(_OP, log_omega.detach(), m, n, sizes=True)
    shape, samples = sample_count(_OP, sample_shape)
    drawn = seed_tensor(_OP, log_omega.device, generator=generator, seed=seed)
    draw = torch.ops.drpm.mvhg_draw
    sizes: Tensor = draw(arguments.log_omega, arguments.m, arguments.n, drawn, samples, largest_table)
    return sizes.reshape(*shape, *arguments.batch, arguments.classes)


@torch.library.register_fake("drpm::mvhg_draw")
def _fake(log_omega: Tensor, m: Tensor, n: Tensor, seed: Tensor, samples: int, largest_table: int) -> Tensor:
    return log_omega.new_empty((samples * log_omega.shape[0], log_omega.shape[1]))


register_vmap("mvhg_draw", fold(shared=(1, 2), samples=4, drawn=True))
