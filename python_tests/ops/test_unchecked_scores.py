"""Values that nobody checks (under torch.compile, torch.func, on devices): ops of scores, called by the dispatcher."""

import math

import pytest
import torch

from drpm.testing import FLOAT_DTYPES

LABELS, ORDER = torch.tensor([[0, 1, 2, 1]] * 3), torch.tensor([[2, 0, 1, 3]] * 3)
M = torch.full((3, 3), 4)


def outputs(log_scores, log_omega):
    ops = torch.ops.drpm
    grad = torch.ones(3, 3, 4, dtype=log_scores.dtype)
    by_omega, by_scores = ops.partition_marginals_backward(grad, log_omega, M, log_scores)
    of_scores = {
        "plackett_luce_log_prob": ops.plackett_luce_log_prob(log_scores, ORDER, True),
        "plackett_luce_log_prob, in order": ops.plackett_luce_log_prob(log_scores, None, True),
        "partition_log_prob": ops.partition_log_prob(log_scores, LABELS, 3, True),
    }
    of_both = {
        "partition_marginals": [ops.partition_marginals(log_omega, M, log_scores)],
        "partition_marginals_backward": [by_omega, by_scores],
        "partition_mode": [ops.partition_mode(log_omega, M, log_scores)],
    }
    return of_scores, of_both


def assert_poisoned(got, expected):
    """Row 1 is NaN, or without a partition; the others are what they were, bit for bit."""
    for name, values in got.items():
        for x, y in zip(values, expected[name], strict=True):
            assert torch.equal(x[[0, 2]], y[[0, 2]]), name
            assert (x[1].isnan() if x.is_floating_point() else x[1] == -1).all(), name


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", range(4))
def test_a_row_with_a_score_that_is_no_number_gives_nan(value, position, dtype):
    log_scores, log_omega = torch.randn(3, 4, dtype=dtype), torch.randn(3, 3, dtype=dtype)
    expected = outputs(log_scores, log_omega)
    log_scores[1, position] = value
    for got, want in zip(outputs(log_scores, log_omega), expected, strict=True):
        assert_poisoned(got, want)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("position", range(3))
def test_a_row_with_a_log_omega_that_is_no_number_gives_nan(value, position, dtype):
    log_scores, log_omega = torch.randn(3, 4, dtype=dtype), torch.randn(3, 3, dtype=dtype)
    _, expected = outputs(log_scores, log_omega)
    log_omega[1, position] = value
    assert_poisoned(outputs(log_scores, log_omega)[1], expected)


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


def test_mode_leaves_a_subset_of_weight_zero_empty():
    log_omega = torch.tensor([[0.0, -math.inf, 0.5]] * 3)
    labels = torch.ops.drpm.partition_mode(log_omega, M, torch.randn(3, 4))
    assert ((labels == 0) | (labels == 2)).all()
    assert (torch.ops.drpm.partition_mode(log_omega, torch.tensor([[1, 4, 1]] * 3), torch.randn(3, 4)) == -1).all()
