import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from torch.autograd import gradcheck

from drpm import reference
from drpm.ops import sized_assignment
from drpm.testing import FLOAT_DTYPES, assert_matches_reference

INF = math.inf


def random_bounds(rng, n, num_subsets):
    low = rng.multinomial(rng.integers(0, n + 1), rng.dirichlet(np.ones(num_subsets)))
    high = low + rng.multinomial(n - low.sum() + rng.integers(0, n + 1), rng.dirichlet(np.ones(num_subsets)))
    return low, high


def best_objective(scores, low, high):
    """By an assignment problem with a column for each place; places below the lower bound are filled first."""
    columns = np.repeat(np.arange(len(low)), high)
    demanded = np.concatenate([np.arange(most) < least for least, most in zip(low, high, strict=True)])
    bonus = 1e4 * (np.abs(scores).max() + 1)
    chosen, rows = linear_sum_assignment(scores[columns] + bonus * demanded[:, None], maximize=True)
    return scores[columns[chosen], rows].sum()


def best_fractional(scores, low, high, weights):
    """The linear programme; its status is 2 where the bounds can not be met."""
    num_subsets, n = scores.shape
    u = scores.T.reshape(-1)
    sums = np.zeros((num_subsets, n * num_subsets))
    for k in range(num_subsets):
        sums[k, k::num_subsets] = weights
    return linprog(
        -np.where(np.isfinite(u), u, 0.0),
        np.vstack([sums, -sums]),
        np.concatenate([high, -low]),
        np.kron(np.eye(n), np.ones((1, num_subsets))),
        np.ones(n),
        bounds=[(0, None if np.isfinite(x) else 0) for x in u],
        method="highs",
    )


def assert_complementary(out, scores, low, high, weights=None, tolerance=1e-9):
    """Every element stands where u − w p is largest, and prices differ from 0 only where a bound holds."""
    w = torch.ones(scores.shape[-1]).double() if weights is None else weights
    finite = torch.isfinite(out.prices)
    reduced = (scores - w * torch.where(finite, out.prices, 0.0).unsqueeze(-1))[finite]
    place = (torch.cumsum(finite, 0) - 1)[out.labels]
    assert float((reduced.max(0).values - reduced.gather(0, place.unsqueeze(0))[0]).max()) <= tolerance
    forced = float(low.sum()) == scores.shape[-1] or float(high.sum()) == scores.shape[-1]
    if not forced and weights is None:
        assert (out.sizes == high)[out.prices > tolerance].all() and (out.sizes == low)[out.prices < -tolerance].all()


@pytest.mark.parametrize("block", range(4))
def test_hard_is_the_optimum(block):
    """1,000 cases, a third of them with ties."""
    rng = np.random.default_rng(block)
    for case in range(250):
        n, num_subsets = int(rng.integers(1, 30)), int(rng.integers(1, 7))
        scores = rng.normal(size=(num_subsets, n)) * 10.0 ** rng.integers(-2, 3)
        scores = np.round(scores) if case % 3 == 0 else scores
        low, high = random_bounds(rng, n, num_subsets)
        bounds = (
            {"sizes": torch.from_numpy(low)}
            if low.sum() == n
            else {
                "min_sizes": torch.from_numpy(low),
                "max_sizes": torch.from_numpy(high),
            }
        )
        out = sized_assignment(torch.from_numpy(scores), **bounds)
        sizes = np.bincount(out.labels, minlength=num_subsets)
        assert (low <= sizes).all() and (sizes <= high).all() and bool(out.converged) and out.violation == 0
        assert torch.equal(out.assignment, torch.nn.functional.one_hot(out.labels, num_subsets).T.double())
        got = scores[out.labels.numpy(), np.arange(n)].sum()
        assert got == pytest.approx(best_objective(scores, low, high), rel=1e-12, abs=1e-11)
        scale = 1e-12 * (1 + np.abs(scores).max())
        assert_complementary(
            out, torch.from_numpy(scores), torch.from_numpy(low), torch.from_numpy(high), tolerance=scale
        )


def test_weights_and_forbidden_pairs_against_a_linear_programme():
    """The dual value at the prices is that of the programme; rounding splits elements at most K − 1 times."""
    rng, infeasible = np.random.default_rng(0), 0
    for case in range(60):
        n, num_subsets = 16, 4
        scores, weights = rng.normal(size=(num_subsets, n)), rng.uniform(0.5, 1.5, n)
        if case % 2:
            scores[rng.random(scores.shape) < 0.4] = -INF
        share = rng.dirichlet(np.ones(num_subsets)) * weights.sum()
        low, high = 0.8 * share, 1.2 * share
        best = best_fractional(scores, low, high, weights)
        u, w = torch.from_numpy(scores), torch.from_numpy(weights)
        arguments = {"min_sizes": torch.from_numpy(low), "max_sizes": torch.from_numpy(high), "weights": w}
        if best.status == 2:
            infeasible += 1
            for tau in (0.0, 0.5):
                with pytest.raises(
                    ValueError, match=r"^sized_assignment: scores must permit .* what the bounds demand"
                ):
                    sized_assignment(u, tau=tau, **arguments)
            continue
        out = sized_assignment(u, **arguments)
        p = out.prices
        dual = (u - w * p.unsqueeze(-1)).max(0).values.sum() + torch.where(
            p > 0, torch.from_numpy(high) * p, torch.from_numpy(low) * p
        ).sum()
        assert float(dual) == pytest.approx(-best.fun, abs=1e-9) and bool(out.converged)
        assert 0 <= float(out.violation) <= 1.5
        relaxed = sized_assignment(u, tau=0.3, **arguments)
        assert bool(relaxed.converged) and float(relaxed.violation) < 1e-9
        assert (relaxed.assignment[torch.isinf(u)] == 0).all()
    assert 5 <= infeasible <= 25


BOUNDS = {
    "sizes": lambda f: {"sizes": f},
    "both": lambda f: {"min_sizes": 0.8 * f, "max_sizes": 1.2 * f},
    "min": lambda f: {"min_sizes": f},
    "max": lambda f: {"max_sizes": 1.1 * f},
    "equal for some": lambda f: {"min_sizes": f * 0.9, "max_sizes": torch.cat([f[:2] * 0.9, f[2:] * 1.3])},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", BOUNDS)
def test_relaxed_matches_the_reference(kind, weighted):
    for tau, dtype in itertools.product((1.0, 0.1, 0.01), FLOAT_DTYPES):
        n, num_subsets = 23, 4
        scores = (3 * torch.randn(num_subsets, n)).to(dtype)
        weights = torch.rand(n).to(dtype) + 0.5 if weighted else None
        shares = torch.rand(num_subsets, dtype=torch.float64) + 0.2
        total = n if weights is None else weights.sum(dtype=torch.float64)
        bounds = BOUNDS[kind](shares / shares.sum() * total)
        cotangent = torch.randn(num_subsets, n)

        def values_and_gradients(function, scores, weights, bounds=bounds, tau=tau, cotangent=cotangent):
            inputs = [scores.detach().clone().requires_grad_(), *(x.clone().requires_grad_() for x in bounds.values())]
            out = function(inputs[0], **dict(zip(bounds, inputs[1:], strict=True)), weights=weights, tau=tau)
            loss = (out.assignment * cotangent.to(out.assignment)).sum() + (out.sizes**2).sum()
            return out, torch.autograd.grad(loss, inputs)

        out, grads = values_and_gradients(sized_assignment, scores, weights)
        wide = None if weights is None else weights.double()
        want, want_grads = values_and_gradients(reference.sized_assignment, scores.double(), wide)
        assert out.assignment.dtype == out.prices.dtype == dtype and bool(out.converged)
        assert_matches_reference(out.assignment, want.assignment)
        assert_matches_reference(out.prices, want.prices)
        assert_matches_reference(out.sizes, want.sizes)
        assert torch.equal(out.labels, out.assignment.argmax(0))
        for got, expected in zip(grads, want_grads, strict=True):
            assert_matches_reference(got.to(dtype), expected, gradient=True)  # bounds are float64 beside float32 scores


def test_reference_agrees_where_hard():
    for weighted in (False, True):
        scores = torch.randn(3, 4, 12).double()
        weights = torch.rand(12).double() + 0.5 if weighted else None
        low, high = torch.tensor([1.0, 2, 0, 3]).double(), torch.tensor([3.0, 4, 3, 12]).double()
        got = sized_assignment(scores, min_sizes=low, max_sizes=high, weights=weights)
        want = reference.sized_assignment(scores, min_sizes=low, max_sizes=high, weights=weights)
        torch.testing.assert_close(got.prices, want.prices, rtol=0, atol=1e-9)
        assert weighted or torch.equal(got.labels, want.labels)


def test_gradient_by_finite_differences():
    """Bounds inside: in any direction. Sums that are tight: along directions that keep the sum."""
    scores = torch.randn(2, 3, 7).double().requires_grad_()
    low, high = torch.tensor([0.2, 2.5, 1.0]).double(), torch.tensor([2.0, 7.0, 7.0]).double()
    inputs = (scores, low.requires_grad_(), high.requires_grad_())

    def relaxed(scores, low, high):
        out = sized_assignment(scores, min_sizes=low, max_sizes=high, tau=0.4)
        return out.assignment, out.sizes

    assert gradcheck(relaxed, inputs, atol=1e-6)
    free = torch.randn(2, dtype=torch.float64, requires_grad=True)
    basis = torch.tensor([[1.0, -1, 0], [0, 1, -1]]).double()
    for name in ("sizes", "min_sizes", "max_sizes"):

        def along_the_sum(scores, x, name=name):
            bounds = {name: torch.tensor([2.0, 3.0, 2.0]).double() + 0.1 * x @ basis}
            return sized_assignment(scores, tau=0.4, **bounds).assignment

        assert gradcheck(along_the_sum, (scores, free))


def test_tight_sums_fix_the_gauge():
    scores = torch.randn(4, 20).double()
    sizes = torch.tensor([3.0, 5, 4, 8]).double()
    for tau in (0.0, 0.5):
        exact = sized_assignment(scores, sizes, tau=tau)
        low = sized_assignment(scores, min_sizes=sizes, tau=tau)
        high = sized_assignment(scores, max_sizes=sizes, tau=tau)
        assert abs(float(exact.prices.mean())) < 1e-12 and float(low.prices.max()) == float(high.prices.min()) == 0
        assert torch.equal(exact.labels, low.labels) and torch.equal(exact.labels, high.labels)
    for name in ("sizes", "min_sizes", "max_sizes"):
        bound = sizes.clone().requires_grad_()
        out = sized_assignment(scores, tau=0.5, **{name: bound})
        (grad,) = torch.autograd.grad((out.assignment * torch.randn(4, 20)).sum(), bound)
        assert abs(float(grad.sum())) < 1e-12 and float(grad.abs().max()) > 1e-3


@pytest.mark.parametrize("tau", [0.0, 0.5])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_boundary_sizes_single_subset_and_empty(tau, dtype):
    scores = torch.randn(3, 6).to(dtype)
    out = sized_assignment(scores, [0, 6, 0], tau=tau)
    assert out.labels.tolist() == [1] * 6 and out.prices.tolist() == [INF, 0.0, INF]
    out = sized_assignment(scores, min_sizes=[0, 6, 0], max_sizes=[3, 7, 2], tau=tau)
    assert out.labels.tolist() == [1] * 6 and out.sizes.tolist() == [0, 6, 0]
    out = sized_assignment(scores, max_sizes=[0, 6, 2], tau=tau)
    assert (out.assignment[0] == 0).all() and out.prices[0] == INF
    assert torch.equal(out.assignment[1:], sized_assignment(scores[1:], max_sizes=[6, 2], tau=tau).assignment)
    assert (sized_assignment(scores[:1], tau=tau).assignment == 1).all()
    empty = sized_assignment(scores[:, :0], tau=tau)
    assert empty.assignment.shape == (3, 0) and empty.sizes.tolist() == [0, 0, 0] and bool(empty.converged)
    assert sized_assignment(torch.zeros(0, 3, 6), 2, tau=tau).labels.shape == (0, 6)


def test_nothing_binds_where_bounds_are_wide():
    scores = torch.randn(3, 50).double()
    out = sized_assignment(scores, tau=0.3)
    torch.testing.assert_close(out.assignment, torch.softmax(scores / 0.3, 0), rtol=1e-12, atol=1e-14)
    assert (out.prices == 0).all() and torch.equal(sized_assignment(scores).labels, scores.argmax(0))


def test_ties():
    for n in (30, 20_000):
        equal = sized_assignment(torch.zeros(5, n), n // 5)
        assert equal.sizes.tolist() == [n // 5] * 5 and bool(equal.converged)
        torch.testing.assert_close(
            sized_assignment(torch.zeros(5, n), n // 5, tau=0.1).assignment, torch.full((5, n), 0.2)
        )
    few = torch.randint(0, 3, (5, 20_000)).double()
    out = sized_assignment(few, 4_000)
    assert_complementary(out, few, torch.full((5,), 4000), torch.full((5,), 4000))
    assert out.sizes.tolist() == [4000] * 5


@pytest.mark.parametrize("scale", ["normal", "two scales", "heavy tails"])
def test_many_elements_meet_the_conditions_of_the_optimum(scale):
    n, num_subsets = 50_000, 6
    scores = torch.randn(num_subsets, n).double() + torch.linspace(0, 3, num_subsets).double().unsqueeze(-1)
    if scale == "two scales":
        scores = torch.cat([1e-6 * scores[:, 50:], 1e3 * scores[:, :50]], 1)
    elif scale == "heavy tails":
        scores = scores * 10.0 ** (torch.rand(n) * 8 - 6)
    low, high = torch.full((num_subsets,), 8_000), torch.full((num_subsets,), 9_000)
    out = sized_assignment(scores, min_sizes=low, max_sizes=high)
    assert (low <= out.sizes).all() and (out.sizes <= high).all()
    assert_complementary(out, scores, low, high, tolerance=1e-12 * float(scores.abs().max()))
    relaxed = sized_assignment(scores, min_sizes=low, max_sizes=high, tau=1e-3, prices=out.prices)
    assert bool(relaxed.converged) and float(relaxed.violation) < 1e-9 * n
    assert float((relaxed.assignment * scores).sum()) <= float((out.assignment * scores).sum())


def test_many_subsets():
    scores = torch.randn(150, 1200)
    out = sized_assignment(scores, 8, tau=0.05)
    assert bool(out.converged) and float((out.sizes - 8).abs().max()) < 1e-5
    hard = sized_assignment(scores.double(), 8)
    assert_complementary(hard, scores.double(), torch.full((150,), 8), torch.full((150,), 8))


def test_forbidden_pairs():
    """The first three elements fill subset 0, so that the others can not go there: its price is infinite in truth."""
    scores = torch.zeros(3, 6).double()
    scores[0] = 1
    scores[1:, :3] = -INF
    scores[2, 3:] = torch.tensor([0.1, 0.2, 0.3])
    scores.requires_grad_()
    for weights in (None, torch.ones(6)):
        out = sized_assignment(scores, max_sizes=[3, 6, 6], tau=0.5, weights=weights)
        want = torch.softmax(torch.tensor([[0.0, 0, 0], [0.1, 0.2, 0.3]]).double() / 0.5, 0)
        torch.testing.assert_close(out.assignment[1:, 3:], want)
        assert (out.assignment[0] == torch.tensor([1.0, 1, 1, 0, 0, 0])).all() and bool(out.converged)
        (grad,) = torch.autograd.grad((out.assignment[2] ** 2).sum(), scores)
        q = want.detach().requires_grad_(False)
        by_score = 2 * q[1] * q[1] * (1 - q[1]) / 0.5
        torch.testing.assert_close(grad[2, 3:], by_score)
        assert (grad[:, :3] == 0).all() and (grad[0] == 0).all()
    with pytest.raises(ValueError, match=r"got more than the max_sizes of subsets \[0\]"):
        sized_assignment(scores, max_sizes=[2, 6, 6], tau=0.5)
    with pytest.raises(ValueError, match=r"got less than the min_sizes of subsets \[1, 2\]"):
        sized_assignment(scores, min_sizes=[0, 2, 2])
    nowhere = torch.full((2, 3), -INF)
    nowhere[:, 1:] = 0
    for tau in (0.0, 1.0):
        with pytest.raises(ValueError, match="got an element that may go nowhere"):
            sized_assignment(nowhere, tau=tau)


def test_hard_values_with_the_gradient_of_the_relaxation():
    scores = torch.randn(4, 30).requires_grad_()
    cotangent = torch.randn(4, 30)

    def gradient(hard):
        out = sized_assignment(scores, min_sizes=5, max_sizes=10, tau=0.7, hard=hard)
        return out, torch.autograd.grad((out.assignment * cotangent).sum(), scores)[0]

    (hard, straight_through), (relaxed, implicit) = gradient(True), gradient(False)
    assert torch.equal(straight_through, implicit) and torch.equal(hard.prices, relaxed.prices)
    optimum = sized_assignment(scores, min_sizes=5, max_sizes=10)
    assert torch.equal(hard.assignment, optimum.assignment) and not optimum.assignment.requires_grad


def test_sizes_that_were_drawn_can_be_the_bounds():
    from drpm.ops import mvhg_sample

    log_omega = torch.zeros(3, requires_grad=True)
    for hard in (True, False):
        sizes = mvhg_sample(log_omega, 40, 40, 0.5, hard=hard, seed=3).clamp(min=0)
        sizes = sizes * (40 / sizes.sum().detach()) if not hard else sizes
        out = sized_assignment(torch.randn(3, 40), sizes, tau=0.5, hard=hard)
        (grad,) = torch.autograd.grad((out.assignment[0] * torch.randn(40)).sum(), log_omega)
        assert torch.isfinite(grad).all() and float(grad.abs().max()) > 0


def test_broadcasting_lengths_and_warm_starts():
    scores = torch.randn(2, 1, 3, 9).double()
    weights = torch.rand(4, 9).double() + 0.5
    out = sized_assignment(scores, max_sizes=torch.tensor([3.0, 4.0, 9.0]), weights=weights, tau=0.3)
    assert out.assignment.shape == (2, 4, 3, 9) and out.prices.shape == (2, 4, 3) and out.violation.shape == (2, 4)
    own = sized_assignment(
        scores[1, 0], max_sizes=[3.0, 4.0, 9.0], weights=weights[2], tau=0.3, prices=out.prices[1, 2]
    )
    torch.testing.assert_close(own.assignment, out.assignment[1, 2], rtol=0, atol=1e-11)
    lengths = torch.tensor([9, 0, 5])
    beyond = (torch.arange(9) >= lengths.unsqueeze(-1)).unsqueeze(-2)
    padded = torch.randn(3, 3, 9).double().masked_fill(beyond, math.nan).requires_grad_()
    for tau in (0.0, 0.3):
        out = sized_assignment(padded, max_sizes=5, lengths=lengths, tau=tau)
        for row, length in enumerate(lengths.tolist()):
            own = sized_assignment(padded[row, :, :length], max_sizes=5, tau=tau)
            torch.testing.assert_close(out.assignment[row, :, :length], own.assignment, rtol=0, atol=1e-12)
            assert (out.labels[row, length:] == -1).all() and (out.assignment[row, :, length:] == 0).all()
    grad = torch.autograd.grad(out.assignment.square().sum(), padded)[0]
    assert torch.isfinite(grad).all() and (grad.masked_select(beyond.expand_as(grad)) == 0).all()


def test_threads_do_not_matter_and_strides_neither():
    scores = torch.randn(4, 40_000)
    strided = torch.stack([scores, scores], -1)[..., 0]
    threads = torch.get_num_threads()
    results = []
    for count, x in ((1, scores), (2, strided)):
        torch.set_num_threads(count)
        x = x.detach().requires_grad_()
        out = sized_assignment(x, 10_000, tau=0.2)
        results.append((out.assignment, out.prices, *torch.autograd.grad(out.assignment.square().sum(), x)))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_values_that_nobody_checks():
    """Under torch.func no value is looked at: such rows are NaN, the others untouched."""
    scores = torch.randn(5, 3, 8)
    want = torch.func.vmap(lambda u: sized_assignment(u, min_sizes=2, tau=0.5).assignment)(scores)
    broken = scores.clone()
    broken[0, 1, 2], broken[1, 0, 0], broken[3, :, 4], broken[4, 1:, :] = math.nan, INF, -INF, -INF
    for tau in (0.0, 0.5):
        out = torch.func.vmap(lambda u, tau=tau: tuple(sized_assignment(u, min_sizes=2, tau=tau)))(broken)
        assignment, labels, prices, sizes, violation, converged = out
        for row in (0, 1, 3, 4):
            assert all(torch.isnan(x[row]).all() for x in (assignment, prices, sizes, violation)) and not converged[row]
        assert ((labels >= 0) & (labels < 3)).all() and bool(converged[2])
    assert torch.equal(assignment[2], want[2])


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"sizes": [1, 2, 2]}, ValueError, "sizes must sum to the total, got 5 for 6"),
        ({"min_sizes": 3}, ValueError, "min_sizes must sum to at most the total, got 9 for 6"),
        ({"max_sizes": 1}, ValueError, "max_sizes must sum to at least the total, got 3 for 6"),
        ({"min_sizes": 2, "max_sizes": [2, 1, 6]}, ValueError, r"min_sizes must be <= max_sizes, got 2.0 > 1.0"),
        ({"min_sizes": -1}, ValueError, "min_sizes must be >= 0 and finite, got -1.0"),
        ({"max_sizes": math.nan}, ValueError, "max_sizes must be >= 0, got nan"),
        ({"max_sizes": [2.5, 3, 3]}, ValueError, "max_sizes must be whole where hard without weights, got 2.5"),
        ({"sizes": 2, "min_sizes": 1}, ValueError, "sizes must not be given with min_sizes or max_sizes, got both"),
        ({"sizes": [3, 3]}, ValueError, r"sizes must have 3 subsets in its last dimension, got \(2,\)"),
        ({"sizes": "even"}, TypeError, "sizes must be numbers or a tensor, got 'even'"),
        ({"weights": torch.tensor([1.0, 1, 1, 1, 0, 1])}, ValueError, "weights must be > 0 and finite, got 0.0"),
        ({"weights": torch.ones(5)}, ValueError, r"weights must be \(\*, 6\), got \(5,\)"),
        ({"prices": torch.ones(2)}, ValueError, r"prices must be \(\*, 3\), got \(2,\)"),
        ({"tau": -1.0}, ValueError, "tau must be positive and finite, got -1.0"),
        ({"hard": False}, ValueError, "hard must not be False at tau = 0, got False"),
        ({"lengths": 7}, ValueError, "lengths must be <= 6, got 7"),
        ({"min_sizes": torch.zeros(2, 3), "weights": torch.ones(3, 6)}, ValueError, "batch shapes must broadcast"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=f"^sized_assignment: {message}"):
        sized_assignment(torch.randn(3, 6), **kwargs)


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (torch.zeros(3, 6).long(), TypeError, "scores must have a floating dtype"),
        (torch.zeros(6), ValueError, r"scores must be \(\*, K, n\) with K >= 1, got \(6,\)"),
        (torch.tensor([[0.0, math.nan], [0.0, 0.0]]), ValueError, "scores must be finite or -inf, got nan"),
        (torch.tensor([[0.0, INF], [0.0, 0.0]]), ValueError, "scores must be finite or -inf, got inf"),
        (torch.zeros(1025, 2), ValueError, "scores must have at most 1024 subsets, got 1025"),
    ],
)
def test_bad_scores(scores, error, message):
    with pytest.raises(error, match=f"^sized_assignment: {message}"):
        sized_assignment(scores, tau=1.0)
