import itertools
import math

import pytest
import torch

from drpm import reference
from drpm.ops import partition_log_prob, partition_marginals
from drpm.testing import FLOAT_DTYPES, assert_matches_reference, relative_error


def gradient(log_omega, log_scores, weight, m=None, function=partition_marginals):
    inputs = [x.detach().clone().requires_grad_() for x in (log_omega, log_scores)]
    value = function(*inputs, m=m)
    return value.detach(), *torch.autograd.grad((value * weight).sum(), inputs)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize(
    ("batch", "n", "num_subsets"), [((), 1, 1), ((), 2, 2), ((3,), 7, 3), ((2, 2), 11, 4), ((), 17, 5)]
)
@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0])
def test_matches_the_reference(batch, n, num_subsets, scale, dtype):
    log_omega = torch.randn(*batch, num_subsets).to(dtype)
    log_scores = (torch.randn(*batch, n) * scale).to(dtype)
    weight = torch.randn(*batch, num_subsets, n, dtype=torch.float64)
    got = gradient(log_omega, log_scores, weight.to(dtype))
    expected = gradient(
        log_omega.double(), log_scores.double(), weight.to(dtype), function=reference.partition_marginals
    )
    assert got[0].dtype == got[1].dtype == got[2].dtype == dtype
    assert_matches_reference(got[0], expected[0])
    assert_matches_reference(got[1], expected[1], gradient=True)
    assert_matches_reference(got[2], expected[2], gradient=True)


def test_sums_the_exact_probabilities_of_all_partitions():
    n, num_subsets, m = 6, 3, torch.tensor([2, 6, 3])
    log_omega, log_scores = torch.randn(num_subsets).double(), torch.randn(n).double() * 2
    labels = torch.tensor(list(itertools.product(range(num_subsets), repeat=n)))
    sizes = torch.nn.functional.one_hot(labels, num_subsets).sum(1)
    binomials = torch.tensor(
        [[math.comb(c, x) for c, x in zip(m.tolist(), row, strict=True)] for row in sizes.tolist()]
    )
    log_weights = binomials.double().log().sum(1) + sizes.double() @ log_omega
    support, index = sizes.unique(dim=0, return_inverse=True)
    first = torch.stack([(index == i).nonzero()[0, 0] for i in range(len(support))])
    log_sizes = log_weights - log_weights[first].logsumexp(0)
    prob = (log_sizes + partition_log_prob(labels, log_scores, num_subsets)).exp()
    expected = torch.einsum("y,yik->ki", prob, torch.nn.functional.one_hot(labels, num_subsets).double())
    assert abs(prob.sum() - 1) < 1e-11
    assert (partition_marginals(log_omega, log_scores, m=m) - expected).abs().max() < 1e-11


@pytest.mark.parametrize(("n", "num_subsets", "scale"), [(300, 10, 1.0), (150, 3, 20.0), (600, 2, 0.0)])
def test_columns_sum_to_one_and_rows_to_the_expected_sizes(n, num_subsets, scale):
    log_omega, log_scores = torch.randn(num_subsets).double(), torch.randn(n).double() * scale
    marginals = partition_marginals(log_omega, log_scores)
    assert (marginals.sum(0) - 1).abs().max() < 1e-12
    expected = reference.mvhg_mean(log_omega, n, n)
    assert relative_error(marginals.sum(1), expected) < 1e-12
    assert marginals.min() > -1e-13
    single = partition_marginals(log_omega.float(), log_scores.float())
    wide = partition_marginals(log_omega.float().double(), log_scores.float().double())
    assert (single - wide).abs().max() < 1e-6


def test_equal_scores_give_the_mean_fraction():
    log_omega = torch.randn(4).double()
    marginals = partition_marginals(log_omega, torch.full((50,), -3.0).double())
    expected = reference.mvhg_mean(log_omega, 50, 50) / 50
    assert (marginals - expected.unsqueeze(-1)).abs().max() < 1e-13


def test_matches_sampling_at_n_200():
    n, samples = 200, 20000
    log_omega = torch.tensor([0.0, -800.0, -800.0, 0.0], dtype=torch.float64) / 20
    m = torch.tensor([70, 200, 200, 130])  # the sizes are fixed: 70, 0, 0, 130
    log_scores = torch.randn(n).double()
    marginals = partition_marginals(log_omega, log_scores, m=m)
    gumbel = -torch.log(-torch.log(torch.rand(samples, n, dtype=torch.float64)))
    rank = (log_scores + gumbel).argsort(-1, descending=True).argsort(-1)
    frequency = (rank < 70).double().mean(0)
    spread = (marginals[0] * (1 - marginals[0]) / samples).sqrt()
    assert ((frequency - marginals[0]).abs() < 5 * spread + 1e-9).all()
    assert marginals[1:3].abs().max() < 1e-12


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_extreme_inputs_stay_finite(dtype):
    for log_omega in ([80.0, -80.0, 0.0], [-80.0, -80.0, -80.0], [80.0, 80.0, -80.0]):
        for scores in (torch.linspace(-60, 60, 40), torch.linspace(-80, 80, 5), torch.full((30,), 80.0)):
            weight = torch.randn(3, len(scores)).to(dtype)
            value, *grads = gradient(torch.tensor(log_omega).to(dtype), scores.to(dtype), weight)
            assert (value.double().sum(0) - 1).abs().max() < 1e-5
            assert all(grad.isfinite().all() for grad in grads)
            assert abs(grads[1].double().sum()) < 1e-4 and abs(grads[0].double().sum()) < 1e-4


def test_gradcheck_with_capacities():
    log_omega, log_scores = torch.randn(2, 3).double(), torch.randn(2, 6).double()
    m = torch.tensor([[2, 5, 3], [6, 1, 1]])
    function = lambda w, s: partition_marginals(w, s, m=m)  # noqa: E731
    assert torch.autograd.gradcheck(function, (log_omega.requires_grad_(), log_scores.requires_grad_()))


def test_gradient_at_n_200_by_finite_differences():
    log_omega, log_scores = torch.randn(4).double(), torch.randn(200).double() * 1.5
    weight = torch.randn(4, 200).double()
    _, grad_omega, grad_scores = gradient(log_omega, log_scores, weight)
    for direction in (torch.randn(204), torch.randn(204)):
        omega, scores = direction.double().split([4, 200])
        ends = [
            (partition_marginals(log_omega + h * omega, log_scores + h * scores) * weight).sum() for h in (1e-5, -1e-5)
        ]
        slope = grad_omega @ omega + grad_scores @ scores
        assert abs((ends[0] - ends[1]) / 2e-5 - slope) < 1e-6 * slope.abs().clamp(min=1)


def test_broadcast_non_contiguous_and_counts_that_fill_up():
    log_omega, log_scores = torch.randn(2, 1, 3).double(), torch.randn(4, 6).double()
    value = partition_marginals(log_omega, log_scores)
    assert value.shape == (2, 4, 3, 6)
    assert torch.equal(value[1, 2], partition_marginals(log_omega[1, 0], log_scores[2]))
    strided = torch.stack([log_scores, log_scores], -1)[..., 0]
    assert torch.equal(value, partition_marginals(log_omega, strided))
    full = partition_marginals(torch.randn(3).double(), log_scores[0], m=torch.tensor([1, 2, 3]))
    assert torch.allclose(full.sum(1), torch.tensor([1.0, 2.0, 3.0]).double(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("batch", "n", "num_subsets"), [((), 0, 2), ((3,), 0, 1), ((0,), 4, 2), ((), 1, 1), ((2,), 1, 3)]
)
def test_empty_and_single(batch, n, num_subsets, dtype):
    log_omega, log_scores = torch.randn(*batch, num_subsets).to(dtype), torch.randn(*batch, n).to(dtype)
    weight = torch.ones(*batch, num_subsets, n).to(dtype)
    value, grad_omega, grad_scores = gradient(log_omega, log_scores, weight)
    assert value.shape == (*batch, num_subsets, n) and value.dtype == dtype
    assert grad_omega.shape == log_omega.shape and grad_scores.shape == log_scores.shape
    assert grad_omega.abs().max().item() < 1e-3 if grad_omega.numel() else True


def test_threads_do_not_change_the_result():
    log_omega, log_scores = torch.randn(3, 4), torch.randn(3, 90)
    weight = torch.randn(3, 4, 90)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gradient(log_omega, log_scores, weight)
        torch.set_num_threads(4)
        four = gradient(log_omega, log_scores, weight)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, four, strict=True))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_opcheck(dtype):
    inputs = (torch.randn(2, 3, dtype=dtype, requires_grad=True), torch.full((2, 3), 5))
    torch.library.opcheck(
        torch.ops.drpm.partition_marginals, (*inputs, torch.randn(2, 5, dtype=dtype, requires_grad=True))
    )


def test_device_rows_with_invalid_counts_give_nan():
    m = torch.tensor([[2, 2], [1, 2], [-1, 9]])
    log_omega, log_scores = torch.zeros(3, 2), torch.randn(3, 4)
    value = torch.ops.drpm.partition_marginals(log_omega, m, log_scores)
    assert value.isnan().all(-1).all(-1).tolist() == [False, True, True]
    grads = torch.ops.drpm.partition_marginals_backward(torch.ones_like(value), log_omega, m, log_scores)
    assert all(grad.isnan().all(-1).tolist() == [False, True, True] for grad in grads)


@pytest.mark.parametrize(
    ("log_omega", "log_scores", "m", "error", "message"),
    [
        (torch.zeros(2), torch.zeros(5), 2, ValueError, "n must be <= the sum of m"),
        (torch.zeros(2), torch.zeros(5), -1, ValueError, "m must be >= 0, got -1"),
        (torch.zeros(2), torch.zeros(5), torch.tensor([1, 2, 3]), ValueError, "m must have 2 classes"),
        (torch.zeros(2), torch.zeros(5), 2.5, TypeError, "m must be whole"),
        (torch.zeros(0), torch.zeros(5), None, ValueError, "log_omega must have at least one class"),
        (torch.zeros(2), torch.zeros(()), None, ValueError, "log_scores must have an element dimension"),
        (torch.zeros(3, 2), torch.zeros(2, 5), None, ValueError, "batch shapes must broadcast"),
        (torch.tensor([0.0, math.nan]), torch.zeros(5), None, ValueError, "log_omega must be finite or -inf, got nan"),
        (torch.zeros(2), torch.tensor([0.0, math.inf]), None, ValueError, "log_scores must be finite, got inf"),
        (torch.zeros(2), torch.zeros(5).long(), None, TypeError, "log_scores must have a floating dtype"),
    ],
)
def test_bad_arguments(log_omega, log_scores, m, error, message):
    with pytest.raises(error, match=f"^partition_marginals: {message}"):
        partition_marginals(log_omega, log_scores, m=m)


@pytest.mark.parametrize("lowest", [-60.0, -1e7, -1e9, torch.finfo(torch.float32).min])
def test_a_gap_of_any_width_ends_and_gives_the_result_of_a_small_one(lowest):
    # the last element always comes last: its rank is certain, the others race as if they were alone
    log_omega, log_scores, weight = torch.tensor([0.2, -0.5, 0.4]), torch.tensor([0.3, 1.0, lowest]), torch.randn(3, 3)
    got = gradient(log_omega, log_scores, weight)
    expected = gradient(log_omega, torch.tensor([0.3, 1.0, -40.0]), weight)
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def test_a_row_of_gaps_ends_and_its_columns_sum_to_one(test_device):
    """Without the narrowed gaps (decision 018) it never ends."""
    n = 40 if test_device == "emulated" else 400
    log_omega, m = torch.zeros(1, 3, dtype=torch.float64), torch.full((1, 3), n)
    log_scores = -1e6 * torch.arange(n, dtype=torch.float64)
    marginals = torch.ops.drpm.partition_marginals(log_omega, m, log_scores[None])
    assert (marginals.sum(1) - 1).abs().max() < 1e-11


@pytest.mark.parametrize("offset", [1e6, 1e12, 1e18])
def test_shifts_change_nothing(offset):
    log_scores = torch.randn(5).double().add(offset).sub(offset)  # what is left when the offset is there
    log_omega = torch.randn(3).double().add(offset).sub(offset)
    weight = torch.randn(3, 5).double()
    got = gradient(log_omega + offset, log_scores + offset, weight)
    for x, y in zip(got, gradient(log_omega, log_scores, weight), strict=True):
        assert torch.equal(x, y)


def test_a_log_omega_of_minus_infinity_is_a_weight_of_zero():
    log_omega, log_scores = torch.tensor([[0.0, -math.inf, 0.5]]).double(), torch.randn(1, 5).double()
    m, grad = torch.full((1, 3), 5), torch.randn(1, 3, 5).double()
    ops, kept = torch.ops.drpm, [0, 2]
    got = ops.partition_marginals(log_omega, m, log_scores)
    assert torch.equal(got[:, kept], ops.partition_marginals(log_omega[:, kept].contiguous(), m[:, kept], log_scores))
    assert (got[:, 1] == 0).all()
    by_omega, by_scores = ops.partition_marginals_backward(grad, log_omega, m, log_scores)
    assert by_omega[0, 1] == 0 and by_omega.isfinite().all() and by_scores.isfinite().all()
    assert ops.partition_marginals(log_omega, torch.tensor([[2, 9, 2]]), log_scores).isnan().all()


def test_sizes_that_are_forced_against_their_weights():
    marginals = partition_marginals(torch.tensor([0.0, -1e9, 0.5]), torch.randn(5), m=torch.tensor([1, 5, 1]))
    torch.testing.assert_close(marginals.sum(1), torch.tensor([1.0, 3.0, 1.0]))
