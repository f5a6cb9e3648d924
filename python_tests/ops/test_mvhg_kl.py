"""Divergence of two MVHG laws."""

import pytest
import torch

from drpm.ops import mvhg_covariance, mvhg_kl


def test_small_divergences_keep_their_digits_at_large_counts():
    """KL ≈ ½ Δᵀ Cov Δ for small Δ; formed from the normalisers it would be rounding noise of 1e7 nats."""
    log_omega = torch.randn(6, dtype=torch.float64)
    delta = 1e-6 * torch.randn(6, dtype=torch.float64)
    n = 10**6
    want = 0.5 * delta @ mvhg_covariance(log_omega, n, n) @ delta
    assert abs(mvhg_kl(log_omega + delta, log_omega, n, n) - want) < 1e-4 * want


def test_divergence_from_itself_is_zero():
    """The original's log q − log p with q ≡ p averages +0.96."""
    log_omega = torch.tensor([0.0, 1.0, 3.0])
    assert mvhg_kl(log_omega, log_omega, 50, 60) == 0
    shifted = mvhg_kl(log_omega, log_omega + 2, 50, 60)
    assert shifted.abs() < 1e-6  # a common factor of the weights changes nothing


def test_bad_arguments_of_the_divergence():
    with pytest.raises(ValueError, match="mvhg_kl: log_omega_p must have 3 classes"):
        mvhg_kl(torch.zeros(3), torch.zeros(2), 4, 3)
    with pytest.raises(ValueError, match="mvhg_kl: log_omega_p must be finite"):
        mvhg_kl(torch.zeros(2), torch.tensor([0.0, float("inf")]), 4, 3)
