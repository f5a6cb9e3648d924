import itertools
import math

import pytest
import torch

from drpm import reference
from drpm.ops import partition_mode
from drpm.testing import FLOAT_DTYPES


def log_prob(labels, log_omega, log_scores, m=None):
    n, num_subsets = log_scores.shape[-1], log_omega.shape[-1]
    sizes = torch.nn.functional.one_hot(labels, num_subsets).sum(-2)
    return reference.mvhg_log_prob(sizes, log_omega, n if m is None else m, n) + reference.partition_log_prob(
        labels, log_scores, num_subsets
    )


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("scale", [0.3, 2.0, 30.0])
def test_no_partition_is_more_probable(scale, dtype):
    for n, num_subsets in ((1, 3), (4, 2), (6, 3), (7, 3)):
        log_omega, log_scores = torch.randn(num_subsets).to(dtype), (torch.randn(n) * scale).to(dtype)
        labels = torch.tensor(list(itertools.product(range(num_subsets), repeat=n)))
        every = log_prob(labels, log_omega.double(), log_scores.double())
        mode = partition_mode(log_omega, log_scores)
        assert mode.dtype == torch.int64 and mode.shape == (n,)
        assert log_prob(mode, log_omega.double(), log_scores.double()) > every.max() - 1e-9


@pytest.mark.parametrize("scale", [0.5, 5.0])
def test_matches_the_reference(scale):
    log_omega, log_scores = torch.randn(2, 3).double(), torch.randn(2, 9).double() * scale
    assert torch.equal(partition_mode(log_omega, log_scores), reference.partition_mode(log_omega, log_scores))


def test_capacities_bind():
    log_omega, log_scores = torch.tensor([5.0, 0.0, 0.0]).double(), torch.randn(6).double()
    m = torch.tensor([2, 3, 1])
    labels = partition_mode(log_omega, log_scores, m=m)
    assert labels.bincount(minlength=3).tolist() == [2, 3, 1]
    several = partition_mode(log_omega, log_scores, m=torch.tensor([[2, 3, 1], [6, 6, 6], [0, 0, 6]]))
    assert torch.equal(several[0], labels) and (several[2] == 2).all()


@pytest.mark.parametrize(("n", "num_subsets", "scale"), [(60, 4, 1.0), (300, 3, 2.0), (300, 3, 20.0)])
def test_no_moved_boundary_is_more_probable(n, num_subsets, scale):
    log_omega, log_scores = torch.randn(num_subsets).double() * 0.3, torch.randn(n).double() * scale
    mode = partition_mode(log_omega, log_scores)
    best = log_prob(mode, log_omega, log_scores)
    order = log_scores.argsort(descending=True)
    assert (mode[order].diff() >= 0).all()  # intervals of the sorted elements
    sizes = mode.bincount(minlength=num_subsets)
    for k in range(num_subsets - 1):
        for step in (-2, -1, 1, 2):
            moved = sizes.clone()
            moved[k] += step
            moved[k + 1] -= step
            if moved.min() < 0:
                continue
            labels = torch.empty_like(mode).scatter_(0, order, torch.arange(num_subsets).repeat_interleave(moved))
            assert log_prob(labels, log_omega, log_scores) <= best + 1e-8


def test_ties_span_and_extreme_weights():
    assert partition_mode(torch.zeros(2), torch.zeros(4)).bincount().tolist() == [2, 2]
    assert partition_mode(torch.tensor([80.0, -80.0]), torch.linspace(-60, 60, 9)).tolist() == [0] * 9
    assert partition_mode(torch.tensor([-80.0, 80.0]), torch.linspace(-60, 60, 9)).tolist() == [1] * 9
    labels = partition_mode(torch.tensor([0.0, 0.0]), torch.tensor([60.0, -60.0, 60.0, -60.0]))
    assert labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(("batch", "n", "num_subsets"), [((), 0, 2), ((0,), 3, 2), ((2, 3), 1, 1), ((2,), 5, 1)])
def test_empty_and_single(batch, n, num_subsets):
    labels = partition_mode(torch.randn(*batch, num_subsets), torch.randn(*batch, n).half())
    assert labels.shape == (*batch, n) and labels.dtype == torch.int64
    assert num_subsets > 1 or (labels == 0).all()


def test_broadcast_non_contiguous_and_gradients_are_ignored():
    log_omega, log_scores = torch.randn(2, 1, 3, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    labels = partition_mode(log_omega, log_scores)
    assert labels.shape == (2, 4, 6) and not labels.requires_grad
    strided = torch.stack([log_scores.detach()] * 2, -1)[..., 0]
    assert torch.equal(partition_mode(log_omega, strided), labels)


def test_512_elements_and_the_limit():
    log_scores = torch.randn(512)
    assert partition_mode(torch.zeros(10), log_scores).bincount(minlength=10).sum() == 512
    with pytest.raises(ValueError, match=r"log_scores must have at most 4096 elements .*, got 4097"):
        partition_mode(torch.zeros(2), torch.zeros(4097))


def test_opcheck_and_invalid_device_counts():
    m = torch.tensor([[2, 2], [1, 2]])
    arguments = (torch.randn(2, 2), m, torch.randn(2, 4))
    torch.library.opcheck(torch.ops.drpm.partition_mode, arguments)
    assert (torch.ops.drpm.partition_mode(*arguments)[1] == -1).all()


@pytest.mark.parametrize(
    ("log_omega", "log_scores", "m", "error", "message"),
    [
        (torch.zeros(2), torch.zeros(5), 2, ValueError, "n must be <= the sum of m"),
        (torch.zeros(2), torch.tensor([0.0, math.inf]), None, ValueError, "log_scores must be finite, got inf"),
        (torch.tensor([math.nan]), torch.zeros(2), None, ValueError, "log_omega must be finite or -inf, got nan"),
        (torch.zeros(2).long(), torch.zeros(2), None, TypeError, "log_omega must have a floating dtype"),
        (torch.zeros(2), torch.zeros(()), None, ValueError, "log_scores must have an element dimension"),
    ],
)
def test_bad_arguments(log_omega, log_scores, m, error, message):
    with pytest.raises(error, match=f"^partition_mode: {message}"):
        partition_mode(log_omega, log_scores, m=m)


def test_leaves_a_subset_of_weight_zero_empty_where_values_are_unchecked():
    log_omega, m = torch.tensor([[0.0, -math.inf, 0.5]] * 3), torch.full((3, 3), 4)
    labels = torch.ops.drpm.partition_mode(log_omega, m, torch.randn(3, 4))
    assert ((labels == 0) | (labels == 2)).all()
    assert (torch.ops.drpm.partition_mode(log_omega, torch.tensor([[1, 4, 1]] * 3), torch.randn(3, 4)) == -1).all()
