import math

import pytest
import torch

from drpm.distributions import RandomPartition
from drpm.estimators import METHODS, expectation, leave_one_out, partition_kl

N, K = 4, 3


def problem():
    torch.manual_seed(4)
    log_omega, log_scores = torch.randn(K).double() * 0.5, torch.randn(N).double()
    cost = torch.randn(K, N).double()
    pairs = torch.randn(K * N, K * N).double()
    linear = lambda y: (y * cost).sum((-1, -2)) + 1  # noqa: E731
    quadratic = lambda y: ((y.flatten(-2) @ pairs) * y.flatten(-2)).sum(-1)  # noqa: E731
    return log_omega, log_scores, linear, quadratic


def enumerated(f, log_omega, log_scores):
    inputs = (log_omega.clone().requires_grad_(), log_scores.clone().requires_grad_())
    law = RandomPartition(*inputs)
    labels = law.enumerate_support()
    one_hot = torch.nn.functional.one_hot(labels, K).mT.double()
    value = (law.log_prob(labels).exp() * f(one_hot)).sum()
    return value.detach(), torch.autograd.grad(value, inputs)


def estimated(f, log_omega, log_scores, replicates, **options):
    inputs = [x.expand(replicates, -1).clone().requires_grad_() for x in (log_omega, log_scores)]
    value = expectation(f, *inputs, **options)
    return value.detach(), torch.autograd.grad(value.sum(), inputs)


@pytest.mark.parametrize("samples", [2, 5])
@pytest.mark.parametrize("which", ["linear", "quadratic"])
def test_score_function_is_unbiased(which, samples):
    log_omega, log_scores, linear, quadratic = problem()
    f = linear if which == "linear" else quadratic
    exact, exact_grads = enumerated(f, log_omega, log_scores)
    replicates = 20000
    value, grads = estimated(f, log_omega, log_scores, replicates, method="score", samples=samples)
    assert abs(value.mean() - exact) < 5 * value.std() / math.sqrt(replicates)
    for got, want in zip(grads, exact_grads, strict=True):
        assert ((got.mean(0) - want).abs() < 5 * got.std(0) / math.sqrt(replicates)).all()


def test_marginals_are_exact_for_linear_losses():
    log_omega, log_scores, linear, _ = problem()
    exact, exact_grads = enumerated(linear, log_omega, log_scores)
    value, grads = estimated(linear, log_omega, log_scores, 1, method="marginals")
    assert abs(value - exact) < 1e-11
    for got, want in zip(grads, exact_grads, strict=True):
        assert (got[0] - want).abs().max() < 1e-10


def test_straight_through_has_the_right_value_and_a_gradient_that_points_the_right_way():
    log_omega, log_scores, linear, _ = problem()
    exact, exact_grads = enumerated(linear, log_omega, log_scores)
    value, grads = estimated(linear, log_omega, log_scores, 20000, method="straight-through", samples=2, tau=0.5)
    assert abs(value.mean() - exact) < 5 * value.std() / math.sqrt(20000)
    for got, want in zip(grads, exact_grads, strict=True):
        assert torch.nn.functional.cosine_similarity(got.mean(0), want, dim=0) > 0.8


def test_gradient_of_parameters_of_f_is_kept():
    log_omega, log_scores, _, _ = problem()
    cost = torch.randn(K, N).double().requires_grad_()
    for method in ("score", "straight-through", "marginals"):
        value = expectation(lambda y: (y * cost).sum((-1, -2)), log_omega, log_scores, method=method, samples=500)
        (grad,) = torch.autograd.grad(value, cost)
        law = RandomPartition(log_omega, log_scores)
        assert (grad - law.marginals).abs().max() < 0.15


def test_seed_reproduces():
    log_omega, log_scores, linear, _ = problem()
    one = expectation(linear, log_omega, log_scores, seed=3)
    assert torch.equal(one, expectation(linear, log_omega, log_scores, seed=3))
    assert not torch.equal(one, expectation(linear, log_omega, log_scores, seed=4))


def test_leave_one_out_baseline_removes_a_constant():
    log_prob = torch.randn(6, 2).double().requires_grad_()
    values = torch.randn(6, 2).double()
    (grad,) = torch.autograd.grad(leave_one_out(values, log_prob).sum(), log_prob)
    (shifted,) = torch.autograd.grad(leave_one_out(values + 1e3, log_prob).sum(), log_prob)
    others = (values.sum(0) - values) / 5
    assert torch.allclose(grad, (values - others) / 6) and torch.allclose(grad, shifted, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda y: y.sum(), ValueError, r"f must map assignments \(\d, 2, 3, 4\) to \(\d, 2\), got \(\)"),
        (lambda y: y.sum(-1), ValueError, r"f must map assignments \(\d, 2, 3, 4\) to \(\d, 2\), got \(\d, 2, 3\)"),
        (lambda y: y.sum((-1, -2))[..., :1], ValueError, r"f must map .* to \(\d, 2\), got \(\d, 1\)"),
        (lambda y: float(y.sum()), TypeError, "f must give a tensor, got float"),
    ],
)
def test_f_gives_a_number_for_each_sample_and_row_whatever_the_method(method, f, error, message):
    log_omega, log_scores, _, _ = problem()
    with pytest.raises(error, match="expectation: " + message):
        expectation(f, log_omega.expand(2, -1), log_scores.expand(2, -1), method=method)
    whole = expectation(lambda y: y.sum((-1, -2)), log_omega.expand(2, -1), log_scores.expand(2, -1), method=method)
    assert torch.allclose(whole, torch.full((2,), 4.0).double())


def test_bad_arguments():
    log_omega, log_scores, linear, _ = problem()
    with pytest.raises(ValueError, match="method must be one of"):
        expectation(linear, log_omega, log_scores, method="reinforce")
    with pytest.raises(ValueError, match="samples must be >= 2"):
        expectation(linear, log_omega, log_scores, samples=1)
    with pytest.raises(ValueError, match="samples must be >= 1 for method 'straight-through', got 0"):
        expectation(linear, log_omega, log_scores, method="straight-through", samples=0)
    with pytest.raises(ValueError, match="S >= 2"):
        leave_one_out(torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match="as log_prob is"):
        leave_one_out(torch.zeros(3), torch.zeros(4))


def enumerated_kl(log_omega_q, log_omega_p, log_scores_q, log_scores_p):
    """KL(q ‖ p) as a sum over all partitions."""
    q, p = RandomPartition(log_omega_q, log_scores_q), RandomPartition(log_omega_p, log_scores_p)
    labels = q.enumerate_support()
    log_q = q.log_prob(labels)
    return (log_q.exp() * (log_q - p.log_prob(labels))).sum()


@pytest.mark.parametrize(("n", "num_subsets"), [(4, 3), (6, 2), (3, 4)])
def test_expectation_of_the_kl_estimator_is_the_enumerated_kl_and_gradient(n, num_subsets):
    # With two draws, all pairs of partitions weighted by their probability: no sampling error, only rounding.
    torch.manual_seed(7)
    omegas = [(torch.randn(num_subsets).double()).requires_grad_() for _ in range(2)]
    scores = [(1.5 * torch.randn(n).double()).requires_grad_() for _ in range(2)]
    inputs = (*omegas, *scores)
    want = enumerated_kl(*inputs)
    want_grads = torch.autograd.grad(want, inputs)

    q = RandomPartition(omegas[0].detach(), scores[0].detach())
    labels = q.enumerate_support()
    count = len(labels)
    pairs = torch.cartesian_prod(torch.arange(count), torch.arange(count)).T
    weights = q.log_prob(labels).exp()[pairs].prod(0)
    kl = partition_kl(labels[pairs], *inputs)
    assert kl.order.shape == (count**2,)
    got = kl.sizes + (weights * kl.order).sum()
    assert abs(got - want) < 1e-10
    for grad, wanted in zip(torch.autograd.grad(got, inputs), want_grads, strict=True):
        assert (grad - wanted).abs().max() < 1e-9
