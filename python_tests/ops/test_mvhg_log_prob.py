"""mvhg_log_prob: merged conditionals, and derivatives in weights and sizes."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from drpm import reference
from drpm.ops import mvhg_log_prob, mvhg_sample
from drpm.testing import FLOAT_DTYPES, assert_matches_reference

CASES = [((20, 20, 20), 18), ((5, 0, 9, 3), 10), ((7, 2), 9), ((64,) * 10, 64), ((6, 2), 0), ((1, 300, 2), 150)]


def merged(sizes, log_omega, m, n):
    return mvhg_log_prob(sizes, log_omega, m, n, conditionals="merged")


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize(("m", "n"), CASES)
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_values_and_gradients_are_those_of_the_twin(dtype, m, n, relaxed):
    m = torch.tensor(m)
    for spread in (0.5, 3.0):
        log_omega = spread * torch.randn(16, len(m), dtype=dtype)
        draws = mvhg_sample(log_omega, m, n, conditionals="merged", sample_shape=(2,))
        sizes = torch.lerp(*draws, 0.2871) if relaxed else draws[0]  # a mean of two draws lies in the support's hull
        inputs = [sizes.requires_grad_(), log_omega.requires_grad_()]
        got = merged(*inputs, m, n)

        def twin(kind, inputs=inputs):
            leaves = [x.detach().to(kind).requires_grad_() for x in inputs]
            first = leaves[0][:, :-1]
            exact_sum = torch.cat([first, n - first.sum(-1, keepdim=True)], -1)  # float32 sizes add up to float32's eps
            return leaves, reference.mvhg_log_prob(
                exact_sum.detach() + (leaves[0] - leaves[0].detach()), leaves[1], m, n, conditionals="merged"
            )

        leaves, want = twin(torch.float64)
        rough_leaves, rough = twin(dtype)
        inside = torch.isfinite(got) & torch.isfinite(want) & torch.isfinite(rough)
        assert inside.sum() >= 12  # near the edge of the support rounding decides
        assert_matches_reference(got[inside], want[inside], rough[inside])
        direction = torch.randn(16, dtype=torch.float64) * inside

        def gradients(values, leaves, inside=inside, direction=direction):
            kept = torch.where(inside, values, torch.zeros_like(values))
            return torch.autograd.grad(kept, leaves, direction.to(values.dtype), allow_unused=True)

        for g, w, r in zip(
            gradients(got, inputs), gradients(want, leaves), gradients(rough, rough_leaves), strict=True
        ):
            assert_matches_reference(g, w if w is not None else torch.zeros_like(g).double(), r, gradient=True)


def test_probabilities_of_the_support_sum_to_one():
    m, n = (3, 4, 2, 3), 6
    log_omega = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
    every = torch.tensor([x for x in itertools.product(*[range(c + 1) for c in m]) if sum(x) == n])
    log_prob = merged(every, log_omega, torch.tensor(m), n)
    assert abs(log_prob.exp().sum() - 1) < 1e-12


def test_outside_the_support_is_minus_infinity_with_zero_gradient():
    log_omega = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor([[1.0, 1, 1], [-1.0, 2, 2], [4.0, 0, 0], [1.0, 1, 0]], dtype=torch.float64, requires_grad=True)
    log_prob = merged(sizes, log_omega, 3, 3)
    assert torch.isfinite(log_prob[0]) and (log_prob[1:] == float("-inf")).all()
    for grad in torch.autograd.grad(log_prob[1:].sum(), (sizes, log_omega)):
        assert torch.equal(grad, torch.zeros_like(grad))


def test_gradcheck():
    log_omega = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    m = torch.tensor([4, 6, 3, 5])
    sizes = torch.tensor([[2.0, 3, 1, 2], [1, 1, 3, 3]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda w: merged(sizes, w, m, 8), (log_omega,))
    # in the sizes along directions that keep the sum: the last class takes up the change
    first = torch.tensor([[2.0, 3.2, 1.1], [1, 1.4, 2.7]], dtype=torch.float64, requires_grad=True)

    def with_last(first, w):
        return merged(torch.cat([first, 8 - first.sum(-1, keepdim=True)], -1), w, m, 8)

    assert torch.autograd.gradcheck(with_last, (first, log_omega))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_extreme_weights_stay_finite(dtype):
    log_omega = torch.tensor([[80.0, -80.0, 0.0], [-80.0, 80.0, -80.0]], dtype=dtype, requires_grad=True)
    sizes = mvhg_sample(log_omega.detach(), 50, 70, conditionals="merged")
    log_prob = merged(sizes, log_omega, 50, 70)
    (grad,) = torch.autograd.grad(log_prob.sum(), log_omega)
    assert torch.isfinite(log_prob).all() and torch.isfinite(grad).all()


def test_shapes_dtypes_and_edges():
    """The original's get_log_prob raises NameError."""
    assert merged(torch.tensor([4]), torch.zeros(1), 5, 4) == 0
    assert merged(torch.zeros(2, 3), torch.zeros(3), 5, 0).tolist() == [0.0, 0.0]
    assert merged(torch.zeros(0, 3), torch.zeros(3), 5, 0).shape == (0,)
    sizes = torch.tensor([[1, 2, 1], [2, 1, 1]])
    assert merged(sizes.unsqueeze(1), torch.zeros(3, 3, dtype=torch.float64), 5, 4).shape == (2, 3)
    assert merged(sizes, torch.zeros(3, dtype=torch.float64), 5, 4).dtype == torch.float64
    half = merged(sizes, torch.zeros(3, dtype=torch.float16), 5, 4)
    assert half.dtype == torch.float16


def test_float32_keeps_its_digits_at_large_counts():
    """The original's float32 log p is off by 0.001 at n = 1024 and 0.12 at n = 65k."""
    for n in (1024, 65536):
        log_omega = torch.tensor([0.0, 0.3, -0.2])
        sizes = mvhg_sample(log_omega, n, n, conditionals="merged", seed=1)
        got = merged(sizes, log_omega, n, n)
        want = merged(sizes.double(), log_omega.double(), n, n)
        assert abs(got.double() - want) <= 1e-6 * max(1.0, abs(want))


def test_opcheck():
    sizes = torch.tensor([[1.0, 2, 1], [2, 1, 1]], requires_grad=True)
    log_omega = torch.randn(2, 3, requires_grad=True)
    arguments = (sizes, log_omega, torch.tensor([[5, 3, 2]]), torch.tensor([4]))
    torch.library.opcheck(torch.ops.drpm.mvhg_log_prob_merged, arguments)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (dict(n=31), ValueError, "n must be <= the sum of m"),
        (dict(sizes=torch.zeros(4)), ValueError, "sizes must have 3 classes"),
        (dict(sizes=[1, 2, 3]), TypeError, "sizes must be a tensor"),
        (dict(log_omega=torch.full((3,), float("inf"))), ValueError, "log_omega must be finite"),
        (dict(conditionals="approximate"), ValueError, "conditionals must be 'exact' or 'merged'"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    arguments = {
        "sizes": torch.tensor([1.0, 2, 3]),
        "log_omega": torch.zeros(3),
        "m": 10,
        "n": 6,
        "conditionals": "merged",
        **kwargs,
    }
    with pytest.raises(error, match=f"mvhg_log_prob: {message}"):
        mvhg_log_prob(**arguments)


def test_log_prob_gradcheck_twice_in_weights_and_sizes():
    m = torch.tensor([4, 6, 3])
    log_omega = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    first = torch.tensor([[1.3, 4.1], [2.0, 3.0]], dtype=torch.float64, requires_grad=True)

    def with_last(first, log_omega):  # sizes that keep the sum
        return mvhg_log_prob(torch.cat([first, 7 - first.sum(-1, keepdim=True)], -1), log_omega, m, 7)

    assert gradcheck(with_last, (first, log_omega)) and gradgradcheck(with_last, (first, log_omega))
    sizes = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(mvhg_log_prob(sizes, log_omega[0], m, 7), sizes)
    expected = log_omega[0] + torch.digamma(m - sizes + 1) - torch.digamma(sizes + 1)
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)
