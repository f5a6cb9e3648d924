"""Derivatives of an op that its kernels do not give: of second order, and in forward mode.

A backward that is a kernel of its own returns `first_order` (differentiating it again is an error) or `second_order`
(a formula in plain torch ops is differentiated in its place). Forward mode is the transpose of the backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from drpm.ops._modes import backward_is_recorded, in_transform

Setup = Callable[[Any, tuple[Any, ...], Any], None]
Backward = Callable[..., tuple[Tensor | None, ...]]


class _FirstOrder(torch.autograd.Function):
    """The identity on a gradient, tied to the op's inputs so that differentiating it again is an error."""

    generate_vmap_rule = True

    @staticmethod
    def forward(name: str, grad: Tensor, *inputs: Tensor) -> Tensor:
        return grad.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, _: Any) -> Any:
        raise first_order_error(ctx.name)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise first_order_error(ctx.name)


def first_order_error(name: str) -> RuntimeError:
    return RuntimeError(f"{name}: the gradient is of first order only and can not be differentiated again")


def first_order(name: str, grad: Tensor, *inputs: Tensor) -> Tensor:
    """`grad`, as a backward should return it that is not itself differentiable: a second derivative then raises
    instead of being silently zero. `inputs`: the tensors of the op on which the gradient depends."""
    return _FirstOrder.apply(name, grad, *inputs) if backward_is_recorded() else grad


class _SecondOrder(torch.autograd.Function):
    """The identity on a gradient that a kernel computed; its derivatives are those of a formula of it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(formula: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> Tensor:
        return grad.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.formula = inputs[0]
        ctx.save_for_backward(*inputs[2:])
        ctx.save_for_forward(*inputs[2:])
        ctx.set_materialize_grads(False)  # what does not move is not differentiated by

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor | None) -> Any:
        inputs = unwrapped(ctx.saved_tensors)
        needed = ctx.needs_input_grad[2:]
        floating = [i for i, x in enumerate(inputs) if x.is_floating_point() and needed[i]]
        grads: list[Tensor | None] = [None] * len(inputs)
        if cotangent is None or not floating:
            return None, None, *grads
        pull: Any = torch.func.vjp(_function_of(ctx.formula, inputs, floating), *(inputs[i] for i in floating))[1]
        for i, grad in zip(floating, pull(cotangent), strict=True):
            grads[i] = grad
        return None, None, *grads

    @staticmethod
    def jvp(ctx: Any, _: Any, grad: Any, *tangents: Tensor | None) -> Tensor:
        inputs = without_tangents(ctx.saved_tensors)
        moving = [i for i, t in enumerate(tangents) if t is not None and inputs[i].is_floating_point()]
        formula = _function_of(ctx.formula, inputs, moving)
        primals, along = tuple(inputs[i] for i in moving), tuple(tangents[i] for i in moving)
        if in_transform():
            pushed: Tensor = torch.func.jvp(formula, primals, along)[1]
            return pushed
        # forward mode can not be nested outside of torch.func: the formula joins the level that there is
        with forward_ad._set_fwd_grad_enabled(True):
            moved = formula(*map(forward_ad.make_dual, primals, along))
            tangent = forward_ad.unpack_dual(moved).tangent
            return torch.zeros_like(moved) if tangent is None else tangent


def second_order(formula: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> Tensor:
    """`grad` as a function of `inputs` whose derivatives are those of `formula(*inputs)`, which computes it with plain
    torch ops. The formula runs only where `grad` is differentiated."""
    return _SecondOrder.apply(formula, grad, *inputs) if backward_is_recorded() else grad


def unwrapped(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What a backward has saved, without levels of torch.func that have been left since."""
    return [torch._C._functorch.unwrap_if_dead(x) for x in tensors]


def without_tangents(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What a jvp has saved still carries the tangents that it is about to push forward itself."""
    return [_primal(x) for x in tensors]


def _primal(x: Tensor) -> Tensor:
    functorch = torch._C._functorch
    if functorch.is_batchedtensor(x):  # for which torch has no rule
        inner = _primal(functorch.get_unwrapped(x))
        batched: Tensor = functorch._add_batch_dim(inner, functorch.maybe_get_bdim(x), functorch.maybe_get_level(x))
        return batched
    primal: Tensor = forward_ad.unpack_dual(x).primal
    return primal


def push_each(push: Callable[..., Any], tangents: tuple[Any, ...]) -> Any:
    """push(*tangents), also where torch.autograd.functional maps over the tangents: its vmap is not torch.func's, and
    knows no kernel of ours. It is taken off, and put on again after."""
    mapped = [t is not None and torch._C._functorch.is_legacy_batchedtensor(t) for t in tangents]
    if not any(mapped):
        return push(*tangents)
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    dims = tuple(0 if each else None for each in mapped)
    plain = [torch._remove_batch_dim(t, level, 1, 0) if each else t for t, each in zip(tangents, mapped, strict=True)]
    pushed: Any = torch.func.vmap(push, dims)(*plain)
    if isinstance(pushed, tuple):
        return tuple(None if x is None else torch._add_batch_dim(x, 0, level) for x in pushed)
    return torch._add_batch_dim(pushed, 0, level)


def _function_of(formula: Callable[..., Tensor], inputs: Sequence[Tensor], which: list[int]) -> Callable[..., Tensor]:
    """`formula` as a function of some of its inputs."""

    def function(*some: Tensor) -> Tensor:
        given = list(inputs)
        for i, x in zip(which, some, strict=True):
            given[i] = x
        return formula(*given)

    return function


class _Context:
    """What setup_context and backward need of a ctx, outside of a torch.autograd.Function."""

    saved_tensors: tuple[Tensor, ...] = ()

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self.constant: list[Tensor] = []

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        self.constant.extend(tensors)

    def set_materialize_grads(self, value: bool) -> None:
        pass


def push_forward(
    setup_context: Setup, backward: Backward, inputs: tuple[Any, ...], output: Any, tangents: tuple[Any, ...]
) -> Any:
    """Directional derivative J t of an op of which only t -> J^T t is known: the latter's own transpose."""
    context = _Context(tuple(t is not None for t in tangents))
    setup_context(context, inputs, output)
    outputs = output if isinstance(output, tuple) else (output,)
    moving = [i for i, t in enumerate(tangents) if t is not None]
    free = [i for i, out in enumerate(outputs) if not any(out is c for c in context.constant)]

    def pull(*cotangents: Tensor) -> tuple[Tensor, ...]:
        by_output: list[Tensor | None] = [None] * len(outputs)
        for i, cotangent in zip(free, cotangents, strict=True):
            by_output[i] = cotangent
        grads = backward(context, *by_output)
        return tuple(torch.zeros_like(inputs[i]) if grads[i] is None else grads[i] for i in moving)  # type: ignore[misc]

    push: Any = torch.func.vjp(pull, *(torch.zeros_like(outputs[i]) for i in free))[1]
    pushed: list[Tensor | None] = [None] * len(outputs)
    for i, tangent in zip(free, push(tuple(tangents[i] for i in moving)), strict=True):
        pushed[i] = tangent
    return tuple(pushed) if isinstance(output, tuple) else pushed[0]
