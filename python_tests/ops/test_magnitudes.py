"""Scores and weights of any magnitude: adding a constant to those of a row changes nothing beyond their rounding."""

import pytest
import torch

from drpm import ops
from drpm.testing import FLOAT_DTYPES
from drpm.testing.samples import SAMPLES, Shape, outputs_of, value_and_gradients

SHAPE = Shape((3,), 5, 4)
SHIFTED = {"scores": ("scores",), "affinities": ("affinities",), "log_omega": ("log_omega", "log_omega_p")}
# The law's own constant is moved, or what is told apart is not the differences.
MOVED = {
    "mvhg_log_normalizer": "n times the constant is added",
    "mvhg_log_prob, relaxed sizes": "the gradient w.r.t. sizes holds the constant",
    "mvhg_log_prob, merged": "the gradient w.r.t. sizes holds the constant",
    "plackett_luce_log_prob, relaxed permutation": "its rows do not sum to one",
}
CASES = [
    (sample, name)
    for sample in SAMPLES
    for name in SHIFTED
    if name in sample.arguments and sample.name not in MOVED and sample.op not in MOVED
]
OFFSETS = {torch.float32: (1e3, -1e6, 1e12), torch.float64: (1e6, -1e12, 1e18)}
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize(("sample", "name"), CASES, ids=lambda x: getattr(x, "name", x))
def test_a_constant_changes_nothing(sample, name, dtype):
    clean = sample.inputs(SHAPE, dtype, torch.get_default_device(), spread=3.0)
    for offset in OFFSETS[dtype]:  # the largest leave ties and gaps
        shifted, rounded = dict(clean), dict(clean)
        for x in set(SHIFTED[name]) & set(clean):
            shifted[x] = clean[x] + offset
            rounded[x] = shifted[x] - offset
        want, got = (value_and_gradients(sample.of(ops), x, sample.leaves(x)) for x in (rounded, shifted))
        for y, z in zip([*want[0], *want[1]], [*got[0], *got[1]], strict=True):
            torch.testing.assert_close(z, y, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_row_of_the_largest_numbers_ends_and_leaves_the_others_alone(sample, dtype):
    clean = sample.inputs(SHAPE, dtype, torch.get_default_device())
    for name in {"scores", "log_omega", "affinities"} & set(clean):
        inputs = {**clean, name: clean[name].clone()}
        largest = torch.finfo(dtype).max
        inputs[name][1] = largest * torch.where(torch.arange(clean[name].shape[-1]) % 2 == 0, 1.0, -1.0).to(dtype)
        for x, y in zip(
            outputs_of(sample.of(ops)(*inputs.values())), outputs_of(sample.of(ops)(*clean.values())), strict=True
        ):
            rows = x.shape[0] == y.shape[0] == 3 and "several" not in sample.variant and "order" not in sample.variant
            assert not rows or torch.equal(x[[0, 2]], y[[0, 2]])
