import itertools

import pytest
import torch

from drpm.reference import (
    mvhg_log_prob,
    mvhg_mean,
    partition_log_prob,
    partition_log_prob_bounds,
    partition_marginals,
    partition_mode,
    plackett_luce_log_prob,
    random_partition_log_prob,
)
from drpm.reference.partition_log_prob import partition_sizes, rank_in_subset_prob, rank_prob
from drpm.reference.relaxed_sort import permutation_matrix

from .enumeration import all_labels, mvhg_log_weights, partition_prob, plackett_luce_prob


@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_matches_the_sum_over_orders(spread):
    torch.manual_seed(0)
    log_scores = torch.randn(6, dtype=torch.float64) * spread
    for labels in torch.randint(3, (12, 6)):
        expected = partition_prob(labels.tolist(), log_scores, 3).log()
        torch.testing.assert_close(partition_log_prob(labels, log_scores, 3), expected, rtol=0, atol=1e-11)


def test_all_partitions_of_given_sizes_sum_to_one_and_all_partitions_too():
    torch.manual_seed(1)
    log_omega, log_scores = torch.randn(3).double(), torch.randn(5).double() * 1.5
    labels = all_labels(5, 3)
    given = (partition_sizes(labels, 3) == torch.tensor([2, 1, 2])).all(-1)
    assert abs(partition_log_prob(labels[given], log_scores, 3).exp().sum() - 1) < 1e-12
    assert abs(random_partition_log_prob(labels, log_omega, log_scores).exp().sum() - 1) < 1e-12


def test_one_element_and_one_subset_have_closed_forms():
    log_scores = torch.tensor([0.3, -2.0, 1.0, 5.0], dtype=torch.float64)
    alone = partition_log_prob(torch.tensor([1, 0, 1, 1]), log_scores, 2)
    torch.testing.assert_close(alone, log_scores.log_softmax(0)[1])
    assert partition_log_prob(torch.tensor([2, 2, 2, 2]), log_scores, 4) == 0
    assert partition_log_prob(torch.zeros(4, dtype=torch.int64), log_scores, 1) == 0


def test_empty_subsets_are_skipped():
    log_scores = torch.randn(5, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 1, 1])
    torch.testing.assert_close(
        partition_log_prob(labels * 2 + 1, log_scores, 5), partition_log_prob(labels, log_scores, 2)
    )


def test_joint_is_sizes_times_partition_for_unequal_counts():
    torch.manual_seed(2)
    log_omega, log_scores = torch.randn(3).double(), torch.randn(5).double()
    m = torch.tensor([1, 3, 2])
    labels = all_labels(5, 3)
    log_prob = random_partition_log_prob(labels, log_omega, log_scores, m=m)
    possible = (partition_sizes(labels, 3) <= m).all(-1)
    assert torch.equal(log_prob > float("-inf"), possible)
    assert abs(log_prob.exp().sum() - 1) < 1e-12


def test_gradients_of_the_likelihoods():
    torch.manual_seed(3)
    log_omega = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    log_scores = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(3, (2, 5))
    assert torch.autograd.gradcheck(lambda s: partition_log_prob(labels, s, 3), log_scores)
    assert torch.autograd.gradcheck(lambda w, s: random_partition_log_prob(labels, w, s), (log_omega, log_scores))
    (grad,) = torch.autograd.grad(partition_log_prob(labels, log_scores, 3).sum(), log_scores)
    torch.testing.assert_close(grad.sum(-1), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_large_subset_against_conditioning_on_the_rest():
    """Equal scores: every set of n_1 elements is equally likely to come first."""
    n, first = 200, 80
    labels = (torch.arange(n) >= first).long()
    expected = torch.lgamma(torch.tensor([first + 1.0, n - first + 1.0, n + 1.0]).double())
    log_prob = partition_log_prob(labels, torch.full((n,), 0.7, dtype=torch.float64), 2)
    torch.testing.assert_close(log_prob, expected[0] + expected[1] - expected[2], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_stay_finite(dtype):
    log_scores = torch.tensor([80.0, -80.0, 0.0, 80.0], dtype=dtype, requires_grad=True)
    labels = torch.tensor([[0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 2, 2], [2, 1, 0, 0]])
    log_prob = partition_log_prob(labels, log_scores, 3)
    (grad,) = torch.autograd.grad(log_prob.sum(), log_scores)
    assert torch.isfinite(log_prob).all() and torch.isfinite(grad).all()
    exact = [partition_prob(row.tolist(), log_scores.detach().double(), 3) for row in labels[1:3]]
    torch.testing.assert_close(log_prob[1:3].detach().double(), torch.stack(exact).log(), rtol=1e-6, atol=1e-5)


def test_bounds_hold_and_default_to_the_best_order():
    torch.manual_seed(4)
    log_omega, log_scores = torch.randn(3).double(), torch.randn(5).double() * 2
    labels = all_labels(5, 3)
    exact = random_partition_log_prob(labels, log_omega, log_scores)
    lower, upper = partition_log_prob_bounds(labels, log_omega, log_scores)
    assert (lower <= exact + 1e-12).all() and (exact <= upper + 1e-12).all()

    row = torch.tensor([1, 0, 1, 2, 1])
    inside = itertools.permutations([0, 2, 4])
    best = max(plackett_luce_prob([1, *order, 3], log_scores) for order in inside).log()
    log_prob_sizes = mvhg_log_prob(torch.tensor([1, 3, 1]), log_omega, 5, 5)
    lower, upper = partition_log_prob_bounds(row, log_omega, log_scores)
    torch.testing.assert_close(lower, log_prob_sizes + best)
    top = plackett_luce_log_prob(log_scores.argsort(descending=True), log_scores)
    torch.testing.assert_close(upper, log_prob_sizes + top + torch.tensor(6.0).double().log())


def test_bounds_take_relaxed_orders_and_sizes():
    torch.manual_seed(5)
    log_omega, log_scores = torch.randn(3).double(), torch.randn(5).double()
    labels, order = torch.tensor([0, 2, 0, 1, 2]), torch.tensor([2, 0, 3, 1, 4])
    matrix = permutation_matrix(order, torch.float64).requires_grad_()
    sizes = torch.tensor([2.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    by_index = partition_log_prob_bounds(labels, log_omega, log_scores, order)
    relaxed = partition_log_prob_bounds(labels, log_omega, log_scores, matrix, sizes)
    torch.testing.assert_close(relaxed, by_index)
    for grad in torch.autograd.grad(sum(relaxed), (matrix, sizes)):
        assert torch.isfinite(grad).all() and grad.abs().max() > 0


def test_rank_probabilities_match_enumeration():
    torch.manual_seed(6)
    log_scores = torch.randn(5, dtype=torch.float64) * 2
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for order in itertools.permutations(range(5)):
        for rank, element in enumerate(order):
            expected[element, rank] += plackett_luce_prob(order, log_scores)
    torch.testing.assert_close(rank_prob(log_scores), expected, rtol=0, atol=1e-12)


def test_positions_match_enumeration():
    log_omega, m, n = torch.tensor([0.5, -1.0, 1.0]).double(), (2, 5, 3), 6
    support, log_weights = mvhg_log_weights(log_omega, m, n)
    prob, boundary = log_weights.softmax(0), support.cumsum(-1)
    r = torch.arange(n)
    inside = (boundary[..., None] > r) & ((boundary - support)[..., None] <= r)  # (S, K, n)
    expected = (prob[:, None, None] * inside).sum(0)
    result = rank_in_subset_prob(log_omega, torch.tensor(m), n)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


def test_marginals_match_enumeration():
    torch.manual_seed(7)
    log_omega, log_scores = torch.randn(2, 3).double(), torch.randn(2, 5).double() * 2
    labels = all_labels(5, 3)
    one_hot = torch.nn.functional.one_hot(labels, 3).mT.double()
    prob = random_partition_log_prob(labels, log_omega[:, None], log_scores[:, None]).exp()
    marginals = partition_marginals(log_omega, log_scores)
    torch.testing.assert_close(marginals, torch.einsum("bs,skn->bkn", prob, one_hot), rtol=0, atol=1e-12)
    torch.testing.assert_close(marginals.sum(-1), mvhg_mean(log_omega, 5, 5), rtol=0, atol=1e-12)


def test_marginals_gradcheck():
    torch.manual_seed(8)
    log_omega = torch.randn(3, dtype=torch.float64, requires_grad=True)
    log_scores = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(partition_marginals, (log_omega, log_scores))


def test_mode_is_the_best_of_all_partitions():
    torch.manual_seed(9)
    log_omega, log_scores = torch.randn(10, 3).double() * 1.5, torch.randn(10, 5).double() * 2
    labels = all_labels(5, 3)
    for m in (None, torch.tensor([2, 4, 3])):
        every = random_partition_log_prob(labels, log_omega[:, None], log_scores[:, None], m=m)
        mode = partition_mode(log_omega, log_scores, m=m)
        value = random_partition_log_prob(mode, log_omega, log_scores, m=m)
        torch.testing.assert_close(value, every.amax(-1), rtol=0, atol=1e-11)


def test_edges():
    no_labels = torch.zeros(2, 0, dtype=torch.int64)
    assert partition_log_prob(no_labels, torch.zeros(2, 0), 3).tolist() == [0, 0]
    assert random_partition_log_prob(no_labels, torch.zeros(2, 3), torch.zeros(2, 0)).tolist() == [0, 0]
    assert partition_log_prob(torch.zeros(0, 4, dtype=torch.int64), torch.zeros(0, 4), 3).shape == (0,)
    assert partition_marginals(torch.zeros(2, 3), torch.zeros(2, 0)).shape == (2, 3, 0)
    assert partition_marginals(torch.zeros(0, 3), torch.zeros(0, 4)).shape == (0, 3, 4)
    torch.testing.assert_close(partition_marginals(torch.zeros(1), torch.zeros(4)), torch.ones(1, 4))
    assert partition_mode(torch.zeros(2, 3), torch.zeros(2, 0)).shape == (2, 0)
    assert partition_mode(torch.zeros(0, 3), torch.zeros(0, 4)).shape == (0, 4)
    assert partition_mode(torch.zeros(1), torch.zeros(4)).tolist() == [0, 0, 0, 0]
