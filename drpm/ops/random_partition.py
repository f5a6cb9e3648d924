"""Two-stage random partitions: sizes from the MVHG, the order from Plackett-Luce, subsets filled in that order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from drpm.ops._arguments import (
    Counts,
    as_dtype,
    as_shape,
    broadcast_batch,
    check_finite,
    check_floating,
    check_same_device,
    compute_dtype,
    require,
)
from drpm.ops._lengths import SORT_SPACING, pad_scores, row_capacities, row_lengths
from drpm.ops._random import STREAM_ORDER, seed_tensor
from drpm.ops._tau import Tau, check_tau
from drpm.ops.gumbel_noise import gumbel_noise
from drpm.ops.mvhg_sample import sample_sizes
from drpm.ops.partition import partition_order_labels

_OP = "random_partition"


class Partition(NamedTuple):
    """What `random_partition` returns."""

    assignment: Tensor  # (..., K, n)
    sizes: Tensor  # (..., K)
    order: Tensor  # (..., n) int64, order[i] = element at position i
    labels: Tensor  # (..., n) int64, subset of each element


torch.serialization.add_safe_globals([Partition])  # torch.load(weights_only=True) takes it


def random_partition(
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n)
    tau: Tau = 1.0,
    *,
    m: Counts | None = None,  # int, (K,) or (*, K)
    hard: bool = True,
    noise: bool = True,
    conditionals: str = "exact",
    sample_shape: int | Sequence[int] = (),
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    lengths: Counts | None = None,  # int or (*)
) -> Partition:
    """Draw a partition of n elements into K ordered, possibly empty subsets.

        n ~ MVHG(m, n; ω),  π ~ PL(s),  y_k = Σ_{i=ν_{k−1}+1}^{ν_k} π_i              (Eq. 1, docs/math/partition.md)

    Args:
        log_omega: (*, K) float, log importance of the subsets; finite.
        log_scores: (*, n) float, Plackett-Luce log-scores; finite.
        tau: float > 0 (or a scalar CPU tensor), shared by sizes, order and boundaries.
        m: int, (K,) or (*, K) int64, items per class of the MVHG; None: n for every class.
        hard: exact partition with straight-through gradients; False: relaxed assignment and sizes, while order and
            labels are those of the hard partition on the same noise.
        noise: False: sizes by successive argmax, the order by sorting log_scores (ties by index).
        conditionals: "exact", or "merged" for the scheme of the thesis; see `mvhg_sample`.
        sample_shape: sizes of leading dimensions of independent samples.
        generator, seed: where the one seed of both kinds of noise comes from; at most one of the two.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are ignored and get zero
            gradients; their columns of the assignment are 0, their labels −1, and the
            order ends with them. Without m a row's capacities are its length.
    Returns: `Partition`, every field with leading dimensions sample_shape + (*).
    Gradient: w.r.t. log_omega (through the sizes) and log_scores (through the order); see `mvhg_sample`, `partition`.
    Numerics: as `mvhg_sample` and `partition`; O(n K) memory.
    Raises: ValueError for shapes that do not match, values that are not finite (CPU, eager), tau <= 0, seed together
        with generator, or either with noise=False; TypeError for wrong dtypes.
    Reference: T. Sutter, thesis, Section 5.2, Eq. 5.60; Sutter et al., Differentiable random partition models, 2023.
    """
    check_floating(_OP, "log_omega", log_omega)
    check_floating(_OP, "log_scores", log_scores)
    check_same_device(_OP, log_scores, log_omega=log_omega)
    require(log_omega.dim() >= 1 and log_omega.shape[-1] >= 1, _OP, "log_omega", "have a class", tuple(log_omega.shape))
    require(log_scores.dim() >= 1, _OP, "log_scores", "have an element dimension", "a scalar")
    tau = check_tau(_OP, tau)
    check_finite(_OP, "log_omega", log_omega)
    classes, n = log_omega.shape[-1], log_scores.shape[-1]
    mask = None
    drawn_n: Counts = n
    if lengths is None:
        check_finite(_OP, "log_scores", log_scores)
        batch = broadcast_batch(_OP, log_omega=log_omega.shape[:-1], log_scores=log_scores.shape[:-1])
    else:
        counts, mask = row_lengths(_OP, lengths, n, log_scores.device)
        shapes = {"log_omega": log_omega.shape[:-1], "log_scores": log_scores.shape[:-1], "lengths": counts.shape}
        batch = broadcast_batch(_OP, **shapes)
        drawn_n = counts
        m = row_capacities(counts, classes) if m is None else m
    sample_shape = as_shape(_OP, sample_shape)
    shape = (*sample_shape, *batch)
    drawn = seed_tensor(_OP, log_scores.device, noise=noise, generator=generator, seed=seed)

    # no views where the shapes are right already: each costs as much as a kernel at small sizes
    omega = log_omega if log_omega.shape[:-1] == batch else log_omega.expand(*batch, classes)

    def draw_sizes(hard: bool) -> Tensor:
        capacity = n if m is None else m
        drawn_seed = drawn if noise else None
        arguments = (omega, capacity, drawn_n, tau, hard, noise, conditionals, None, sample_shape, None, drawn_seed)
        return sample_sizes(*arguments, largest_n=n)

    sizes = draw_sizes(hard)
    scores = log_scores if log_scores.shape[:-1] == shape else log_scores.expand(*shape, n)
    if noise:
        dtype = compute_dtype(log_scores)
        count = 1
        for size in shape:
            count *= size
        gumbel = gumbel_noise(drawn, (count, 1, n), stream=STREAM_ORDER, dtype=dtype)
        scores = as_dtype(scores, dtype) + gumbel.reshape(*shape, n)
    if mask is not None:
        scores = pad_scores(as_dtype(scores, compute_dtype(log_scores)), mask, SORT_SPACING * tau)
    assignment, order, labels = partition_order_labels(scores, sizes, tau, hard=hard)
    if not hard:
        with torch.no_grad():
            _, order, labels = partition_order_labels(scores.detach(), draw_sizes(True), tau, hard=True)
    if mask is not None:
        assignment = torch.where(mask.unsqueeze(-2), assignment, 0.0)
        labels = torch.where(mask, labels, -1)
    return Partition(as_dtype(assignment, log_scores.dtype), sizes, order, labels)
