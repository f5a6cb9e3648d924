"""Subset sizes from the multivariate noncentral hypergeometric distribution, with a straight-through gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drpm._build_info import _C
from drpm.ops._arguments import Counts, argument_error, check_floating
from drpm.ops._derivatives import first_order
from drpm.ops._eager import differentiable
from drpm.ops._modes import wants_gradient
from drpm.ops._mvhg_arguments import (
    as_class_order,
    check_conditionals,
    class_order_rows,
    mvhg_arguments,
    sample_count,
)
from drpm.ops._random import STREAM_CLASS_ORDER, seed_tensor
from drpm.ops._tau import Tau, check_tau, with_either_tau
from drpm.ops._vmap import fold, register_vmap

_OP = "mvhg_sample"
_DRAWN = fold(shared=(1, 2, 4), by_sample=(4,), samples=6, drawn=True)


def mvhg_sample(
    log_omega: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
    tau: Tau = 1.0,
    *,
    hard: bool = True,
    noise: bool = True,
    conditionals: str = "exact",
    class_order: Sequence[int] | Tensor | str | None = None,  # (K,) or (*, K)
    sample_shape: int | Sequence[int] = (),
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
) -> Tensor:  # sample_shape + (*, K)
    """Draw subset sizes class by class.

        π_k = softmax((ℓ_k + g_k) / τ),  n_k = argmax(ℓ_k + g_k),  r_{k+1} = r_k − n_k,  r_1 = n      (Eq. 4)

    Args:
        log_omega: (*, K) float, natural-log weights of the classes; finite.
        m: int, (K,) or (*, K) int64, items per class; >= 0.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
        tau: float > 0 (or a scalar CPU tensor), temperature of the relaxation; it does not change the hard values.
        hard: whole numbers (straight-through). False: Σ_x x π_k(x), where the chain's counts r_k are those of the hard
            chain on the same noise; the last class gets n minus the others, which may leave [0, m_K].
        noise: False: no Gumbel noise, the successive argmax of the conditionals (not the joint mode); the smaller
            outcome wins ties.
        conditionals: "exact": n_k given the classes before it, by tables of the later classes' total: hard sizes follow
            the MVHG. "merged": the later classes count as one with their mean weight (thesis Eq. 5.2–5.5), which is
            biased unless all weights are equal.
        class_order: classes in the order they are drawn; "random": an independent order for every row. None: 0 … K−1.
        sample_shape: independent draws per batch row.
        generator, seed: where the noise comes from; default torch's own generator.
    Returns: sample_shape + (*, K), float64 for float64 weights, else float32; rows sum to n; a row of NaN where device
        counts are invalid.
    Gradient: w.r.t. log_omega, that of Σ_x x π_k(x), carried on through the remaining count; the same for
        hard and relaxed values. It is not the derivative of a function that finite differences see: the counts of the
        chain jump.
    Numerics: logits in float64 relative to the mode, rounded once. Outcomes that lie further below the mode than the
        noise can lift (25.7 nats in float32, 41.1 in float64) are skipped, for gradients and relaxed values τ·18
        (τ·38) more. Tested for log_omega within ±80 and tau 1e-4 … 1e3, counts to 1e5 (1e7 at tau <= 1).
    Memory: tables of 40 K w bytes a thread, w ~ √(cut · min(n, Σ m / 4)), with cut the nats above plus a margin.
        On a device counts in tensors are not read: where neither n nor m is an int, n above 2^20 gives a row of NaN.
    Raises: ValueError for values out of range (CPU, eager) and for tables of more than 4 GiB a thread or block (n from
        about 1e12 at K = 10), TypeError for wrong dtypes.
    Reference: T. Sutter, thesis, Algorithms 1–4, Eq. 5.1–5.5 and 5.18–5.25; docs/math/mvhg.md, section 5.
    """
    return sample_sizes(
        *(log_omega, m, n, tau, hard, noise, conditionals, class_order, sample_shape, generator, seed), largest_n=-1
    )


def sample_sizes(
    log_omega: Tensor,
    m: Counts,
    n: Counts,
    tau: Tau,
    hard: bool,
    noise: bool,
    conditionals: str,
    class_order: Sequence[int] | Tensor | str | None,
    sample_shape: int | Sequence[int],
    generator: torch.Generator | None,
    seed: int | Tensor | None,
    *,
    largest_n: int,
) -> Tensor:
    """`mvhg_sample` for a caller that knows a bound on n (-1: none) which the counts, in device memory, do not show."""
    check_floating(_OP, "log_omega", log_omega)
    check_conditionals(_OP, conditionals)
    tau = check_tau(_OP, tau)
    order = None
    if class_order is not None and not isinstance(class_order, str):
        order = as_class_order(_OP, class_order, log_omega.shape[-1], log_omega.device)
    elif class_order not in (None, "random"):
        raise argument_error(_OP, "class_order", "be indices, None or 'random'", repr(class_order))
    others = None if order is None else {"class_order": order.shape[:-1]}
    arguments = mvhg_arguments(_OP, log_omega, m, n, others=others)
    shape, samples = sample_count(_OP, sample_shape)
    device, classes = log_omega.device, arguments.classes
    drawn = seed_tensor(_OP, device, noise=noise, generator=generator, seed=seed)
    if order is not None:
        order = class_order_rows(_OP, order, arguments.batch, samples)
    elif class_order == "random":
        order = _random_orders(drawn, samples * arguments.log_omega.shape[0], classes)
    else:
        order = arguments.m.new_empty((0, classes))
    with_statistics = wants_gradient(log_omega)
    drawing = (arguments.log_omega, arguments.m, arguments.n, drawn, order, tau, samples, hard, noise, with_statistics)
    sizes: Tensor = (
        _exact(*drawing, arguments.largest_n if largest_n == -1 else largest_n)[0]
        if conditionals == "exact"
        else _merged(*drawing)[0]
    )
    return sizes.reshape(*shape, *arguments.batch, classes)


def _random_orders(seed: Tensor, count: int, classes: int) -> Tensor:  # (count, K)
    keys: Tensor = torch.ops.drpm.gumbel_noise(seed, STREAM_CLASS_ORDER, count, 1, classes, True)
    return keys.reshape(count, classes).argsort(-1)


@torch.library.register_fake("drpm::mvhg_sample_merged")
def _fake(
    log_omega: Tensor,
    m: Tensor,
    n: Tensor,
    seed: Tensor,
    class_order: Tensor,
    tau: float,
    samples: int,
    hard: bool,
    noise: bool,
    with_statistics: bool,
) -> tuple[Tensor, Tensor]:
    rows, classes = samples * log_omega.shape[0], log_omega.shape[1]
    sizes = log_omega.new_empty((rows, classes))
    return sizes, log_omega.new_empty((rows if with_statistics else 0, classes, 2), dtype=torch.float64)


@torch.library.register_fake("drpm::mvhg_sample_exact")
def _fake_exact(
    log_omega: Tensor,
    m: Tensor,
    n: Tensor,
    seed: Tensor,
    class_order: Tensor,
    tau: float,
    samples: int,
    hard: bool,
    noise: bool,
    with_statistics: bool,
    largest_n: int = -1,
) -> tuple[Tensor, Tensor]:
    rows, classes = samples * log_omega.shape[0], log_omega.shape[1]
    sizes = log_omega.new_empty((rows, classes))
    return sizes, log_omega.new_empty((rows if with_statistics else 0, classes, 3), dtype=torch.float64)


@torch.library.register_fake("drpm::mvhg_sample_exact_backward")
def _fake_exact_backward(
    grad: Tensor,
    log_omega: Tensor,
    m: Tensor,
    n: Tensor,
    seed: Tensor,
    class_order: Tensor,
    tau: float,
    samples: int,
    noise: bool,
    statistics: Tensor,
    largest_n: int = -1,
) -> Tensor:
    batch, classes = log_omega.shape
    groups = -(-samples // _C.samples_per_group)
    return log_omega.new_empty((batch, groups, classes), dtype=torch.float64)


def _setup_context_exact(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    log_omega, m, n, seed, class_order, tau, samples, _, noise, _, largest_n = inputs
    ctx.save_for_backward(log_omega, m, n, seed, class_order, output[1])
    ctx.tau, ctx.samples, ctx.noise, ctx.largest_n = tau, samples, noise, largest_n
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward_exact(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 10
    if grad is None:
        return (None, *nothing)
    log_omega, m, n, seed, class_order, statistics = ctx.saved_tensors
    by_group = _exact_backward(
        *(grad.contiguous(), log_omega, m, n, seed, class_order, ctx.tau, ctx.samples, ctx.noise, statistics),
        ctx.largest_n,
    )
    return (first_order(_OP, by_group.sum(1).to(log_omega.dtype), grad, log_omega), *nothing)


_exact = differentiable("mvhg_sample_exact", _backward_exact, _setup_context_exact, _DRAWN)
_exact_backward = with_either_tau("mvhg_sample_exact_backward")
register_vmap("mvhg_sample_exact_backward", fold(shared=(2, 3, 5), by_sample=(0, 5, 9)))


@torch.library.register_fake("drpm::mvhg_sample_merged_backward")
def _fake_backward(
    grad: Tensor, log_omega: Tensor, m: Tensor, n: Tensor, class_order: Tensor, statistics: Tensor
) -> Tensor:
    return torch.empty_like(grad)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    log_omega, m, n, _, class_order, _, samples, _, _, _ = inputs
    ctx.save_for_backward(log_omega, m, n, class_order, output[1])
    ctx.samples = samples
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 9
    if grad is None:
        return (None, *nothing)
    log_omega, m, n, class_order, statistics = ctx.saved_tensors
    by_row = torch.ops.drpm.mvhg_sample_merged_backward(grad.contiguous(), log_omega, m, n, class_order, statistics)
    if ctx.samples != 1:
        by_row = by_row.reshape(ctx.samples, *log_omega.shape).sum(0)
    return (first_order(_OP, by_row, grad, log_omega), *nothing)


_merged = differentiable("mvhg_sample_merged", _backward, _setup_context, _DRAWN)
register_vmap("mvhg_sample_merged_backward", fold(shared=(2, 3, 4), by_sample=(0, 4, 5), drawn=True))
