"""Mean of the MVHG, with covariance and probability, against SciPy."""

import math

import pytest
import torch

from drpm.ops import mvhg_covariance, mvhg_log_prob, mvhg_mean


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
