import pytest
import torch

from drpm.reference import partition
from drpm.reference.partition import partition_labels, subset_weights
from drpm.reference.relaxed_sort import relaxed_sort, sort_order


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_fills_the_subsets_in_order(dtype):
    scores = torch.tensor([0.1, 2.0, -1.0, 5.0, 0.5], dtype=dtype)  # decreasing: 3, 1, 4, 0, 2
    assignment = partition(scores, torch.tensor([2, 0, 3], dtype=dtype))
    expected = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1]], dtype=dtype)
    assert torch.equal(assignment, expected)


def test_hard_is_the_one_hot_form_of_the_labels():
    torch.manual_seed(0)
    scores = torch.randn(4, 9, dtype=torch.float64)
    sizes = torch.tensor([[9, 0, 0], [0, 0, 9], [3, 3, 3], [0, 8, 1]], dtype=torch.float64)
    assignment = partition(scores, sizes, 0.4)
    labels = partition_labels(sort_order(scores), sizes)
    assert torch.equal(assignment, torch.nn.functional.one_hot(labels, 3).mT.double())
    assert torch.equal(assignment.sum(-1), sizes)


def test_hard_boundaries_of_fractional_sizes():
    weights = subset_weights(torch.tensor([1.4, 2.3, 1.3]), 5)  # boundaries 1.4, 3.7: 1 - 0.5 < 1.4 < 2 - 0.5
    assert weights.tolist() == [[1, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    early = subset_weights(torch.tensor([1.4, 2.3, 1.3]), 5, eps=0.1)
    assert early.tolist() == [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]


def test_relaxed_matches_the_definition():
    torch.manual_seed(1)
    scores, sizes, tau, eps = torch.randn(5).double(), torch.tensor([1.3, 0.4, 3.3]).double(), 0.6, 0.3
    order = relaxed_sort(scores, tau)
    boundary = [0.0, 1.3, 1.7, 5.0]

    def f(k, i):
        if k in (0, 3):
            return float(k == 3)
        return torch.sigmoid(torch.tensor((boundary[k] - i + eps) / tau, dtype=torch.float64))

    expected = torch.stack([sum((f(k, i) - f(k - 1, i)) * order[i - 1] for i in range(1, 6)) for k in (1, 2, 3)])
    torch.testing.assert_close(partition(scores, sizes, tau, hard=False, eps=eps), expected)


def test_subset_weights_of_a_position_sum_to_one_and_harden():
    sizes = torch.tensor([[2.0, 0.0, 4.0], [0.0, 6.0, 0.0]], dtype=torch.float64)
    soft, hard = (subset_weights(sizes, 6, 0.5, hard=hard) for hard in (False, True))
    torch.testing.assert_close(soft.sum(-2), torch.ones(2, 6, dtype=torch.float64))
    assert torch.equal(hard.sum(-2), torch.ones(2, 6, dtype=torch.float64))
    torch.testing.assert_close(subset_weights(sizes, 6, 1e-3, hard=False), hard, rtol=0, atol=1e-12)


def test_hard_gradient_combines_hard_factors_with_relaxed_derivatives():
    torch.manual_seed(2)
    scores = torch.randn(6, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    grad_out = torch.randn(3, 6, dtype=torch.float64)
    grad_scores, grad_sizes = torch.autograd.grad((partition(scores, sizes, 0.7) * grad_out).sum(), (scores, sizes))

    hard_order, hard_weights = relaxed_sort(scores, hard=True).detach(), subset_weights(sizes, 6).detach()
    through_order = (hard_weights @ relaxed_sort(scores, 0.7) * grad_out).sum()
    through_weights = (subset_weights(sizes, 6, 0.7, hard=False) @ hard_order * grad_out).sum()
    torch.testing.assert_close(grad_scores, torch.autograd.grad(through_order, scores)[0])
    torch.testing.assert_close(grad_sizes, torch.autograd.grad(through_weights, sizes)[0])
    assert grad_sizes[-1] == 0


def test_normalize_makes_the_columns_sum_to_one():
    torch.manual_seed(3)
    scores, sizes = torch.randn(2, 7).double(), torch.tensor([[3.0, 4.0], [6.0, 1.0]]).double()
    normalized = partition(scores, sizes, 2.0, hard=False, normalize=True)
    torch.testing.assert_close(normalized.sum(-2), torch.ones(2, 7, dtype=torch.float64))


def test_gradcheck():
    torch.manual_seed(4)
    scores = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor([[2.2, 1.8, 1.0], [0.5, 4.0, 0.5]], dtype=torch.float64, requires_grad=True)
    for normalize in (False, True):
        assert torch.autograd.gradcheck(
            lambda s, z, normalize=normalize: partition(s, z, 0.8, hard=False, normalize=normalize),
            (scores, sizes),
        )


def test_edge_shapes():
    assert torch.equal(partition(torch.randn(3, 4), torch.full((3, 1), 4.0)), torch.ones(3, 1, 4))
    assert partition(torch.zeros(2, 0), torch.zeros(2, 3)).shape == (2, 3, 0)
    assert partition(torch.zeros(0, 5), torch.zeros(0, 3)).shape == (0, 3, 5)
    assert partition(torch.zeros(5), torch.tensor([[5.0, 0.0], [1.0, 4.0]])).shape == (2, 2, 5)
