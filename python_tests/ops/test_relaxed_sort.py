import pytest
import torch

from drpm import reference
from drpm.ops import relaxed_sort, relaxed_sort_matmul
from drpm.reference.relaxed_sort import permutation_matrix, sort_order
from drpm.testing import FLOAT_DTYPES

from . import relaxed_sort_oracle as oracle
from .relaxed_sort_oracle import KINDS, check, scores_of, value_and_gradients

SIZES = [1, 2, 3, 17, 41, 130, 300]


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tau", [0.05, 1.0, 30.0])
def test_dense_matches_the_formula(kind, tau, dtype):
    for n in SIZES:
        scores = scores_of(kind, n, dtype)
        weight = torch.randn(n, n, dtype=torch.float64)
        exact = oracle.relaxed_sort(oracle.to_long(scores), tau, oracle.to_long(weight.to(dtype)))
        dense = value_and_gradients(reference.relaxed_sort, [scores], weight.to(dtype), tau=tau)
        got = value_and_gradients(relaxed_sort, [scores], weight.to(dtype), tau=tau)
        check(got, dense, exact)


def test_rows_sum_to_one_and_peak_at_their_rank():
    scores = torch.randn(3, 200, dtype=torch.float64)
    weights = relaxed_sort(scores, 0.5)
    assert (weights.sum(-1) - 1).abs().max() < 1e-13
    assert torch.equal(weights.argmax(-1), sort_order(scores))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_hard_is_a_permutation_and_a_small_tau_gives_it(dtype):
    scores = scores_of("ties", 300, dtype, (2,))
    hard = relaxed_sort(scores, hard=True)
    assert torch.equal(hard, permutation_matrix(sort_order(scores), dtype))
    distinct = torch.randperm(300).to(dtype).expand(2, 300)
    assert torch.equal(relaxed_sort(distinct, 1e-3), relaxed_sort(distinct, hard=True))


def test_straight_through_gradient_is_the_relaxed_one():
    scores = scores_of("ties", 120, torch.float64).requires_grad_()
    weight = torch.randn(120, 120, dtype=torch.float64)
    (hard,) = torch.autograd.grad((relaxed_sort(scores, hard=True) * weight).sum(), scores)
    (soft,) = torch.autograd.grad((relaxed_sort(scores) * weight).sum(), scores)
    assert torch.equal(hard, soft)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_negative_zero_ties_with_zero(dtype):
    scores = torch.tensor([0.0, -0.0, 1.0, -0.0, 0.0], dtype=dtype)
    assert torch.equal(relaxed_sort(scores, hard=True).argmax(-1), torch.tensor([2, 0, 1, 3, 4]))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("n", [39, 40, 41, 999, 3000, 3001, 20000])
def test_order_is_stable_and_decreasing(n, dtype):
    for scores in (torch.randn(2, n), torch.randint(-3, 4, (2, n)) * 1.0, torch.randn(2, n).exp() ** 9):
        scores = scores.to(dtype)
        _, order = torch.ops.drpm.relaxed_sort_matmul(scores, scores.unsqueeze(-1), 1.0, True)
        assert torch.equal(order, sort_order(scores))


def test_permuting_the_scores_permutes_the_columns():
    scores, shuffle = torch.randn(150, dtype=torch.float64), torch.randperm(150)
    shuffled = relaxed_sort(scores[shuffle], 0.7)
    # the same weights, but where rows are summed in the elements' order the last bit of the sum may differ
    torch.testing.assert_close(relaxed_sort(scores, 0.7)[:, shuffle], shuffled, rtol=1e-15, atol=0)


@pytest.mark.parametrize("hard", [False, True])
def test_gradcheck(hard):
    scores = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    values = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True)
    if not hard:
        torch.autograd.gradcheck(lambda s: relaxed_sort(s, 0.8), (scores,))
        torch.autograd.gradcheck(lambda s, v: relaxed_sort_matmul(s, v, 0.8), (scores, values))
    else:
        torch.autograd.gradcheck(lambda v: relaxed_sort_matmul(scores.detach(), v, hard=True), (values,))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("hard", [False, True])
def test_opcheck(hard, dtype):
    scores = torch.randn(3, 7, dtype=dtype, requires_grad=True)
    values = torch.randn(3, 7, 2, dtype=dtype, requires_grad=True)
    torch.library.opcheck(torch.ops.drpm.relaxed_sort, (scores, 0.5, hard))
    torch.library.opcheck(torch.ops.drpm.relaxed_sort_matmul, (scores, values, 0.5, hard))


def test_batch_shapes_broadcasting_and_strides():
    scores, values = torch.randn(2, 1, 30), torch.randn(3, 30, 4)
    got = relaxed_sort_matmul(scores, values, 0.5)
    assert got.shape == (2, 3, 30, 4)
    for i in range(2):
        for j in range(3):
            assert torch.equal(got[i, j], relaxed_sort_matmul(scores[i, 0], values[j], 0.5))
    strided = torch.randn(30, 2).t()[:, ::2]
    assert torch.equal(relaxed_sort(strided), relaxed_sort(strided.contiguous()))
    assert relaxed_sort(torch.randn(2, 3, 5)).shape == (2, 3, 5, 5)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0), (2, 0, 4)])
def test_empty(shape, hard):
    scores = torch.zeros(shape, requires_grad=True)
    values = torch.zeros(*shape, 2, requires_grad=True)
    dense, product = relaxed_sort(scores, hard=hard), relaxed_sort_matmul(scores, values, hard=hard)
    assert dense.shape == (*shape, shape[-1]) and product.shape == (*shape, 2)
    grads = torch.autograd.grad(dense.sum() + product.sum(), (scores, values))
    assert grads[0].shape == shape
    assert relaxed_sort_matmul(torch.randn(4), torch.randn(4, 0)).shape == (4, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_computes_in_float32(dtype):
    scores = torch.randn(20).to(dtype)
    assert torch.equal(relaxed_sort(scores), relaxed_sort(scores.float()).to(dtype))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("tau", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("scale", [1.0, 80.0, 1e30])
def test_extreme_scores_stay_finite(scale, tau, dtype):
    scores = torch.randn(300).to(dtype)
    scores[::7] *= scale
    scores.requires_grad_()
    values = torch.randn(300, 2, dtype=dtype)
    for out in (relaxed_sort(scores, tau), relaxed_sort_matmul(scores, values, tau)):
        (grad,) = torch.autograd.grad((out**2).sum(), scores)
        assert out.isfinite().all() and grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x: relaxed_sort(x, 0.0), ValueError, "relaxed_sort: tau must be positive and finite, got 0.0"),
        (lambda x: relaxed_sort(x * float("nan")), ValueError, "relaxed_sort: scores must be finite, got nan"),
        (lambda x: relaxed_sort(x.long()), TypeError, "relaxed_sort: scores must have a floating dtype"),
        (lambda x: relaxed_sort(x.sum()), ValueError, "relaxed_sort: scores must have an element dimension"),
        (
            lambda x: relaxed_sort(x, torch.zeros(())),
            ValueError,
            "relaxed_sort: tau must be positive and finite, got 0.0",
        ),
        (lambda x: relaxed_sort(x, torch.ones(1)), ValueError, "tau must be a float or a scalar tensor on the CPU"),
        (lambda x: relaxed_sort(x, torch.ones((), requires_grad=True)), ValueError, "tau must not require a gradient"),
        (lambda x: relaxed_sort_matmul(x, x), ValueError, r"relaxed_sort_matmul: values must be \(\*, 4, d\)"),
        (
            lambda x: relaxed_sort_matmul(x.expand(2, 4), torch.ones(3, 4, 1)),
            ValueError,
            "relaxed_sort_matmul: batch shapes must broadcast",
        ),
    ],
)
def test_bad_input(call, kind, message):
    with pytest.raises(kind, match=message):
        call(torch.arange(4.0))
