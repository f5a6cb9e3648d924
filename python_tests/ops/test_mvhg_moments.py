"""Normaliser, probability, mean, covariance and divergence of the MVHG: enumeration, derivatives, edges."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from drpm.ops import mvhg_covariance, mvhg_kl, mvhg_log_normalizer, mvhg_log_prob, mvhg_mean
from drpm.testing import FLOAT_DTYPES

from .mvhg_laws import enumerate_law, small_settings


def test_all_quantities_match_enumeration():
    worst = dict.fromkeys(("normalizer", "log_prob", "mean", "covariance", "kl"), 0.0)
    for m, n, (q, p) in small_settings():
        support, log_p0, log_prob = enumerate_law(m, n, q)
        _, _, log_prob_p = enumerate_law(m, n, p)
        prob = log_prob.exp()
        mean = prob @ support
        covariance = (support - mean).T @ ((support - mean) * prob.unsqueeze(-1))
        kl = (prob * (log_prob - log_prob_p)).sum()
        counts = torch.tensor(m)
        scale = max(1.0, float(log_p0.abs()))
        got = mvhg_log_prob(support, q, counts, n)
        errors = {
            "normalizer": (mvhg_log_normalizer(q, counts, n) - log_p0).abs() / scale,
            "log_prob": ((got - log_prob).abs() / log_prob.abs().clamp(min=1)).max(),
            "mean": (mvhg_mean(q, counts, n) - mean).abs().max(),
            "covariance": (mvhg_covariance(q, counts, n) - covariance).abs().max(),
            "kl": (mvhg_kl(q, p, counts, n) - kl).abs() / max(1.0, float(kl)),
        }
        for name, error in errors.items():
            worst[name] = max(worst[name], float(error))
    assert worst["normalizer"] < 2e-14 and worst["log_prob"] < 1e-13, worst
    assert worst["mean"] < 1e-12 and worst["covariance"] < 1e-12 and worst["kl"] < 1e-12, worst


@pytest.mark.parametrize(("m", "n"), [((4, 6, 3), 7), ((5, 0, 2, 9), 3), ((7,), 4), ((3, 3), 0), ((2, 3), 5)])
def test_gradcheck_twice(m, n):
    m = torch.tensor(m)
    log_omega = torch.randn(2, len(m), dtype=torch.float64, requires_grad=True)
    other = torch.randn(len(m), dtype=torch.float64, requires_grad=True)
    for function, inputs in (
        (lambda w: mvhg_log_normalizer(w, m, n), (log_omega,)),
        (lambda w: mvhg_mean(w, m, n), (log_omega,)),
        (lambda w: mvhg_covariance(w, m, n), (log_omega,)),
        (lambda q, p: mvhg_kl(q, p, m, n), (log_omega, other)),
    ):
        assert gradcheck(function, inputs) and gradgradcheck(function, inputs)


def test_third_and_fourth_cumulants_match_enumeration():
    for m, n, (q, v) in small_settings():
        support, _, log_prob = enumerate_law(m, n, q)
        rows = [x[None] for x in (q, v, v.flip(0), q.tanh())]
        arguments = (rows[0], torch.tensor([m]), torch.tensor([n]))
        prob, deviation = log_prob.exp(), support - log_prob.exp() @ support
        totals = [deviation @ x[0] for x in rows[1:]]
        moment = [[prob @ (a * b) for b in totals] for a in totals]
        third = (prob * totals[0] * totals[1]) @ deviation
        fourth = (prob * totals[0] * totals[1] * totals[2]) @ deviation
        for i in range(3):
            fourth = fourth - moment[(i + 1) % 3][(i + 2) % 3] * ((prob * totals[i]) @ deviation)
        got = torch.ops.drpm.mvhg_third_cumulant(*arguments, *rows[1:3])[0]
        assert (got - third).abs().max() < 1e-12 * max(1.0, float(v.abs().max()) ** 2)
        got = torch.ops.drpm.mvhg_fourth_cumulant(*arguments, *rows[1:])[0]
        assert (got - fourth).abs().max() < 1e-12 * max(1.0, float(v.abs().max()) ** 3)


def test_third_derivative_of_the_covariance_is_refused_not_wrong():
    log_omega = torch.randn(3, dtype=torch.float64, requires_grad=True)
    x = mvhg_covariance(log_omega, 4, 5)[0, 0]
    for _ in range(2):
        (grad,) = torch.autograd.grad(x, log_omega, create_graph=True)
        x = grad[0]
    with pytest.raises(NotImplementedError, match="mvhg_covariance: its third derivative"):
        torch.autograd.grad(x, log_omega)


def test_log_prob_gradcheck_twice_in_weights_and_sizes():
    m = torch.tensor([4, 6, 3])
    log_omega = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    first = torch.tensor([[1.3, 4.1], [2.0, 3.0]], dtype=torch.float64, requires_grad=True)

    def with_last(first, log_omega):  # sizes that keep the sum
        return mvhg_log_prob(torch.cat([first, 7 - first.sum(-1, keepdim=True)], -1), log_omega, m, 7)

    assert gradcheck(with_last, (first, log_omega)) and gradgradcheck(with_last, (first, log_omega))
    sizes = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(mvhg_log_prob(sizes, log_omega[0], m, 7), sizes)
    expected = log_omega[0] + torch.digamma(m - sizes + 1) - torch.digamma(sizes + 1)
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)


def test_second_derivative_of_the_normaliser_is_the_covariance():
    log_omega = torch.randn(4, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda w: mvhg_log_normalizer(w, 9, 15), log_omega)
    torch.testing.assert_close(hessian, mvhg_covariance(log_omega, 9, 15), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n", [1, 3, 180, 599])
def test_two_classes_match_scipy(n):
    from scipy.stats import nchypergeom_fisher

    for odds in (0.1, 1.0, 5.0):
        law = nchypergeom_fisher(600, 200, n, odds)
        log_omega = torch.tensor([math.log(odds), 0.0], dtype=torch.float64)
        m = torch.tensor([200, 400])
        assert abs(mvhg_mean(log_omega, m, n)[0] - law.mean()) < 1e-9 * max(1, n)
        assert abs(mvhg_covariance(log_omega, m, n)[0, 0] - law.var()) < 1e-8 * max(1, law.var())
        x = torch.arange(max(0, n - 400), min(200, n) + 1, dtype=torch.float64)
        got = mvhg_log_prob(torch.stack([x, n - x], -1), log_omega, m, n)
        want = torch.from_numpy(law.logpmf(x.numpy()))
        usable = want > -200  # SciPy underflows to -inf for improbable outcomes
        torch.testing.assert_close(got[usable], want[usable], rtol=1e-9, atol=1e-9)


def test_central_case_matches_scipy():
    from scipy.stats import multivariate_hypergeom

    m = [200, 150, 7, 300]
    law = multivariate_hypergeom(m, 180)
    log_omega = torch.full((4,), 0.7, dtype=torch.float64)  # a common weight does not matter
    counts = torch.tensor(m)
    torch.testing.assert_close(mvhg_mean(log_omega, counts, 180), torch.from_numpy(law.mean()), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        mvhg_covariance(log_omega, counts, 180), torch.from_numpy(law.cov()), rtol=1e-11, atol=1e-11
    )
    for sizes in ([60, 40, 2, 78], [0, 0, 0, 180], [100, 70, 7, 3]):
        got = mvhg_log_prob(torch.tensor(sizes), log_omega, counts, 180)
        assert abs(got - law.logpmf(sizes)) < 1e-10


def multiprecision_law(m, n, log_omega, digits=40):
    """log P0 and the means from 40-digit polynomial products, windows cut at 1e-35 of the largest term."""
    import mpmath as mp

    mp.mp.dps = digits
    low, high = mp.mpf(-60), mp.mpf(60)  # any tilt gives the same law; this one centres it
    for _ in range(100):
        tilt = (low + high) / 2
        drawn = mp.fsum(c / (1 + mp.exp(-(mp.mpf(w) + tilt))) for c, w in zip(m, log_omega, strict=True))
        low, high = (low, tilt) if drawn > n else (tilt, high)

    def binomial(count, weight):  # tilted, from the mode outwards
        odds = mp.exp(mp.mpf(weight) + tilt)
        mode = min(int((count + 1) * odds / (1 + odds)), count)
        peak = mp.binomial(count, mode) * odds**mode / (1 + odds) ** count
        values, x, v = {mode: peak}, mode, peak
        while x < count and v > peak * mp.mpf(10) ** -35:
            v *= odds * (count - x) / (x + 1)
            x += 1
            values[x] = v
        x, v = mode, peak
        while x > 0 and v > peak * mp.mpf(10) ** -35:
            v *= x / (odds * (count - x + 1))
            x -= 1
            values[x] = v
        return values

    laws = [binomial(c, w) for c, w in zip(m, log_omega, strict=True)]

    def convolve(a, b):
        out = {}
        for x, u in a.items():
            for y, v in b.items():
                out[x + y] = out.get(x + y, mp.mpf(0)) + u * v
        return out

    rest = {0: mp.mpf(1)}
    for law in laws[1:]:
        rest = convolve(rest, law)
    terms = {x: v * rest[n - x] for x, v in laws[0].items() if n - x in rest}
    mass = mp.fsum(terms.values())
    mean_first = mp.fsum(x * v for x, v in terms.items()) / mass
    log_p0 = (
        mp.log(mass)
        + mp.fsum(c * mp.log(1 + mp.exp(mp.mpf(w) + tilt)) for c, w in zip(m, log_omega, strict=True))
        - n * tilt
    )
    return float(log_p0), float(mean_first)


@pytest.mark.parametrize(
    ("m", "n", "log_omega"),
    [
        ((200, 200, 200), 180, (0.0, 2.0, 0.0)),
        ((1024, 900), 1024, (0.3, -0.8)),
        ((50, 400, 3, 120), 77, (1.5, -2.0, 3.0, 0.5)),
        ((3, 4000), 5, (0.0, -6.0)),
    ],
)
def test_large_counts_match_forty_digits(m, n, log_omega):
    log_p0, mean_first = multiprecision_law(m, n, log_omega)
    weights = torch.tensor(log_omega, dtype=torch.float64)
    assert abs(mvhg_log_normalizer(weights, torch.tensor(m), n) - log_p0) < 1e-14 * max(1, abs(log_p0)) + 1e-13
    assert abs(mvhg_mean(weights, torch.tensor(m), n)[0] - mean_first) < 1e-12 * mean_first
    single = mvhg_log_normalizer(weights.float(), torch.tensor(m), n)
    log_p0_single, _ = multiprecision_law(m, n, weights.float().tolist())
    assert abs(single - log_p0_single) < 2e-7 * max(1, abs(log_p0_single))


@pytest.mark.parametrize("n", [10**5, 10**6, 10**7])
def test_central_case_at_ten_million_matches_forty_digits(n):
    import mpmath as mp

    mp.mp.dps = 40
    classes = 10
    log_omega = torch.zeros(classes, dtype=torch.float64)
    want = mp.log(mp.binomial(classes * n, n))
    assert abs(mvhg_log_normalizer(log_omega, n, n) - float(want)) < 1e-14 * float(want)
    sizes = torch.full((classes,), n // classes, dtype=torch.float64)
    log_prob = classes * mp.log(mp.binomial(n, n // classes)) - want
    assert abs(mvhg_log_prob(sizes, log_omega, n, n) - float(log_prob)) < 1e-12 * abs(float(log_prob))
    assert abs(mvhg_log_prob(sizes.float(), log_omega.float(), n, n) - float(log_prob)) < 1e-6 * abs(float(log_prob))
    torch.testing.assert_close(mvhg_mean(log_omega, n, n), sizes, rtol=1e-13, atol=0)
    variance = n * (1 / classes) * (1 - 1 / classes) * (classes * n - n) / (classes * n - 1)
    assert abs(mvhg_covariance(log_omega, n, n)[0, 0] - variance) < 1e-11 * variance
    assert mvhg_kl(log_omega, log_omega, n, n) < 1e-9


def test_small_divergences_keep_their_digits_at_large_counts():
    """KL ≈ ½ Δᵀ Cov Δ for small Δ; formed from the normalisers it would be rounding noise of 1e7 nats."""
    log_omega = torch.randn(6, dtype=torch.float64)
    delta = 1e-6 * torch.randn(6, dtype=torch.float64)
    n = 10**6
    want = 0.5 * delta @ mvhg_covariance(log_omega, n, n) @ delta
    assert abs(mvhg_kl(log_omega + delta, log_omega, n, n) - want) < 1e-4 * want


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_extreme_weights_stay_finite(dtype):
    """The original's gradients are NaN at zero weights."""
    generator = torch.Generator().manual_seed(3)
    log_omega = (160 * torch.rand(200, 6, generator=generator, dtype=torch.float64) - 80).to(dtype).requires_grad_()
    m = torch.randint(0, 300, (200, 6), generator=generator)
    n = (torch.rand(200, generator=generator) * m.sum(-1)).long()
    mean = mvhg_mean(log_omega, m, n)
    kl = mvhg_kl(log_omega, log_omega.flip(0), m, n)
    values = [mvhg_log_normalizer(log_omega, m, n), mean, mvhg_covariance(log_omega, m, n), kl]
    for value in values:
        assert torch.isfinite(value).all()
        (grad,) = torch.autograd.grad(value.sum(), log_omega, retain_graph=True)
        assert torch.isfinite(grad).all()
    tolerance = 1e-11 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(mean.sum(-1), n.to(dtype), rtol=tolerance, atol=tolerance)
    assert (mean >= 0).all() and (mean <= m * (1 + tolerance) + tolerance).all() and (kl >= 0).all()


def test_divergence_from_itself_is_zero():
    """The original's log q − log p with q ≡ p averages +0.96."""
    log_omega = torch.tensor([0.0, 1.0, 3.0])
    assert mvhg_kl(log_omega, log_omega, 50, 60) == 0
    shifted = mvhg_kl(log_omega, log_omega + 2, 50, 60)
    assert shifted.abs() < 1e-6  # a common factor of the weights changes nothing


@pytest.mark.parametrize("dtype", [*FLOAT_DTYPES, torch.float16, torch.bfloat16])
def test_shapes_and_dtypes(dtype):
    log_omega = torch.randn(3, 1, 4).to(dtype)
    m, n = torch.tensor([[5, 6, 0, 2], [1, 1, 1, 1]]), torch.tensor([4, 2])
    assert mvhg_log_normalizer(log_omega, m, n).shape == (3, 2)
    assert mvhg_mean(log_omega, m, n).shape == (3, 2, 4)
    assert mvhg_covariance(log_omega, m, n).shape == (3, 2, 4, 4)
    assert mvhg_kl(log_omega, torch.zeros(4, dtype=dtype), m, n).shape == (3, 2)
    for function in (mvhg_log_normalizer, mvhg_mean, mvhg_covariance):
        assert function(log_omega, m, n).dtype == dtype
        assert function(log_omega[:0], m, n).shape[:2] == (0, 2)
    rows = [mvhg_covariance(log_omega[i, 0], m[j], int(n[j])) for i in range(3) for j in range(2)]
    assert torch.equal(mvhg_covariance(log_omega, m, n).reshape(6, 4, 4), torch.stack(rows))


def test_edges():
    weights = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    m = torch.tensor([4, 0, 3])
    assert mvhg_log_normalizer(weights, m, 0) == 0
    torch.testing.assert_close(mvhg_log_normalizer(weights, m, 7), (m * weights).sum())
    assert torch.equal(mvhg_mean(weights, m, 7), m.double()) and torch.equal(
        mvhg_mean(weights, m, 0), torch.zeros(3).double()
    )
    assert torch.equal(mvhg_covariance(weights, m, 7), torch.zeros(3, 3).double())
    assert mvhg_log_prob(m, weights, m, 7) == 0 and mvhg_log_prob(torch.tensor([4, 1, 2]), weights, m, 7) == -math.inf
    assert torch.equal(mvhg_mean(torch.zeros(2, 1), 5, 3), torch.full((2, 1), 3.0))
    assert mvhg_mean(weights, m, 3)[1] == 0


def test_invalid_device_counts_give_nan():
    log_omega = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, float("inf")], [0.0, 1.0]])
    m, n = torch.tensor([[3, 3], [3, -1], [3, 3], [3, 3]]), torch.tensor([7, 1, 2, 3])
    value, mean = torch.ops.drpm.mvhg_log_normalizer(log_omega, m, n, True)
    product = torch.ops.drpm.mvhg_covariance_product(log_omega, m, n, torch.ones(4, 2))
    log_prob, _ = torch.ops.drpm.mvhg_log_prob(torch.ones(4, 2), log_omega, m, n, False)
    kl, _, _ = torch.ops.drpm.mvhg_kl(log_omega, torch.zeros(4, 2), m, n)
    for result in (value, mean, product, kl):
        assert torch.isnan(result[:3]).all() and torch.isfinite(result[3]).all()
    assert torch.isnan(log_prob[:3]).all() and log_prob[3] == -math.inf


def test_opcheck():
    log_omega = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    other = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    m, n = torch.tensor([[5, 3, 2, 6]]), torch.tensor([7, 2, 9])
    sizes = torch.tensor([[2.0, 1, 1, 3], [1, 0, 1, 0], [4, 3, 1, 1]], dtype=torch.float64, requires_grad=True)
    ops = torch.ops.drpm
    torch.library.opcheck(ops.mvhg_log_normalizer, (log_omega, m, n, True))
    torch.library.opcheck(ops.mvhg_log_prob, (sizes, log_omega, m, n, True))
    torch.library.opcheck(ops.mvhg_covariance_product, (log_omega, m, n, other))
    torch.library.opcheck(ops.mvhg_third_cumulant, (log_omega.detach(), m, n, other, other))
    torch.library.opcheck(ops.mvhg_fourth_cumulant, (log_omega.detach(), m, n, other, other, sizes))
    torch.library.opcheck(ops.mvhg_kl, (log_omega, other, m, n))


@pytest.mark.parametrize("function", [mvhg_log_normalizer, mvhg_mean, mvhg_covariance])
def test_bad_arguments(function):
    name = function.__name__
    with pytest.raises(ValueError, match=f"{name}: n must be <= the sum of m, got 41 > 40"):
        function(torch.zeros(4), 10, 41)
    with pytest.raises(ValueError, match=f"{name}: log_omega must be finite"):
        function(torch.tensor([0.0, float("nan")]), 10, 4)
    with pytest.raises(TypeError, match=f"{name}: n must be whole"):
        function(torch.zeros(4), 10, 2.5)


def test_bad_arguments_of_the_divergence():
    with pytest.raises(ValueError, match="mvhg_kl: log_omega_p must have 3 classes"):
        mvhg_kl(torch.zeros(3), torch.zeros(2), 4, 3)
    with pytest.raises(ValueError, match="mvhg_kl: log_omega_p must be finite"):
        mvhg_kl(torch.zeros(2), torch.tensor([0.0, float("inf")]), 4, 3)
