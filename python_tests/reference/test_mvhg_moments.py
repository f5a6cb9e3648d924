import pytest
import torch

from drpm.reference import mvhg_covariance, mvhg_entropy, mvhg_kl, mvhg_log_prob, mvhg_mean
from drpm.reference.mvhg_moments import mvhg_size_marginals

from .enumeration import mvhg_log_weights

CASES = [((3, 5, 4), 5), ((2, 0, 6, 3), 7), ((4, 4), 8), ((1, 2, 3), 0), ((5,), 3), ((6, 1, 1, 1), 8)]


def enumerate_law(log_omega, m, n):
    support, log_weights = mvhg_log_weights(log_omega, m, n)
    return support, log_weights.log_softmax(0)


@pytest.mark.parametrize("m, n", CASES)
def test_moments_entropy_and_divergence_match_enumeration(m, n):
    torch.manual_seed(0)
    close = {"rtol": 0, "atol": 1e-11}
    q, p = torch.randn(2, len(m), dtype=torch.float64) * 2
    counts = torch.tensor(m)
    support, log_q = enumerate_law(q, m, n)
    sizes, prob = support.double(), log_q.exp()
    mean = prob @ sizes
    centred = sizes - mean
    torch.testing.assert_close(mvhg_mean(q, counts, n), mean, **close)
    torch.testing.assert_close(mvhg_covariance(q, counts, n), (centred.T * prob) @ centred, **close)
    torch.testing.assert_close(mvhg_entropy(q, counts, n), -(prob * log_q).sum(), **close)
    log_p = enumerate_law(p, m, n)[1]
    torch.testing.assert_close(mvhg_kl(q, p, counts, n), (prob * (log_q - log_p)).sum(), **close)
    marginals = mvhg_size_marginals(q, counts, n)
    expected = torch.stack(
        [torch.stack([prob[support[:, k] == x].sum() for x in range(max(m) + 1)]) for k in range(len(m))]
    )
    torch.testing.assert_close(marginals, expected, **close)


def test_gradients_are_those_of_an_exponential_family():
    torch.manual_seed(1)
    q, p = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    m, n = torch.tensor([4, 2, 5]), 6
    grad_q, grad_p = torch.autograd.grad(mvhg_kl(q, p, m, n), (q, p))
    torch.testing.assert_close(grad_q, mvhg_covariance(q, m, n) @ (q - p))
    torch.testing.assert_close(grad_p, mvhg_mean(p, m, n) - mvhg_mean(q, m, n))
    sizes = torch.tensor([3, 1, 2])
    (grad,) = torch.autograd.grad(mvhg_log_prob(sizes, q, m, n), q)
    torch.testing.assert_close(grad, sizes - mvhg_mean(q, m, n))


def test_gradcheck():
    torch.manual_seed(2)
    q, p = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    m, n = torch.tensor([[4, 2, 0], [1, 3, 3]]), torch.tensor([3, 5])
    for function in (mvhg_mean, mvhg_covariance, mvhg_entropy):
        assert torch.autograd.gradcheck(lambda w, f=function: f(w, m, n), q)
    assert torch.autograd.gradcheck(lambda a, b: mvhg_kl(a, b, m, n), (q, p))


def test_results_carry_a_gradient_only_when_asked():
    log_omega = torch.zeros(3)
    assert not mvhg_mean(log_omega, 4, 5).requires_grad
    assert not log_omega.requires_grad
    log_omega.requires_grad_()
    assert mvhg_mean(log_omega, 4, 5).requires_grad
    with torch.no_grad():
        assert not mvhg_covariance(log_omega, 4, 5).requires_grad


def test_extreme_weights_batches_and_impossible_n():
    log_omega = torch.tensor([[80.0, -80.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    for function in (mvhg_mean, mvhg_covariance, mvhg_entropy):
        result = function(log_omega, 6, 9)
        assert torch.isfinite(result).all()
        assert torch.isfinite(torch.autograd.grad(result.sum(), log_omega)[0]).all()
        assert function(torch.zeros(0, 3), 6, 9).shape[0] == 0
        assert function(torch.zeros(3), 2, torch.tensor([7, 6])).reshape(2, -1).isnan().all(1).tolist() == [True, False]
    assert torch.equal(mvhg_mean(torch.zeros(2, 1), 5, 3), torch.full((2, 1), 3.0))
    assert torch.equal(mvhg_mean(torch.randn(3), 0, 0), torch.zeros(3))
