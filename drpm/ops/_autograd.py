"""Autograd and vmap of the ops: registered with torch.library, and a shorter way to the same kernels for eager calls.

`torch.library.register_autograd` serves torch.compile and dispatch modes, but a call costs more than a kernel takes at
small sizes (`python -m benchmarks overhead`). So plain eager tensors go through a `torch.autograd.Function` of the same
two functions, or straight to the kernel where nothing needs a gradient; the transforms of torch.func, which the
registered formula does not support, through another, which also knows vmap and forward mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from drpm.ops._tau import call, kernel, settled
from drpm.ops._vmap import Rule, fold, register_vmap

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


def wants_gradient(*inputs: Tensor) -> bool:
    """Whether a gradient may be asked of an op of these inputs. Inside torch.func's transforms that is not visible."""
    if not torch.is_grad_enabled():
        return False
    if any(x.requires_grad for x in inputs):
        return True
    return _HAS_EAGER_PATH and not torch.compiler.is_compiling() and peek_interpreter_stack() is not None


def _connects(name: str) -> bool:
    """Whether a backward's result is to be tied to the inputs, as it may be differentiated again."""
    return (
        _HAS_EAGER_PATH
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and (peek_interpreter_stack() is not None or not _len_torch_dispatch_stack())
    )


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
    return _FirstOrder.apply(name, grad, *inputs) if _connects(name) else grad


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

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        inputs = unwrapped(ctx.saved_tensors)
        floating = [i for i, x in enumerate(inputs) if x.is_floating_point()]
        grads: list[Tensor | None] = [None] * len(inputs)
        pull: Any = torch.func.vjp(_of(ctx.formula, inputs, floating), *(inputs[i] for i in floating))[1]
        for i, grad in zip(floating, pull(cotangent), strict=True):
            grads[i] = grad
        return None, None, *grads

    @staticmethod
    def jvp(ctx: Any, _: Any, grad: Any, *tangents: Tensor | None) -> Tensor:
        inputs = without_tangents(ctx.saved_tensors)
        moving = [i for i, t in enumerate(tangents) if t is not None and inputs[i].is_floating_point()]
        primals = tuple(inputs[i] for i in moving)
        pushed: Tensor = torch.func.jvp(_of(ctx.formula, inputs, moving), primals, tuple(tangents[i] for i in moving))[
            1
        ]
        return pushed


def unwrapped(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What a backward has saved, without levels of torch.func that have been left since."""
    return [torch._C._functorch.unwrap_if_dead(x) for x in tensors]


def without_tangents(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What a jvp has saved still carries the tangents that it is about to push forward itself."""
    return [forward_ad.unpack_dual(x).primal for x in tensors]


def _of(formula: Callable[..., Tensor], inputs: Sequence[Tensor], which: list[int]) -> Callable[..., Tensor]:
    """`formula` as a function of some of its inputs."""

    def function(*some: Tensor) -> Tensor:
        given = list(inputs)
        for i, x in zip(which, some, strict=True):
            given[i] = x
        return formula(*given)

    return function


def second_order(formula: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> Tensor:
    """`grad` as a function of `inputs` whose derivatives are those of `formula(*inputs)`, which computes it with plain
    torch ops. The formula runs only where `grad` is differentiated."""
    return _SecondOrder.apply(formula, grad, *inputs) if _connects("") else grad


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


def _push_forward(
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


def differentiable(name: str, backward: Backward, setup_context: Setup, vmap: Rule | None = None) -> Callable[..., Any]:
    """Register the autograd formula and the vmap rule of `drpm::<name>` (default: all its tensors are rows); return the
    op as its public function should call it.

    The returned function takes the op's arguments by position and acts as `torch.ops.drpm.<name>` does.
    """
    rule = vmap if vmap is not None else fold()
    chosen = kernel(name)
    for op in chosen.both():
        torch.library.register_autograd(op._name, backward, setup_context=setup_context)
    register_vmap(name, rule)
    registered, op = call(name), chosen.op
    if not _HAS_EAGER_PATH:
        return registered

    def forward(ctx: Any, *arguments: Any) -> Any:
        with _BelowAutograd():
            out = op(*arguments)
        setup_context(ctx, arguments, out)
        return out

    # a class of this name, since grad_fn and profilers show it
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    eager: Any = type(name, (torch.autograd.Function,), methods)

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
        return _push_forward(setup_context, backward, inputs, saved[0] if ctx.one_output else tuple(saved), tangents)

    methods = {
        "forward": staticmethod(lambda *arguments: function(*arguments)),
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
            arguments = settled(name, chosen.tau_at, arguments)
        if peek_interpreter_stack() is not None:
            return transformed.apply(*arguments)
        if _len_torch_dispatch_stack():
            return registered(*arguments)
        needs_gradient = False
        for argument in arguments:
            if isinstance(argument, Tensor):
                if type(argument) not in _PLAIN:
                    return registered(*arguments)
                needs_gradient = needs_gradient or argument.requires_grad
        if needs_gradient and torch.is_grad_enabled():
            return eager.apply(*arguments)
        with _BelowAutograd():
            return op(*arguments)

    return function
