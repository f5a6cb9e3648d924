"""Arguments that every MVHG op takes: log weights of K classes, their counts m, and the number n drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    check_count,
    check_floating,
    check_log_weights,
    compute_dtype,
    counts_tensor,
    is_readable,
    plain_int,
    require,
    rows,
)
from drpm.ops._limits import LARGEST_COUNT, LARGEST_FLOAT32, LARGEST_TOTAL
from drpm.ops._modes import is_plain_eager

CONDITIONALS = ("exact", "merged")
POSSIBLE = "be <= the sum of m over the classes of weight above zero"


class MvhgArguments(NamedTuple):
    log_omega: Tensor  # (B, K) contiguous, float32 or float64; -inf: a class of weight zero
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


def check_weights(op: str, name: str, log_omega: Tensor) -> tuple[int, Tensor | None]:
    """The log weights of K classes, checked. K, and the weights where some are known to be zero."""
    check_floating(op, name, log_omega)
    require(log_omega.dim() >= 1, op, name, "have at least one dimension (*, K)", "a scalar")
    classes = log_omega.shape[-1]
    if classes < 1:
        raise argument_error(op, name, "have at least one class", tuple(log_omega.shape))
    return classes, log_omega.detach() if check_log_weights(op, name, log_omega) else None


def law_of(
    op: str,
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
    classes: int,
    device: torch.device,
    shapes: dict[str, torch.Size],  # batch shapes to broadcast with, those of the weights first
    with_zeros: Tensor | None = None,  # log weights some of which are known to be -inf
) -> tuple[Law, torch.Size]:
    """The counts, checked, and the batch shape of all arguments. Two numbers stay numbers; counts that all rows share
    stay one row."""
    m, n = plain_int(m), plain_int(n)
    if type(m) is int and type(n) is int:
        check_count(op, "m", m)
        check_count(op, "n", n)
        if n > m * classes:
            raise argument_error(op, "n", "be <= the sum of m", f"{n} > {m * classes}")
        require(m * classes <= LARGEST_TOTAL, op, "m", "sum to at most 2^62", m * classes)
        if with_zeros is not None:
            most = m * int((with_zeros > -torch.inf).sum(-1).min())
            require(n <= most, op, "n", POSSIBLE, f"{n} > {most}")
    if _is_number(m) and _is_number(n):
        return Law(None, None, m, n), broadcast_batch(op, **shapes)  # type: ignore[arg-type]
    largest_n = n if _is_number(n) else m * classes if _is_number(m) else -1  # type: ignore[operator]
    largest_n = LARGEST_COUNT if isinstance(largest_n, int) and largest_n > LARGEST_COUNT else largest_n
    m_t, n_t = counts_tensor(op, "m", m, device), counts_tensor(op, "n", n, device)
    if m_t.dim() == 0:
        m_t = m_t.expand(classes)
    if m_t.shape[-1] != classes:
        raise argument_error(op, "m", f"have {classes} classes in its last dimension", tuple(m_t.shape))
    if is_readable(m_t) and is_readable(n_t) and m_t.numel() and n_t.numel():
        check_draws(op, n_t, m_t, with_zeros)
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
    sizes: bool = False,  # log_omega in float64 where sizes are known not to fit into float32
) -> MvhgArguments:
    """Checks and flattens; counts that all rows share stay one row."""
    classes, with_zeros = check_weights(op, name, log_omega)
    device = log_omega.device
    law, batch = law_of(op, m, n, classes, device, {name: log_omega.shape[:-1], **(others or {})}, with_zeros)
    if law.m is None or law.n is None:
        of_m = torch.full((1, classes), law.capacity, dtype=torch.int64, device=device)
        of_n = torch.full((1,), law.largest_n, dtype=torch.int64, device=device)
    else:
        of_m, of_n = law.m, law.n
    dtype = sizes_dtype(log_omega, m, n) if sizes else compute_dtype(log_omega)
    flat = rows(as_dtype(log_omega, dtype), batch, (classes,))
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
    if classes < 1 or not are_plain(m, n, classes) or any(width != classes for width in others):
        return None
    log_omega = weights[0]
    of_m = torch.full((1, classes), m, dtype=torch.int64, device="cpu")
    of_n = torch.full((1,), n, dtype=torch.int64, device="cpu")
    return MvhgArguments(log_omega, of_m, of_n, log_omega.shape[:-1], classes, n), needs_gradient


def are_plain(m: int, n: int, classes: int) -> bool:
    """Counts that are right, and small enough for any dtype."""
    return 0 <= n <= m * classes and m <= LARGEST_FLOAT32 and n <= LARGEST_FLOAT32


def sizes_dtype(log_omega: Tensor, m: Counts, n: Counts) -> torch.dtype:
    """What sizes are computed in."""
    return torch.float64 if beyond_float32(plain_int(m), plain_int(n)) else compute_dtype(log_omega)


def beyond_float32(m: Counts, n: Counts) -> bool:
    """Whether m and n, as far as they are Python numbers, allow sizes that float32 can not hold."""
    if isinstance(n, Tensor) or (type(n) is int and n <= LARGEST_FLOAT32):
        return False
    largest = [_largest_number(count) for count in (m, n)]
    return largest[1] is not None and min(x for x in largest if x is not None) > LARGEST_FLOAT32


def _largest_number(count: Counts) -> int | None:  # None: not known to the host
    if isinstance(count, (int, torch.SymInt)):
        return count
    if isinstance(count, Tensor) or not isinstance(count, Sequence):
        return None
    return max((_largest_number(x) or 0 for x in count), default=0)


def check_draws(op: str, n: Tensor, m: Tensor, log_omega: Tensor | None = None) -> None:
    """n <= Σ m; with `log_omega`, over the classes of a weight above zero."""
    if m.shape[-1] > LARGEST_TOTAL // LARGEST_COUNT:
        largest = m.double().sum(-1).max().item()
        require(largest <= LARGEST_TOTAL, op, "m", "sum to at most 2^62", f"{largest:.3g}")
    if log_omega is not None:
        try:
            m = torch.where(log_omega == -torch.inf, 0, m)
            excess = n - m.sum(-1)
        except RuntimeError:
            return
        require(int(excess.max()) <= 0, op, "n", POSSIBLE, f"{int(excess.max())} more")
        return
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
