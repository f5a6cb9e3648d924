"""Two-stage random partitions: sizes from the MVHG, the order from Plackett-Luce, subsets filled in that order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drpm._build_info import _C
from drpm.ops._arguments import (
    Counts,
    as_dtype,
    check_finite,
    check_floating,
    check_same_device,
    compute_dtype,
    require,
    rows,
)
from drpm.ops._derivatives import first_order, second_order
from drpm.ops._eager import below_autograd, differentiable
from drpm.ops._lengths import SORT_SPACING, pad_scores, row_capacities, row_counts
from drpm.ops._modes import backward_is_recorded, is_plain_eager, wants_gradient
from drpm.ops._mvhg_arguments import (
    CONDITIONALS,
    are_plain,
    check_conditionals,
    check_weights,
    law_of,
    sample_count,
    sizes_dtype,
)
from drpm.ops._random import CPU, STREAM_ORDER, seed_of_noise
from drpm.ops._tau import Tau, check_tau
from drpm.ops._vmap import fold, register_vmap
from drpm.ops.mvhg_sample import sizes_exact, sizes_merged
from drpm.ops.partition import partition_gradient

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
        log_omega: (*, K) float, log importance of the subsets. −inf: always empty.
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
    if lengths is None and type(sample_shape) is tuple and not sample_shape and is_plain_eager():
        drawn = _plain_call(log_omega, log_scores, tau, m, hard, noise, conditionals, generator, seed)
        if drawn is not None:
            return drawn
    classes, with_zeros = check_weights(_OP, "log_omega", log_omega)
    check_floating(_OP, "log_scores", log_scores)
    check_same_device(_OP, log_scores, log_omega=log_omega)
    require(log_scores.dim() >= 1, _OP, "log_scores", "have an element dimension", "a scalar")
    check_conditionals(_OP, conditionals)
    tau = check_tau(_OP, tau)
    device, n = log_scores.device, log_scores.shape[-1]
    shapes = {"log_omega": log_omega.shape[:-1], "log_scores": log_scores.shape[:-1]}
    drawn_n: Counts = n
    if lengths is None:
        check_finite(_OP, "log_scores", log_scores)
    else:
        drawn_n = row_counts(_OP, lengths, n, device)
        m = row_capacities(drawn_n, classes) if m is None else m
    capacity = n if m is None else m
    law, batch = law_of(_OP, capacity, drawn_n, classes, device, shapes, with_zeros)
    shape, samples = sample_count(_OP, sample_shape)
    seed = seed_of_noise(_OP, device, noise=noise, generator=generator, seed=seed)
    assignment, *others, _ = _kernel(
        rows(as_dtype(log_omega, sizes_dtype(log_omega, capacity, drawn_n)), batch, (classes,)),
        rows(as_dtype(log_scores, compute_dtype(log_scores)), batch, (n,)),
        law.m,
        None if lengths is None else rows(drawn_n, batch),  # type: ignore[arg-type]
        seed,
        tau,
        samples,
        hard,
        conditionals == "exact",
        wants_gradient(log_omega),
        law.capacity,
    )
    fields = [as_dtype(assignment, log_scores.dtype), *others]
    if shape or len(batch) != 1:
        fields = [x.reshape(*shape, *batch, *x.shape[1:]) for x in fields]
    return Partition(*fields)


def _plain_call(
    log_omega: Tensor,
    log_scores: Tensor,
    tau: Tau,
    m: Counts | None,
    hard: bool,
    noise: bool,
    conditionals: str,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
) -> Partition | None:
    """The call of a training step, with as little Python around the kernel as there can be; None where anything is
    special, or wrong."""
    found = _C.plain_rows(log_omega, log_scores)
    if found is None or conditionals not in CONDITIONALS or type(tau) is not float or not 0.0 < tau < math.inf:
        return None
    _, classes, n, needs_gradient = found
    capacity = n if m is None else m
    if type(capacity) is not int or classes < 1 or not are_plain(capacity, n, classes):
        return None
    drawn = seed_of_noise(_OP, CPU, noise=noise, generator=generator, seed=seed)
    statistics = needs_gradient and log_omega.requires_grad and torch.is_grad_enabled()
    arguments = (log_omega, log_scores, None, None, drawn, tau, 1, hard, conditionals == "exact", statistics, capacity)
    return Partition._make(_kernel.plain(needs_gradient, arguments)[:4])


@torch.library.register_fake("drpm::random_partition")
def _fake(
    log_omega: Tensor,
    log_scores: Tensor,
    m: Tensor | None,
    lengths: Tensor | None,
    seed: Tensor | None,
    tau: float,
    samples: int,
    hard: bool,
    exact: bool,
    with_statistics: bool,
    capacity: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    (batch, n), classes = log_scores.shape, log_omega.shape[1]
    count, columns = samples * batch, 3 if exact else 2
    order = log_scores.new_empty((count, n), dtype=torch.int64)
    statistics = log_omega.new_empty((count if with_statistics else 0, classes, columns), dtype=torch.float64)
    assignment = log_scores.new_empty((count, classes, n), dtype=compute_dtype(log_omega, log_scores))
    return assignment, log_omega.new_empty((count, classes)), order, torch.empty_like(order), statistics


@torch.library.register_fake("drpm::random_partition_backward")
def _fake_backward(
    grad_assignment: Tensor | None, grad_sizes: Tensor | None, log_omega: Tensor, log_scores: Tensor, *_: Any
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(log_omega), torch.empty_like(log_scores)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    log_omega, log_scores, m, lengths, seed, tau, samples, hard, exact, _, capacity = inputs
    _, sizes, order, labels, statistics = output
    ctx.save_for_backward(log_omega, log_scores, m, lengths, seed, sizes, order, statistics)
    ctx.options = (tau, samples, hard, exact, capacity)
    ctx.mark_non_differentiable(order, labels, statistics)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_assignment: Tensor | None, grad_sizes: Tensor | None, *_: Any) -> tuple[Any, ...]:
    saved, options = ctx.saved_tensors, ctx.options
    with_omega, with_scores, *_ = ctx.needs_input_grad
    if grad_assignment is not None:
        grad_assignment = grad_assignment.contiguous()
    elif grad_sizes is None:
        return (None,) * 11
    if grad_sizes is not None:
        grad_sizes = grad_sizes.contiguous()
    of_omega, of_scores = _backward_kernel(grad_assignment, grad_sizes, *saved, *options[:4], with_omega, options[4])
    if backward_is_recorded():
        of_omega, of_scores = _recorded(of_omega.detach(), of_scores.detach(), grad_assignment, grad_sizes, ctx)
    nothing = (None, None, None, None, None, None, None, None, None)
    return (of_omega if with_omega else None, of_scores if with_scores else None, *nothing)


def _recorded(
    of_omega: Tensor, of_scores: Tensor, grad_assignment: Tensor | None, grad_sizes: Tensor | None, ctx: Any
) -> tuple[Tensor, Tensor]:
    """The gradients, as they should be returned where they may be differentiated themselves."""
    log_omega, log_scores, m, lengths, seed, _, order, _ = ctx.saved_tensors
    with_omega, with_scores, *_ = ctx.needs_input_grad
    tau, samples, hard, exact, capacity = ctx.options
    if grad_assignment is not None and with_scores and hard:
        of_scores = first_order("partition (hard)", of_scores, grad_assignment, log_omega, log_scores)
    elif grad_assignment is not None and with_scores:
        formula = _scores_gradient(m, lengths, seed, order, tau, samples, exact, capacity)
        of_scores = second_order(formula, of_scores, grad_assignment, log_omega, log_scores)
    if with_omega:
        grads = [g for g in (grad_assignment, grad_sizes) if g is not None]
        of_omega = first_order("mvhg_sample", of_omega, *grads, log_omega, log_scores)
    return of_omega, of_scores


def _scores_gradient(
    m: Tensor | None,
    lengths: Tensor | None,
    seed: Tensor | None,
    order: Tensor,
    tau: Any,
    samples: int,
    exact: bool,
    capacity: int,
) -> Callable[..., Tensor]:
    """The gradient of relaxed values w.r.t. the log-scores, out of ops that have derivatives themselves."""

    def formula(grad: Tensor, log_omega: Tensor, log_scores: Tensor) -> Tensor:
        batch, n = log_scores.shape
        draw = sizes_exact if exact else sizes_merged
        sizes = draw(log_omega, m, lengths, seed, None, tau, samples, False, True, capacity, n)[0]
        scores = log_scores.expand(samples, batch, n).reshape(samples * batch, n)
        if seed is not None:  # the gradient does not see what shifts a row
            scores = scores + _order_noise(seed, samples, log_scores)
        if lengths is not None:
            mask = torch.arange(n, device=order.device) < lengths.unsqueeze(-1)
            mask = mask.expand(samples, batch, n).reshape(samples * batch, n)
            scores, grad = pad_scores(scores, mask, SORT_SPACING * tau), torch.where(mask.unsqueeze(1), grad, 0.0)
        dtype = compute_dtype(log_omega, log_scores)
        moved = (as_dtype(scores, dtype), as_dtype(sizes, dtype))
        by_row: Tensor = partition_gradient(grad, *moved, order, tau, False, 0.5)[0]
        if lengths is not None:
            by_row = torch.where(mask, by_row, 0.0)
        return as_dtype(by_row.reshape(samples, batch, n).sum(0), log_scores.dtype)

    return formula


def _order_noise(seed: Tensor, samples: int, log_scores: Tensor) -> Tensor:  # (samples * B, n)
    """Each of the seeds stands for a call of its own, with equally many of the B rows."""
    batch, n = log_scores.shape
    noise = torch.ops.drpm.gumbel_noise(seed, STREAM_ORDER, samples * batch, 1, n, log_scores.dtype == torch.float64)
    by_seed: Tensor = noise.reshape(seed.shape[0], samples, batch // seed.shape[0], n)
    return by_seed.movedim(0, 1).reshape(samples * batch, n)


_kernel = differentiable("random_partition", _backward, _setup_context, fold(shared=(2, 3), samples=6, drawn=True))
_backward_kernel = below_autograd("random_partition_backward")
register_vmap("random_partition_backward", fold(shared=(4, 5), by_sample=(0, 1, 7, 8, 9), samples=11))
