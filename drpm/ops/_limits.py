"""The largest counts that the ops take: one table. Up to there every result holds its stated accuracy.

Beyond, a count that the host knows is a ValueError, and a row whose counts it does not know is NaN.
"""

from __future__ import annotations

LARGEST_COUNT = 2**53
"""Of n, each m_k and k, in every op: whole numbers up to here are exact in float64."""

LARGEST_TOTAL = 2**62
"""Of Σ m: it is added up in int64."""

LARGEST_N = {
    "exact": 2**30,  # mvhg_sample: tables of √n outcomes are convolved, O(K n) time
    "merged": 2**40,  # mvhg_sample: noise for each of about 16 √n outcomes
}
"""Of n, where min(n, Σ m − n) items are drawn with a relaxation."""

LARGEST_LEFT = 2**27
"""Of m_left in hypergeometric_log_weights: as many values a row."""

LARGEST_FLOAT32 = 2**24
"""Whole numbers up to here are exact in float32; sizes of larger counts that are Python numbers come as float64."""
