"""Argument checks and the broadcasting that every op shares: any batch shape in, contiguous rows to the kernel.

Shapes, dtypes and devices are checked on every call. Checks that need values read only host data (Python numbers, CPU
tensors outside of tracing): nothing here ever synchronises with a device.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drpm._build_info import _C
from drpm.ops._limits import LARGEST_COUNT
from drpm.ops._modes import PLAIN

_COMPUTED = (torch.float32, torch.float64)

Counts = int | Sequence[int] | Tensor
"""Whole numbers: a Python int, a sequence of them, or an int64 tensor."""


def argument_error(op: str, argument: str, contract: str, got: object) -> ValueError:
    """The one form of a complaint: `<op>: <argument> must <contract>, got <value>`."""
    return ValueError(f"{op}: {argument} must {contract}, got {got}")


def require(condition: bool, op: str, argument: str, contract: str, got: object) -> None:
    """For contracts of plain text. One with a size in it is formatted only where it is broken: formatting a size fixes
    it under torch.compile."""
    if not condition:
        raise argument_error(op, argument, contract, got)


def is_readable(x: Any) -> bool:
    """Whether the values of x can be looked at without a device synchronisation or a graph break."""
    if not isinstance(x, Tensor):
        return True
    return (
        type(x) in PLAIN
        and x.is_cpu
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def check_tensor(op: str, argument: str, x: object) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {argument} must be a tensor, got {type(x).__name__}")


def check_floating(op: str, argument: str, x: Tensor) -> None:
    check_tensor(op, argument, x)
    if not x.is_floating_point():
        raise TypeError(f"{op}: {argument} must have a floating dtype, got {x.dtype}")


def all_finite(x: Tensor) -> bool:
    """Whether a readable tensor (`is_readable`) holds neither NaN nor infinity."""
    if x.dtype in _COMPUTED and x.is_contiguous():
        return bool(_C.all_finite(x.data_ptr(), x.numel(), x.dtype == torch.float64))
    return bool(torch.isfinite(x.detach()).all())


def check_finite(op: str, argument: str, x: Tensor) -> None:
    """No NaN, no infinity; for CPU tensors in eager mode only."""
    if is_readable(x) and not all_finite(x):
        x = x.detach()
        raise argument_error(op, argument, "be finite", x[~torch.isfinite(x)][0].item())


def check_log_weights(op: str, argument: str, x: Tensor) -> bool:
    """Finite, or −inf for a weight of zero; for CPU tensors in eager mode only. Returns whether one is known to be."""
    if not is_readable(x) or all_finite(x):
        return False
    x = x.detach()
    wrong = torch.isnan(x) | (x == torch.inf)
    if bool(wrong.any()):
        raise argument_error(op, argument, "be finite or -inf", x[wrong][0].item())
    return True


def check_not_negative(op: str, argument: str, x: Tensor) -> None:
    """Nothing below 0; for CPU tensors in eager mode only."""
    if not is_readable(x):
        return
    plain = x.dtype in _COMPUTED and x.is_contiguous()
    if plain and _C.none_negative(x.data_ptr(), x.numel(), x.dtype == torch.float64):
        return
    lowest = x.detach().min().item() if x.numel() else 0
    require(lowest >= 0, op, argument, "be >= 0", lowest)


def check_same_device(op: str, reference: Tensor, **others: Any) -> None:
    """What is no tensor is left to the check of its kind."""
    if not isinstance(reference, Tensor):
        return
    for name, other in others.items():
        if isinstance(other, Tensor) and other.device != reference.device:
            raise argument_error(op, name, f"be on {reference.device} as the other arguments", other.device)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any argument is, else float32 (half and bfloat16 compute in float32)."""
    for t in tensors:
        if t.dtype == torch.float64:
            return torch.float64
    return torch.float32


def result_dtype(*tensors: Tensor) -> torch.dtype:
    """The promoted dtype of the arguments, what relaxed values come back as."""
    dtype = tensors[0].dtype
    for t in tensors[1:]:
        if t.dtype != dtype:
            dtype = torch.promote_types(dtype, t.dtype)
    return dtype


def as_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x.to(dtype), without the call where it is that already."""
    return x if x.dtype == dtype else x.to(dtype)


def plain_int(value: Any) -> Any:
    """NumPy's whole numbers as Python's, all else as it is."""
    if type(value) is int or isinstance(value, (Tensor, bool)):
        return value
    return int(value) if isinstance(value, numbers.Integral) else value


def check_count(op: str, argument: str, count: int) -> None:
    """0 <= count <= 2^53."""
    require(count >= 0, op, argument, "be >= 0", count)
    require(count <= LARGEST_COUNT, op, argument, "be <= 2^53", count)


def as_shape(op: str, sample_shape: Any) -> tuple[int, ...]:
    """sample_shape as a tuple: of sizes, or of a single one."""
    one = plain_int(sample_shape)
    sizes = (one,) if isinstance(one, (int, torch.SymInt)) else sample_shape
    try:
        shape = tuple(plain_int(size) for size in sizes)
    except TypeError:
        shape = (sizes,)
    if not all(isinstance(size, (int, torch.SymInt)) and not isinstance(size, bool) for size in shape):
        raise TypeError(f"{op}: sample_shape must be an int or a sequence of them, got {sample_shape!r}")
    require(all(size >= 0 for size in shape), op, "sample_shape", "have sizes >= 0", shape)
    return shape


def counts_tensor(op: str, argument: str, value: Counts, device: torch.device) -> Tensor:
    """`value` as an int64 tensor on `device`; its range is checked where the values are on the host."""
    value = plain_int(value)
    if isinstance(value, (bool, float)):
        raise TypeError(f"{op}: {argument} must be whole (int or int64), got {type(value).__name__}")
    if isinstance(value, (int, torch.SymInt)):
        if not isinstance(value, torch.SymInt):
            check_count(op, argument, value)
        return torch.full((), value, dtype=torch.int64, device=device)
    if not isinstance(value, Tensor):
        try:
            value = torch.tensor(value, device="cpu")
        except (TypeError, ValueError) as error:
            if all(isinstance(count, int) for count in value):  # beyond int64
                raise argument_error(op, argument, "be <= 2^53", max(value)) from error
            raise TypeError(f"{op}: {argument} must be whole (int or int64), got {value!r}") from error
        value = value if value.numel() else value.to(torch.int64)
        value_device = device
    else:
        value_device = value.device
    if value.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(f"{op}: {argument} must be whole (int or int64), got {value.dtype}")
    if is_readable(value) and value.numel():
        for count in value.aminmax():
            check_count(op, argument, int(count))
    if value_device != device:
        raise argument_error(op, argument, f"be on {device} as the other arguments", value_device)
    return value.to(device=device, dtype=torch.int64)


def broadcast_batch(op: str, **shapes: torch.Size | tuple[int, ...]) -> torch.Size:
    """Broadcast of the named batch shapes."""
    batch: torch.Size | tuple[int, ...] = ()
    for shape in shapes.values():
        if batch and shape and shape != batch:
            break
        batch = batch or shape
    else:  # the common case, one shape or none: torch's own function takes 20 us
        return torch.Size(batch)
    try:
        return torch.Size(torch.broadcast_shapes(*shapes.values()))
    except RuntimeError as error:
        names = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(f"{op}: batch shapes must broadcast, got {names}") from error


def rows(x: Tensor, batch: torch.Size, event: tuple[int, ...] = ()) -> Tensor:
    """x broadcast to batch + event and flattened to contiguous (B, *event)."""
    if len(batch) == 1 and x.dim() == 1 + len(event) and x.shape == batch + event:
        return x.contiguous()
    count = math.prod(batch)
    return x.expand(batch + event).reshape((count, *event)).contiguous()
