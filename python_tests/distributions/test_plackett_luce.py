import itertools
import math

import pytest
import torch

from drpm.distributions import PlackettLuce, RelaxedPlackettLuce, kl_monte_carlo
from drpm.distributions.constraints import permutation, row_stochastic


def test_shapes_support_and_expand():
    law = PlackettLuce(torch.randn(2, 3, 5))
    assert law.batch_shape == (2, 3) and law.event_shape == (5,) and not law.has_rsample
    value = law.sample((4,))
    assert value.shape == (4, 2, 3, 5) and value.dtype == torch.int64 and law.support.check(value).all()
    assert law.log_prob(value).shape == (4, 2, 3)
    wide = PlackettLuce(torch.randn(5)).expand((2, 3))
    assert wide.batch_shape == (2, 3) and wide.sample().shape == (2, 3, 5)
    assert not permutation.check(torch.tensor([0, 0, 2])) and not permutation.check(torch.tensor([0.0, 1.0]))


def test_samples_follow_log_prob():
    law = PlackettLuce(torch.tensor([0.5, -1.0, 1.5, 0.0]))
    orders = law.enumerate_support()
    assert orders.shape == (24, 4) and law.has_enumerate_support
    probability = law.log_prob(orders).double().exp()
    assert abs(probability.sum() - 1) < 1e-6
    base = torch.tensor([64, 16, 4, 1])
    counts = (law.sample((40000,)) * base).sum(-1).bincount(minlength=256)[(orders * base).sum(-1)]
    statistic = ((counts - 40000 * probability) ** 2 / (40000 * probability)).sum()
    assert statistic < 59.7  # chi-square with 23 degrees of freedom, p = 4e-5


def test_manual_seed_reproduces_and_draws_differ():
    law = PlackettLuce(torch.zeros(50))
    torch.manual_seed(3)
    one, two = law.sample(), law.sample()
    torch.manual_seed(3)
    assert torch.equal(law.sample(), one) and not torch.equal(one, two)


def test_mode_and_marginals():
    law = PlackettLuce(torch.randn(5).double())
    orders = law.enumerate_support()
    probability = law.log_prob(orders).exp()
    assert torch.equal(law.mode, orders[probability.argmax()])
    expected = torch.einsum("o,ori->ri", probability, torch.nn.functional.one_hot(orders, 5).double())
    assert (law.marginals - expected).abs().max() < 1e-12


def test_kl_is_unbiased_and_zero_for_equal_laws():
    q, p = (PlackettLuce(torch.randn(4).double().requires_grad_()) for _ in range(2))
    orders = q.enumerate_support()
    log_q = q.log_prob(orders)
    exact = (log_q.exp() * (log_q - p.log_prob(orders))).sum()
    expected = torch.autograd.grad(exact, (q.log_scores, p.log_scores))
    wide_q, wide_p = q.expand((20000,)), p.expand((20000,))
    value = kl_monte_carlo(wide_q, wide_p, samples=8)
    grads = torch.autograd.grad(value.sum(), (wide_q.log_scores, wide_p.log_scores))
    assert abs(value.mean() - exact) < 5 * value.std() / math.sqrt(20000)
    for got, want in zip(grads, expected, strict=True):
        assert ((got.mean(0) - want).abs() < 5 * got.std(0) / math.sqrt(20000)).all()
    assert torch.distributions.kl_divergence(q, PlackettLuce(q.log_scores)) == 0
    assert torch.distributions.kl_divergence(q, p) > 0


def test_relaxed_samples_sum_to_one_and_carry_gradients():
    log_scores = torch.randn(3, 6).double().requires_grad_()
    law = RelaxedPlackettLuce(0.5, log_scores)
    value = law.rsample((2,))
    assert law.has_rsample and value.shape == (2, 3, 6, 6) and value.dtype == torch.float64
    assert row_stochastic.check(value).all()
    (grad,) = torch.autograd.grad((value * torch.randn_like(value)).sum(), log_scores)
    assert grad.isfinite().all() and grad.abs().max() > 0
    assert not law.sample().requires_grad
    assert law.expand((4, 3)).rsample().shape == (4, 3, 6, 6)


def test_hard_relaxed_samples_are_permutations_of_the_discrete_law():
    law = RelaxedPlackettLuce(0.5, torch.randn(6).double(), hard=True)
    torch.manual_seed(5)
    value = law.rsample((50,))
    torch.manual_seed(5)
    order = law.discrete.sample((50,))
    assert torch.equal(value, torch.nn.functional.one_hot(order, 6).double())
    assert torch.allclose(law.log_prob(value), law.discrete.log_prob(order), rtol=1e-13)
    assert torch.equal(law.mode.argmax(-1), law.discrete.mode)
    assert torch.equal(law.marginals, law.discrete.marginals)


def test_empty_and_single():
    for n in (0, 1):
        law = PlackettLuce(torch.zeros(2, n))
        assert law.sample((3,)).shape == (3, 2, n) and torch.equal(law.log_prob(law.sample()), torch.zeros(2))
        assert law.marginals.shape == (2, n, n) and len(law.enumerate_support()) == 1
        assert RelaxedPlackettLuce(1.0, torch.zeros(2, n)).rsample().shape == (2, n, n)


def test_bad_arguments():
    with pytest.raises(ValueError, match="log_scores"):
        PlackettLuce(torch.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match="log_scores must have an element dimension"):
        PlackettLuce(torch.tensor(0.0))
    with pytest.raises(ValueError, match="support"):
        PlackettLuce(torch.zeros(3)).log_prob(torch.tensor([0, 1, 1]))
    with pytest.raises(NotImplementedError, match="n must be <= 8"):
        PlackettLuce(torch.zeros(9)).enumerate_support()
    with pytest.raises(ValueError, match="tau must be positive"):
        RelaxedPlackettLuce(0.0, torch.zeros(3))
    with pytest.raises(ValueError, match="p must have event shape"):
        kl_monte_carlo(PlackettLuce(torch.zeros(3)), PlackettLuce(torch.zeros(4)))


def test_enumeration_is_every_order_once():
    orders = PlackettLuce(torch.zeros(2, 4)).enumerate_support(expand=False)
    assert orders.shape == (24, 1, 4)
    assert sorted(map(tuple, orders[:, 0].tolist())) == sorted(itertools.permutations(range(4)))
