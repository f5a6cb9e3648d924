import itertools
import math

import pytest
import torch

from drpm import reference
from drpm.ops import partition_log_prob_bounds, random_partition_log_prob
from drpm.testing import FLOAT_DTYPES, assert_matches_reference
from drpm.testing.samples import outputs_of


def all_labels(n, num_subsets):
    return torch.tensor(list(itertools.product(range(num_subsets), repeat=n)))


def value_and_gradients(function, labels, log_omega, log_scores, weight, **options):
    inputs = [x.detach().clone().requires_grad_() for x in (log_omega, log_scores)]
    value = function(labels, *inputs, **options)
    return value.detach(), *torch.autograd.grad((value * weight).sum(), inputs)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize(("batch", "n", "num_subsets"), [((), 5, 2), ((4,), 9, 3), ((2, 3), 20, 5)])
def test_matches_the_reference(batch, n, num_subsets, dtype):
    log_omega, log_scores = torch.randn(*batch, num_subsets).to(dtype), torch.randn(*batch, n).to(dtype)
    labels = torch.randint(num_subsets, (*batch, n))
    weight = torch.randn(batch, dtype=torch.float64)
    got = value_and_gradients(random_partition_log_prob, labels, log_omega, log_scores, weight)
    expected = value_and_gradients(
        reference.random_partition_log_prob, labels, log_omega.double(), log_scores.double(), weight
    )
    assert got[0].dtype == dtype
    assert_matches_reference(got[0], expected[0])
    assert_matches_reference(got[1], expected[1], gradient=True)
    assert_matches_reference(got[2], expected[2], gradient=True)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_probabilities_of_all_partitions_sum_to_one(scale):
    labels = all_labels(6, 3)
    for m in (None, torch.tensor([2, 3, 4])):
        log_omega, log_scores = torch.randn(3).double(), torch.randn(6).double() * scale
        log_prob = random_partition_log_prob(labels, log_omega, log_scores, m=m)
        assert abs(log_prob.exp().sum() - 1) < 1e-11
        weight = log_prob.exp()
        inputs = (log_omega.expand(len(labels), 3), log_scores.expand(len(labels), 6))
        _, by_omega, by_scores = value_and_gradients(random_partition_log_prob, labels, *inputs, weight, m=m)
        finite = by_omega.isfinite().all(-1)
        assert by_omega[finite].sum(0).abs().max() < 1e-11 and by_scores.sum(0).abs().max() < 1e-11


def test_gradcheck():
    labels = torch.randint(3, (2, 6))
    inputs = (torch.randn(2, 3).double().requires_grad_(), torch.randn(2, 6).double().requires_grad_())
    assert torch.autograd.gradcheck(lambda w, s: random_partition_log_prob(labels, w, s), inputs)


def test_concave_in_scores_and_weights_together():
    labels = torch.randint(4, (50, 10))
    inputs = torch.randn(50, 14).double() * 2
    step = torch.randn(50, 14).double() * 0.1

    def log_prob(x):
        return random_partition_log_prob(labels, x[:, :4], x[:, 4:])

    assert (log_prob(inputs + step) + log_prob(inputs - step) - 2 * log_prob(inputs) < 1e-10).all()


def test_a_subset_above_its_capacity_is_impossible():
    labels = torch.tensor([[0, 0, 1], [0, 1, 1]])
    value = random_partition_log_prob(labels, torch.zeros(2), torch.randn(3), m=torch.tensor([1, 3]))
    assert value[0] == -math.inf and value[1].isfinite()
    for bound in partition_log_prob_bounds(labels, torch.zeros(2), torch.zeros(3), m=torch.tensor([1, 3])):
        assert bound[0] == -math.inf and bound[1].isfinite()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 1)])
def test_empty_and_single(shape):
    labels = torch.zeros(shape, dtype=torch.int64)
    value = random_partition_log_prob(labels, torch.zeros(*shape[:-1], 1), torch.randn(shape))
    assert torch.equal(value, torch.zeros(shape[:-1]))
    lower, upper = partition_log_prob_bounds(labels, torch.zeros(*shape[:-1], 1), torch.randn(shape))
    assert torch.equal(lower, upper) and torch.equal(lower, torch.zeros(shape[:-1]))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((torch.tensor([0, 3]), torch.zeros(2), torch.zeros(2)), {}, ValueError, r"labels must be in \[0, 2\), got 3"),
        ((torch.tensor([0, 1]), torch.zeros(()), torch.zeros(2)), {}, ValueError, "log_omega must have at least one"),
        ((torch.tensor([0.0, 1]), torch.zeros(2), torch.zeros(2)), {}, TypeError, "labels must be int64"),
        (
            (torch.tensor([1, 0]), torch.zeros(2), torch.zeros(2)),
            {"order": torch.tensor([0, 1])},
            ValueError,
            "order must fill the subsets in turn",
        ),
    ],
)
def test_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        partition_log_prob_bounds(*arguments, **options)
    if not options:
        with pytest.raises(error, match=message):
            random_partition_log_prob(*arguments)


@pytest.mark.parametrize("op", [random_partition_log_prob, partition_log_prob_bounds])
def test_one_float64_argument_computes_in_float64(op):
    log_omega, scores = torch.tensor([0.1, -0.3]), torch.tensor([0.7, 0.2, -1.0])
    labels = torch.tensor([0, 1, 1])
    want = outputs_of(op(labels, log_omega.double(), scores.double()))
    for w, s in ((log_omega, scores.double()), (log_omega.double(), scores)):
        for x, y in zip(outputs_of(op(labels, w, s)), want, strict=True):
            assert x.dtype == torch.float64
            torch.testing.assert_close(x, y, rtol=1e-14, atol=1e-14)
