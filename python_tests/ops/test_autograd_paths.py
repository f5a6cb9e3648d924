"""Eager calls take a shorter way to the kernels than torch.library's; both must be the same function."""

import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import drpm
from drpm._build_info import _C
from drpm.ops import partition_log_prob, plackett_luce_log_prob
from drpm.ops._arguments import all_finite
from drpm.testing.samples import SAMPLES, value_and_gradients

ORDER = torch.tensor([[2, 0, 1, 3], [3, 2, 1, 0]])


def op(scores):
    return plackett_luce_log_prob(ORDER, scores)


def value_and_gradient(function, scores):
    scores = scores.detach().requires_grad_()
    out = function(scores)
    return out.detach(), torch.autograd.grad(out.sum(), scores)[0]


@pytest.fixture
def scores():
    return torch.randn(2, 4, dtype=torch.float64)


def test_registered_and_eager_way_agree(scores):
    def registered(x):
        return torch.ops.drpm.plackett_luce_log_prob(x, ORDER, True)[0]

    for got, want in zip(value_and_gradient(op, scores), value_and_gradient(registered, scores), strict=True):
        assert torch.equal(got, want)


def test_the_eager_way_is_taken(scores):
    out = op(scores.requires_grad_())
    names, function = set(), out.grad_fn
    while function is not None:
        names.add(type(function).__name__)
        function = function.next_functions[0][0] if function.next_functions else None
    assert "plackett_luce_log_probBackward" in names


def test_no_graph_without_need(scores):
    assert op(scores).grad_fn is None
    with torch.no_grad():
        assert op(scores.requires_grad_()).grad_fn is None
    with torch.inference_mode():
        assert torch.isfinite(op(scores)).all()


def test_torch_func_grad(scores):
    want = value_and_gradient(op, scores)[1]
    assert torch.equal(torch.func.grad(lambda x: op(x).sum())(scores), want)


def test_compiled_fullgraph(scores):
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    for got, want in zip(value_and_gradient(compiled, scores), value_and_gradient(op, scores), strict=True):
        assert torch.equal(got, want)


def test_fake_mode_gives_shapes_without_running():
    with FakeTensorMode():
        scores = torch.empty(3, 5, requires_grad=True)
        labels = torch.zeros(3, 5, dtype=torch.int64)
        assert partition_log_prob(labels, scores, 2).shape == (3,)


def test_saved_tensor_hooks_see_what_is_saved(scores):
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: packed.append(x.shape) or x, lambda x: x):
        op(scores.requires_grad_())
    assert torch.Size([2, 4]) in packed


def test_checkpointing_recomputes_the_same(scores):
    def checkpointed(x):
        return torch.utils.checkpoint.checkpoint(op, x, use_reentrant=False)

    for got, want in zip(value_and_gradient(checkpointed, scores), value_and_gradient(op, scores), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_all_finite(dtype):
    for count in (0, 1, 7, 64, 5000, 9001):
        x = torch.full((count,), torch.finfo(dtype).max, dtype=dtype)
        assert all_finite(x) and all_finite(-x)
        for position in {0, count // 2, count - 1} if count else ():
            for bad in (float("nan"), -float("nan"), float("inf"), -float("inf")):
                y = x.clone()
                y[position] = bad
                assert not all_finite(y), (count, position, bad)
    strided = torch.zeros(10, 2, dtype=dtype)
    strided[:, 1] = float("nan")
    assert all_finite(strided[:, 0]) and not all_finite(strided[:, 1])


def test_plain_rows():
    x, y = torch.randn(3, 4), torch.randn(3, 2)
    assert _C.plain_rows(x) == (3, 4, False)
    assert _C.plain_rows(x, y.clone().requires_grad_()) == (3, 4, 2, True)
    assert _C.plain_rows(torch.nn.Parameter(x.double()), y.double()) == (3, 4, 2, True)
    assert _C.plain_rows(torch.zeros(0, 4), torch.zeros(0, 2)) == (0, 4, 2, False)
    assert _C.plain_rows(torch.zeros(2), torch.zeros(2, 3, 4)) == (2, -1, -2, False)

    class Own(torch.Tensor):
        pass

    special = [x.half(), x.long(), x.double(), x.mT, x[:, ::2], x[0], x[:2], torch.zeros(()), torch.zeros(3, 1, 1, 1)]
    special += [x.to("meta"), x.to_sparse(), x.as_subclass(Own), [1.0], None, 2.0]
    for bad in (float("nan"), -float("inf"), float("inf")):
        special.append(x.clone())
        special[-1][2, 3] = bad
    for z in special:
        assert _C.plain_rows(y, z) is None, z
    assert _C.plain_rows() is None and _C.plain_rows(x, x, x, x, x) is None
    assert torch.func.vmap(lambda z: z * (_C.plain_rows(z, z) is None))(torch.ones(2, 3, 4)).all()


@pytest.mark.parametrize("name", [s.name for s in SAMPLES])
def test_plain_calls_take_the_short_way_to_the_same_result(name, monkeypatch):
    sample = next(s for s in SAMPLES if s.name == name)
    inputs = sample.inputs(dtype=torch.float32)
    one = value_and_gradients(sample.of(drpm.ops), inputs, sample.leaves(inputs))
    for module in [m for key, m in sys.modules.items() if key.startswith("drpm.ops.") and hasattr(m, "is_plain_eager")]:
        monkeypatch.setattr(module, "is_plain_eager", lambda: False)
    two = value_and_gradients(sample.of(drpm.ops), inputs, sample.leaves(inputs))
    for x, y in zip(one[0] + one[1], two[0] + two[1], strict=True):
        assert torch.equal(x, y) and x.dtype == y.dtype


@pytest.mark.parametrize("op", ["relaxed_sort", "relaxed_sort_matmul", "partition", "mvhg_sample exact", "merged"])
def test_second_derivatives_of_straight_through_gradients_raise_instead_of_being_zero(op):
    scores = torch.randn(5, dtype=torch.float64, requires_grad=True)
    log_omega = torch.randn(2, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor([2.0, 3.0], dtype=torch.float64)
    calls = {
        "relaxed_sort": lambda: (drpm.ops.relaxed_sort(scores, hard=True) ** 2).sum(),
        "relaxed_sort_matmul": lambda: (drpm.ops.relaxed_sort_matmul(scores, scores[:, None], hard=True) ** 2).sum(),
        "partition": lambda: (drpm.ops.partition(scores, sizes) ** 2).sum(),
        "mvhg_sample exact": lambda: (drpm.ops.mvhg_sample(log_omega, 5, 5) ** 2).sum(),
        "merged": lambda: (drpm.ops.mvhg_sample(log_omega, 5, 5, conditionals="merged") ** 2).sum(),
    }
    inputs = (log_omega,) if op in ("mvhg_sample exact", "merged") else (scores,)
    (grad,) = torch.autograd.grad(calls[op](), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="first order only"):
        torch.autograd.grad((grad**2).sum(), inputs)
