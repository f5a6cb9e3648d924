import itertools
import math

import pytest
import torch

from drpm import reference
from drpm.ops import assignment_log_prob, partition_log_prob, random_assignment_log_prob, random_partition_log_prob
from drpm.testing import FLOAT_DTYPES, assert_matches_reference, relative_error
from python_tests.reference.enumeration import all_labels, assignment_prob


def gradient(labels, scores, weight=None, function=assignment_log_prob):
    scores = scores.detach().clone().requires_grad_()
    value = function(labels, scores)
    (grad,) = torch.autograd.grad((value * (1 if weight is None else weight)).sum(), scores)
    return value.detach(), grad


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize(("shape", "num_subsets"), [((1,), 2), ((4, 7), 3), ((2, 3, 40), 5), ((1, 90), 4)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0])
def test_matches_the_reference(shape, num_subsets, scale, dtype):
    scores = (torch.randn(*shape[:-1], num_subsets, shape[-1]) * scale).to(dtype)
    labels = torch.randint(num_subsets, shape)
    weight = torch.randn(shape[:-1], dtype=torch.float64)
    value, grad = gradient(labels, scores, weight)
    expected, expected_grad = gradient(labels, scores.double(), weight, function=reference.assignment_log_prob)
    assert value.dtype == grad.dtype == dtype
    assert_matches_reference(value, expected)
    assert_matches_reference(grad, expected_grad, gradient=True)


def test_matches_the_sum_over_all_orders():
    for n, num_subsets in itertools.product(range(1, 7), (2, 3)):
        scores = torch.randn(num_subsets, n, dtype=torch.float64) * 2
        labels = torch.randint(num_subsets, (n,))
        expected = assignment_prob(labels.tolist(), scores).log()
        assert abs(assignment_log_prob(labels, scores) - expected) < 1e-11


def test_all_labellings_sum_to_one():
    labels = torch.tensor(sorted(set(itertools.permutations([0, 0, 1, 1, 2, 4]))))
    for scale in (0.5, 3.0):
        scores = torch.randn(5, 6, dtype=torch.float64) * scale
        value, grad = gradient(labels, scores.expand(len(labels), 5, 6))
        assert abs(value.exp().sum() - 1) < 4e-12
        assert (value.exp()[:, None, None] * grad).sum(0).abs().max() < 1e-11  # E of the score function
        log_omega = torch.randn(3, dtype=torch.float64)
        every = random_assignment_log_prob(all_labels(5, 3), log_omega, scores[:3, :5])
        assert abs(every.exp().sum() - 1) < 1e-11


@pytest.mark.parametrize(("n", "num_subsets"), [(5, 3), (300, 4), (3000, 2), (20000, 3)])
def test_equal_rows_give_the_log_probability_of_one_order(n, num_subsets):
    row = torch.randn(2, 1, n, dtype=torch.float64) * 2
    labels = torch.randint(num_subsets, (2, n))
    scores = row.expand(2, num_subsets, n)
    value, grad = gradient(labels, scores)
    expected, expected_grad = gradient(labels, row, function=lambda y, s: partition_log_prob(y, s[:, 0], num_subsets))
    assert relative_error(value, expected) < 1e-12
    assert relative_error(grad.sum(-2), expected_grad[:, 0]) < 1e-11
    log_omega = torch.randn(num_subsets, dtype=torch.float64)
    joint = random_assignment_log_prob(labels, log_omega, scores)
    assert relative_error(joint, random_partition_log_prob(labels, log_omega, row[:, 0])) < 1e-12


def test_long_rows_by_parts_and_in_both_precisions():
    """Chebyshev moments and every phase by its own threads, against factor by factor with two subsets."""
    n = 30000
    scores, labels = torch.randn(3, n, dtype=torch.float64) * 2, torch.randint(3, (n,))
    value, grad = gradient(labels, scores)
    first, rest = (labels > 0).long(), labels[labels > 0] - 1
    one, one_grad = gradient(first, scores[0], function=lambda y, s: partition_log_prob(y, s, 2))
    two, two_grad = gradient(rest, scores[1, labels > 0], function=lambda y, s: partition_log_prob(y, s, 2))
    assert relative_error(value, one + two) < 1e-12
    assert relative_error(grad[0], one_grad) < 1e-10 and relative_error(grad[1, labels > 0], two_grad) < 1e-10
    assert (grad[1, labels == 0] == 0).all() and (grad[2] == 0).all()
    narrow, narrow_grad = gradient(labels, scores.float())
    wide, wide_grad = gradient(labels, scores.float().double())
    assert relative_error(narrow, wide) < 1e-7 and relative_error(narrow_grad, wide_grad) < 1e-6


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("n", [6, 3000])
def test_rows_whose_best_are_gone_lose_nothing(n, dtype):
    """What earlier subsets took stands far above what remains in a later row; offsets do not matter."""
    labels = torch.arange(n) * 3 // n
    scores = torch.randn(3, n).to(dtype)
    value, grad = gradient(labels, scores)
    for height in (50.0, 1e4):
        moved = scores.clone()
        moved[1, labels == 0] += height
        again, again_grad = gradient(labels, moved)
        assert_matches_reference(again, value.double())
        assert_matches_reference(again_grad[1], grad[1].double(), gradient=True)


def test_gradcheck_and_finite_differences():
    labels = torch.randint(3, (2, 7))
    scores = (torch.randn(2, 4, 7, dtype=torch.float64) * 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: assignment_log_prob(labels, s), scores, atol=1e-7)
    assert torch.autograd.gradgradcheck(lambda s: assignment_log_prob(labels, s), scores, atol=1e-6)
    _, grad = gradient(labels, scores)
    assert grad.sum(-1).abs().max() < 1e-12 and (grad[:, -1] == 0).all()


def test_concave_in_every_row():
    labels, scores = torch.randint(3, (30, 8)), torch.randn(30, 3, 8, dtype=torch.float64) * 3
    step = torch.randn(30, 3, 8, dtype=torch.float64) * 0.1
    ends = assignment_log_prob(labels, scores + step) + assignment_log_prob(labels, scores - step)
    assert (ends - 2 * assignment_log_prob(labels, scores) < 1e-11).all()


@pytest.mark.parametrize("last", [math.nan, math.inf, -1e30])
def test_the_last_row_holds_anything(last):
    labels, scores = torch.randint(3, (4, 9)), torch.randn(4, 3, 9, dtype=torch.float64)
    expected, expected_grad = gradient(labels, scores)
    scores[:, -1] = last
    value, grad = gradient(labels, scores)
    assert torch.equal(value, expected) and torch.equal(grad, expected_grad)
    lengths = torch.tensor([9, 5, 0, 3])
    short = assignment_log_prob(labels, scores, lengths=lengths)
    for row, count in enumerate(lengths.tolist()):
        own = assignment_log_prob(labels[row, :count], scores[row, :, :count])
        assert abs(short[row] - own) < 1e-11
    given = scores.clone().requires_grad_()
    twice = torch.autograd.grad(assignment_log_prob(labels, given).sum(), given, create_graph=True)[0]
    (second,) = torch.autograd.grad((twice[:, :-1] ** 2).sum(), given)
    assert second[:, :-1].isfinite().all() and (second[:, -1] == 0).all()


@pytest.mark.parametrize("shape", [(400, 60), (1, 40000)])
def test_threads_do_not_change_the_result(shape):
    scores, labels = torch.randn(shape[0], 3, shape[1]) * 2, torch.randint(3, shape)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gradient(labels, scores)
        torch.set_num_threads(4)
        four = gradient(labels, scores)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one[0], four[0]) and torch.equal(one[1], four[1])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), (1,), (2, 1)])
def test_empty_and_single(shape):
    value, grad = gradient(torch.zeros(shape, dtype=torch.int64), torch.randn(*shape[:-1], 2, shape[-1]))
    assert value.shape == shape[:-1] and (value == 0).all() and (grad == 0).all()
    assert assignment_log_prob(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0)) == 0
    assert assignment_log_prob(torch.zeros(4, dtype=torch.int64), torch.full((1, 4), math.nan)) == 0


def test_broadcast_and_non_contiguous():
    labels, scores = torch.randint(3, (4, 1, 6)), torch.randn(5, 3, 6, dtype=torch.float64)
    value = assignment_log_prob(labels, scores)
    assert value.shape == (4, 5)
    assert torch.equal(value, assignment_log_prob(labels.expand(4, 5, 6), scores.mT.contiguous().mT.expand(4, 5, 3, 6)))


@pytest.mark.parametrize("n", [4, 40000])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_nobody_checked_gives_nan(value, n):
    op = torch.ops.drpm.assignment_log_prob
    scores, labels = torch.randn(3, 3, n), torch.randint(3, (3, n))
    labels[0, :3], labels[0, 3:] = torch.tensor([0, 1, 2]), 1
    expected, expected_grad = op(scores, labels, True)
    bad = scores.clone()
    bad[1, 1, 2] = value
    got, grad = op(bad, labels, True)
    assert got[1].isnan() and grad[1].isnan().all()
    assert torch.equal(got[::2], expected[::2]) and torch.equal(grad[::2], expected_grad[::2])
    wrong = labels.clone()
    wrong[2, 0] = 3
    got, grad = op(scores, wrong, True)
    assert got.isnan().tolist() == [False, False, True] and grad[2].isnan().all()


@pytest.mark.parametrize(
    ("labels", "scores", "error", "message"),
    [
        (torch.tensor([0, 2]), torch.zeros(2, 2), ValueError, r"labels must be in \[0, 2\), got 2"),
        (torch.tensor([0, -1]), torch.zeros(2, 2), ValueError, r"labels must be in \[0, 2\), got -1"),
        (torch.tensor([0, 1]), torch.zeros(2, 3), ValueError, r"labels must be \(\*, 3\), got \(2,\)"),
        (torch.tensor([0.0, 1.0]), torch.zeros(2, 2), TypeError, "labels must be int64, got torch.float32"),
        (torch.tensor([0, 1]), torch.zeros(2, 2).long(), TypeError, "log_scores must have a floating dtype"),
        (torch.tensor([0, 1]), torch.zeros(2), ValueError, r"log_scores must be \(\*, K, n\) with K >= 1, got \(2,\)"),
        (torch.tensor([0, 1]), torch.zeros(0, 2), ValueError, r"log_scores must be \(\*, K, n\) with K >= 1, got \(0,"),
        (torch.tensor([0, 1]), torch.tensor([[0, math.inf], [0, 0]]), ValueError, "log_scores must be finite, got inf"),
        (torch.zeros(2, 3).long(), torch.zeros(4, 1, 3), ValueError, "batch shapes must broadcast"),
    ],
)
def test_bad_arguments(labels, scores, error, message):
    with pytest.raises(error, match=f"^assignment_log_prob: .*{message}"):
        assignment_log_prob(labels, scores)
    if scores.dim() == 2 and scores.is_floating_point() and scores.numel():
        with pytest.raises(
            ValueError, match="random_assignment_log_prob: log_scores must have a row for each of the 5"
        ):
            random_assignment_log_prob(labels, torch.zeros(5), scores)
