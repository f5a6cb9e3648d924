import pytest
import torch

from drpm.reference import mvhg_sample, partition, random_partition


def gumbel_noise(*shape):
    return -torch.empty(shape, dtype=torch.float64).exponential_().log()


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
@pytest.mark.parametrize("hard", [True, False])
def test_is_sizes_then_order_then_assembly(conditionals, hard):
    torch.manual_seed(0)
    log_omega, log_scores = torch.randn(2, 3).double(), torch.randn(2, 6).double()
    size_gumbel, score_gumbel = gumbel_noise(4, 2, 2, 7), gumbel_noise(4, 2, 6)
    drawn = random_partition(
        log_omega,
        log_scores,
        0.6,
        hard=hard,
        size_gumbel=size_gumbel,
        score_gumbel=score_gumbel,
        conditionals=conditionals,
    )
    sizes = mvhg_sample(log_omega, 6, 6, 0.6, hard=hard, gumbel=size_gumbel, conditionals=conditionals)
    assert torch.equal(drawn.sizes, sizes)
    assert torch.equal(drawn.assignment, partition(log_scores + score_gumbel, sizes, 0.6, hard=hard))
    assert torch.equal(drawn.order, (log_scores + score_gumbel).argsort(-1, descending=True))


def test_hard_fields_agree_and_relaxed_keeps_the_same_labels():
    torch.manual_seed(1)
    noise = {"size_gumbel": gumbel_noise(8, 2, 7), "score_gumbel": gumbel_noise(8, 6)}
    log_omega, log_scores = torch.randn(3).double(), torch.randn(6).double()
    drawn = random_partition(log_omega, log_scores, **noise)
    one_hot = torch.nn.functional.one_hot(drawn.labels, 3).mT.double()
    assert torch.equal(drawn.assignment, one_hot)
    assert torch.equal(drawn.assignment.sum(-1), drawn.sizes)
    relaxed = random_partition(log_omega, log_scores, hard=False, **noise)
    assert torch.equal(relaxed.labels, drawn.labels) and torch.equal(relaxed.order, drawn.order)


def test_gradients_reach_both_parameters():
    torch.manual_seed(2)
    log_omega = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    log_scores = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    drawn = random_partition(log_omega, log_scores, size_gumbel=gumbel_noise(2, 2, 7), score_gumbel=gumbel_noise(2, 6))
    loss = (drawn.assignment * torch.randn(2, 3, 6)).sum()
    for grad in torch.autograd.grad(loss, (log_omega, log_scores)):
        assert torch.isfinite(grad).all() and grad.abs().max() > 0


def test_edges():
    assert torch.equal(random_partition(torch.zeros(2, 1), torch.randn(2, 4)).assignment, torch.ones(2, 1, 4))
    empty = random_partition(torch.zeros(2, 3), torch.zeros(2, 0))
    assert [tuple(field.shape) for field in empty] == [(2, 3, 0), (2, 3), (2, 0), (2, 0)]
    no_rows = random_partition(torch.zeros(0, 3), torch.zeros(0, 5))
    assert [tuple(field.shape) for field in no_rows] == [(0, 3, 5), (0, 3), (0, 5), (0, 5)]
    broadcast = random_partition(torch.zeros(3), torch.randn(4, 5))
    assert broadcast.assignment.shape == (4, 3, 5) and broadcast.sizes.shape == (4, 3)
