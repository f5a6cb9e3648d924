import itertools
import math

import mpmath
import pytest
import torch

from drpm import reference
from drpm.ops import plackett_luce_log_prob
from drpm.testing import FLOAT_DTYPES, assert_matches_reference, relative_error


def direct(order, log_scores):
    return reference.plackett_luce_log_prob(order, log_scores.double())


def sample(*shape, scale=1.0, dtype=torch.float64):
    scores = (torch.randn(*shape) * scale).to(dtype)
    return torch.rand(*shape).argsort(-1), scores


def gradient(order, scores, weight=None):
    scores = scores.detach().clone().requires_grad_()
    value = plackett_luce_log_prob(order, scores)
    (grad,) = torch.autograd.grad((value * (1 if weight is None else weight)).sum(), scores)
    return value.detach(), grad


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (300,), (3, 255), (2, 4, 256), (5, 257), (2, 1000)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_matches_the_formula(shape, scale, dtype):
    order, scores = sample(*shape, scale=scale, dtype=dtype)
    weight = torch.randn(shape[:-1], dtype=torch.float64)
    value, grad = gradient(order, scores, weight)
    expected_input = scores.double().requires_grad_()
    expected = direct(order, expected_input)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), expected_input)
    assert value.dtype == grad.dtype == dtype
    assert_matches_reference(value, expected, direct(order, scores).to(dtype))
    assert_matches_reference(grad, expected_grad, expected_grad.to(dtype), gradient=True)


def test_probabilities_of_all_orders_sum_to_one():
    scores = torch.randn(6, dtype=torch.float64) * 3
    orders = torch.tensor(list(itertools.permutations(range(6))))
    assert abs(plackett_luce_log_prob(orders, scores).exp().sum() - 1) < 1e-13


def test_gradient_sums_to_zero_and_averages_to_zero():
    scores = torch.randn(5, dtype=torch.float64)
    orders = torch.tensor(list(itertools.permutations(range(5))))
    value, grad = gradient(orders, scores.expand(120, 5))
    assert grad.sum(-1).abs().max() < 1e-13
    assert (value.exp().unsqueeze(-1) * grad).sum(0).abs().max() < 1e-13


@pytest.mark.parametrize("span", [600.0, 1e4, 1e8])
def test_huge_spans_against_40_digits(span):
    n = 40
    order = torch.rand(n).argsort()
    scores = (torch.rand(n, dtype=torch.float64) - 0.5) * span
    value, grad = gradient(order, scores)
    with mpmath.workdps(40):
        x = [mpmath.mpf(scores[i].item()) for i in order.tolist()]
        suffix = [mpmath.fsum(mpmath.e**v for v in x[i:]) for i in range(n)]
        want = mpmath.fsum(v - mpmath.log(s) for v, s in zip(x, suffix, strict=True))
        want_grad = [1 - mpmath.e ** x[j] * mpmath.fsum(1 / s for s in suffix[: j + 1]) for j in range(n)]
        assert abs(value.item() - float(want)) <= 1e-13 * max(1.0, abs(float(want)))
        assert max(abs(grad[order[j]].item() - float(want_grad[j])) for j in range(n)) < 1e-12 * max(1, span / 100)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_alternating_huge_scores_stay_finite(dtype):
    scores = torch.tensor([0.0, 1e30, -1e30, 5.0, 1e30, -80.0, 80.0], dtype=dtype).repeat(100)
    value, grad = gradient(torch.arange(700), scores)
    assert value.isfinite() and grad.isfinite().all()


def test_float32_long_row_is_as_good_as_its_rounding():
    order, scores = sample(1_000_000, dtype=torch.float32)
    value, grad = gradient(order, scores)
    wide_value, wide_grad = gradient(order, scores.double())
    assert relative_error(value, wide_value) < 1e-7
    assert relative_error(grad, wide_grad) < 1e-6
    assert abs(wide_value - direct(order, scores)) < 1e-12 * abs(wide_value)


def test_gradcheck_order_and_matrix():
    order, scores = sample(2, 3, 5)
    assert torch.autograd.gradcheck(lambda s: plackett_luce_log_prob(order, s), scores.requires_grad_())
    matrix = torch.softmax(torch.randn(3, 5, 5, dtype=torch.float64) * 2, -1).requires_grad_()
    assert torch.autograd.gradcheck(plackett_luce_log_prob, (matrix, scores))


def test_permutation_matrix_equals_its_order():
    order, scores = sample(4, 9)
    matrix = torch.nn.functional.one_hot(order, 9).double()
    by_matrix = plackett_luce_log_prob(matrix, scores)
    assert torch.allclose(by_matrix, plackett_luce_log_prob(order, scores), rtol=1e-14)


def test_broadcasts_order_and_scores():
    order, scores = sample(3, 1, 6)[0], torch.randn(4, 6, dtype=torch.float64)
    value = plackett_luce_log_prob(order, scores)
    assert value.shape == (3, 4)
    assert torch.allclose(value, direct(order.expand(3, 4, 6), scores.expand(3, 4, 6)))


def test_non_contiguous_inputs():
    order, scores = sample(6, 10)
    wide = torch.stack([scores, torch.zeros_like(scores)], -1)[..., 0]
    tall = order.t().contiguous().t()
    assert not wide.is_contiguous() and not tall.is_contiguous()
    for a, b in zip(gradient(tall, wide), gradient(order, scores), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), (0, 0), (1,), (2, 1)])
def test_empty_and_single(shape, dtype):
    value, grad = gradient(torch.zeros(shape, dtype=torch.int64), torch.randn(shape).to(dtype))
    assert value.shape == shape[:-1] and value.dtype == grad.dtype == dtype and grad.shape == shape
    assert torch.equal(value, torch.zeros_like(value)) and torch.equal(grad, torch.zeros_like(grad))


def test_ties_and_invariance_to_a_shift():
    n = 8
    assert abs(plackett_luce_log_prob(torch.randperm(n), torch.full((n,), 2.5)) + math.lgamma(n + 1)) < 1e-5
    order, scores = sample(n)
    assert torch.allclose(plackett_luce_log_prob(order, scores + 1e3), plackett_luce_log_prob(order, scores))


def test_inference_does_not_compute_the_gradient():
    order, scores = sample(2, 5)
    assert torch.ops.drpm.plackett_luce_log_prob(scores, order, False)[1].shape == (2, 0)
    assert not plackett_luce_log_prob(order, scores).requires_grad


def test_threads_do_not_change_the_result():
    order, scores = sample(500, 200)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gradient(order, scores)
        torch.set_num_threads(4)
        four = gradient(order, scores)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one[0], four[0]) and torch.equal(one[1], four[1])


def test_compiles_without_graph_break():
    order, scores = sample(3, 6)
    compiled = torch.compile(plackett_luce_log_prob, fullgraph=True, backend="aot_eager")
    scores.requires_grad_()
    value = compiled(order, scores)
    (grad,) = torch.autograd.grad(value.sum(), scores)
    assert torch.equal(value.detach(), gradient(order, scores)[0])
    assert torch.equal(grad, gradient(order, scores)[1])


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("with_order", [True, False])
def test_opcheck(dtype, with_order):
    order, scores = sample(2, 5, dtype=dtype)
    scores.requires_grad_()
    arguments = (scores, order if with_order else None, True)
    torch.library.opcheck(torch.ops.drpm.plackett_luce_log_prob, arguments)


def test_device_rows_that_are_no_permutation_give_nan():
    order = torch.tensor([[0, 1, 2], [0, 0, 2], [0, 1, 3], [-1, 1, 2]])
    value, grad = torch.ops.drpm.plackett_luce_log_prob(torch.zeros(4, 3), order, True)
    assert value.isnan().tolist() == [False, True, True, True]
    assert grad.isnan().all(-1).tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("order", "scores", "error", "message"),
    [
        (torch.tensor([0, 0, 1]), torch.zeros(3), ValueError, r"order must hold each of 0 … 2 once, got \[0, 0, 1\]"),
        (torch.tensor([[0, 1], [0, 2]]), torch.zeros(2), ValueError, r"got \[0, 2\]"),
        (torch.tensor([0, 1]), torch.zeros(3), ValueError, r"order must be \(\*, 3\), got \(2,\)"),
        (torch.zeros(2, 3), torch.zeros(3), ValueError, r"order must be \(\*, 3, 3\), got \(2, 3\)"),
        (torch.tensor([0, 1], dtype=torch.int32), torch.zeros(2), TypeError, "order must be int64"),
        ([0, 1], torch.zeros(2), TypeError, "order must be a tensor, got list"),
        (torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64), TypeError, "log_scores must have a floating dtype"),
        (torch.tensor([0, 1]), torch.tensor([0.0, math.nan]), ValueError, "log_scores must be finite, got nan"),
        (torch.tensor([0, 1]), torch.tensor([0.0, -math.inf]), ValueError, "log_scores must be finite, got -inf"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(4, 3), ValueError, "batch shapes must broadcast"),
        (torch.tensor(0), torch.tensor(0.0), ValueError, "log_scores must have an element dimension"),
    ],
)
def test_bad_arguments(order, scores, error, message):
    with pytest.raises(error, match=f"^plackett_luce_log_prob: .*{message}"):
        plackett_luce_log_prob(order, scores)
