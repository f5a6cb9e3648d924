import numpy as np
import pytest
import scipy.stats
import torch

from drpm import reference
from drpm.ops import hypergeometric_log_weights
from drpm.testing import FLOAT_DTYPES, assert_matches_reference, devices

CASES = [  # batch, m_left, m_right, n
    ((), 5, 7, 6),
    ((3,), 4, 2, 5),
    ((2, 3), 40, 60, 50),
    ((4,), 1000, 3000, 2000),
    ((2,), 0, 3, 2),
    ((2,), 3, 0, 3),
    ((2,), 3, 3, 0),
    ((0,), 3, 3, 2),
    ((2, 0, 3), 3, 3, 2),
]


def inputs(batch, dtype, device="cpu"):
    return torch.randn(batch, dtype=dtype, device=device), torch.randn(batch, dtype=dtype, device=device)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_match_reference(case, dtype, device):
    batch, *counts = case
    left, right = (x.requires_grad_() for x in inputs(batch, dtype, device))
    left64, right64 = (x.detach().double().requires_grad_() for x in (left, right))
    got = hypergeometric_log_weights(left, right, *counts)
    want = reference.hypergeometric_log_weights(left64, right64, *counts)
    assert got.dtype == dtype
    assert_matches_reference(got, want)
    grad = torch.randn_like(want).masked_fill(torch.isinf(want), 0)
    got.backward(grad.to(dtype))
    want.backward(grad)
    for a, b in ((left, left64), (right, right64)):
        assert_matches_reference(a.grad, b.grad, gradient=True)


def test_pmf_is_fishers_noncentral_hypergeometric():
    m_left, m_right, n = 20, 30, 25
    left = torch.tensor(0.7, dtype=torch.float64)
    weights = hypergeometric_log_weights(left, torch.zeros((), dtype=torch.float64), m_left, m_right, n)
    pmf = torch.softmax(weights, -1).numpy()
    scipy_pmf = scipy.stats.nchypergeom_fisher(m_left + m_right, m_left, n, np.exp(0.7)).pmf(np.arange(m_left + 1))
    np.testing.assert_allclose(pmf, scipy_pmf, rtol=1e-9)


def test_batched_counts_give_each_row_its_own_support():
    m_left, m_right, n = torch.tensor([2, 5, 0]), torch.tensor([9, 1, 4]), torch.tensor([3, 5, 4])
    left, right = inputs((3,), torch.float64)
    out = hypergeometric_log_weights(left, right, m_left, m_right, n)
    assert out.shape == (3, 6)
    for i in range(3):
        single = hypergeometric_log_weights(left[i], right[i], int(m_left[i]), int(m_right[i]), int(n[i]))
        assert torch.equal(out[i, : single.shape[-1]], single)
        assert torch.isneginf(out[i, single.shape[-1] :]).all()
        x = torch.arange(6)
        inside = (x >= max(0, int(n[i] - m_right[i]))) & (x <= min(int(m_left[i]), int(n[i])))
        assert torch.equal(torch.isfinite(out[i]), inside)


def test_counts_beyond_the_table_use_stirling_without_a_seam():
    m = 2**20 + 40  # the table ends at 2^20 entries
    out = hypergeometric_log_weights(
        torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64), m, m, m
    )
    x = torch.arange(2**20 - 20, 2**20 + 20)
    second_difference = out[x + 1] - 2 * out[x] + out[x - 1]
    assert (second_difference[1:] - second_difference[:-1]).abs().max() < 0.4


def test_gradcheck():
    left, right = (x.requires_grad_() for x in inputs((2, 2), torch.float64))
    assert torch.autograd.gradcheck(lambda a, b: hypergeometric_log_weights(a, b, 4, 9, 6), (left, right))


def test_non_contiguous_and_broadcast_inputs():
    wide = torch.randn(3, 8, dtype=torch.float64)
    left, right = wide[:, ::2], wide[0, 1::2]
    got = hypergeometric_log_weights(left, right, 4, 5, 6)
    want = hypergeometric_log_weights(left.contiguous(), right.expand(3, 4).contiguous(), 4, 5, 6)
    assert torch.equal(got, want)


def test_half_precision_computes_in_float32():
    left, right = inputs((3,), torch.float32)
    got = hypergeometric_log_weights(left.bfloat16(), right.bfloat16(), 5, 5, 5)
    assert got.dtype == torch.bfloat16
    assert torch.equal(
        got, hypergeometric_log_weights(left.bfloat16().float(), right.bfloat16().float(), 5, 5, 5).bfloat16()
    )


@pytest.mark.parametrize("sign", [-80.0, 80.0])
def test_extreme_weights_are_finite(sign):
    left = torch.tensor(sign, requires_grad=True)
    out = hypergeometric_log_weights(left, torch.tensor(-sign), 6, 6, 6)
    out.sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(left.grad)


def test_opcheck():
    counts = [torch.tensor([5, 4]), torch.tensor([7, 7]), torch.tensor([6, 3])]
    left, right = (x.requires_grad_() for x in inputs((2,), torch.float32))
    torch.library.opcheck(torch.ops.drpm.hypergeometric_log_weights, (left, right, *counts, 6))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(n=20), ValueError, r"n must be <= m_left \+ m_right, got 10 more"),
        (dict(m_left=-1), ValueError, "m_left must be >= 0, got -1"),
        (dict(n=2.5), TypeError, "n must be whole"),
        (dict(m_right=torch.tensor([1.0])), TypeError, "m_right must be whole"),
        (
            dict(log_omega_left=torch.tensor(float("nan"))),
            ValueError,
            "log_omega_left must be finite or -inf, got nan",
        ),
        (dict(log_omega_left=torch.tensor(1)), TypeError, "log_omega_left must have a floating dtype"),
        (
            dict(log_omega_left=torch.zeros(3), log_omega_right=torch.zeros(2)),
            ValueError,
            "batch shapes must broadcast",
        ),
    ],
)
def test_bad_arguments(change, error, message):
    good = dict(log_omega_left=torch.zeros(()), log_omega_right=torch.zeros(()), m_left=5, m_right=5, n=5)
    with pytest.raises(error, match=f"hypergeometric_log_weights: {message}"):
        hypergeometric_log_weights(**{**good, **change})
