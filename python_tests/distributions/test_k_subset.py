"""The torch.distributions contract of the law of exactly k of n."""

import pytest
import torch
from torch.distributions import kl_divergence

from drpm.distributions import KSubset

LOG_WEIGHTS = torch.tensor([[0.0, 1.0, -0.5, 0.3, 2.0], [2.0, 0.0, 0.3, -1.0, 0.0]], dtype=torch.float64)


def law(log_weights=LOG_WEIGHTS, k=2, **kwargs):
    return KSubset(k, log_weights, **kwargs)


def test_shapes_samples_and_support():
    subset = law()
    assert subset.batch_shape == (2,) and subset.event_shape == (5,) and not subset.has_rsample
    draws = subset.sample((5, 7))
    assert draws.shape == (5, 7, 2, 5) and draws.dtype == torch.float64 and not draws.requires_grad
    assert subset.support.check(draws).all()
    assert subset.log_prob(draws).shape == (5, 7, 2)
    assert not subset.support.check(torch.tensor([[1.0, 1, 1, 0, 0], [0.5, 0.5, 1, 0, 0]])).any()
    assert repr(subset)


def test_enumerated_support_carries_all_probability():
    subset = law()
    support = subset.enumerate_support()
    assert support.shape == (10, 2, 5)
    prob = subset.log_prob(support).exp()
    torch.testing.assert_close(prob.sum(0), torch.ones(2, dtype=torch.float64))
    mean = (prob.unsqueeze(-1) * support).sum(0)
    torch.testing.assert_close(subset.mean, mean)
    torch.testing.assert_close(subset.variance, mean - mean**2)
    centred = support - mean
    covariance = (prob[..., None, None] * centred.unsqueeze(-1) * centred.unsqueeze(-2)).sum(0)
    torch.testing.assert_close(subset.covariance_matrix, covariance)
    torch.testing.assert_close(subset.entropy(), -(prob * prob.log()).sum(0))
    assert torch.equal(subset.mode, support[prob.argmax(0), torch.arange(2)])
    assert not law(torch.zeros(60), 30).has_enumerate_support
    with pytest.raises(NotImplementedError):
        law(torch.zeros(60), 30).enumerate_support()
    assert law(LOG_WEIGHTS, 0).enumerate_support().shape == (1, 2, 5)


def test_expand_and_batched_k():
    subset = law(k=torch.tensor([1, 3])).expand((4, 2))
    assert subset.batch_shape == (4, 2)
    draws = subset.sample((3,))
    assert torch.equal(draws.sum(-1), torch.tensor([1.0, 3.0], dtype=torch.float64).expand(3, 4, 2))
    assert not subset.has_enumerate_support


@pytest.mark.parametrize("zeros", [False, True])
def test_divergence_is_that_of_the_enumeration(zeros):
    log_p, log_q = LOG_WEIGHTS.clone(), LOG_WEIGHTS.flip(0).clone()
    if zeros:
        log_p[:, 1] = -torch.inf
    p, q = law(log_p), law(log_q)
    support = p.enumerate_support()
    lp, lq = p.log_prob(support), q.log_prob(support)
    want = torch.where(lp > -torch.inf, lp.exp() * (lp - lq), 0.0).sum(0)
    torch.testing.assert_close(kl_divergence(p, q), want)
    torch.testing.assert_close(kl_divergence(p, p), torch.zeros(2, dtype=torch.float64), atol=1e-14, rtol=0)
    if zeros:
        assert torch.isinf(kl_divergence(q, p)).all()
    with pytest.raises(NotImplementedError):
        kl_divergence(p, law(log_p, 3))


def test_bad_parameters_are_named():
    with pytest.raises(ValueError, match="k must be <= the number of weights above zero"):
        law(torch.tensor([0.0, -torch.inf]), 2)
    with pytest.raises(ValueError, match="k must be whole"):
        law(k=1.5)
    with pytest.raises(ValueError, match="log_weights"):
        law(torch.tensor([0.0, torch.nan]), 1)


def test_pyro_has_it():
    pyro = pytest.importorskip("pyro")
    from drpm.distributions.pyro import KSubset as PyroKSubset

    with pyro.plate("rows", 2):
        value = pyro.sample("subset", PyroKSubset(2, LOG_WEIGHTS))
    assert torch.equal(value.sum(-1), torch.full((2,), 2.0, dtype=torch.float64))
