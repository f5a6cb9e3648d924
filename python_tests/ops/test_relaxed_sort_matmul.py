"""Relaxed sort times values, without the matrix."""

import pytest
import torch

from drpm import reference
from drpm.ops import relaxed_sort_matmul
from drpm.testing import FLOAT_DTYPES

from . import relaxed_sort_oracle as oracle
from .relaxed_sort_oracle import KINDS, check, scores_of, value_and_gradients


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hard", [False, True])
def test_product_matches_the_formula(kind, hard, dtype):
    for n, d, tau in [(1, 3, 1.0), (2, 1, 0.5), (41, 2, 1.0), (200, 5, 0.3), (300, 1, 20.0), (70, 40, 1.0)]:
        scores, values = scores_of(kind, n, dtype), torch.randn(n, d, dtype=dtype)
        weight = torch.randn(n, d, dtype=torch.float64)
        options = {"tau": tau, "hard": hard}
        exact = oracle.relaxed_sort_matmul(
            oracle.to_long(scores), oracle.to_long(values), tau, hard, oracle.to_long(weight.to(dtype))
        )
        dense = value_and_gradients(reference.relaxed_sort_matmul, [scores, values], weight.to(dtype), **options)
        got = value_and_gradients(relaxed_sort_matmul, [scores, values], weight.to(dtype), **options)
        check(got, dense, exact)


def test_threads_do_not_change_results():
    scores = torch.randn(2, 6000, requires_grad=True)
    values = torch.randn(2, 6000, 3, requires_grad=True)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            out = relaxed_sort_matmul(scores, values)
            results.append((out.detach(), *torch.autograd.grad((out**2).sum(), (scores, values))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)
