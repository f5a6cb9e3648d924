import numpy as np
import pytest
import torch

from drpm import reference
from drpm.ops import relaxed_sort, relaxed_sort_matmul
from drpm.reference.relaxed_sort import permutation_matrix, sort_order
from drpm.testing import FLOAT_DTYPES

from . import relaxed_sort_oracle as oracle

# Largest error relative to the largest expected entry: (values, gradients). Where the dense formula in the same dtype
# is worse (it cancels large numbers), its own error counts, once.
ALLOWED = {torch.float32: (2e-6, 1e-5), torch.float64: (1e-12, 1e-10)}


def error(got, want):
    """Largest deviation relative to the largest entry of `want` (long double)."""
    got = oracle.to_long(got)
    assert got.shape == want.shape
    scale = np.abs(want).max() if want.size else 1
    return float(np.abs(got - want).max() / scale) if want.size and scale > 0 else float(np.abs(got).sum())


def scores_of(kind, n, dtype, batch=()):
    x = torch.randn(*batch, n, dtype=torch.float64)
    if kind == "ties":
        x = (x * 3).round() / 3
    elif kind == "equal":
        x = torch.full_like(x, 0.7)
    elif kind == "clusters":
        x = x * 0.01 + torch.randint(0, 3, x.shape) * 5
    elif kind == "cauchy":
        x = x / torch.randn_like(x)
    elif kind == "offset":
        x = x + 1e4
    elif kind == "sorted":
        x = x.sort(-1).values
    return x.to(dtype)


KINDS = ["normal", "ties", "equal", "clusters", "cauchy", "offset", "sorted"]
SIZES = [1, 2, 3, 17, 41, 130, 300]


def value_and_gradients(function, inputs, weight, **options):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    value = function(*inputs, **options)
    grads = torch.autograd.grad((value * weight).sum(), inputs, allow_unused=True)
    grads = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, inputs, strict=True)]
    return [value.detach(), *grads]


def check(got, dense, exact):
    """Value and gradients within the stated bound, or within the dense formula's own error in that dtype.

    There are two absolute floors, for where "relative to the largest entry" says nothing. The gradient of the scores
    (the second entry) may be identically zero, such as inside a group of equal scores: all terms cancel, and what the
    oracle finds is its own rounding. It then counts as zero, to be met to within the rounding of the terms. And nothing
    below the smallest normal number is representable, in the dtype itself or in what was multiplied to get there.
    """
    for i, (a, b, c) in enumerate(zip(got, dense, exact, strict=True)):
        floor = float(torch.finfo(a.dtype).tiny) * 1e4  # a gradient is made of such numbers times 1 / tau <= 1e4
        if i == 1:
            c, magnitude = c
            terms = float(magnitude.max(initial=0))
            if np.abs(c).max(initial=0) <= 256 * np.finfo(oracle.LONG).eps * terms:
                floor = max(floor, torch.finfo(a.dtype).eps * terms)
        allowed = ALLOWED[a.dtype][min(i, 1)] * float(np.abs(c).max(initial=0))
        own = float(np.abs(oracle.to_long(b) - c).max(initial=0))
        found = float(np.abs(oracle.to_long(a) - c).max(initial=0))
        assert found <= max(allowed, own, floor), (i, found, allowed, own, floor)


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


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hard", [False, True])
def test_product_matches_the_formula(kind, hard, dtype):
    for n, d, tau in [(1, 3, 1.0), (2, 1, 0.5), (41, 2, 1.0), (200, 5, 0.3), (300, 1, 20.0), (70, 40, 1.0)]:
        scores, values = scores_of(kind, n, dtype), torch.randn(n, d, dtype=dtype)
        weight = torch.randn(n, d, dtype=torch.float64)
        options = {"tau": tau, "hard": hard}
        exact = oracle.relaxed_sort_matmul(
            oracle.to_long(scores), oracle.to_long(values), tau, hard, oracle.to_long(weight.to(dtype))
        )
        dense = value_and_gradients(reference.relaxed_sort_matmul, [scores, values], weight.to(dtype), **options)
        got = value_and_gradients(relaxed_sort_matmul, [scores, values], weight.to(dtype), **options)
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


def test_threads_do_not_change_results():
    scores = torch.randn(2, 6000, requires_grad=True)
    values = torch.randn(2, 6000, 3, requires_grad=True)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            out = relaxed_sort_matmul(scores, values)
            results.append((out.detach(), *torch.autograd.grad((out**2).sum(), (scores, values))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


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
