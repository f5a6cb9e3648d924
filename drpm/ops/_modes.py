"""What torch is doing around a call, as far as an op must know: tracing, transforming, dispatching.

Some of it is not public. A torch without it takes the registered way everywhere (HAS_EAGER_PATH is False), a few
microseconds slower.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

try:
    from torch._C import _AutoDispatchBelowAutograd, _len_torch_dispatch_stack  # noqa: F401  the first: of _eager.py
    from torch._C._functorch import peek_interpreter_stack
except ImportError:
    HAS_EAGER_PATH = False
else:
    HAS_EAGER_PATH = True

PLAIN = (Tensor, torch.nn.Parameter)
"""Types that no subclass has taken over."""


def wants_gradient(*inputs: Tensor) -> bool:
    """Whether a gradient may be asked of an op of these inputs. Inside torch.func's transforms that is not visible."""
    if not torch.is_grad_enabled():
        return False
    if any(x.requires_grad for x in inputs) or forward_mode_is_on():
        return True
    return not torch.compiler.is_compiling() and in_transform()


def backward_is_recorded() -> bool:
    """Within a backward: whether its result is to be tied to the inputs, as it may be differentiated again, or carry a
    tangent of theirs."""
    if not HAS_EAGER_PATH or torch.compiler.is_compiling():
        return False
    if forward_mode_is_on():
        return True
    return torch.is_grad_enabled() and (in_transform() or not _len_torch_dispatch_stack())


def forward_mode_is_on() -> bool:
    """Inside torch.autograd.forward_ad.dual_level, where tensors may carry tangents."""
    return bool(forward_ad._current_level >= 0)


def is_plain_eager() -> bool:
    """Neither traced, nor transformed, nor dispatched elsewhere, nor in forward mode: what is called runs, and that is
    all."""
    return (
        HAS_EAGER_PATH
        and not torch.compiler.is_compiling()
        and peek_interpreter_stack() is None
        and not _len_torch_dispatch_stack()
        and forward_ad._current_level < 0
    )


def in_transform() -> bool:
    """Inside torch.func's transforms."""
    return HAS_EAGER_PATH and peek_interpreter_stack() is not None
