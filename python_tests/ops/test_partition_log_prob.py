import itertools
import math

import mpmath
import pytest
import torch

from drpm import reference
from drpm.ops import partition_log_prob, plackett_luce_log_prob
from drpm.testing import FLOAT_DTYPES, assert_matches_reference, relative_error


def gradient(labels, scores, num_subsets, weight=None, function=partition_log_prob):
    scores = scores.detach().clone().requires_grad_()
    value = function(labels, scores, num_subsets)
    (grad,) = torch.autograd.grad((value * (1 if weight is None else weight)).sum(), scores)
    return value.detach(), grad


def subset_first(log_ratios):
    """Pr[the elements of relative scores e^a precede a rest of score 1], over 2^n subsets; positive terms only."""
    scores = log_ratios.exp().tolist()
    n = len(scores)
    left = [1.0 + sum(s for i, s in enumerate(scores) if u >> i & 1) for u in range(1 << n)]  # scores still there
    prob = [0.0] * (1 << n)
    prob[-1] = 1.0
    for u in range((1 << n) - 1, 0, -1):
        for i in range(n):
            if u >> i & 1:
                prob[u ^ (1 << i)] += prob[u] * scores[i] / left[u]
    return prob[0]


def exact(labels, scores, num_subsets):
    total = 0.0
    for k in range(num_subsets):
        member, later = labels == k, labels > k
        if member.any() and later.any():
            total += math.log(subset_first(scores[member] - scores[later].logsumexp(0)))
    return total


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize(("shape", "num_subsets"), [((1,), 2), ((2,), 2), ((4, 7), 3), ((2, 3, 40), 5), ((1, 90), 4)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0])
def test_matches_the_reference(shape, num_subsets, scale, dtype):
    scores = (torch.randn(shape) * scale).to(dtype)
    labels = torch.randint(num_subsets, shape)
    weight = torch.randn(shape[:-1], dtype=torch.float64)
    value, grad = gradient(labels, scores, num_subsets, weight)
    expected, expected_grad = gradient(
        labels, scores.double(), num_subsets, weight, function=reference.partition_log_prob
    )
    assert value.dtype == grad.dtype == dtype
    assert_matches_reference(value, expected)
    assert_matches_reference(grad, expected_grad, gradient=True)


def test_matches_the_sum_over_all_orders():
    for n in range(1, 8):
        scores = torch.randn(n, dtype=torch.float64) * 2
        orders = torch.tensor(list(itertools.permutations(range(n))))
        log_prob = plackett_luce_log_prob(orders, scores)
        for num_subsets in (2, 3):
            labels = torch.randint(num_subsets, (n,))
            fills = (labels[orders].diff(dim=-1) >= 0).all(-1)  # the subsets in turn
            expected = log_prob[fills].logsumexp(0)
            assert abs(partition_log_prob(labels, scores, num_subsets) - expected) < 1e-11


def test_all_partitions_of_given_sizes_sum_to_one():
    labels = torch.tensor(sorted(set(itertools.permutations([0, 0, 1, 1, 1, 2, 4]))))
    for scale in (0.5, 3.0):
        scores = torch.randn(7, dtype=torch.float64) * scale
        value, grad = gradient(labels, scores.expand(len(labels), 7), 5)
        assert abs(value.exp().sum() - 1) < 4e-12
        assert (value.exp().unsqueeze(-1) * grad).sum(0).abs().max() < 1e-11  # E of the score function


@pytest.mark.parametrize("scale", [0.5, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_skewed_scores_against_the_subset_programme(scale, dtype):
    for _ in range(8):
        scores = (torch.randn(11, dtype=torch.float64) * scale).to(dtype)
        labels = torch.randint(3, (11,))
        value = partition_log_prob(labels, scores, 3).item()
        expected = exact(labels, scores.double(), 3)
        assert abs(value - expected) < (2e-11 if dtype == torch.float64 else 1e-6) * max(1, abs(expected))


def test_wide_scores_against_40_digits():
    """One factor is a sum over subsets with signs: inclusion and exclusion, exact in enough digits."""
    scores = torch.tensor([60.0, -60.0, 0.0, 59.0, -58.5, 0.1, 30.0, -30.0], dtype=torch.float64)
    for labels in (
        [0, 0, 0, 1, 1, 1, 1, 0],
        [1, 0, 1, 0, 1, 0, 1, 0],
        [0, 1, 0, 0, 0, 0, 0, 0],
        [1, 0, 1, 1, 1, 1, 1, 1],
    ):
        labels = torch.tensor(labels)
        with mpmath.workdps(150):
            s = [mpmath.e ** mpmath.mpf(x.item()) for x in scores]
            rest = mpmath.fsum(s[i] for i in range(8) if labels[i] == 1)
            members = [s[i] for i in range(8) if labels[i] == 0]
            total = mpmath.mpf(0)
            for chosen in itertools.product((0, 1), repeat=len(members)):
                part = mpmath.fsum(x for x, c in zip(members, chosen, strict=True) if c)
                total += (-1) ** sum(chosen) * rest / (rest + part)
            expected = float(mpmath.log(total))
        value, grad = gradient(labels, scores, 2)
        assert abs(value.item() - expected) < 1e-11 * max(1, abs(expected))
        assert abs(grad.sum()) < 1e-12
        assert abs(partition_log_prob(labels, scores.float(), 2).item() - expected) < 1e-6 * max(1, abs(expected))


@pytest.mark.parametrize(
    ("n", "num_subsets", "scale"), [(5000, 2, 1.0), (12000, 2, 3.0), (12000, 3, 30.0), (6000, 6, 0.0)]
)
def test_large_subsets_agree_with_direct_evaluation(n, num_subsets, scale):
    """Chebyshev moments (large subsets) against sums over all elements, and float32 against float64."""
    scores = torch.randn(n, dtype=torch.float64) * scale
    labels = torch.randint(num_subsets, (n,))
    value, grad = gradient(labels, scores, num_subsets)
    expected = 0.0
    expected_grad = torch.zeros(n, dtype=torch.float64)
    for k in range(num_subsets - 1):
        member, later = labels == k, labels > k
        rest = scores[later].logsumexp(0)
        a = scores[member] - rest
        # the integral on a fine grid around the mode, found by bisection of h'
        low, high = 0.0, math.log1p(len(a))
        for _ in range(60):
            y = 0.5 * (low + high)
            z = (a + y).exp()
            low, high = (y, high) if y < math.log1p((z / torch.expm1(z)).nan_to_num(0).sum()) else (low, y)
        width = 9 / math.sqrt(math.exp(y)) + (30 if math.exp(y) < 50 else 0)
        nodes = y + torch.linspace(-width, min(width, 8), 900, dtype=torch.float64)
        z = (a.unsqueeze(-1) + nodes).exp()
        ratio = torch.where(z < 1e-3, 1 - z / 2 + z**2 / 6 - z**3 / 24, -torch.expm1(-z) / z)
        h = nodes - nodes.exp() + torch.where(z < 1e-3, a.unsqueeze(-1) + nodes + ratio.log(), (ratio * z).log()).sum(0)
        expected += float((h + math.log(nodes[1] - nodes[0])).logsumexp(0))
        derivative = torch.where(z < 1e-3, 1 - z / 2 + z**2 / 12, z / torch.expm1(z)) @ h.softmax(0)
        expected_grad[member] += derivative
        expected_grad[later] -= derivative.sum() * (scores[later] - rest).exp()
    assert abs(value.item() - expected) < 1e-12 * abs(expected)
    assert relative_error(grad, expected_grad) < 1e-9
    narrow, narrow_grad = gradient(labels, scores.float(), num_subsets)
    wide, wide_grad = gradient(labels, scores.float().double(), num_subsets)
    assert relative_error(narrow, wide) < 1e-7
    assert relative_error(narrow_grad, wide_grad) < 1e-6


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("n", [40, 3000])
def test_scores_up_to_80_and_far_beyond_stay_finite(n, dtype):
    labels = torch.randint(4, (n,))
    for size in (60.0, 80.0, 1e4):
        for scores in (
            torch.linspace(-size, size, n),
            torch.randint(2, (n,)) * 2 * size - size,
            torch.full((n,), size),
        ):
            value, grad = gradient(labels, scores.to(dtype), 4)
            assert value.isfinite() and value <= 0 and grad.isfinite().all()
            tolerance = 1e-9 if dtype == torch.float64 else 1e-4
            assert abs(grad.double().sum()) < tolerance * max(1, grad.abs().max().item())


def test_gradient_by_finite_differences_and_gradcheck():
    labels = torch.randint(3, (2, 9))
    scores = (torch.randn(2, 9, dtype=torch.float64) * 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: partition_log_prob(labels, s, 4), scores, atol=1e-7)
    large = torch.randn(2500, dtype=torch.float64)
    labels = torch.randint(2, (2500,))
    _, grad = gradient(labels, large, 2)
    direction = torch.randn(2500, dtype=torch.float64)
    ahead = partition_log_prob(labels, large + 1e-4 * direction, 2) - partition_log_prob(
        labels, large - 1e-4 * direction, 2
    )
    assert abs(ahead / 2e-4 - grad @ direction) < 1e-6 * (grad @ direction).abs()


def test_concave_in_the_log_scores():
    labels = torch.randint(3, (30, 8))
    scores = torch.randn(30, 8, dtype=torch.float64) * 3
    step = torch.randn(30, 8, dtype=torch.float64) * 0.1
    middle = partition_log_prob(labels, scores, 3)
    ends = partition_log_prob(labels, scores + step, 3) + partition_log_prob(labels, scores - step, 3)
    assert (ends - 2 * middle < 1e-11).all()


def test_invariances():
    scores = torch.randn(12, dtype=torch.float64)
    labels = torch.randint(4, (12,))
    value, grad = gradient(labels, scores, 4)
    assert torch.allclose(partition_log_prob(labels, scores + 50, 4), value, rtol=1e-12)
    permutation = torch.randperm(12)
    moved, moved_grad = gradient(labels[permutation], scores[permutation], 4)
    assert torch.allclose(moved, value, rtol=1e-12) and torch.allclose(moved_grad, grad[permutation], atol=1e-11)
    spaced, spaced_grad = gradient(labels * 3 + 1, scores, 14)  # empty subsets change nothing
    assert torch.equal(spaced, value) and torch.equal(spaced_grad, grad)


def test_closed_forms():
    scores = torch.tensor([0.3, -2.0, 1.0, 5.0], dtype=torch.float64)
    assert torch.allclose(partition_log_prob(torch.tensor([1, 0, 1, 1]), scores, 2), scores.log_softmax(0)[1])
    order = torch.tensor([2, 0, 3, 1])  # every subset of one element: the order itself
    assert torch.allclose(partition_log_prob(order.argsort(), scores, 4), plackett_luce_log_prob(order, scores))
    for n, size in ((10, 3), (3000, 1200)):  # ties: all subsets of a size are equally likely
        labels = (torch.arange(n) >= size).long()
        expected = -(math.lgamma(n + 1) - math.lgamma(size + 1) - math.lgamma(n - size + 1))
        got = partition_log_prob(labels, torch.full((n,), 3.0, dtype=torch.float64), 2).item()
        assert abs(got - expected) < 1e-12 * abs(expected) + 1e-11


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), (0, 0), (1,), (2, 1)])
def test_empty_and_single(shape, dtype):
    value, grad = gradient(torch.zeros(shape, dtype=torch.int64), torch.randn(shape).to(dtype), 2)
    assert value.shape == shape[:-1] and value.dtype == grad.dtype == dtype and grad.shape == shape
    assert torch.equal(value, torch.zeros_like(value)) and torch.equal(grad, torch.zeros_like(grad))
    assert partition_log_prob(torch.zeros(0, dtype=torch.int64), torch.zeros(0), 0) == 0


def test_broadcast_and_non_contiguous():
    labels, scores = torch.randint(3, (4, 1, 6)), torch.randn(5, 6, dtype=torch.float64)
    value = partition_log_prob(labels, scores, 3)
    assert value.shape == (4, 5)
    assert torch.equal(value, partition_log_prob(labels.expand(4, 5, 6).contiguous(), scores.expand(4, 5, 6), 3))
    columns = partition_log_prob(labels[:, 0].t().contiguous().t(), scores[:4].t().contiguous().t(), 3)
    assert torch.equal(columns, partition_log_prob(labels[:, 0], scores[:4], 3))


@pytest.mark.parametrize("shape", [(400, 60), (1, 50000), (3, 20000)])
def test_threads_do_not_change_the_result(shape):
    scores, labels = torch.randn(shape) * 2, torch.randint(3, shape)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gradient(labels, scores, 3)
        torch.set_num_threads(4)
        four = gradient(labels, scores, 3)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one[0], four[0]) and torch.equal(one[1], four[1])


def test_a_million_elements():
    scores, labels = torch.randn(1_000_000), torch.randint(10, (1_000_000,))
    value, grad = gradient(labels, scores, 10)
    wide, wide_grad = gradient(labels, scores.double(), 10)
    assert relative_error(value, wide) < 1e-7 and relative_error(grad, wide_grad) < 1e-6
    assert abs(wide_grad.sum()) < 1e-8


def test_compiles_without_graph_break():
    scores, labels = torch.randn(3, 6, dtype=torch.float64), torch.randint(3, (3, 6))
    compiled = torch.compile(lambda s: partition_log_prob(labels, s, 3), fullgraph=True, backend="aot_eager")
    got = scores.clone().requires_grad_()
    (grad,) = torch.autograd.grad(compiled(got).sum(), got)
    assert torch.equal(grad, gradient(labels, scores, 3)[1])


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_opcheck(dtype):
    scores = torch.randn(2, 5, dtype=dtype, requires_grad=True)
    torch.library.opcheck(torch.ops.drpm.partition_log_prob, (scores, torch.randint(3, (2, 5)), 3, True))


@pytest.mark.parametrize("n", [3, 40000])
def test_device_rows_with_labels_out_of_range_give_nan(n):
    labels = torch.zeros(3, n, dtype=torch.int64)
    labels[1, 1], labels[2, 2] = 2, -1
    value, grad = torch.ops.drpm.partition_log_prob(torch.zeros(3, n), labels, 2, True)
    assert value.isnan().tolist() == [False, True, True]
    assert grad.isnan().all(-1).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("labels", "scores", "num_subsets", "error", "message"),
    [
        (torch.tensor([0, 2]), torch.zeros(2), 2, ValueError, r"labels must be in \[0, 2\), got 2"),
        (torch.tensor([0, -1]), torch.zeros(2), 2, ValueError, r"labels must be in \[0, 2\), got -1"),
        (torch.tensor([0, 1]), torch.zeros(3), 2, ValueError, r"labels must be \(\*, 3\), got \(2,\)"),
        (torch.tensor([0.0, 1.0]), torch.zeros(2), 2, TypeError, "labels must be int64, got torch.float32"),
        ([0, 1], torch.zeros(2), 2, TypeError, "labels must be a tensor, got list"),
        (torch.tensor([0, 1]), torch.zeros(2), 2.0, TypeError, "num_subsets must be an int, got float"),
        (torch.tensor([0, 1]), torch.zeros(2), 0, ValueError, "num_subsets must be >= 1, got 0"),
        (torch.tensor([0, 1]), torch.zeros(2).long(), 2, TypeError, "log_scores must have a floating dtype"),
        (torch.tensor([0, 1]), torch.tensor([0.0, math.inf]), 2, ValueError, "log_scores must be finite, got inf"),
        (torch.zeros(2, 3).long(), torch.zeros(4, 3), 2, ValueError, "batch shapes must broadcast"),
    ],
)
def test_bad_arguments(labels, scores, num_subsets, error, message):
    with pytest.raises(error, match=f"^partition_log_prob: .*{message}"):
        partition_log_prob(labels, scores, num_subsets)
