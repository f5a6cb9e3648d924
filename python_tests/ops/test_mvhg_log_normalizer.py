"""Normaliser of the MVHG, against forty digits."""

import pytest
import torch

from drpm.ops import mvhg_covariance, mvhg_kl, mvhg_log_normalizer, mvhg_log_prob, mvhg_mean


def test_second_derivative_of_the_normaliser_is_the_covariance():
    log_omega = torch.randn(4, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda w: mvhg_log_normalizer(w, 9, 15), log_omega)
    torch.testing.assert_close(hessian, mvhg_covariance(log_omega, 9, 15), rtol=1e-11, atol=1e-11)


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
