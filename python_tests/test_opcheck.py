"""torch.library.opcheck of every op in the library, those that only backwards call included."""

from functools import lru_cache

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from drpm import ops
from drpm.ops._tau import library_op
from drpm.testing.samples import EXACT, SAMPLES, outputs_of

NOT_DIFFERENTIATED = {  # first order only, by an error or by a formula that can not be traced with symbolic shapes
    "mvhg_fourth_cumulant": ("log_omega",),
    "mvhg_entropy_hessian_product": ("log_omega",),
    "partition_marginals_backward": ("grad", "log_omega", "log_scores"),
}


def has_kernel(name, key):
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"drpm::{name}", key)


class Recorder(TorchDispatchMode):
    """The arguments of the first call of every op of the library (relaxed rows come first in the table)."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "drpm":
            self.calls.setdefault(op._opname, args)
        return op(*args, **(kwargs or {}))


def differentiate(sample):
    """The op and its derivatives as far as they go, at most three."""
    inputs = sample.inputs()
    leaves = sample.leaves(inputs)
    given = [x.detach().requires_grad_() if name in leaves else x for name, x in inputs.items()]
    outputs = outputs_of(sample.of(ops)(*given))
    moving = [x for name, x in zip(inputs, given, strict=True) if name in leaves]
    again = sample.second == EXACT
    try:
        for _ in range(3 if again else 1 if leaves else 0):
            loss = sum((torch.where(torch.isinf(x), 0.0, x) ** 3).sum() for x in outputs if x.requires_grad)
            grads = torch.autograd.grad(loss, moving, create_graph=again, allow_unused=True)
            outputs = [x for x in grads if x is not None]
    except RuntimeError as error:
        assert "third derivative" in str(error)


@lru_cache(maxsize=1)
def samples():
    """A call of each op that the public functions or their gradients make, and of its sibling for a temperature in a
    tensor. Floating arguments have a gradient where the op has a formula for one."""
    with Recorder() as recorder:
        for sample in SAMPLES:
            differentiate(sample)
    calls = {}
    for name, args in recorder.calls.items():
        names = [x.name for x in getattr(torch.ops.drpm, name).default._schema.arguments]
        call = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in args]
        for argument, x in zip(names, call, strict=False):
            if isinstance(x, torch.Tensor) and x.is_floating_point() and has_kernel(name, "Autograd"):
                x.requires_grad_(argument not in NOT_DIFFERENTIATED.get(name, ()))
        calls[name] = tuple(call)
        at = library_op(name).tau_at
        if at >= 0:
            tau = torch.tensor(call[at], dtype=torch.float64)
            calls[f"{name}_tensor_tau"] = (*call[:at], tau, *call[at + 1 :])
    return calls


def library_ops():
    prefix = "drpm::"
    return sorted(
        name.removeprefix(prefix) for name in torch._C._dispatch_get_all_op_names() if name.startswith(prefix)
    )


each_op = pytest.mark.parametrize("name", library_ops())


def test_every_op_of_the_library_is_called():
    assert library_ops() == sorted(samples())


@each_op
def test_schema_autograd_and_fake(name):
    kinds = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(getattr(torch.ops.drpm, name).default, samples()[name], test_utils=kinds)


@pytest.mark.slow
@each_op
def test_opcheck(name):
    torch.library.opcheck(getattr(torch.ops.drpm, name).default, samples()[name])


@each_op
def test_vmap_is_registered(name):
    assert has_kernel(name, "FuncTorchBatched")
