"""Exact draws without a relaxation: both methods follow the exact law."""

import pytest
import torch

from drpm.ops import mvhg_covariance, mvhg_draw, mvhg_mean
from drpm.testing import FLOAT_DTYPES

from .mvhg_laws import FAILURE_RATE, GOODNESS_CASES, chi_square_p_value, enumerated_law


@pytest.mark.parametrize("largest_table", [10**6, 0])  # inversion, rejection
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_goodness_of_fit_to_the_enumerated_law(dtype, largest_table):
    for index, (m, n, log_omega) in enumerate(GOODNESS_CASES):
        log_omega = torch.tensor(log_omega, dtype=torch.float64)
        support, prob = enumerated_law(log_omega, m, n, "exact")
        draws = mvhg_draw(
            log_omega.to(dtype),
            torch.tensor(m),
            n,
            sample_shape=(20000,),
            seed=index,
            largest_table=largest_table,
        )
        assert chi_square_p_value(draws, support, prob) > FAILURE_RATE / len(GOODNESS_CASES)


@pytest.mark.parametrize("n", [1000, 10**5, 10**7])
def test_means_and_variances_at_large_counts(n):
    log_omega = torch.tensor([0.0, 1.0, -0.5, 0.3], dtype=torch.float64)
    samples = 2000
    draws = mvhg_draw(log_omega, n, n, sample_shape=(samples,), seed=1)
    assert torch.equal(draws.sum(-1), torch.full((samples,), float(n), dtype=torch.float64))
    assert torch.equal(draws, draws.round()) and (draws >= 0).all() and (draws <= n).all()
    mean, covariance = mvhg_mean(log_omega, n, n), mvhg_covariance(log_omega, n, n)
    variance = covariance.diagonal()
    error = (draws.mean(0) - mean) / (variance / samples).sqrt()
    assert error.abs().max() < 4.5
    ratio = draws.var(0) / variance
    assert (ratio - 1).abs().max() < 4.5 * (2 / samples) ** 0.5


@pytest.mark.parametrize("largest_table", [10**6, 0])
def test_extremes_edges_and_reproduction(largest_table):
    generator = torch.Generator().manual_seed(3)
    log_omega = 160 * torch.rand(50, 5, generator=generator, dtype=torch.float64) - 80
    m = torch.randint(0, 60, (50, 5), generator=generator)
    n = (torch.rand(50, generator=generator) * (m.sum(-1) + 1)).long()
    draws = mvhg_draw(log_omega, m, n, seed=2, largest_table=largest_table)
    assert torch.equal(draws.sum(-1), n.double()) and (draws >= 0).all() and (draws <= m).all()
    assert torch.equal(draws, mvhg_draw(log_omega, m, n, seed=2, largest_table=largest_table))
    assert mvhg_draw(torch.zeros(3, 1), 5, 4, largest_table=largest_table).tolist() == [[4.0]] * 3
    assert mvhg_draw(torch.zeros(2), 5, 0, largest_table=largest_table).tolist() == [0.0, 0.0]
    assert mvhg_draw(torch.zeros(2), 5, 10, largest_table=largest_table).tolist() == [5.0, 5.0]
    assert mvhg_draw(torch.zeros(0, 2), 5, 1, sample_shape=(3,)).shape == (3, 0, 2)
    torch.manual_seed(5)
    first = mvhg_draw(log_omega, m, n)
    torch.manual_seed(5)
    assert torch.equal(first, mvhg_draw(log_omega, m, n))


def test_opcheck_and_invalid_counts():
    arguments = (torch.randn(3, 4), torch.tensor([[5, 3, 2, 6]]), torch.tensor([7]), torch.tensor([5]), 2, 100)
    torch.library.opcheck(torch.ops.drpm.mvhg_draw, arguments)
    invalid = (torch.zeros(1, 2), torch.tensor([[1, 2]]), torch.tensor([4]), torch.tensor([5]), 1, 100)
    assert torch.isnan(torch.ops.drpm.mvhg_draw(*invalid)).all()
    with pytest.raises(ValueError, match="mvhg_draw: n must be <= the sum of m"):
        mvhg_draw(torch.zeros(2), 1, 3)
