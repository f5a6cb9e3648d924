"""benchmarks/compare.py: the interval of a median, and the table of a result."""

import math

import pytest
import torch

from benchmarks import compare, machine


@pytest.mark.parametrize("count", [7, 9, 15, 31])
def test_the_interval_holds_the_median_with_95_percent_and_is_the_shortest(count):
    values = [float(i) for i in range(count)]
    low, high = compare.interval(values[::-1])
    k = int(low)
    assert high == count - 1 - k

    def missed(k):  # the median lies below the k-th or above the (count - 1 - k)-th value
        return 2 * sum(math.comb(count, i) for i in range(k + 1)) / 2**count

    assert missed(k) <= 0.05 < missed(k + 1)


def test_few_rounds_have_the_whole_range():
    assert compare.interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_table():
    times = {"old": 3.0, "new": 1.0, "ratio": 3.0, "low": 2.9, "high": 3.1}
    entry = {"case": "random_partition (64, 10, 2)", "forward": times, "both": times}
    entry["busy"] = {"old": {**times, "ratio": 9.0}, "new": {**times, "ratio": 1.1}}
    content = {"machine": machine.describe(1), "commit": "abc", "dirty": False, "rounds": 7, "cases": [entry]}
    text = compare.table({**content, "commits": {"old": "1234", "new": "5678"}})
    assert "| `random_partition (64, 10, 2)` | 3 → 1 | 3.00 (2.90–3.10) | 2 | 3 → 1 | 3.00 (2.90–3.10) | 2 |" in text
    assert "| `random_partition (64, 10, 2)` | 9.00 (2.90–3.10) | 1.10 (2.90–3.10) |" in text
    assert "Old: 1234; new: 5678; 7 rounds." in text


def test_every_small_case_can_be_called_and_differentiated():
    for case in compare.CASES:
        if case.shape[0] * case.shape[1] <= 64:
            call, leaves = compare.prepared(case)
            out = call()
            grads = torch.autograd.grad(out, leaves, torch.ones_like(out))
            assert all(torch.isfinite(x).all() for x in grads), case
