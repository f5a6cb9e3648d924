"""The script that times exactly k of n: all contestants run at small sizes, and the table holds them."""

import pytest
import torch

from benchmarks import k_subset_speed as script
from drpm.reference.k_subset import k_subset_draw


def test_a_small_run_fills_the_table(monkeypatch):
    monkeypatch.setattr(script, "CASES", ((2, 20, 3), (1, 40, 5)))
    threads = torch.get_num_threads()
    try:
        cases = script.measure(None, 0.001)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(script.machine, "line", lambda content: "here")
    table = script.table({"cases": cases})
    assert "| torch.sort | – |" in table and "recurrence: tables and draw" in table
    assert cases[0]["bytes"]["tables"] == 2 * 21 * 4 * 8
    assert all(value > 0 for case in cases for value in case["milliseconds"].values())


@pytest.mark.parametrize("k", [0, 3, 6])
def test_the_recurrence_draws_k(k):
    drawn = k_subset_draw(torch.randn(50, 6, dtype=torch.float64), k, torch.rand(50, 6, dtype=torch.float64))
    assert (drawn.sum(-1) == k).all()
