"""Counts up to 2^53: the right values against 40 digits, draws by goodness of fit, errors above."""

import itertools
import math
import time

import mpmath
import pytest
import torch
from mpmath import mpf

from drpm import ops
from drpm.ops import (
    hypergeometric_log_weights,
    mvhg_covariance,
    mvhg_draw,
    mvhg_entropy,
    mvhg_kl,
    mvhg_log_normalizer,
    mvhg_log_prob,
    mvhg_mean,
    mvhg_sample,
    partition_mode,
)

from .mvhg_large_laws import TwoClasses, log_choose

LARGE = [10**8, 10**12, 10**15, 2**53]
EXACT_AND_MERGED = pytest.mark.parametrize("conditionals", ["exact", "merged"])


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def error(got, want):
    return abs(float(mpf(float(got.detach())) - want))


def rounding(sizes, mean, log_omega):
    """What rounding the weights costs a log-probability."""
    return 1e-15 * float(((sizes - mean).abs() * (1 + log_omega.abs())).sum())


@pytest.mark.parametrize("m", LARGE)
@pytest.mark.parametrize("share", ["few", "third", "most", "all but few"])
def test_equal_weights_match_binomial_coefficients(m, share):
    counts = [m, m // 2, m // 4]
    total = sum(counts)
    n = {"few": 10, "third": m // 3, "most": m, "all but few": m - m // 8}[share]
    n = total - n if share == "all but few" else n
    n = total - 10 if n > 2**53 else n
    if n > 2**53:  # as many as there may be
        n = 2**53
    m_t, log_omega = torch.tensor(counts), torch.zeros(3, dtype=torch.float64)
    log_p0 = log_choose(total, n)
    assert error(mvhg_log_normalizer(log_omega, m_t, n), log_p0) <= 1e-14 * max(1, abs(float(log_p0)))
    mean = [mpf(c) * n / total for c in counts]
    spread = mpf(total - n) / (total - 1) / total
    covariance = mvhg_covariance(log_omega, m_t, n)
    for k in range(3):
        assert error(mvhg_mean(log_omega, m_t, n)[k], mean[k]) <= 1e-14 * float(mean[k])
        for j in range(3):
            want = mean[k] * ((total if k == j else 0) - counts[j]) * spread
            assert error(covariance[k, j], want) <= 1e-13 * float(covariance.diagonal().max())
    for z in (0.3, -2.0, 6.0):
        deviation = math.sqrt(float(covariance[0, 0]))
        first = min(max(0, round(float(mean[0]) + z * deviation)), n, m)
        second = min(max(0, round(float(mean[1]) - z / 2 * deviation)), n - first, counts[1])
        if n - first - second > counts[2]:
            continue
        sizes = [first, second, n - first - second]
        want = sum(log_choose(c, x) for c, x in zip(counts, sizes, strict=True)) - log_p0
        for given in (torch.tensor(sizes), double(*sizes)):
            assert error(mvhg_log_prob(given, log_omega, m_t, n), want) <= 1e-13 * max(1, abs(float(want)))


@pytest.fixture(scope="module")
def laws():
    def law(m, n, weights):
        log_omega, m_t = double(*weights), torch.tensor(m)
        centre = round(float(mvhg_mean(log_omega, m_t, n)[0]))
        return TwoClasses(m, n, weights, centre, math.sqrt(float(mvhg_covariance(log_omega, m_t, n)[0, 0])))

    return {m: [law([m, m // 2], m // 3, w) for w in ((0.7, -0.4), (0.7 + 3 / m**0.5, -0.4))] for m in LARGE}


@pytest.mark.parametrize("m", LARGE)
def test_moments_entropy_and_divergence_match_40_digits(laws, m):
    law, near = laws[m]
    m_t, n = torch.tensor(law.m), law.n
    log_omega = double(0.7, -0.4).requires_grad_()
    other = double(0.7 + 3 / m**0.5, -0.4)
    value = mvhg_log_normalizer(log_omega, m_t, n)
    assert error(value, law.log_normalizer) <= 1e-14 * abs(float(law.log_normalizer))
    assert error(mvhg_mean(log_omega, m_t, n)[0], law.mean) <= 1e-14 * float(law.mean)
    variance = mvhg_covariance(log_omega, m_t, n)[0, 0]
    assert error(variance, law.central(2)) <= 1e-13 * float(law.central(2))
    (slope,) = torch.autograd.grad(variance, log_omega)
    assert error(slope[0], law.central(3)) <= 1e-14 * float(law.central(2)) ** 1.5
    entropy = mvhg_entropy(log_omega, m_t, n)
    assert error(entropy, law.entropy) <= 1e-12
    (slope,) = torch.autograd.grad(entropy, log_omega)
    assert error(slope[0], law.entropy_slope) <= 1e-11 + 1e-15 * float(law.central(2)) ** 0.5
    kl = law.mean_of([p - near.log_weight(x) + near.log_normalizer for p, x in zip(law.log_prob, law.x, strict=True)])
    got = mvhg_kl(log_omega, other, m_t, n)
    assert error(got, kl) <= 1e-12 + 2e-15 * float(law.central(2)) ** 0.5


@EXACT_AND_MERGED  # with two classes they are the same
@pytest.mark.parametrize("m", LARGE)
def test_log_prob_matches_40_digits(laws, m, conditionals):
    law = laws[m][0]
    m_t, n, log_omega = torch.tensor(law.m), law.n, double(0.7, -0.4)
    mean = mvhg_mean(log_omega, m_t, n)
    for z in (0.0, 1.0, -7.0, 30.0):
        x = round(float(law.mean) + z * math.sqrt(float(law.central(2))))
        sizes, want = double(x, n - x), law.log_weight(x) - law.log_normalizer
        got = mvhg_log_prob(sizes, log_omega, m_t, n, conditionals=conditionals)
        floor = 1e-13 if conditionals == "exact" else 1e-12
        assert error(got, want) <= floor * max(1, abs(float(want))) + rounding(sizes, mean, log_omega)


@EXACT_AND_MERGED
@pytest.mark.parametrize("m", [*LARGE, 2**53 - 3])
def test_few_draws_of_many(m, conditionals):
    counts, n = (m, m // 3, 2), 6
    log_omega = double(0.5, -1.0, 3.0)
    every = [x for x in itertools.product(range(n + 1), repeat=3) if sum(x) == n and x[2] <= 2]
    logs = [
        sum(log_choose(c, x) + x * mpf(w) for c, x, w in zip(counts, s, log_omega.tolist(), strict=True)) for s in every
    ]
    log_p0 = mpmath.log(sum(mpmath.exp(v) for v in logs))
    got = mvhg_log_prob(torch.tensor(every), log_omega, torch.tensor(counts), n, conditionals=conditionals)
    if conditionals == "merged":  # another law, but one
        assert abs(got.logsumexp(0)) < 1e-13
    else:
        assert max(error(g, v - log_p0) for g, v in zip(got, logs, strict=True)) < 1e-13 * max(1, float(-got.min()))
        entropy = -sum(mpmath.exp(v - log_p0) * (v - log_p0) for v in logs)
        assert error(mvhg_entropy(log_omega, torch.tensor(counts), n), entropy) < 1e-12


def test_hypergeometric_log_weights_of_a_large_right_class():
    m_right, n = 2**53, 10
    got = hypergeometric_log_weights(double(0.3)[0], double(-0.2)[0], 4, m_right, n)
    for x in range(5):
        factorials = sum(mpmath.loggamma(mpf(v) + 1) for v in (x, 4 - x, n - x, m_right - n + x))
        want = x * mpf(0.3) + (n - x) * mpf(-0.2) - factorials
        assert error(got[x], want) < 1e-15 * abs(float(want))


def test_mode_of_huge_capacities():
    """log C(m, x) of a few from many: without differences of large log-factorials, equal weights would not tie."""
    scores = torch.randn(6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    log_omega = double(0.4, -0.3, 0.1)
    want = partition_mode(log_omega - math.log(10**9), scores, m=10**9)
    for m in (10**12, 10**15, 2**53):
        assert torch.equal(partition_mode(log_omega - math.log(m), scores, m=m), want)


def kolmogorov_smirnov(x, law):
    """Whether sup |F_S − F| √S lies below its 1e-5 quantile."""
    at = torch.sort(x).values
    cdf = 0.5 * (1 + torch.erf((at - float(law.mean)) / math.sqrt(2 * float(law.central(2)))))
    steps = torch.arange(len(at) + 1, dtype=torch.float64) / len(at)
    return float(torch.maximum((cdf - steps[:-1]).abs(), (cdf - steps[1:]).abs()).max()) * len(at) ** 0.5 < 2.47


@pytest.mark.parametrize("m", [10**12, 10**14, 10**15, 2**53])
def test_draws_of_large_counts_follow_their_law(m):
    """Beyond 1e12 the law is normal to 1e-6."""
    counts, log_omega = [m, m // 2], double(0.7, -0.4)
    m_t, n = torch.tensor(counts), m // 3
    centre = round(float(mvhg_mean(log_omega, m_t, n)[0]))
    law = TwoClasses(counts, n, (0.7, -0.4), centre, math.sqrt(float(mvhg_covariance(log_omega, m_t, n)[0, 0])))
    draws = mvhg_draw(log_omega, m_t, n, sample_shape=(4000,), seed=3)
    assert (draws.sum(-1) == n).all() and (draws == draws.round()).all()
    assert kolmogorov_smirnov(draws[:, 0], law)


@pytest.mark.parametrize("draw", ["draw", "draw by rejection", "exact", "merged"])
@pytest.mark.parametrize("m", [10**14, 2**53])
def test_few_draws_of_many_follow_their_law(m, draw):
    """Tables of classes that are much larger than what is drawn: Pearson's test on a law of 6 out of 2^53."""
    from scipy.stats import chi2

    counts, n, log_omega = (m, m // 3), 6, double(0.5, 1.0)
    m_t, every = torch.tensor(counts), torch.tensor([[x, n - x] for x in range(n + 1)])
    shape = dict(sample_shape=(20000,), seed=5)
    if draw.startswith("draw"):
        draws = mvhg_draw(log_omega, m_t, n, **shape, largest_table=0 if "rejection" in draw else 100)
    else:
        draws = mvhg_sample(log_omega, m_t, n, conditionals=draw, **shape)
    expected = 20000 * mvhg_log_prob(every, log_omega, m_t, n).exp()
    observed = draws[:, :1].eq(every[:, 0]).sum(0)
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert observed.sum() == 20000 and chi2.sf(float(statistic), n) > 1e-5


def test_large_windows_of_relaxed_sampling():
    """Merged conditionals at their largest n: √n outcomes, and no more memory."""
    log_omega = double(0.2, 0.0).requires_grad_()
    start = time.process_time()
    sizes = mvhg_sample(log_omega, 10**10, 10**10, conditionals="merged", seed=1, sample_shape=(4,))
    assert time.process_time() - start < 5
    assert (sizes.sum(-1) == 10**10).all()
    mean, variance = mvhg_mean(log_omega, 10**10, 10**10), mvhg_covariance(log_omega, 10**10, 10**10)[0, 0]
    assert ((sizes[:, 0] - mean[0]).abs() < 6 * variance.sqrt()).all()
    (grad,) = torch.autograd.grad(sizes[:, 0].sum() / 4, log_omega)
    assert 0.2 < float(grad[0] / variance) < 5


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: mvhg_draw(torch.zeros(3), 2**63 - 1, 3), r"mvhg_draw: m must be <= 2\^53, got 9223372036854775807"),
        (lambda: mvhg_draw(torch.zeros(3), 2**53, 2**53 + 1), r"mvhg_draw: n must be <= 2\^53"),
        (lambda: mvhg_mean(torch.zeros(3), torch.tensor([5, 2**60, 1]), 3), r"mvhg_mean: m must be <= 2\^53"),
        (lambda: mvhg_mean(torch.zeros(2), [2**70, 1], 3), r"mvhg_mean: m must be <= 2\^53"),
        (lambda: mvhg_mean(torch.zeros(2000), 2**53, 3), r"mvhg_mean: m must sum to at most 2\^62"),
        (lambda: mvhg_mean(torch.zeros(2, 2000), 2**53, torch.tensor([3, 4])), r"m must sum to at most 2\^62"),
        (lambda: mvhg_sample(torch.zeros(3), 2**53, 2**30 + 1), r"mvhg_sample: n must be <= 2\^30 with exact"),
        (
            lambda: mvhg_sample(torch.zeros(3), 2**53, torch.tensor(2**40 + 1), conditionals="merged"),
            r"mvhg_sample: n must be <= 2\^40 with merged",
        ),
        (
            lambda: hypergeometric_log_weights(torch.zeros(()), torch.zeros(()), 2**27 + 1, 3, 3),
            r"hypergeometric_log_weights: m_left must be <= 2\^27",
        ),
        (lambda: ops.k_subset_sample(torch.zeros(3), 2**64), r"k_subset_sample: k must be <= 2\^53"),
        (lambda: ops.k_subset_log_prob(torch.zeros(3), torch.zeros(3), 2**53), "k must be <= n = 3"),
        (lambda: ops.random_partition(torch.zeros(3), torch.zeros(4), m=2**62), r"m must be <= 2\^53"),
        (lambda: ops.partition_marginals(torch.zeros(3), torch.zeros(4), m=2**62), r"m must be <= 2\^53"),
    ],
)
def test_larger_counts_are_refused(function, message):
    with pytest.raises(ValueError, match=message):
        function()


def test_larger_counts_that_nobody_checks_give_nan():
    log_omega, left = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    m, n = torch.tensor([[2**63 - 1, 2**63 - 1], [2**53 + 1, 1], [2**53, 1]]), torch.tensor([3, 3, 3])
    seed = torch.tensor([1])
    sizes = torch.tensor([[2.0, 1.0]] * 3, dtype=torch.float64)
    kernels = torch.ops.drpm
    for value in (
        kernels.mvhg_log_normalizer(log_omega, m, n, False)[0],
        kernels.mvhg_log_prob(sizes, log_omega, m, n, False)[0],
        kernels.mvhg_log_prob_merged(sizes, log_omega, m, n)[0],
        kernels.mvhg_entropy(log_omega, m, n)[0],
        kernels.mvhg_draw(log_omega, m, n, seed, 1, 100),
        kernels.mvhg_sample_exact(log_omega, m, n, seed, None, 1.0, 1, True, False)[0],
        kernels.mvhg_sample_merged(log_omega, m, n, seed, None, 1.0, 1, True, False)[0],
        kernels.hypergeometric_log_weights(left, left, torch.ones_like(n), m[:, 0].contiguous(), n, 2),
    ):
        assert torch.isnan(value[:2]).all() and not torch.isnan(value[2]).any()


def test_float32_calls_give_float64_sizes_where_the_host_knows():
    z, n = torch.zeros(3, requires_grad=True), 2**26
    assert mvhg_draw(z, n, n).dtype == torch.float64
    sizes = mvhg_sample(z, n, n, conditionals="merged", sample_shape=(3,))
    assert sizes.dtype == torch.float64 and (sizes.sum(-1) == n).all()
    (grad,) = torch.autograd.grad(sizes[..., 0].sum(), z)
    assert grad.dtype == torch.float32 and torch.isfinite(grad).all()
    log_prob = mvhg_log_prob(sizes, z, n, n)
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob, mvhg_log_prob(sizes, z.double(), n, n).float())
    torch.testing.assert_close(mvhg_log_prob(sizes.long(), z, n, n), log_prob)
    # no size can be that large; tensors keep the dtype
    for m, drawn in ((n, 100), (2**20, 3 * 2**20), (n, torch.tensor(n))):
        assert mvhg_draw(z, m, drawn).dtype == torch.float32
    assert mvhg_draw(z, [n, 5, 7], [n, 3]).dtype == torch.float64
