"""Scores and weights of any magnitude: only differences count."""

import pytest
import torch

LABELS, ORDER = torch.tensor([[0, 1, 2, 1]] * 3), torch.tensor([[2, 0, 1, 3]] * 3)
M = torch.full((3, 3), 4)


@pytest.mark.parametrize("offset", [1e6, 1e12, 1e18, 1e20])
def test_log_probabilities_do_not_depend_on_an_offset(offset):
    ops = torch.ops.drpm
    log_scores = torch.randn(3, 4).double().add(offset).sub(offset)  # what is left when the offset is there
    for x, y in [
        (
            ops.plackett_luce_log_prob(log_scores + offset, ORDER, True),
            ops.plackett_luce_log_prob(log_scores, ORDER, True),
        ),
        (
            ops.partition_log_prob(log_scores + offset, LABELS, 3, True),
            ops.partition_log_prob(log_scores, LABELS, 3, True),
        ),
    ]:
        assert torch.equal(x[0], y[0]) and torch.equal(x[1], y[1])
    mode, shifted = ops.partition_mode(torch.zeros(3, 3).double(), M, log_scores), log_scores + offset
    assert torch.equal(ops.partition_mode(torch.full((3, 3), offset).double(), M, shifted), mode)
