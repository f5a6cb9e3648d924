"""Subset sizes from the multivariate noncentral hypergeometric distribution, with a straight-through gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from drpm._build_info import _C
from drpm.ops._arguments import Counts, argument_error, as_dtype, is_readable, rows
from drpm.ops._derivatives import first_order
from drpm.ops._eager import below_autograd, differentiable
from drpm.ops._limits import LARGEST_N
from drpm.ops._modes import is_plain_eager, wants_gradient
from drpm.ops._mvhg_arguments import (
    CONDITIONALS,
    are_plain,
    as_class_order,
    check_conditionals,
    check_weights,
    class_order_rows,
    law_of,
    sample_count,
    sizes_dtype,
)
from drpm.ops._random import CPU, STREAM_CLASS_ORDER, seed_of_noise
from drpm.ops._tau import Tau, check_tau
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
        log_omega: (*, K) float, natural-log weights of the classes. −inf: never drawn, as if m_k = 0.
        m: int, (K,) or (*, K) int64, items per class; 0 … 2^53.
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
    Returns: sample_shape + (*, K), float64 for float64 weights or where m and n as Python numbers allow sizes above
        2^24, else float32; rows sum to n; a row of NaN where device counts are invalid. Counts in tensors keep float32,
        which rounds sizes above 2^24.
    Gradient: w.r.t. log_omega, that of Σ_x x π_k(x), carried on through the remaining count; the same for
        hard and relaxed values. It is not the derivative of a function that finite differences see: the counts of the
        chain jump.
    Numerics: logits in float64 relative to the mode, rounded once. Outcomes that lie further below the mode than the
        noise can lift (25.7 nats in float32, 41.1 in float64) are skipped, for gradients and relaxed values τ·18
        (τ·38) more. Tested for log_omega within ±80 and tau 1e-4 … 1e3. n up to 2^30 (merged: 2^40), m_k up to 2^53.
    Memory: tables of 40 K w bytes a thread, w ~ √(cut · min(n, Σ m / 4)), with cut the nats above plus a margin; time
        K w². Merged: 16 w bytes, time K w.
        On a device counts in tensors are not read: where neither n nor m is an int, n above 2^20 gives a row of NaN.
    Raises: ValueError for values out of range (CPU, eager) and for tables of more than 4 GiB a thread or block,
        TypeError for wrong dtypes.
    Reference: T. Sutter, thesis, Algorithms 1–4, Eq. 5.1–5.5 and 5.18–5.25; docs/math/mvhg.md, section 5.
    """
    if class_order is None and type(sample_shape) is tuple and not sample_shape and is_plain_eager():
        drawn_sizes = _plain_call(log_omega, m, n, tau, hard, noise, conditionals, generator, seed)
        if drawn_sizes is not None:
            return drawn_sizes
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
    check_conditionals(_OP, conditionals)
    tau = check_tau(_OP, tau)
    (classes, with_zeros), device = check_weights(_OP, "log_omega", log_omega), log_omega.device
    shapes = {"log_omega": log_omega.shape[:-1]}
    order = None
    if class_order is not None and not isinstance(class_order, str):
        order = as_class_order(_OP, class_order, classes, device)
        shapes["class_order"] = order.shape[:-1]
    elif class_order not in (None, "random"):
        raise argument_error(_OP, "class_order", "be indices, None or 'random'", repr(class_order))
    law, batch = law_of(_OP, m, n, classes, device, shapes, with_zeros)
    _check_n(n, conditionals)
    shape, samples = sample_count(_OP, sample_shape)
    drawn = seed_of_noise(_OP, device, noise=noise, generator=generator, seed=seed)
    flat = rows(as_dtype(log_omega, sizes_dtype(log_omega, m, n)), batch, (classes,))
    if order is not None:
        order = class_order_rows(_OP, order, batch, samples)
    elif class_order == "random":
        order = _random_orders(drawn, samples * flat.shape[0], classes, device)
    draw = sizes_exact if conditionals == "exact" else sizes_merged
    arguments = (flat, law.m, law.n, drawn, order, tau, samples, hard, wants_gradient(log_omega))
    bound = law.largest_n if largest_n == -1 or law.n is None else largest_n
    sizes: Tensor = draw(*arguments, law.capacity, bound)[0]
    return sizes if len(batch) == 1 and not shape else sizes.reshape(*shape, *batch, classes)


def _check_n(n: Counts, conditionals: str) -> None:
    """That its tables, or its noise, take a bearable time."""
    if isinstance(n, Tensor):
        largest = int(n.max()) if is_readable(n) and n.numel() else 0
    elif isinstance(n, torch.SymInt):
        return
    else:
        largest = n if isinstance(n, int) else max(n, default=0)
    limit = LARGEST_N[conditionals]
    if largest > limit:
        contract = f"be <= 2^{limit.bit_length() - 1} with {conditionals} conditionals (mvhg_draw has no such limit)"
        raise argument_error(_OP, "n", contract, largest)


def _plain_call(
    log_omega: Tensor,
    m: Counts,
    n: Counts,
    tau: Tau,
    hard: bool,
    noise: bool,
    conditionals: str,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
) -> Tensor | None:
    """The call of a training step, with as little Python around the kernel as there can be; None where anything is
    special, or wrong."""
    found = _C.plain_rows(log_omega)
    if found is None or conditionals not in CONDITIONALS or type(tau) is not float or not 0.0 < tau < math.inf:
        return None
    _, classes, needs_gradient = found
    if type(m) is not int or type(n) is not int or classes < 1 or not are_plain(m, n, classes):
        return None
    drawn = seed_of_noise(_OP, CPU, noise=noise, generator=generator, seed=seed)
    draw = sizes_exact if conditionals == "exact" else sizes_merged
    statistics = needs_gradient and torch.is_grad_enabled()
    arguments = (log_omega, None, None, drawn, None, tau, 1, hard, statistics, m, n)
    sizes: Tensor = draw.plain(needs_gradient, arguments)[0]
    return sizes


def _random_orders(seed: Tensor | None, count: int, classes: int, device: torch.device) -> Tensor:  # (count, K)
    if seed is None:
        seed = torch.zeros(1, dtype=torch.int64, device=device)
    keys: Tensor = torch.ops.drpm.gumbel_noise(seed, STREAM_CLASS_ORDER, count, 1, classes, True)
    return keys.reshape(count, classes).argsort(-1)


def _fake_sample(columns: int) -> Callable[..., tuple[Tensor, Tensor]]:
    def fake(
        log_omega: Tensor,
        m: Tensor | None,
        n: Tensor | None,
        seed: Tensor | None,
        class_order: Tensor | None,
        tau: float,
        samples: int,
        hard: bool,
        with_statistics: bool,
        capacity: int = -1,
        largest_n: int = -1,
    ) -> tuple[Tensor, Tensor]:
        rows, classes = samples * log_omega.shape[0], log_omega.shape[1]
        kept = rows if with_statistics else 0
        return log_omega.new_empty((rows, classes)), log_omega.new_empty((kept, classes, columns), dtype=torch.float64)

    return fake


torch.library.register_fake("drpm::mvhg_sample_exact", _fake_sample(3))
torch.library.register_fake("drpm::mvhg_sample_merged", _fake_sample(2))


@torch.library.register_fake("drpm::mvhg_sample_exact_backward")
def _fake_exact_backward(grad: Tensor, log_omega: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(log_omega)


@torch.library.register_fake("drpm::mvhg_sample_merged_backward")
def _fake_merged_backward(grad: Tensor, log_omega: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(log_omega)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    log_omega, m, n, seed, class_order, ctx.tau, ctx.samples, _, _, *ctx.numbers = inputs
    ctx.save_for_backward(log_omega, m, n, seed, class_order, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward_exact(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 10
    if grad is None:
        return (None, *nothing)
    *law, statistics = ctx.saved_tensors
    of_omega = _exact_backward(grad.contiguous(), *law, ctx.tau, ctx.samples, statistics, *ctx.numbers)
    return (first_order(_OP, of_omega, grad, law[0]), *nothing)


def _backward_merged(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 10
    if grad is None:
        return (None, *nothing)
    log_omega, m, n, _, class_order, statistics = ctx.saved_tensors
    arguments = (grad.contiguous(), log_omega, m, n, class_order, statistics, *ctx.numbers)
    return (first_order(_OP, _merged_backward(*arguments), grad, log_omega), *nothing)


# Schemas in csrc/library.cpp: (B, K) weights to (samples B, K) sizes, samples slowest, and what the backward needs.
sizes_exact = differentiable("mvhg_sample_exact", _backward_exact, _setup_context, _DRAWN)
sizes_merged = differentiable("mvhg_sample_merged", _backward_merged, _setup_context, _DRAWN)
_merged_backward = below_autograd("mvhg_sample_merged_backward")
_exact_backward = below_autograd("mvhg_sample_exact_backward")
register_vmap("mvhg_sample_exact_backward", fold(shared=(2, 3, 5), by_sample=(0, 5, 8), samples=7))
register_vmap("mvhg_sample_merged_backward", fold(shared=(2, 3, 4), by_sample=(0, 4, 5)))
