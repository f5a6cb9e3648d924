import itertools

import torch

from drpm.reference import plackett_luce_log_prob
from drpm.reference.relaxed_sort import permutation_matrix

from .enumeration import plackett_luce_prob


def test_matches_the_definition_and_sums_to_one_over_all_orders():
    torch.manual_seed(0)
    log_scores = torch.randn(5, dtype=torch.float64) * 2
    orders = torch.tensor(list(itertools.permutations(range(5))))
    log_prob = plackett_luce_log_prob(orders, log_scores)
    expected = torch.stack([plackett_luce_prob(order, log_scores) for order in orders.tolist()])
    torch.testing.assert_close(log_prob, expected.log(), rtol=1e-12, atol=1e-13)
    assert abs(log_prob.exp().sum() - 1) < 1e-13


def test_permutation_matrix_gives_the_same_as_its_order():
    torch.manual_seed(1)
    log_scores = torch.randn(3, 6, dtype=torch.float64)
    order = torch.stack([torch.randperm(6) for _ in range(3)])
    matrix = permutation_matrix(order, torch.float64)
    torch.testing.assert_close(plackett_luce_log_prob(matrix, log_scores), plackett_luce_log_prob(order, log_scores))


def test_gradcheck():
    torch.manual_seed(2)
    log_scores = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    order = torch.stack([torch.randperm(4) for _ in range(2)])
    matrix = torch.rand(2, 4, 4, dtype=torch.float64).softmax(-1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: plackett_luce_log_prob(order, s), log_scores)
    assert torch.autograd.gradcheck(plackett_luce_log_prob, (matrix, log_scores))


def test_extreme_scores_and_empty_orders():
    log_scores = torch.tensor([80.0, -80.0, 0.0], requires_grad=True)
    for order in (torch.tensor([1, 2, 0]), torch.eye(3)[[1, 2, 0]]):
        log_prob = plackett_luce_log_prob(order, log_scores)
        assert torch.isfinite(log_prob)
        assert torch.isfinite(torch.autograd.grad(log_prob, log_scores)[0]).all()
    assert torch.equal(plackett_luce_log_prob(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0)), torch.zeros(2))
