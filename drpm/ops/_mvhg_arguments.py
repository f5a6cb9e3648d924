"""Arguments that every MVHG op takes: log weights of K classes, their counts m, and the number n drawn."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

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

CONDITIONALS = ("exact", "merged")


class MvhgArguments(NamedTuple):
    log_omega: Tensor  # (B, K) contiguous, float32 or float64
    m: Tensor  # (1, K) or (B, K)
    n: Tensor  # (1) or (B)
    batch: torch.Size
    classes: int
    largest_n: int  # a bound on n that needs no look at device memory; -1: none


def check_conditionals(op: str, conditionals: str) -> None:
    if conditionals not in CONDITIONALS:
        raise argument_error(op, "conditionals", "be 'exact' or 'merged'", repr(conditionals))


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
    check_floating(op, name, log_omega)
    require(log_omega.dim() >= 1, op, name, "have at least one dimension (*, K)", "a scalar")
    classes = log_omega.shape[-1]
    require(classes >= 1, op, name, "have at least one class", tuple(log_omega.shape))
    check_finite(op, name, log_omega)
    device = log_omega.device
    batch = log_omega.shape[:-1]
    m, n = plain_int(m), plain_int(n)
    same = not others or all(shape == batch for shape in others.values())
    if type(m) is int and type(n) is int and len(batch) == 1 and same:  # the common case: fewer tensor ops
        require(m >= 0, op, "m", "be >= 0", m)
        require(n >= 0, op, "n", "be >= 0", n)
        if n > m * classes:
            raise argument_error(op, "n", "be <= the sum of m", f"{n} > {m * classes}")
        return MvhgArguments(
            as_dtype(log_omega, compute_dtype(log_omega)).contiguous(),
            torch.full((1, classes), m, dtype=torch.int64, device=device),
            torch.full((1,), n, dtype=torch.int64, device=device),
            batch,
            classes,
            n,
        )
    whole = (int, torch.SymInt)
    largest_n = n if isinstance(n, whole) else m * classes if isinstance(m, whole) else -1
    m_t, n_t = counts_tensor(op, "m", m, device), counts_tensor(op, "n", n, device)
    if m_t.dim() == 0:
        m_t = m_t.expand(classes)
    if m_t.shape[-1] != classes:
        raise argument_error(op, "m", f"have {classes} classes in its last dimension", tuple(m_t.shape))
    if is_readable(m_t) and is_readable(n_t) and m_t.numel() and n_t.numel():
        check_draws(op, n_t, m_t)
    if m_t.dim() > 1 or n_t.dim() or others:
        shapes = {name: batch, "m": m_t.shape[:-1], "n": n_t.shape, **(others or {})}
        batch = broadcast_batch(op, **shapes)
    return MvhgArguments(
        rows(as_dtype(log_omega, compute_dtype(log_omega)), batch, (classes,)),
        m_t.reshape(1, classes).contiguous() if m_t.dim() == 1 else rows(m_t, batch, (classes,)),
        n_t.reshape(1) if n_t.dim() == 0 else rows(n_t, batch),
        batch,
        classes,
        largest_n,
    )


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
