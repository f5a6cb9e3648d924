"""Covariance of the MVHG, and the cumulants behind its derivatives."""

import pytest
import torch

from drpm.ops import mvhg_covariance

from .mvhg_laws import enumerate_law, small_settings


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
