"""How an op is called: registered with torch.library, and a shorter way to the same kernels for eager calls.

`torch.library.register_autograd` serves torch.compile and dispatch modes, but a call costs more than a kernel takes at
small sizes (`python -m benchmarks overhead`). So plain eager tensors go through a `torch.autograd.Function` of the same
two functions, or straight to the kernel where nothing needs a gradient; the transforms of torch.func, which the
registered formula does not support, and forward mode through another, which knows both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from drpm.ops._derivatives import Backward, Setup, push_each, push_forward, without_tangents
from drpm.ops._modes import HAS_EAGER_PATH, PLAIN, forward_mode_is_on, is_plain_eager
from drpm.ops._tau import library_op, with_either_tau, with_tau_read
from drpm.ops._vmap import Rule, fold, register_vmap

if HAS_EAGER_PATH:
    from torch._C import _AutoDispatchBelowAutograd, _len_torch_dispatch_stack
    from torch._C._functorch import is_functorch_wrapped_tensor, peek_interpreter_stack


class Op(Protocol):
    """An op by position, as `torch.ops.drpm.<name>`; `plain(needs_gradient, arguments)` is the same in plain eager mode
    (`_modes.is_plain_eager`), for plain tensors and a temperature that is a float."""

    plain: Callable[[bool, tuple[Any, ...]], Any]

    def __call__(self, *arguments: Any) -> Any: ...


def differentiable(name: str, backward: Backward, setup_context: Setup, vmap: Rule | None = None) -> Op:
    """Register the autograd formula and the vmap rule of `drpm::<name>` (default: all its tensors are rows); return the
    op as its public function should call it.

    The returned function takes the op's arguments by position and acts as `torch.ops.drpm.<name>` does.
    """
    rule = vmap if vmap is not None else fold()
    chosen = library_op(name)
    for op in chosen.both():
        torch.library.register_autograd(op._name, backward, setup_context=setup_context)
    register_vmap(name, rule)
    registered, op = with_either_tau(name), chosen.op
    if not HAS_EAGER_PATH:
        return cast(Op, registered)
    run = op._op  # without the frame of OpOverload.__call__

    def forward(ctx: Any, *arguments: Any) -> Any:
        with _AutoDispatchBelowAutograd():
            out = run(*arguments)
        setup_context(ctx, arguments, out)
        return out

    # a class of this name, since grad_fn and profilers show it
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    eager: Any = type(name, (torch.autograd.Function,), methods)
    # what torch.autograd.Function.apply comes to where torch.func is not at work
    apply = super(torch.autograd.Function, eager).apply

    # torch.func's transforms want another form of the same class; it binds signatures at each call and is slow
    def setup_transformed(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        setup_context(ctx, inputs, output)
        outputs = output if isinstance(output, tuple) else (output,)
        ctx.layout = tuple(None if isinstance(x, Tensor) else (x,) for x in inputs)
        ctx.one_output = not isinstance(output, tuple)
        ctx.save_for_forward(*(x for x in inputs if isinstance(x, Tensor)), *outputs)

    def jvp(ctx: Any, *tangents: Any) -> Any:
        saved = without_tangents(ctx.saved_tensors)
        inputs = tuple(saved.pop(0) if kept is None else kept[0] for kept in ctx.layout)
        output = saved[0] if ctx.one_output else tuple(saved)

        def push(*tangents: Any) -> Any:
            return push_forward(setup_context, backward, inputs, output, tangents)

        return push_each(push, tangents)

    def transformed_forward(*arguments: Any) -> Any:
        if peek_interpreter_stack() is not None:
            return function(*arguments)
        with _AutoDispatchBelowAutograd():  # forward mode: tangents are the jvp's
            return op(*arguments)

    methods = {
        "forward": staticmethod(transformed_forward),
        "setup_context": staticmethod(setup_transformed),
        "backward": staticmethod(backward),
        "vmap": staticmethod(lambda info, in_dims, *arguments: rule(function, info.batch_size, in_dims, arguments)),
        "jvp": staticmethod(jvp),
    }
    transformed: Any = type(name, (torch.autograd.Function,), methods)

    takes_tau = chosen.with_tensor is not None

    def function(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return registered(*arguments)
        if takes_tau:
            arguments = with_tau_read(name, chosen.tau_at, arguments)
        if peek_interpreter_stack() is not None:
            return transformed.apply(*arguments)
        if _len_torch_dispatch_stack():
            return registered(*arguments)
        needs_gradient, in_forward_mode = False, forward_mode_is_on()
        for argument in arguments:
            if isinstance(argument, Tensor):
                if type(argument) not in PLAIN:
                    return registered(*arguments)
                if is_functorch_wrapped_tensor(argument):  # one that has left its transform
                    return eager.apply(*arguments)
                needs_gradient = needs_gradient or argument.requires_grad
                if in_forward_mode and forward_ad.unpack_dual(argument).tangent is not None:
                    return transformed.apply(*arguments)
        return plain(needs_gradient, arguments)

    def plain(needs_gradient: bool, arguments: tuple[Any, ...]) -> Any:
        if needs_gradient and torch.is_grad_enabled():
            return apply(*arguments)
        with _AutoDispatchBelowAutograd():
            return run(*arguments)

    whole = cast(Op, function)
    whole.plain = plain
    return whole


def below_autograd(name: str) -> Callable[..., Any]:
    """`torch.ops.drpm.<name>`, an op without a derivative of its own, as a backward calls it."""
    registered, chosen = with_either_tau(name), library_op(name)
    if not HAS_EAGER_PATH:
        return registered
    run, tau_at = chosen.op._op, chosen.tau_at

    def function(*arguments: Any) -> Any:
        if not is_plain_eager() or (tau_at >= 0 and not isinstance(arguments[tau_at], float)):
            return registered(*arguments)
        with _AutoDispatchBelowAutograd():
            return run(*arguments)

    return function
