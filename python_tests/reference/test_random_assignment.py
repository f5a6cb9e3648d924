import pytest
import torch

from drpm.reference import (
    assignment_log_prob,
    mvhg_sample,
    partition,
    partition_log_prob,
    random_assignment,
    random_assignment_log_prob,
    random_partition,
    random_partition_log_prob,
)
from drpm.reference.partition_log_prob import partition_sizes

from .enumeration import all_labels, assignment_prob


def gumbel_noise(*shape):
    return -torch.empty(shape, dtype=torch.float64).exponential_().log()


@pytest.mark.parametrize("spread", [0.3, 2.0, 6.0])
def test_log_prob_matches_the_sum_over_orders(spread):
    torch.manual_seed(0)
    for n, num_subsets in ((1, 3), (4, 2), (5, 4), (6, 3)):
        log_scores = torch.randn(num_subsets, n, dtype=torch.float64) * spread
        for labels in torch.randint(num_subsets, (4, n)):
            expected = assignment_prob(labels.tolist(), log_scores).log()
            torch.testing.assert_close(assignment_log_prob(labels, log_scores), expected, rtol=0, atol=1e-11)


def test_all_labellings_sum_to_one():
    torch.manual_seed(1)
    log_omega, log_scores = torch.randn(3).double(), torch.randn(3, 5).double() * 1.5
    labels = all_labels(5, 3)
    given = (partition_sizes(labels, 3) == torch.tensor([2, 1, 2])).all(-1)
    assert abs(assignment_log_prob(labels[given], log_scores).exp().sum() - 1) < 1e-12
    for m in (None, torch.tensor([1, 3, 2])):
        assert abs(random_assignment_log_prob(labels, log_omega, log_scores, m=m).exp().sum() - 1) < 1e-12


def test_equal_rows_are_a_random_partition():
    torch.manual_seed(2)
    log_omega, row = torch.randn(3).double(), torch.randn(4, 1, 6).double()
    labels, log_scores = torch.randint(3, (4, 6)), row.expand(4, 3, 6)
    expected = partition_log_prob(labels, row.squeeze(1), 3)
    torch.testing.assert_close(assignment_log_prob(labels, log_scores), expected, rtol=0, atol=1e-12)
    joint = random_partition_log_prob(labels, log_omega, row.squeeze(1))
    torch.testing.assert_close(random_assignment_log_prob(labels, log_omega, log_scores), joint, rtol=0, atol=1e-12)
    noise = gumbel_noise(4, 1, 6)
    drawn = random_assignment(log_omega, log_scores, score_gumbel=noise)
    for got, want in zip(
        drawn, random_partition(log_omega, row.squeeze(1), score_gumbel=noise.squeeze(1)), strict=True
    ):
        assert torch.equal(got, want)


def test_gradients_of_the_likelihoods():
    torch.manual_seed(3)
    log_omega = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    log_scores = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(3, (2, 5))
    assert torch.autograd.gradcheck(lambda s: assignment_log_prob(labels, s), log_scores)
    assert torch.autograd.gradcheck(lambda w, s: random_assignment_log_prob(labels, w, s), (log_omega, log_scores))
    (grad,) = torch.autograd.grad(assignment_log_prob(labels, log_scores).sum(), log_scores)
    torch.testing.assert_close(grad.sum(-1), torch.zeros(2, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (grad[:, -1] == 0).all()


@pytest.mark.parametrize("hard", [True, False])
def test_subsets_are_filled_in_turn(hard):
    torch.manual_seed(4)
    log_omega, log_scores = torch.randn(4).double(), torch.randn(5, 4, 7).double()
    noise = {"size_gumbel": gumbel_noise(5, 3, 8), "score_gumbel": gumbel_noise(5, 4, 7)}
    drawn = random_assignment(log_omega, log_scores, 0.5, hard=hard, **noise)
    assert torch.equal(drawn.sizes, mvhg_sample(log_omega, 7, 7, 0.5, hard=hard, gumbel=noise["size_gumbel"]))
    whole = mvhg_sample(log_omega, 7, 7, 0.5, gumbel=noise["size_gumbel"]).long()
    perturbed = log_scores + noise["score_gumbel"]
    for row in range(5):
        left, want = set(range(7)), []
        for k in range(4):
            ranked = sorted(left, key=lambda i, k=k, row=row: -perturbed[row, k, i].item())
            want += ranked[: whole[row, k]]
            left -= set(want)
        assert drawn.order[row].tolist() == want
        assert drawn.labels[row, drawn.order[row]].tolist() == [k for k in range(4) for _ in range(whole[row, k])]
    torch.testing.assert_close(drawn.assignment.sum(-2), torch.ones(5, 7, dtype=torch.float64))
    assert (drawn.assignment >= 0).all()
    if hard:
        assert torch.equal(drawn.assignment, torch.nn.functional.one_hot(drawn.labels, 4).mT.double())


def test_two_subsets_are_the_first_plane_of_a_partition_and_the_rest():
    torch.manual_seed(5)
    log_scores = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, dtype=torch.float64)
    m = torch.tensor([2, 4])
    for hard in (True, False):
        got = random_assignment(torch.zeros(2), log_scores, 0.7, m=m, hard=hard).assignment
        want = partition(log_scores[0], m.double(), 0.7, hard=hard, normalize=not hard)[0]
        torch.testing.assert_close(got, torch.stack([want, 1 - want]))
        (grad,) = torch.autograd.grad(got[0] @ weight, log_scores, retain_graph=True)
        (expected,) = torch.autograd.grad(want @ weight, log_scores)
        torch.testing.assert_close(grad, expected)


def test_lengths_and_edges():
    torch.manual_seed(6)
    log_omega, log_scores = torch.randn(3).double(), torch.randn(2, 3, 5).double()
    lengths = torch.tensor([3, 0])
    drawn = random_assignment(log_omega, log_scores, lengths=lengths)
    short = random_assignment(log_omega, log_scores[0, :, :3])
    assert torch.equal(drawn.assignment[0, :, :3], short.assignment) and torch.equal(drawn.labels[0, :3], short.labels)
    assert (drawn.assignment[0, :, 3:] == 0).all() and drawn.order[0, 3:].tolist() == [3, 4]
    assert (drawn.labels[1] == -1).all() and drawn.order[1].tolist() == [0, 1, 2, 3, 4]
    value = random_assignment_log_prob(drawn.labels, log_omega, log_scores, lengths=lengths)
    torch.testing.assert_close(value[0], random_assignment_log_prob(short.labels, log_omega, log_scores[0, :, :3]))
    assert value[1] == 0
    assert torch.equal(random_assignment(torch.zeros(2, 1), torch.randn(2, 1, 4)).assignment, torch.ones(2, 1, 4))
    empty = random_assignment(torch.zeros(2, 3), torch.zeros(2, 3, 0))
    assert [tuple(field.shape) for field in empty] == [(2, 3, 0), (2, 3), (2, 0), (2, 0)]
