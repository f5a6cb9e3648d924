import math

import pytest
import scipy.stats
import torch

from drpm import reference
from drpm.ops import (
    STREAM_ASSIGNMENT,
    STREAM_SIZES,
    Partition,
    gumbel_noise,
    mvhg_sample,
    random_assignment,
    random_assignment_log_prob,
    random_partition,
)
from drpm.ops.random_assignment import assignment_chain
from drpm.testing import FLOAT_DTYPES, assert_matches_reference
from python_tests.reference.enumeration import all_labels

SMALLEST_P = 1e-4  # one declared failure rate for every goodness-of-fit test here; seeds are fixed


def noise_of(seed, rows, classes, n, dtype):
    sizes = gumbel_noise(seed, (rows, classes, n + 1), stream=STREAM_SIZES, dtype=dtype)
    return sizes, gumbel_noise(seed, (rows, classes, n), stream=STREAM_ASSIGNMENT, dtype=dtype)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("n", "num_subsets", "tau"), [(30, 5, 0.7), (9, 3, 0.1), (200, 4, 1.0), (5, 9, 2.0)])
def test_matches_the_reference_on_the_same_noise(hard, dtype, n, num_subsets, tau):
    log_omega = torch.randn(3, num_subsets, dtype=dtype, requires_grad=True)
    log_scores = torch.randn(3, num_subsets, n, dtype=dtype, requires_grad=True)
    weight = torch.randn(3, num_subsets, n, dtype=torch.float64)
    got = random_assignment(log_omega, log_scores, tau, hard=hard, seed=11, conditionals="merged")
    got_grads = torch.autograd.grad((got.assignment * weight.to(dtype)).sum(), (log_omega, log_scores))
    size_gumbel, score_gumbel = noise_of(11, 3, num_subsets, n, dtype)
    omega, scores = (x.detach().double().requires_grad_() for x in (log_omega, log_scores))
    options = {"hard": hard, "size_gumbel": size_gumbel.double(), "score_gumbel": score_gumbel.double()}
    want = reference.random_assignment(omega, scores, tau, conditionals="merged", **options)
    want_grads = torch.autograd.grad((want.assignment * weight).sum(), (omega, scores))
    assert isinstance(got, Partition) and got.assignment.dtype == dtype
    assert torch.equal(got.order, want.order) and torch.equal(got.labels, want.labels)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    assert (got.sizes - want.sizes).abs().max() <= tolerance * n
    assert (got.assignment - want.assignment).abs().max() <= tolerance
    for a, b in zip(got_grads, want_grads, strict=True):
        assert (a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize(("n", "num_subsets", "spread"), [(40, 4, 1.0), (300, 3, 0.0), (1500, 4, 3.0)])
def test_the_gradient_is_that_of_the_chain_of_partitions(n, num_subsets, spread, dtype):
    """Long rows, where the reference is too slow: every step as a partition of all elements."""
    scores = (spread * torch.randn(2, num_subsets, n)).to(dtype)
    sizes = torch.distributions.Multinomial(n, torch.ones(num_subsets)).sample((2,)).to(dtype)
    seed, weight = torch.tensor([3]), torch.randn(2, num_subsets, n).to(dtype)
    given = [x.clone().requires_grad_() for x in (scores, sizes)]
    planes, order, labels = torch.ops.drpm.random_assignment(*given, seed, 0.7, True)
    grads = torch.autograd.grad((planes * weight).sum(), given)
    again = [x.clone().requires_grad_() for x in (scores, sizes)]
    noise = gumbel_noise(seed, tuple(scores.shape), stream=STREAM_ASSIGNMENT, dtype=dtype)
    noisy = (again[0] - scores.amax(-1, keepdim=True)) + noise
    composed = assignment_chain(noisy, labels, again[1], 0.7, hard=True)
    assert torch.equal(labels.gather(-1, order), labels.sort(-1).values)
    assert torch.equal(planes, composed)
    for got, want in zip(grads, torch.autograd.grad((composed * weight).sum(), again), strict=True):
        assert_matches_reference(got, want.double(), gradient=True)


def test_one_seed_draws_sizes_and_rows_independently():
    log_omega, log_scores = torch.zeros(2, 3), torch.randn(2, 3, 8)
    got = random_assignment(log_omega, log_scores, seed=5, sample_shape=(6,))
    assert torch.equal(got.sizes, mvhg_sample(log_omega, 8, 8, seed=5, sample_shape=(6,)))
    noisy = log_scores + noise_of(5, 12, 3, 8, torch.float32)[1].reshape(6, 2, 3, 8)
    first = noisy[..., 0, :].sort(dim=-1, descending=True, stable=True).indices
    taken = torch.arange(8) < got.sizes[..., :1]
    assert torch.equal(got.order.where(taken, -1), first.where(taken, -1))
    assert not torch.equal(noisy[:, :, 0] - log_scores[:, 0], noisy[:, :, 1] - log_scores[:, 1])


@pytest.mark.parametrize("m", [None, torch.tensor([2, 2, 3])])
def test_goodness_of_fit_to_log_prob(m):
    log_omega, log_scores = torch.randn(3).double(), torch.randn(3, 5).double()
    labels = all_labels(5, 3)
    draws, base = 60000, torch.tensor([81, 27, 9, 3, 1])
    probability = random_assignment_log_prob(labels, log_omega, log_scores, m=m).exp()
    drawn = random_assignment(log_omega, log_scores, m=m, sample_shape=(draws,), seed=1)
    counts = (drawn.labels * base).sum(-1).bincount(minlength=243).double()
    assert counts[probability == 0].sum() == 0
    expected = draws * probability
    often = expected >= 5
    seen = torch.cat([counts[often], counts[~often].sum().reshape(1)])
    wanted = torch.cat([expected[often], expected[~often].sum().reshape(1)])
    kept = wanted > 0
    assert scipy.stats.chisquare(seen[kept], wanted[kept] * seen.sum() / wanted.sum()).pvalue > SMALLEST_P


def test_goodness_of_fit_of_equal_rows_to_one_order():
    log_omega, row = torch.randn(3).double(), torch.randn(4).double()
    draws, base = 40000, torch.tensor([27, 9, 3, 1])
    options = {"sample_shape": (draws,)}
    rows = random_assignment(log_omega, row.expand(3, 4), seed=2, **options)
    one = random_partition(log_omega, row, seed=3, **options)
    table = torch.stack([(x.labels * base).sum(-1).bincount(minlength=81) for x in (rows, one)])
    assert scipy.stats.chi2_contingency(table[:, table.sum(0) > 10]).pvalue > SMALLEST_P


@pytest.mark.parametrize("hard", [False, True])
def test_labels_order_and_sizes_agree(hard):
    log_omega, log_scores = torch.randn(3, 4), torch.randn(3, 4, 50)
    got = random_assignment(log_omega, log_scores, hard=hard, sample_shape=(2, 5), seed=1)
    assert got.assignment.shape == (2, 5, 3, 4, 50) and got.sizes.shape == (2, 5, 3, 4)
    assert got.order.shape == got.labels.shape == (2, 5, 3, 50)
    assert (got.labels.gather(-1, got.order).diff(dim=-1) >= 0).all()
    assert torch.equal(got.order.sort(-1).values, torch.arange(50).expand(2, 5, 3, 50))
    assert torch.allclose(got.assignment.sum(-2), torch.ones(2, 5, 3, 50)) and (got.assignment >= 0).all()
    whole = random_assignment(log_omega, log_scores, sample_shape=(2, 5), seed=1)
    assert torch.equal(got.labels, whole.labels) and torch.equal(got.order, whole.order)
    counts = torch.nn.functional.one_hot(whole.labels, 4).sum(-2)
    assert torch.equal(counts.float(), whole.sizes) and torch.equal(whole.labels, whole.assignment.argmax(-2))


def test_ties_go_by_index():
    log_scores = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0]] * 3)
    sizes = torch.tensor([[3.0, 1.0, 1.0]])
    _, order, labels = torch.ops.drpm.random_assignment(log_scores[None], sizes, torch.zeros(1).long(), 1.0, False)
    assert order.tolist() == [[1, 3, 0, 2, 4]] and labels.tolist() == [[0, 0, 1, 0, 2]]
    equal = random_assignment(torch.zeros(4), torch.zeros(4, 3000), noise=False)
    assert torch.equal(equal.order, torch.arange(3000))
    signed = torch.tensor([0.0, -0.0]).repeat(500).expand(1, 2, 1000).contiguous()  # one value
    _, order, _ = torch.ops.drpm.random_assignment(
        signed, torch.tensor([[300.0, 700.0]]), torch.zeros(1).long(), 1.0, False
    )
    assert torch.equal(order[0], torch.arange(1000))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("n", [1, 39, 41, 256, 5000])
def test_selection_is_that_of_a_sort(n, dtype):
    """Values of every magnitude, with many equal ones."""
    scores = torch.randn(1, 3, n, dtype=dtype) * 10.0 ** torch.randint(-30, 30, (1, 3, n))
    scores = torch.where(torch.rand(scores.shape) < 0.3, scores.round(), scores)
    for first in sorted({0, 1, n // 3, n - 1, n}):
        second = (n - first) // 2
        sizes = torch.tensor([[first, second, n - first - second]], dtype=dtype)
        _, order, labels = torch.ops.drpm.random_assignment(scores, sizes, torch.zeros(1).long(), 1.0, False)
        left, want = torch.arange(n), []
        for k, size in enumerate((first, second, n - first - second)):
            ranked = left[scores[0, k, left].sort(descending=True, stable=True).indices]
            want.append(ranked[:size])
            left = ranked[size:].sort().values
        assert torch.equal(order[0], torch.cat(want))
        assert torch.equal(labels[0].bincount(minlength=3), torch.tensor([first, second, n - first - second]))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("noise", [False, True])
def test_lengths(hard, noise):
    log_omega, log_scores = torch.randn(3), torch.randn(4, 3, 12)
    lengths = torch.tensor([12, 5, 0, 1])
    padded = log_scores.clone()
    padded[torch.arange(12).expand(4, 3, 12) >= lengths[:, None, None]] = math.nan
    padded.requires_grad_()
    options = {"hard": hard, "noise": noise, "seed": 4 if noise else None}
    got = random_assignment(log_omega, padded, 0.7, lengths=lengths, **options)
    (grad,) = torch.autograd.grad((got.assignment * torch.randn(4, 3, 12)).sum(), padded)
    assert grad.isfinite().all()
    for row, count in enumerate(lengths.tolist()):
        assert (got.assignment[row, :, count:] == 0).all() and (got.labels[row, count:] == -1).all()
        assert got.order[row, count:].tolist() == list(range(count, 12)) and (grad[row, :, count:] == 0).all()
    if hard:
        counts = torch.stack([(got.labels == k).sum(-1) for k in range(3)], -1)
        assert torch.equal(counts.float(), got.sizes) and torch.equal(counts.sum(-1), lengths)
    assert torch.allclose(got.assignment.sum(-2), (torch.arange(12) < lengths[:, None]).float(), atol=1e-6)


@pytest.mark.parametrize("last", [math.nan, math.inf, -math.inf, 7.0])
@pytest.mark.parametrize("hard", [False, True])
def test_the_last_row_only_orders(last, hard):
    log_omega, log_scores = torch.randn(2, 3), torch.randn(2, 3, 20)
    moved = log_scores.clone()
    moved[:, -1] = last
    results = []
    for scores in (log_scores.requires_grad_(), moved.requires_grad_()):
        drawn = random_assignment(log_omega, scores, hard=hard, seed=1)
        (grad,) = torch.autograd.grad((drawn.assignment * torch.linspace(0, 1, 20).cos()).sum(), scores)
        results.append((drawn, grad))
    (one, one_grad), (two, two_grad) = results
    assert torch.equal(one.assignment, two.assignment) and torch.equal(one.labels, two.labels)
    assert torch.equal(one_grad, two_grad) and (one_grad[:, -1] == 0).all()
    assert torch.equal(two.order.sort(-1).values, torch.arange(20).expand(2, 20))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_nobody_checked_gives_nan(value, dtype):
    scores, sizes = torch.randn(3, 3, 6, dtype=dtype), torch.tensor([[2, 2, 2]] * 3, dtype=dtype)
    seed, weight = torch.tensor([1]), torch.randn(3, 3, 6, dtype=dtype)

    def run(scores, sizes):
        scores, sizes = scores.clone().requires_grad_(), sizes.clone().requires_grad_()
        planes, order, labels = torch.ops.drpm.random_assignment(scores, sizes, seed, 1.0, True)
        return planes.detach(), order, labels, *torch.autograd.grad((planes * weight).sum(), (scores, sizes))

    expected = run(scores, sizes)
    for position in (0, 1, None):
        bad_scores, bad_sizes = scores.clone(), sizes.clone()
        if position is None:
            bad_sizes[1, 1] = value
        else:
            bad_scores[1, position, 3] = value
        got = run(bad_scores, bad_sizes)
        for x, y in zip(got, expected, strict=True):
            assert torch.equal(x[::2], y[::2])
        assert all(got[i][1].isnan().all() for i in (0, 3, 4))
        assert torch.equal(got[1][1].sort().values, torch.arange(6))
        assert ((got[2][1] >= 0) & (got[2][1] < 3)).all()


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("offset", [1e4, 1e6, 1e12])
def test_an_offset_of_a_row_of_scores_does_not_matter(offset, hard):
    log_omega = torch.randn(3, 4).double()
    log_scores = torch.randn(3, 4, 30).double().add(offset).sub(offset)  # what is left when the offset is there
    moved = log_scores + offset * torch.tensor([[0.0], [1.0], [-1.0], [1.0]])
    results = []
    for scores in (log_scores.requires_grad_(), moved.detach().requires_grad_()):
        drawn = random_assignment(log_omega, scores, 0.7, hard=hard, seed=1)
        results.append(
            [*drawn, *torch.autograd.grad((drawn.assignment * torch.linspace(0, 9, 30).cos()).sum(), scores)]
        )
    for one, two in zip(*results, strict=True):
        assert torch.allclose(one.double(), two.double(), rtol=1e-9, atol=1e-9)


def test_threads_do_not_change_the_result():
    log_omega, log_scores = torch.randn(6, 4), torch.randn(6, 4, 3000, requires_grad=True)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            drawn = random_assignment(log_omega, log_scores, seed=1)
            weight = torch.linspace(0, 9, 3000).cos()
            results.append([*drawn, *torch.autograd.grad((drawn.assignment * weight).sum(), log_scores)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def test_goodness_of_fit_of_the_gradient_that_sees_what_a_choice_costs_later():
    """f = -(element 0 in subset 2): all that a choice for subset 1 changes lies in a later step."""
    draws, log_omega = 20000, torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64)
    log_scores = torch.tensor([[0.5, 0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    labels = all_labels(4, 3)
    m = torch.tensor([1, 2, 1])

    exact_scores = log_scores.clone().requires_grad_()
    p = random_assignment_log_prob(labels, log_omega, exact_scores, m=m).exp()
    (exact,) = torch.autograd.grad((p * (labels[:, 0] == 1)).sum(), exact_scores)
    scores = log_scores.clone().requires_grad_()
    drawn = random_assignment(log_omega, scores, 0.3, m=m, sample_shape=(draws,), seed=1)
    (grad,) = torch.autograd.grad(drawn.assignment[:, 1, 0].mean(), scores)
    assert exact[0, 0] < -0.05  # chosen for subset 0, it is lost to subset 1
    assert abs(grad[0, 0] - exact[0, 0]) < 0.25 * abs(exact[0, 0])


@pytest.mark.parametrize("hard", [False, True])
def test_edges(hard):
    single = random_assignment(torch.zeros(1), torch.randn(1, 6), hard=hard)
    assert torch.equal(single.labels, torch.zeros(6).long()) and (single.assignment == 1).all()
    empty = random_assignment(torch.zeros(2, 3), torch.zeros(2, 3, 0), hard=hard)
    assert [tuple(x.shape) for x in empty] == [(2, 3, 0), (2, 3), (2, 0), (2, 0)]
    none = random_assignment(torch.zeros(0, 3), torch.zeros(0, 3, 4), hard=hard)
    assert [tuple(x.shape) for x in none] == [(0, 3, 4), (0, 3), (0, 4), (0, 4)]
    broad = random_assignment(torch.zeros(5, 1, 2), torch.randn(4, 2, 3), hard=hard)
    assert broad.assignment.shape == (5, 4, 2, 3)
    counts = random_assignment(torch.zeros(2), torch.randn(2, 3), hard=hard, m=torch.tensor([[1, 2], [2, 1], [3, 0]]))
    assert counts.assignment.shape == (3, 2, 3) and counts.sizes[2].tolist() == [3.0, 0.0]
    half = random_assignment(torch.zeros(2), torch.randn(2, 5, dtype=torch.float16), hard=hard)
    assert half.assignment.dtype == torch.float16


def test_chain_takes_relaxed_sizes_of_hard_labels():
    noisy, labels = torch.randn(2, 3, 7, dtype=torch.float64), torch.randint(3, (2, 7))
    sizes = torch.nn.functional.one_hot(labels, 3).sum(-2).double() + torch.tensor([0.2, -0.1, -0.1])
    planes = assignment_chain(noisy, labels, sizes, 0.5, hard=False)
    assert torch.allclose(planes.sum(-2), torch.ones(2, 7, dtype=torch.float64)) and (planes >= 0).all()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((torch.zeros(3), torch.zeros(2, 4)), {}, ValueError, "log_scores must have a row for each of the 3 classes"),
        ((torch.zeros(2), torch.zeros(4)), {}, ValueError, r"log_scores must be \(\*, K, n\) with K >= 1"),
        ((torch.zeros(2), torch.zeros(2, 4).long()), {}, TypeError, "log_scores must have a floating dtype"),
        ((torch.zeros(2), torch.tensor([[math.nan], [0]])), {}, ValueError, "log_scores must be finite, got nan"),
        ((torch.tensor([0, math.inf]), torch.zeros(2, 4)), {}, ValueError, "log_omega must be finite or -inf, got inf"),
        ((torch.zeros(2), torch.zeros(2, 4), 0.0), {}, ValueError, "tau must be positive and finite, got 0.0"),
        ((torch.zeros(2), torch.zeros(2, 4)), {"noise": False, "seed": 1}, ValueError, "seed must be None with noise"),
        ((torch.zeros(2), torch.zeros(2, 4)), {"lengths": 5}, ValueError, "lengths must be <= 4, got 5"),
        ((torch.zeros(3, 2), torch.zeros(4, 2, 4)), {}, ValueError, "batch shapes must broadcast"),
    ],
)
def test_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=f"^random_assignment: .*{message}"):
        random_assignment(*arguments, **options)
