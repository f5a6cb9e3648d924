"""What the normaliser, mean, covariance, divergence and probability have in common: enumeration, derivatives, edges."""

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
