import pytest
import torch

from drpm import reference
from drpm.ops import assignment_log_prob, mvhg_log_prob, random_assignment, random_assignment_log_prob
from drpm.testing import FLOAT_DTYPES, assert_matches_reference


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("m", [None, torch.tensor([4, 9, 9])])
def test_is_that_of_the_sizes_and_that_of_the_partition(m, dtype):
    log_omega, log_scores = torch.randn(5, 3, dtype=dtype), torch.randn(5, 3, 9, dtype=dtype)
    labels = random_assignment(log_omega, log_scores, m=m, seed=1).labels
    sizes = torch.nn.functional.one_hot(labels, 3).sum(-2)
    capacity = 9 if m is None else m
    got = random_assignment_log_prob(labels, log_omega, log_scores, m=m)
    want = mvhg_log_prob(sizes, log_omega, capacity, 9) + assignment_log_prob(labels, log_scores)
    assert got.dtype == dtype and torch.equal(got, want)
    wide = reference.random_assignment_log_prob(labels, log_omega.double(), log_scores.double(), m=m)
    assert_matches_reference(got, wide)


def test_a_subset_above_its_capacity_is_impossible():
    labels = torch.tensor([0, 0, 1])
    assert random_assignment_log_prob(labels, torch.zeros(2), torch.randn(2, 3), m=torch.tensor([1, 3])) == -torch.inf


def test_lengths():
    log_omega, log_scores = torch.randn(3).double(), torch.randn(3, 3, 8).double()
    lengths, labels = torch.tensor([8, 4, 0]), torch.randint(3, (3, 8))
    got = random_assignment_log_prob(labels, log_omega, log_scores, lengths=lengths)
    for row, count in enumerate(lengths.tolist()):
        own = random_assignment_log_prob(labels[row, :count], log_omega, log_scores[row, :, :count])
        assert abs(got[row] - own) < 1e-11


def test_gradcheck_twice():
    labels = torch.randint(3, (2, 6))
    given = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, 6, dtype=torch.float64)
    given = tuple(x.requires_grad_() for x in given)
    assert torch.autograd.gradcheck(lambda w, s: random_assignment_log_prob(labels, w, s), given)
    assert torch.autograd.gradgradcheck(lambda w, s: random_assignment_log_prob(labels, w, s), given, atol=1e-6)
