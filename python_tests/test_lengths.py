"""Sets of different lengths in one batch: each row is what a call with that row alone would give."""

import pytest
import torch

from drpm import ops, reference
from drpm.testing import TOLERANCE

LENGTHS = torch.tensor([5, 0, 9, 1, 8])
B, N, K = len(LENGTHS), 9, 3
OMEGA = torch.tensor([0.3, -0.5, 0.1])

SORTS = {  # name: function(scores, values or sizes, lengths)
    "relaxed_sort_matmul": lambda s, v, **kw: ops.relaxed_sort_matmul(s, v, 0.7, **kw),
    "relaxed_sort_matmul hard": lambda s, v, **kw: ops.relaxed_sort_matmul(s, v, 0.7, hard=True, **kw),
    "partition": lambda s, z, **kw: ops.partition(s, z, 0.7, **kw),
    "partition soft": lambda s, z, **kw: ops.partition(s, z, 0.7, hard=False, **kw),
    "partition normalized": lambda s, z, **kw: ops.partition(s, z, 0.7, hard=False, normalize=True, **kw),
}


def data(dtype):
    """Scores, values and sizes; NaN beyond the lengths."""
    beyond = torch.arange(N) >= LENGTHS.unsqueeze(-1)
    scores = torch.randn(B, N, dtype=dtype).masked_fill(beyond, torch.nan)
    values = torch.randn(B, N, 2, dtype=dtype).masked_fill(beyond.unsqueeze(-1), torch.nan)
    shares = torch.rand(B, K, dtype=dtype)
    sizes = shares / shares.sum(-1, keepdim=True) * LENGTHS.unsqueeze(-1)
    labels = torch.randint(0, K, (B, N)).masked_fill(beyond, -7)
    order = torch.stack([torch.cat([torch.randperm(length), torch.full((N - length,), 77)]) for length in LENGTHS])
    return scores, values, sizes, labels, order


def close(got, want, dtype, gradient=False):
    tolerance = TOLERANCE[dtype]
    bound = tolerance.gradient if gradient else tolerance.value
    got, want = got.detach(), want.detach()
    return torch.equal(got, want) or float((got - want).abs().max()) <= bound * max(1.0, float(want.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tau", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_values_do_not_depend_on_the_padding(dtype, tau, offset):
    scores, values, sizes, _, _ = data(dtype)
    scores = scores + offset
    for hard in (False, True):
        products = ops.relaxed_sort_matmul(scores, values, tau, hard=hard, lengths=LENGTHS)
        partitions = ops.partition(scores, sizes, tau, hard=hard, lengths=LENGTHS)
        for row, length in enumerate(LENGTHS.tolist()):
            own, v, z = scores[row, :length], values[row, :length], sizes[row]
            assert close(products[row, :length], ops.relaxed_sort_matmul(own, v, tau, hard=hard), dtype)
            assert close(partitions[row, :, :length], ops.partition(own, z, tau, hard=hard), dtype)
            assert (products[row, length:] == 0).all() and (partitions[row, :, length:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SORTS)
def test_gradients_of_sorts(name, dtype):
    scores, values, sizes, _, _ = data(dtype)
    other = values if "matmul" in name else sizes
    scores, other = scores.requires_grad_(), other.requires_grad_()
    out = SORTS[name](scores, other, lengths=LENGTHS)
    weight = torch.randn_like(out)
    grads = torch.autograd.grad((out * weight).sum(), (scores, other))
    for row, length in enumerate(LENGTHS.tolist()):
        own = scores.detach()[row, :length].requires_grad_()
        second = (other.detach()[row, :length] if "matmul" in name else other.detach()[row]).requires_grad_()
        part = weight[row, :length] if "matmul" in name else weight[row, :, :length]
        wanted = torch.autograd.grad((SORTS[name](own, second) * part).sum(), (own, second))
        assert close(grads[0][row, :length], wanted[0], dtype, gradient=True)
        assert (grads[0][row, length:] == 0).all()
        assert close(grads[1][row, :length] if "matmul" in name else grads[1][row], wanted[1], dtype, gradient=True)
        if "matmul" in name:
            assert (grads[1][row, length:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_probabilities(dtype):
    scores, _, _, labels, order = data(dtype)
    matrix = torch.rand(B, N, N, dtype=dtype)
    beyond = torch.arange(N) >= LENGTHS.unsqueeze(-1)
    matrix = matrix.masked_fill(beyond.unsqueeze(-1) | beyond.unsqueeze(-2), torch.nan)
    omega = OMEGA.to(dtype)

    def calls(s, y, pi, p, **lengths):
        return torch.stack(
            [
                ops.plackett_luce_log_prob(pi, s, **lengths),
                ops.plackett_luce_log_prob(p, s, **lengths),
                ops.partition_log_prob(y, s, K, **lengths),
                ops.random_partition_log_prob(y, omega, s, **lengths),
                *ops.partition_log_prob_bounds(y, omega, s, **lengths),
            ]
        )

    scores.requires_grad_()
    got = calls(scores, labels, order, matrix, lengths=LENGTHS)
    (grad,) = torch.autograd.grad(got.sum(), scores)
    for row, length in enumerate(LENGTHS.tolist()):
        own = scores.detach()[row, :length].requires_grad_()
        want = calls(own, labels[row, :length], order[row, :length], matrix[row, :length, :length])
        assert close(got[:, row], want, dtype)
        if length:
            assert close(grad[row, :length], torch.autograd.grad(want.sum(), own)[0], dtype, gradient=True)
        assert (grad[row, length:] == 0).all()


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_random_partitions(hard, conditionals):
    """The noise of an element does not depend on the padding: row 0 equals a draw of its own from the same seed."""
    scores, _, _, _, _ = data(torch.float64)
    omega = OMEGA.double().expand(B, K).clone().requires_grad_()
    out = ops.random_partition(omega, scores, 0.7, hard=hard, seed=3, lengths=LENGTHS, conditionals=conditionals)
    beyond = torch.arange(N) >= LENGTHS.unsqueeze(-1)
    assert torch.allclose(out.sizes.sum(-1), LENGTHS.double())
    assert (out.labels[beyond] == -1).all() and (out.assignment.mT[beyond] == 0).all()
    for row, length in enumerate(LENGTHS.tolist()):
        assert sorted(out.order[row, :length].tolist()) == list(range(length))
        assert out.order[row, length:].tolist() == list(range(length, N))
        if hard:
            assert torch.equal(out.assignment[row].sum(-1), out.sizes[row])
            assert torch.equal(out.assignment[row, :, :length].argmax(0), out.labels[row, :length])
    (grad,) = torch.autograd.grad((out.assignment**3).sum() + (out.sizes**2).sum(), omega)
    own = omega.detach()[:1].requires_grad_()
    alone = ops.random_partition(own, scores[:1, :5], 0.7, hard=hard, seed=3, conditionals=conditionals)
    assert torch.allclose(out.assignment[0, :, :5], alone.assignment[0], rtol=0, atol=1e-10)
    assert torch.equal(out.labels[0, :5], alone.labels[0]) and torch.equal(out.sizes[0], alone.sizes[0])
    (wanted,) = torch.autograd.grad((alone.assignment**3).sum() + (alone.sizes**2).sum(), own)
    assert torch.allclose(grad[0], wanted[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("hard", [False, True])
def test_references(hard):
    """The plain twins take lengths too."""
    scores, values, sizes, labels, order = data(torch.float64)
    omega = OMEGA.double()

    def calls(module, **quiet):
        part = module.random_partition(omega.expand(B, K), scores, 0.7, hard=hard, lengths=LENGTHS, **quiet)
        return [
            module.relaxed_sort_matmul(scores, values, 0.7, hard=hard, lengths=LENGTHS),
            module.partition(scores, sizes, 0.7, hard=hard, normalize=not hard, lengths=LENGTHS),
            module.plackett_luce_log_prob(order, scores, lengths=LENGTHS),
            module.partition_log_prob(labels, scores, K, lengths=LENGTHS),
            module.random_partition_log_prob(labels, omega, scores, lengths=LENGTHS),
            *module.partition_log_prob_bounds(labels, omega, scores, lengths=LENGTHS),
            *part,
        ]

    for got, want in zip(calls(ops, noise=False), calls(reference), strict=True):
        assert torch.allclose(got.double(), want.double(), rtol=1e-10, atol=1e-11)


def test_large_sets():
    lengths = torch.tensor([3000, 700])
    scores, sizes = torch.randn(2, 3000), torch.tensor([[1000.0, 2000.0], [500.0, 200.0]])
    got = ops.partition(scores, sizes, hard=False, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        assert close(got[row, :, :length], ops.partition(scores[row, :length], sizes[row], hard=False), torch.float32)
    labels = torch.randint(0, 4, (2, 3000))
    got = ops.partition_log_prob(labels, scores.double(), 4, lengths=lengths)
    want = ops.partition_log_prob(labels[1, :700], scores[1, :700].double(), 4)
    assert torch.allclose(got[1], want, rtol=1e-11)


def test_dtypes_and_lengths_that_broadcast():
    scores, values = torch.randn(4, N, dtype=torch.bfloat16), torch.randn(N, 2, dtype=torch.bfloat16)
    out = ops.relaxed_sort_matmul(scores, values, lengths=torch.tensor([[2], [5]]))
    assert out.dtype == torch.bfloat16 and out.shape == (2, 4, N, 2)
    assert ops.partition(scores, torch.tensor([1, 2]), lengths=3).dtype == torch.bfloat16
    assert ops.partition_log_prob(torch.zeros(N, dtype=torch.int64), scores, 2, lengths=3).dtype == torch.bfloat16


def test_transforms():
    scores, _, sizes, _, _ = data(torch.float64)
    each = torch.vmap(lambda s, z, c: ops.partition(s, z, hard=False, lengths=c))(scores, sizes, LENGTHS)
    assert torch.allclose(each, ops.partition(scores, sizes, hard=False, lengths=LENGTHS), rtol=0, atol=1e-12)
    inside = torch.where(torch.isnan(scores), 0.0, scores).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda s: ops.partition(s, sizes, hard=False, lengths=LENGTHS), (inside,))


def test_errors():
    scores = torch.randn(2, 4)
    with pytest.raises(ValueError, match="partition: lengths must be <= 4, got 5"):
        ops.partition(scores, torch.tensor([1, 2]), lengths=torch.tensor([5, 1]))
    with pytest.raises(ValueError, match="lengths must be >= 0"):
        ops.relaxed_sort_matmul(scores, scores.unsqueeze(-1), lengths=-1)
    with pytest.raises(TypeError, match="lengths must be whole"):
        ops.relaxed_sort_matmul(scores, scores.unsqueeze(-1), lengths=torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="batch shapes must broadcast"):
        ops.partition(scores, torch.tensor([1, 2]), lengths=torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="scores must be finite"):
        ops.partition(torch.full((2, 4), torch.nan), torch.tensor([1, 2]), lengths=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\)"):
        ops.partition_log_prob(torch.full((2, 4), 2), scores, 2, lengths=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="order must hold each of"):
        ops.plackett_luce_log_prob(torch.zeros(2, 4, dtype=torch.int64), scores, lengths=torch.tensor([1, 2]))
