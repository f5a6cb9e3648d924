import pytest
import scipy.stats
import torch

from drpm import ops, reference
from python_tests.ops.k_subset_laws import probabilities, subsets

SMALLEST_P = 1e-4  # one declared failure rate for every goodness-of-fit test here; seeds are fixed


def goodness_of_fit(draws: torch.Tensor, log_weights: torch.Tensor, k: int) -> float:
    """p-value of the drawn subsets, rare ones pooled."""
    n = draws.shape[-1]
    code = 2.0 ** torch.arange(n, dtype=torch.float64)
    expected = probabilities(log_weights, k) * len(draws)
    counts = torch.bincount((draws.double() @ code).long(), minlength=2**n)[(subsets(n, k) @ code).long()].double()
    assert counts.sum() == len(draws)
    often = expected >= 5
    seen = torch.cat([counts[often], counts[~often].sum().reshape(1)])
    wanted = torch.cat([expected[often], expected[~often].sum().reshape(1)])
    seen, wanted = seen[wanted > 0], wanted[wanted > 0]
    if wanted[-1] < 5 and len(wanted) > 1:
        seen = torch.cat([seen[:-2], seen[-2:].sum().reshape(1)])
        wanted = torch.cat([wanted[:-2], wanted[-2:].sum().reshape(1)])
    return 1.0 if len(wanted) < 2 else float(scipy.stats.chisquare(seen.numpy(), wanted.numpy()).pvalue)


@pytest.mark.parametrize(
    ("n", "k", "spread"),
    [(9, 4, 1.5), (14, 7, 3.0), (14, 1, 1.0), (14, 13, 1.0), (12, 5, 0.0), (10, 5, 60.0), (2, 1, 1.0), (1, 1, 1.0)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_follow_the_enumerated_law(n: int, k: int, spread: float, dtype: torch.dtype) -> None:
    log_weights = torch.linspace(-spread, spread, n, dtype=dtype) if n > 1 else torch.zeros(1, dtype=dtype)
    draws = ops.k_subset_sample(log_weights, k, sample_shape=(20_000,), seed=11)
    assert draws.dtype == dtype
    assert bool((draws.sum(-1) == k).all())
    assert goodness_of_fit(draws, log_weights, k) > SMALLEST_P


def test_draws_of_many_leaves_have_the_exact_marginals_and_pair_inclusions(test_device: str) -> None:
    n, k, samples = (1_000, 70, 100) if test_device == "emulated" else (10_000, 700, 200)
    log_weights = 2 * torch.randn(n, dtype=torch.float64)
    draws = ops.k_subset_sample(log_weights, k, sample_shape=(samples,), seed=3)
    assert bool((draws.sum(-1) == k).all())
    mean = ops.k_subset_marginals(log_weights, k)
    statistic = ((draws.mean(0) - mean) ** 2 / (mean * (1 - mean) / samples)).sum()
    assert scipy.stats.chi2.sf(float(statistic), n) > SMALLEST_P
    # pairs: the variance of weighted sums, one of them over elements of every leaf, is that of the exact covariance
    for direction in (torch.randn(n, dtype=torch.float64), (torch.arange(n) % 31 < 9).double()):
        _, product = torch.func.jvp(lambda w: ops.k_subset_marginals(w, k), (log_weights,), (direction,))
        variance = float((direction * product).sum())
        estimate = float((draws @ direction).var(unbiased=True))
        assert scipy.stats.chi2.sf((samples - 1) * estimate / variance, samples - 1) > SMALLEST_P
        assert scipy.stats.chi2.cdf((samples - 1) * estimate / variance, samples - 1) > SMALLEST_P


def test_a_draw_depends_on_the_seed_alone() -> None:
    log_weights = torch.randn(3, 1_000)
    k = torch.tensor([0, 50, 999])
    draws = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            draws.append(ops.k_subset_sample(log_weights, k, sample_shape=(66,), seed=5))
            draws.append(ops.k_subset_sample(log_weights[1], 50, sample_shape=(66,), seed=5))
        finally:
            torch.set_num_threads(before)
    assert torch.equal(draws[0], draws[2])
    assert torch.equal(draws[1], draws[3])
    assert not torch.equal(draws[0][0, 1], draws[0][1, 1])  # samples differ
    assert torch.equal(draws[0].sum(-1), k.expand(66, 3).float())


@pytest.mark.parametrize("k", [0, 1, 30, 61, 62])
def test_without_noise_the_largest_are_chosen_ties_by_index(k: int) -> None:
    log_weights = torch.randn(4, 62).round()
    chosen = ops.k_subset_sample(log_weights, k, noise=False, sample_shape=(2,))
    order = log_weights.sort(dim=-1, descending=True, stable=True).indices
    wanted = torch.zeros(4, 62).scatter(-1, order[:, :k], 1.0)
    assert torch.equal(chosen, wanted.expand(2, 4, 62))


def test_elements_of_weight_zero_are_never_chosen() -> None:
    log_weights = torch.randn(40)
    log_weights[::3] = -torch.inf
    draws = ops.k_subset_sample(log_weights, 20, sample_shape=(200,), seed=0)
    assert bool((draws[:, ::3] == 0).all())
    assert bool((draws.sum(-1) == 20).all())
    everything = ops.k_subset_sample(log_weights, 26, seed=0)
    assert torch.equal(everything, torch.isfinite(log_weights).float())
    small = torch.tensor([0.3, -torch.inf, 1.0, 0.0, -torch.inf, -0.7])
    assert goodness_of_fit(ops.k_subset_sample(small, 2, sample_shape=(20_000,), seed=2), small, 2) > SMALLEST_P


def test_lengths_leave_elements_out() -> None:
    log_weights = torch.randn(2, 12)
    draws = ops.k_subset_sample(log_weights, 5, lengths=torch.tensor([7, 12]), sample_shape=(50,), seed=1)
    assert bool((draws[:, 0, 7:] == 0).all())
    assert bool((draws.sum(-1) == 5).all())


@pytest.mark.parametrize("noise", [True, False])
def test_the_gradient_is_that_of_the_marginals(noise: bool) -> None:
    log_weights = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    k = torch.tensor([3, 5])
    weight = torch.randn(6, 2, 9, dtype=torch.float64)
    options = {"seed": 4} if noise else {"noise": False}
    (ops.k_subset_sample(log_weights, k, sample_shape=(6,), **options) * weight).sum().backward()
    (wanted,) = torch.autograd.grad((ops.k_subset_marginals(log_weights, k) * weight).sum(), log_weights)
    torch.testing.assert_close(log_weights.grad, wanted, rtol=1e-12, atol=1e-12)
    value = ops.k_subset_sample(log_weights, k, seed=4).detach()
    direction = torch.randn(2, 9, dtype=torch.float64)
    primal, tangent = torch.func.jvp(lambda w: ops.k_subset_sample(w, k, seed=4), (log_weights.detach(),), (direction,))
    assert torch.equal(primal, value)
    _, mean_tangent = torch.func.jvp(lambda w: ops.k_subset_marginals(w, k), (log_weights.detach(),), (direction,))
    torch.testing.assert_close(tangent, mean_tangent)


def test_the_reference_draws_the_same_law() -> None:
    log_weights = torch.tensor([0.5, -1.0, 2.0, 0.0, 0.3, -0.4], dtype=torch.float64, requires_grad=True)
    draws = reference.k_subset_sample(log_weights, 3, torch.rand(20_000, 6, dtype=torch.float64))
    assert goodness_of_fit(draws.detach(), log_weights.detach(), 3) > SMALLEST_P
    (grad,) = torch.autograd.grad(draws[0, 0], log_weights)
    (wanted,) = torch.autograd.grad(ops.k_subset_sample(log_weights, 3, seed=0)[0], log_weights)
    torch.testing.assert_close(grad, wanted)


def test_large_rows_take_linear_memory(test_device: str) -> None:
    n = 20_000 if test_device == "emulated" else 300_000
    draws = ops.k_subset_sample(torch.randn(n), n // 15, seed=0)
    assert float(draws.sum()) == n // 15


@pytest.mark.parametrize(
    ("log_weights", "k", "message"),
    [
        (torch.zeros(3), 4, "k must be <= n = 3, got 4"),
        (torch.zeros(3), -1, "k must be >= 0, got -1"),
        (torch.tensor([0.0, -torch.inf, -torch.inf]), 2, "k must be <= the number of weights above zero, got 2 > 1"),
        (torch.tensor([0.0, torch.nan]), 1, "log_weights must be finite or -inf, got nan"),
        (torch.tensor([0.0, torch.inf]), 1, "log_weights must be finite or -inf, got inf"),
        (torch.zeros(2, 3), torch.tensor([1, 2, 3]), "batch shapes must broadcast"),
    ],
)
def test_bad_values_are_named(log_weights: torch.Tensor, k: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.k_subset_sample(log_weights, k)  # type: ignore[arg-type]


def test_fractional_k_is_refused() -> None:
    with pytest.raises(TypeError, match="k must be whole"):
        ops.k_subset_sample(torch.zeros(3), 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("position", [0, 2, 4])
def test_unchecked_rows_that_are_not_finite_become_nan(value: float, position: int) -> None:
    log_weights = torch.randn(3, 5)
    good = ops.k_subset_sample(log_weights, 2, seed=torch.tensor([9]))
    log_weights[1, position] = value
    draws = torch.func.vmap(lambda w: ops.k_subset_sample(w, 2, seed=torch.tensor([9])), randomness="same")(
        log_weights.unsqueeze(0)
    )[0]
    assert bool(torch.isnan(draws[1]).all())
    assert torch.equal(draws[[0, 2]], good[[0, 2]])
    few = torch.func.vmap(lambda w: ops.k_subset_sample(w, 2, seed=torch.tensor([9])), randomness="same")(
        torch.tensor([[0.0, -torch.inf, -torch.inf]])
    )
    assert bool(torch.isnan(few).all())
