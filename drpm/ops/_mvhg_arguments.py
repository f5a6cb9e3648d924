"""Arguments that every MVHG op takes: log weights of K classes, their counts m, and the number n drawn."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from drpm._build_info import _C
from drpm.ops._arguments import (
    Counts,
    argument_error,
    as_dtype,
    as_shape,
    broadcast_batch,
    check_finite,
    check_floating,
    compute_dtype,
    counts_tensor,
    is_readable,
    plain_int,
    require,
    rows,
)
from drpm.ops._modes import is_plain_eager

CONDITIONALS = ("exact", "merged")


class MvhgArguments(NamedTuple):
    log_omega: Tensor  # (B, K) contiguous, float32 or float64
    m: Tensor  # (1, K) or (B, K)
    n: Tensor  # (1) or (B)
    batch: torch.Size
    classes: int
    largest_n: int  # a bound on n that needs no look at device memory; -1: none


class Law(NamedTuple):
    """The counts of a call as kernels take them: a tensor, or a number that stands for all classes and rows."""

    m: Tensor | None  # (1, K) or (B, K)
    n: Tensor | None  # (1) or (B)
    capacity: int  # items of every class where there is no m, else -1
    largest_n: int  # drawn by every row where there is no n, else a bound that needs no look at device memory; -1: none


def check_conditionals(op: str, conditionals: str) -> None:
    if conditionals not in CONDITIONALS:
        raise argument_error(op, "conditionals", "be 'exact' or 'merged'", repr(conditionals))


def check_weights(op: str, name: str, log_omega: Tensor) -> int:
    """The log weights of K classes, checked; K."""
    check_floating(op, name, log_omega)
    require(log_omega.dim() >= 1, op, name, "have at least one dimension (*, K)", "a scalar")
    classes = log_omega.shape[-1]
    if classes < 1:
        raise argument_error(op, name, "have at least one class", tuple(log_omega.shape))
    check_finite(op, name, log_omega)
    return classes


def law_of(
    op: str,
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
    classes: int,
    device: torch.device,
    shapes: dict[str, torch.Size],  # batch shapes to broadcast with, those of the weights first
) -> tuple[Law, torch.Size]:
    """The counts, checked, and the batch shape of all arguments. Two numbers stay numbers; counts that all rows share
    stay one row."""
    m, n = plain_int(m), plain_int(n)
    if type(m) is int and type(n) is int:
        require(m >= 0, op, "m", "be >= 0", m)
        require(n >= 0, op, "n", "be >= 0", n)
        if n > m * classes:
            raise argument_error(op, "n", "be <= the sum of m", f"{n} > {m * classes}")
    if _is_number(m) and _is_number(n):
        return Law(None, None, m, n), broadcast_batch(op, **shapes)  # type: ignore[arg-type]
    largest_n = n if _is_number(n) else m * classes if _is_number(m) else -1  # type: ignore[operator]
    m_t, n_t = counts_tensor(op, "m", m, device), counts_tensor(op, "n", n, device)
    if m_t.dim() == 0:
        m_t = m_t.expand(classes)
    if m_t.shape[-1] != classes:
        raise argument_error(op, "m", f"have {classes} classes in its last dimension", tuple(m_t.shape))
    if is_readable(m_t) and is_readable(n_t) and m_t.numel() and n_t.numel():
        check_draws(op, n_t, m_t)
    (first, weights), *others = shapes.items()
    batch = broadcast_batch(op, **{first: weights, "m": m_t.shape[:-1], "n": n_t.shape, **dict(others)})
    law = Law(
        m_t.reshape(1, classes).contiguous() if m_t.dim() == 1 else rows(m_t, batch, (classes,)),
        n_t.reshape(1) if n_t.dim() == 0 else rows(n_t, batch),
        -1,
        largest_n,  # type: ignore[arg-type]
    )
    return law, batch


def _is_number(x: object) -> bool:
    return isinstance(x, (int, torch.SymInt)) and not isinstance(x, bool)


def mvhg_arguments(
    op: str,
    log_omega: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
    *,
    others: dict[str, torch.Size] | None = None,  # further batch shapes to broadcast with
    name: str = "log_omega",
) -> MvhgArguments:
    """Checks and flattens; counts that all rows share stay one row."""
    classes = check_weights(op, name, log_omega)
    device = log_omega.device
    law, batch = law_of(op, m, n, classes, device, {name: log_omega.shape[:-1], **(others or {})})
    if law.m is None or law.n is None:
        of_m = torch.full((1, classes), law.capacity, dtype=torch.int64, device=device)
        of_n = torch.full((1,), law.largest_n, dtype=torch.int64, device=device)
    else:
        of_m, of_n = law.m, law.n
    flat = rows(as_dtype(log_omega, compute_dtype(log_omega)), batch, (classes,))
    return MvhgArguments(flat, of_m, of_n, batch, classes, law.largest_n)


def plain_arguments(m: Counts, n: Counts, *weights: Tensor) -> tuple[MvhgArguments, bool] | None:
    """The arguments of a call in which nothing is special: plain eager mode, int counts, `weights` (first log_omega,
    then what has its shape) matrices that `_C.plain_rows` lets pass. And whether one of them has a gradient. None for
    any other call, and for a wrong one."""
    if type(m) is not int or type(n) is not int or not is_plain_eager():
        return None
    found = _C.plain_rows(*weights)
    if found is None:
        return None
    _, classes, *others, needs_gradient = found
    if classes < 1 or n < 0 or n > m * classes or any(width != classes for width in others):
        return None
    log_omega = weights[0]
    of_m = torch.full((1, classes), m, dtype=torch.int64, device="cpu")
    of_n = torch.full((1,), n, dtype=torch.int64, device="cpu")
    return MvhgArguments(log_omega, of_m, of_n, log_omega.shape[:-1], classes, n), needs_gradient


def check_draws(op: str, n: Tensor, m: Tensor) -> None:
    if n.dim() == 0 and m.dim() == 1:
        total, drawn = int(m.sum()), int(n)
        require(drawn <= total, op, "n", "be <= the sum of m", f"{drawn} > {total}")
        return
    try:
        excess = n - m.sum(-1)
    except RuntimeError:  # shapes that do not broadcast are reported with all the others
        return
    require(int(excess.max()) <= 0, op, "n", "be <= the sum of m", f"{int(excess.max())} more")


def class_order_rows(
    op: str,
    class_order: Tensor,  # (*, K)
    batch: torch.Size,
    samples: int,
) -> Tensor:  # (1, K) or (samples * B, K)
    """A given order by row of the kernel; checked to be a permutation where it can be read."""
    classes = class_order.shape[-1]
    if is_readable(class_order) and class_order.numel():
        ordered = class_order.sort(-1).values
        if not torch.equal(ordered, torch.arange(classes, device="cpu").expand_as(ordered)):
            raise argument_error(op, "class_order", f"be a permutation of 0 … {classes - 1}", class_order.tolist())
    if class_order.dim() == 1:
        return class_order.reshape(1, classes).contiguous()
    flat = rows(class_order, batch, (classes,))
    return flat.expand(samples, *flat.shape).reshape(samples * flat.shape[0], classes).contiguous()


def as_class_order(op: str, class_order: object, classes: int, device: torch.device) -> Tensor:
    """A sequence or tensor of class indices as int64 on `device`."""
    order = counts_tensor(op, "class_order", class_order, device)  # type: ignore[arg-type]
    require(
        order.dim() >= 1 and order.shape[-1] == classes,
        op,
        "class_order",
        f"have {classes} classes in its last dimension",
        tuple(order.shape),
    )
    return order


def sample_count(op: str, sample_shape: object) -> tuple[tuple[int, ...], int]:
    """sample_shape as a tuple, and its product."""
    shape = as_shape(op, sample_shape)
    return shape, math.prod(shape)
