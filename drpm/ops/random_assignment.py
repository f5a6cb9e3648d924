"""Random partitions by a matrix of scores: sizes from the MVHG, every subset filled by a row of scores of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drpm.ops._arguments import (
    Counts,
    as_dtype,
    as_shape,
    broadcast_batch,
    check_log_weights,
    compute_dtype,
    counts_tensor,
)
from drpm.ops._derivatives import first_order
from drpm.ops._eager import differentiable
from drpm.ops._lengths import SORT_SPACING, pad_scores, row_capacities, row_lengths
from drpm.ops._random import STREAM_ASSIGNMENT, seed_tensor
from drpm.ops._tau import Tau, check_tau, with_either_tau
from drpm.ops._vmap import fold, register_vmap
from drpm.ops.assignment_log_prob import check_matrix_finite
from drpm.ops.gumbel_noise import gumbel_noise
from drpm.ops.mvhg_sample import sample_sizes
from drpm.ops.partition import partition_order_labels
from drpm.ops.random_assignment_log_prob import check_matrix_of
from drpm.ops.random_partition import Partition

_OP = "random_assignment"
_NOISE_SPAN = 42.0  # Gumbel variates of float64 lie in an interval of this length


def random_assignment(
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, K, n)
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
    """Draw a partition of n elements into K ordered, possibly empty subsets, by a row of scores for each.

        n ~ MVHG(m, n; ω),  S_k = the first n_k of a Plackett-Luce order by row k of what S_1, …, S_{k−1} leave
                                                                                        (Eq. 1, docs/math/assignment.md)

    Equal rows give the law of `random_partition`.

    Args:
        log_omega: (*, K) float, log importance of the subsets. −inf: always empty.
        log_scores: (*, K, n) float, log-score of each element for each subset; finite. The last subset takes what
            remains: the last row orders it and has no other effect, whatever it holds.
        tau: float > 0 (or a scalar CPU tensor), shared by sizes, orders and boundaries.
        m: int, (K,) or (*, K) int64, items per class of the MVHG; None: n for every class.
        hard: exact partition with straight-through gradients; False: relaxed assignment and sizes, while order and
            labels are those of the hard draw on the same noise.
        noise: False: sizes by successive argmax, every subset the elements of largest log-score (ties by index).
        conditionals: "exact", or "merged" for the scheme of the thesis; see `mvhg_sample`.
        sample_shape: sizes of leading dimensions of independent samples.
        generator, seed: where the one seed of both kinds of noise comes from; at most one of the two.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are ignored and get zero
            gradients; their columns of the assignment are 0, their labels −1, and the order ends with them. Without m a
            row's capacities are its length.
    Returns: `Partition`, every field with leading dimensions sample_shape + (*); order: the subsets in turn, each by
        decreasing perturbed score of its own row. Columns of the assignment sum to one, relaxed ones too.
    Gradient: w.r.t. log_omega (through the sizes) and log_scores (through each choice, Eq. 6–9); none of log_scores'
        last row. Of first order where hard.
    Numerics: as `mvhg_sample` and `partition`; O(n K) memory. A hard draw selects, it does not sort all.
    Raises: ValueError for shapes that do not match, values that are not finite (CPU, eager), tau <= 0, seed together
        with generator, or either with noise=False; TypeError for wrong dtypes.
    Reference: docs/math/assignment.md; equal rows: T. Sutter, thesis, Section 5.2, Eq. 5.60.
    """
    check_matrix_of(_OP, log_omega, log_scores)
    tau = check_tau(_OP, tau)
    check_log_weights(_OP, "log_omega", log_omega)
    num_subsets, n = log_scores.shape[-2:]
    mask = None
    drawn_n: Counts = n
    shapes = {"log_omega": log_omega.shape[:-1], "log_scores": log_scores.shape[:-2]}
    scores = as_dtype(log_scores, compute_dtype(log_scores))
    if m is not None and not isinstance(m, int):
        m = counts_tensor(_OP, "m", m, log_scores.device)
        shapes["m"] = m.shape[:-1]
    if lengths is not None:
        drawn_n, mask = row_lengths(_OP, lengths, n, log_scores.device)
        shapes["lengths"] = drawn_n.shape
        m = row_capacities(drawn_n, num_subsets) if m is None else m
        broadcast_batch(_OP, **shapes)
        last = torch.arange(num_subsets, device=scores.device).unsqueeze(-1) + 1 == num_subsets
        scores = torch.where(last & ~torch.isfinite(scores), 0.0, scores)  # those that do not count go below them
        scores = pad_scores(scores, mask.unsqueeze(-2), SORT_SPACING * tau + _NOISE_SPAN)
    check_matrix_finite(_OP, scores)
    batch = broadcast_batch(_OP, **shapes)
    shape = (*as_shape(_OP, sample_shape), *batch)
    drawn = seed_tensor(_OP, log_scores.device, noise=noise, generator=generator, seed=seed)
    omega = log_omega if log_omega.shape[:-1] == batch else log_omega.expand(*batch, num_subsets)

    def draw_sizes(hard: bool) -> Tensor:
        capacity = n if m is None else m
        drawn_seed = drawn if noise else None
        arguments = (omega, capacity, drawn_n, tau, hard, noise, conditionals, None, shape[: len(shape) - len(batch)])
        return sample_sizes(*arguments, None, drawn_seed, largest_n=n)

    sizes = draw_sizes(hard)
    count = math.prod(shape)
    flat = scores.expand(*shape, num_subsets, n).reshape(count, num_subsets, n).contiguous()
    flat_sizes = as_dtype(sizes, flat.dtype).reshape(count, num_subsets)
    if hard:
        assignment, order, labels = _kernel(flat, flat_sizes, drawn, tau, noise)
    else:
        with torch.no_grad():
            whole = as_dtype(draw_sizes(True), flat.dtype).reshape(count, num_subsets)
            _, order, labels = _kernel(flat, whole, drawn, tau, noise)
        if noise:
            shape_of_noise = (count, num_subsets, n)
            largest = flat.detach().amax(-1, keepdim=True) if n else 0.0  # noise counts whatever the magnitude
            flat = (flat - largest) + gumbel_noise(drawn, shape_of_noise, stream=STREAM_ASSIGNMENT, dtype=flat.dtype)
        assignment = assignment_chain(flat, labels, flat_sizes, tau, hard=False)
    assignment = assignment.reshape(*shape, num_subsets, n)
    order, labels = order.reshape(*shape, n), labels.reshape(*shape, n)
    if mask is not None:
        assignment = torch.where(mask.unsqueeze(-2), assignment, 0.0)
        labels = torch.where(mask, labels, -1)
    return Partition(as_dtype(assignment, log_scores.dtype), sizes, order, labels)


def assignment_chain(
    noisy: Tensor,  # (B, K, n)
    labels: Tensor,  # (B, n)
    sizes: Tensor,  # (B, K)
    tau: Tau,
    *,
    hard: bool,
) -> Tensor:  # (B, K, n)
    """Planes of the hard chain that the labels stand for, differentiable in scores and sizes.

    y_k = ρ_k u_k, ρ_{k+1} = ρ_k (1 − u_k), y_K = ρ_K                               (Eq. 6–8, docs/math/assignment.md)
    """
    num_subsets, n = noisy.shape[-2:]
    # scores that are not finite make all planes NaN, whatever remains when their turn comes
    finite = noisy.detach()[:, :-1].isfinite().all(-1).all(-1, keepdim=True)  # (B, 1)
    poison = torch.where(finite, 0.0, torch.nan).to(noisy.dtype)
    rest = torch.ones_like(noisy[:, 0]) + poison
    planes = []
    for k in range(num_subsets - 1):
        row, here, remains = noisy[:, k], labels == k, labels >= k
        least = torch.where(here, row.detach(), torch.inf).amin(-1, keepdim=True) if n else row.detach()
        elsewhere = as_dtype(row.detach() > least, rest.dtype)  # would it be taken here, were it still here?
        scores = pad_scores(row, remains, SORT_SPACING * tau) + poison

        def first_plane(size: Tensor, scores: Tensor = scores, remains: Tensor = remains) -> Tensor:
            both = torch.stack([size, n - size], dim=-1)
            plane, _, _ = partition_order_labels(scores, as_dtype(both, scores.dtype), tau, hard=hard)
            return plane[:, 0] if hard else plane[:, 0] / plane.sum(-2)

        if hard:
            fixed = torch.where(remains, as_dtype(here, rest.dtype), elsewhere)
        else:
            with torch.no_grad():
                fixed = torch.where(remains, first_plane(sizes[:, k].detach()), elsewhere)
        size = sizes[:, k] - ((rest - rest.detach()) * fixed).sum(-1)
        u = torch.where(remains, first_plane(size), elsewhere)
        planes.append(rest * u)
        rest = rest * (1 - u)
    return torch.stack([*planes, rest], dim=-2)


@torch.library.register_fake("drpm::random_assignment")
def _fake(log_scores: Tensor, sizes: Tensor, seed: Tensor, tau: float, noise: bool) -> tuple[Tensor, Tensor, Tensor]:
    count, _, n = log_scores.shape
    order = log_scores.new_empty((count, n), dtype=torch.int64)
    return torch.empty_like(log_scores), order, torch.empty_like(order)


@torch.library.register_fake("drpm::random_assignment_backward")
def _fake_backward(
    grad: Tensor, log_scores: Tensor, sizes: Tensor, labels: Tensor, seed: Tensor, tau: float, noise: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(log_scores), torch.empty_like(sizes)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    log_scores, sizes, seed, ctx.tau, ctx.noise = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.save_for_backward(log_scores, sizes, seed, output[2])


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    log_scores, sizes, seed, labels = ctx.saved_tensors
    grads = _backward_kernel(grad.contiguous(), log_scores, sizes, labels, seed, ctx.tau, ctx.noise)
    return *(first_order(f"{_OP} (hard)", x, grad, log_scores, sizes) for x in grads), None, None, None


_kernel = differentiable("random_assignment", _backward, _setup_context)
_backward_kernel = with_either_tau("random_assignment_backward")
register_vmap("random_assignment_backward", fold())
