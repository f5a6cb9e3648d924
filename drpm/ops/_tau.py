"""The temperature: a Python float, or a tensor of one number where one compiled graph is to serve many values.

torch specialises the float arguments of an op, so that under torch.compile each new value would compile anew. Every op
`drpm::x` with a `float tau` therefore has a sibling `drpm::x_tensor_tau`, which reads the value when it runs and calls
the first (not an overload: torch.library.opcheck refuses ops that have some). Graphs get it where the temperature is a
tensor, or a float that torch found to change between calls.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload

from drpm._build_info import _C
from drpm.ops._arguments import argument_error, is_readable, require

Tau = float | Tensor
"""A temperature: a positive float, or a scalar tensor on the CPU (a device would have to be waited for). It gets no
gradient."""

_SUFFIX = "_tensor_tau"
_library = torch.library.Library("drpm", "FRAGMENT")


def check_tau(op: str, tau: Tau) -> Tau:
    """The temperature as ops take it: a float, or where that is not known yet (in a graph, mapped over) a scalar
    tensor of float64."""
    if isinstance(tau, Tensor):
        if tau.dim() > 0 or tau.device.type != "cpu":
            got = f"shape {tuple(tau.shape)} on {tau.device}"
            raise argument_error(op, "tau", "be a float or a scalar tensor on the CPU", got)
        if tau.requires_grad:
            raise argument_error(op, "tau", "not require a gradient (it takes none)", "requires_grad=True")
        if not is_readable(tau):
            return tau.to(torch.float64)  # its value is checked when the op runs
        tau = tau.item()
    if not isinstance(tau, (int, float, torch.SymInt, torch.SymFloat, numbers.Real)):
        raise TypeError(f"{op}: tau must be a float or a scalar tensor on the CPU, got {type(tau).__name__}")
    changes = torch.compiler.is_compiling() and _changes(tau)
    require(0 < tau < math.inf, op, "tau", "be positive and finite", tau)
    if changes:
        return torch.ones((), dtype=torch.float64, device="cpu") * tau
    return float(tau)


def _changes(tau: float) -> bool:
    """Whether a graph takes this number as an input: nothing is known of it, then."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # takes long to import

    return not statically_known_true(tau > 0)


class LibraryOp(NamedTuple):
    """An op of the library and, where it takes a temperature, its sibling for one in a tensor."""

    op: OpOverload
    with_tensor: OpOverload | None
    tau_at: int  # position of the temperature

    def both(self) -> list[OpOverload]:
        return [self.op] if self.with_tensor is None else [self.op, self.with_tensor]


@functools.cache
def library_op(name: str) -> LibraryOp:
    """`torch.ops.drpm.<name>`; defines the sibling where there is a temperature."""
    op = getattr(torch.ops.drpm, name).default
    position = next((i for i, x in enumerate(op._schema.arguments) if x.name == "tau"), -1)
    if position < 0:
        return LibraryOp(op, None, position)

    def read(*arguments: Any) -> Any:
        return op(*arguments[:position], read_tau(name, arguments[position]), *arguments[position + 1 :])

    def fake(*arguments: Any) -> Any:
        return op(*arguments[:position], 1.0, *arguments[position + 1 :])

    # a captured CUDA graph would keep the value that it was captured with
    tags = [torch.Tag.pt2_compliant_tag]
    tags += [torch.Tag.cudagraph_unsafe] if hasattr(torch.Tag, "cudagraph_unsafe") else []
    sibling = name + _SUFFIX
    _library.define(_C.tensor_tau_schemas[name], tags=tags)
    _library.impl(sibling, read, "CompositeExplicitAutograd")
    torch.library.register_fake(f"drpm::{sibling}", fake, lib=_library)
    return LibraryOp(op, getattr(torch.ops.drpm, sibling).default, position)


def with_either_tau(name: str) -> Callable[..., Any]:
    """`torch.ops.drpm.<name>` by position, with the temperature as a float or as a tensor."""
    op, with_tensor, tau_at = library_op(name)
    if with_tensor is None:
        return op

    def chosen(*arguments: Any) -> Any:
        return (with_tensor if isinstance(arguments[tau_at], Tensor) else op)(*arguments)

    return chosen


def read_tau(name: str, tau: Tensor) -> float:
    read = float(tau)
    require(0 < read < math.inf, name, "tau", "be positive and finite", read)
    return read


def with_tau_read(name: str, tau_at: int, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of drpm::<name> with the temperature as a float, if it can be read."""
    tau = arguments[tau_at]
    if not isinstance(tau, Tensor) or not is_readable(tau):
        return arguments
    return (*arguments[:tau_at], read_tau(name, tau), *arguments[tau_at + 1 :])
