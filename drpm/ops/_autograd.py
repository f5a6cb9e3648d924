"""Autograd of the ops: registered with torch.library, and a shorter way to the same kernels for eager calls.

`torch.library.register_autograd` serves torch.compile and dispatch modes, at 4 us a call without and 19 us with a
gradient: more than a kernel takes at small sizes. So plain eager tensors go through a `torch.autograd.Function` of the
same two functions (11 us), or straight to the kernel where nothing needs a gradient (under 1 us); torch.func.grad and
vjp, which the registered formula does not support, through another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

try:
    from torch._C import _AutoDispatchBelowAutograd as _BelowAutograd
    from torch._C import _len_torch_dispatch_stack
    from torch._C._functorch import peek_interpreter_stack
except ImportError:  # not public: a torch without them takes the registered way, a few microseconds slower
    _HAS_EAGER_PATH = False
else:
    _HAS_EAGER_PATH = True

Setup = Callable[[Any, tuple[Any, ...], Any], None]
Backward = Callable[..., tuple[Tensor | None, ...]]

_PLAIN = (Tensor, torch.nn.Parameter)


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
        raise RuntimeError(f"{ctx.name}: the gradient is of first order only and can not be differentiated again")


def first_order(name: str, grad: Tensor, *inputs: Tensor) -> Tensor:
    """`grad`, as a backward should return it that is not itself differentiable: a second derivative then raises
    instead of being silently zero. `inputs`: the tensors of the op on which the gradient depends."""
    if not (_HAS_EAGER_PATH and torch.is_grad_enabled()):
        return grad
    if torch.compiler.is_compiling() or _len_torch_dispatch_stack():
        return grad
    tied: Tensor = _FirstOrder.apply(name, grad, *inputs)
    return tied


def differentiable(name: str, backward: Backward, setup_context: Setup) -> Callable[..., Any]:
    """Register the autograd formula of `drpm::<name>`; return the op as its public function should call it.

    The returned function takes the op's arguments by position and acts as `torch.ops.drpm.<name>` does.
    """
    torch.library.register_autograd(f"drpm::{name}", backward, setup_context=setup_context)
    op: Callable[..., Any] = getattr(torch.ops.drpm, name).default
    if not _HAS_EAGER_PATH:
        return op

    def forward(ctx: Any, *arguments: Any) -> Any:
        with _BelowAutograd():
            out = op(*arguments)
        setup_context(ctx, arguments, out)
        return out

    # a class of this name, since grad_fn and profilers show it
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    eager: Any = type(name, (torch.autograd.Function,), methods)

    # torch.func.grad and vjp want another form of the same class; it binds signatures at each call and is slow
    methods = {
        "forward": staticmethod(lambda *arguments: call(*arguments)),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
    }
    transformed: Any = type(name, (torch.autograd.Function,), methods)

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling() or _len_torch_dispatch_stack():
            return op(*arguments)
        if peek_interpreter_stack() is not None:
            return transformed.apply(*arguments)
        needs_gradient = False
        for argument in arguments:
            if isinstance(argument, Tensor):
                if type(argument) not in _PLAIN:
                    return op(*arguments)
                needs_gradient = needs_gradient or argument.requires_grad
        if needs_gradient and torch.is_grad_enabled():
            return eager.apply(*arguments)
        with _BelowAutograd():
            return op(*arguments)

    return call
