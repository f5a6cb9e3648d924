"""Bounds of the log-probability of a partition."""

import math

import pytest
import torch

from drpm import reference
from drpm.ops import partition_log_prob_bounds, random_partition_log_prob


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, 20.0])
def test_bounds_really_bound(scale):
    for n, num_subsets in ((1, 1), (6, 3), (20, 10), (120, 3)):
        log_omega, log_scores = torch.randn(num_subsets).double(), torch.randn(n).double() * scale
        labels = torch.randint(num_subsets, (20, n))
        m = torch.randint(n // 2 + 1, n + 1, (num_subsets,)) if num_subsets > 1 else None
        for counts in (m, None):
            exact = random_partition_log_prob(labels, log_omega, log_scores, m=counts)
            lower, upper = partition_log_prob_bounds(labels, log_omega, log_scores, m=counts)
            finite = exact > -math.inf
            assert torch.equal(lower > -math.inf, finite) and torch.equal(upper > -math.inf, finite)
            slack = 1e-9 * exact[finite].abs().max()
            assert (lower <= exact + slack).all() and (exact <= upper + slack).all()
        shuffled = (labels.double() + torch.rand(20, n).double()).argsort(-1)  # any order that fills the subsets
        worse, same = partition_log_prob_bounds(labels, log_omega, log_scores, order=shuffled)
        assert (worse <= lower + slack).all() and torch.equal(same, upper)


def test_bounds_match_the_reference_and_differentiate_through_relaxed_arguments():
    n, num_subsets = 7, 3
    log_omega, log_scores = torch.randn(2, num_subsets).double(), torch.randn(2, n).double()
    labels = torch.randint(num_subsets, (2, n))
    order = torch.randn(2, n, n).double().softmax(-1)
    sizes = torch.tensor([[2.5, 3.0, 1.5], [1.0, 4.2, 1.8]]).double()
    inputs = [x.requires_grad_() for x in (log_omega, log_scores, order, sizes)]
    capacities = torch.tensor([3, 7, 5])
    for arguments in (
        {},
        {"m": capacities},
        dict(order=order, sizes=sizes),
        dict(order=order, sizes=sizes, m=capacities),
    ):
        got = partition_log_prob_bounds(labels, log_omega, log_scores, **arguments)
        expected = reference.partition_log_prob_bounds(labels, log_omega, log_scores, **arguments)
        for a, b in zip(got, expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-11)
            used = inputs if "order" in arguments else inputs[:2]
            grads = torch.autograd.grad(a.sum(), used, retain_graph=True, allow_unused=True)
            wanted = torch.autograd.grad(b.sum(), used, retain_graph=True, allow_unused=True)
            for g, w in zip(grads, wanted, strict=True):
                assert (g is None and w is None) or torch.allclose(g, w, rtol=1e-9, atol=1e-11)
