"""Entropy of the MVHG: enumeration, derivatives, edges."""

import itertools
import math

import pytest
import torch

from drpm.ops import mvhg_entropy, mvhg_log_normalizer, mvhg_log_prob, mvhg_mean
from drpm.testing import FLOAT_DTYPES

from .mvhg_laws import enumerate_law, small_settings


def test_matches_enumeration():
    for m, n, (q, _) in small_settings():
        _, _, log_prob = enumerate_law(m, n, q)
        want = -(log_prob.exp() * log_prob).sum()
        assert abs(mvhg_entropy(q, torch.tensor(m), n) - want) < 1e-12 * max(1.0, float(want))


@pytest.mark.parametrize(
    ("m", "n"), [((4, 6, 3), 7), ((5, 0, 2, 9), 3), ((7,), 4), ((30, 20, 25, 10, 7), 40), ((3, 3), 0)]
)
def test_gradcheck(m, n):
    log_omega = torch.randn(2, len(m), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: mvhg_entropy(w, torch.tensor(m), n), (log_omega,))


@pytest.mark.parametrize(("m", "n"), [((4, 6, 3), 7), ((5, 0, 2, 9), 3), ((30, 20, 25), 40), ((3, 3), 0), ((2, 3), 5)])
def test_gradgradcheck(m, n):
    log_omega = torch.randn(2, len(m), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda w: mvhg_entropy(w, torch.tensor(m), n), (log_omega,))


def test_second_derivatives_match_enumeration():
    for m, n, (q, _) in itertools.islice(small_settings(), 40):
        support, _, _ = enumerate_law(m, n, q)
        counts = torch.tensor(m)

        def enumerated(w, support=support, counts=counts, n=n):
            log_prob = mvhg_log_prob(support, w.expand_as(support), counts, n)
            return -(log_prob.exp() * log_prob).sum()

        got = torch.autograd.functional.hessian(lambda w, counts=counts, n=n: mvhg_entropy(w, counts, n), q)
        want = torch.autograd.functional.hessian(enumerated, q)
        scale = max(1.0, float(q.abs().max())) * max(1.0, float(want.abs().max()))
        assert (got - want).abs().max() < 1e-11 * scale


def test_third_derivative_is_refused_not_wrong():
    log_omega = torch.randn(3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(mvhg_entropy(log_omega, 4, 5), log_omega, create_graph=True)
    (second,) = torch.autograd.grad(grad[0], log_omega, create_graph=True)
    with pytest.raises(NotImplementedError, match="mvhg_entropy: its third derivative"):
        torch.autograd.grad(second.sum(), log_omega)


@pytest.mark.parametrize("n", [100, 5000, 100000, 10**7])
def test_two_classes_match_the_sum_over_the_support(n):
    log_omega = torch.tensor([0.7, -0.4], dtype=torch.float64)
    centre, reach = int(mvhg_mean(log_omega, n, n)[0]), 20 * int(n**0.5)  # beyond it less than e^-500 is missing
    x = torch.arange(max(0, centre - reach), min(n, centre + reach) + 1, dtype=torch.float64)
    log_prob = mvhg_log_prob(torch.stack([x, n - x], -1), log_omega.expand(len(x), 2), n, n)
    want = -(log_prob.exp() * log_prob).sum()
    assert abs(mvhg_entropy(log_omega, n, n) - want) < (1e-10 if n < 10**6 else 1e-8) * float(want)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_extreme_weights_stay_finite(dtype):
    generator = torch.Generator().manual_seed(3)
    log_omega = (160 * torch.rand(100, 6, generator=generator, dtype=torch.float64) - 80).to(dtype).requires_grad_()
    m = torch.randint(0, 300, (100, 6), generator=generator)
    n = (torch.rand(100, generator=generator) * m.sum(-1)).long()
    entropy = mvhg_entropy(log_omega, m, n)
    (grad,) = torch.autograd.grad(entropy.sum(), log_omega)
    assert torch.isfinite(entropy).all() and torch.isfinite(grad).all() and (entropy > -1e-6).all()
    # a common factor of all weights changes nothing
    assert grad.sum(-1).abs().max() < (1e-8 if dtype == torch.float64 else 1e-2)


def test_uniform_limit_and_edges():
    # one item of each of 8 classes, 3 drawn: log C(8, 3)
    log_omega = torch.zeros(8, dtype=torch.float64)
    assert abs(mvhg_entropy(log_omega, 1, 3) - math.log(56)) < 1e-13
    assert abs(mvhg_log_normalizer(log_omega, 1, 3) - math.log(56)) < 1e-13
    assert mvhg_entropy(log_omega, 1, 0) == 0 and mvhg_entropy(log_omega, 1, 8) == 0
    assert mvhg_entropy(torch.zeros(2, 3, 1), 5, 2).shape == (2, 3)
    assert mvhg_entropy(torch.zeros(0, 4), 5, 2).shape == (0,)


def test_opcheck_and_invalid_counts():
    log_omega = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.drpm.mvhg_entropy, (log_omega, torch.tensor([[5, 3, 2, 6]]), torch.tensor([7])))
    product = torch.ops.drpm.mvhg_entropy_hessian_product
    direction = torch.randn(3, 4, dtype=torch.float64)
    torch.library.opcheck(product, (log_omega.detach(), torch.tensor([[5, 3, 2, 6]]), torch.tensor([7]), direction))
    invalid = (torch.zeros(1, 2), torch.tensor([[1, 2]]), torch.tensor([4]))
    entropy, grad = torch.ops.drpm.mvhg_entropy(*invalid)
    assert torch.isnan(entropy).all() and torch.isnan(grad).all() and torch.isnan(product(*invalid, grad)).all()
    with pytest.raises(ValueError, match="mvhg_entropy: n must be <= the sum of m"):
        mvhg_entropy(torch.zeros(2), 1, 3)
