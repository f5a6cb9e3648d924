"""Values that nobody checks (under torch.compile, torch.func, on devices): a row that holds NaN or an infinity is NaN
in every floating output and gradient that the value enters, in range in integer ones; other rows do not notice."""

import math

import pytest
import torch

from drpm import ops
from drpm.testing import FLOAT_DTYPES
from drpm.testing.samples import SAMPLES, Shape, outputs_of, value_and_gradients

ROW, OTHERS = 1, [0, 2]  # of three
ELEMENTS, CLASSES = 5, 4
OF_CLASSES = ("relaxed_sizes", "log_omega")  # which no length cuts short
VALUES = (math.nan, math.inf, -math.inf)
# "never", or no bound; in MVHG weights -inf is a class of weight zero
VALID = {("k_subset", "scores"): [-math.inf], ("sized_assignment", "affinities"): [-math.inf]}
VALID |= {("sized_assignment", "relaxed_sizes"): [math.inf], ("", "log_omega"): [-math.inf]}
VALID |= {("hypergeometric_log_weights", x): [-math.inf] for x in ("left", "right")}
# What it does not enter: the sizes of a partition; gradients of a sum by its other term, or of what is linear.
APART = {("random_partition", "scores"), *(("hypergeometric_log_weights", x) for x in ("left", "right"))}
APART |= {(op, x) for op in ("random_partition_log_prob", "partition_log_prob_bounds") for x in ("log_omega", "scores")}
APART |= {
    ("random_assignment", "affinities"),
    *(("random_assignment_log_prob", x) for x in ("log_omega", "affinities")),
}
# The last row of these scores never counts, and has no gradient.
LAST_ROW_IS_FREE = ("random_assignment", "assignment_log_prob", "random_assignment_log_prob")

ROWWISE = [s for s in SAMPLES if s.op != "gumbel_noise"]
BANDED = [s for s in SAMPLES if s.op.startswith(("relaxed_sort", "partition")) and not s.op.startswith("partition_")]


def results(sample, inputs):
    """Outputs, then gradients; under torch.func.vmap no value can be looked at."""
    function = sample.of(ops)
    names = [name for name, x in inputs.items() if isinstance(x, torch.Tensor) and name != "seed"]

    def unchecked(*given):
        fixed = dict(zip(inputs, given, strict=True))

        def call(*mapped):
            return outputs_of(function(*{**fixed, **dict(zip(names, mapped, strict=True))}.values()))

        return torch.func.vmap(call, randomness="same")(*(fixed[name] for name in names))

    values, gradients = value_and_gradients(unchecked, inputs, sample.leaves(inputs))
    return [x[0] for x in [*values, *gradients]]


def bad_values(sample, name):
    valid = {x for (op, argument), xs in VALID.items() if sample.op.startswith(op) and argument in name for x in xs}
    return [x for x in VALUES if x not in valid]


def floating(inputs):
    return [name for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.is_floating_point()]


def assert_poisoned(sample, name, got, want, length):
    if not got.is_floating_point():
        assert ((got >= -1) & (got <= ELEMENTS)).all(), (name, got)
    elif sample.op in LAST_ROW_IS_FREE:  # elements that are taken already have no gradient; sizes, and terms, are apart
        assert (got.isnan() | (got == 0) | (got == want)).all(), (name, got)
    elif length == 0 or (sample.op, name) in APART:
        assert (got.isnan() | (got == want)).all(), (name, got)
    elif length is not None:  # beyond it all is 0
        assert (got.isnan() | ((got == 0) & (want == 0))).all() and got.isnan().any(), (name, got)
    else:
        assert got.isnan().all(), (name, got)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("sample", ROWWISE, ids=lambda sample: sample.name)
def test_rows_that_are_not_finite_are_nan_and_others_do_not_notice(sample, dtype, test_device):
    positions = 2 if test_device == "emulated" else ELEMENTS
    cases = len(VALUES) * positions  # which no other dimension is
    clean = sample.inputs(Shape((1, cases, 3), ELEMENTS, CLASSES), dtype, torch.get_default_device())
    want = results(sample, clean)
    for name in floating(clean):
        inputs = {**clean, name: clean[name].clone()}
        rows = inputs[name][0, :, ROW].reshape(cases, -1)
        stride = max(1, rows.shape[1] // positions)
        placed = [(value, at * stride % rows.shape[1]) for value in bad_values(sample, name) for at in range(positions)]
        for case, (value, position) in enumerate(placed):
            rows[case, position] = value
        inputs[name][0, :, ROW] = rows.reshape_as(inputs[name][0, :, ROW])
        got = results(sample, inputs)
        for index, (y, z) in enumerate(zip(got, want, strict=True)):
            at = tuple(y.shape).index(cases)
            y, z = (x.movedim((at, at + 1), (0, 1)) for x in (y, z))
            assert torch.equal(y[:, OTHERS], z[:, OTHERS]), name
            for case, (_, position) in enumerate(placed):
                length = inputs["lengths"][0, case, ROW] if "lengths" in inputs else None
                element = position // inputs[name].shape[-1] if name == "values" else position % ELEMENTS
                here, before = y[case, ROW], z[case, ROW]
                free = length is not None and name not in OF_CLASSES and element >= length
                if name == "affinities" and sample.op in LAST_ROW_IS_FREE:
                    free = free or position >= (CLASSES - 1) * ELEMENTS
                if free and here.is_floating_point():
                    assert torch.equal(here, before), (name, here)
                elif name == "values":  # as in a product of matrices: where they are weighed into
                    assert index > 0 or not here.isfinite().all(), (name, here)
                else:
                    assert_poisoned(sample, name, here, before, length)
                    known = free or length is not None or not here.is_floating_point()
                    assert index > 0 or known or here.isnan().all(), (name, here)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("sample", [s for s in BANDED if s.variant != "each row's length"], ids=lambda s: s.name)
def test_a_long_row_that_is_not_finite_is_nan(sample, dtype, test_device):
    """One row in chunks; tasks that have rows of other kinds are above."""
    if test_device == "emulated":
        pytest.skip("has no chunks")
    clean = sample.inputs(Shape((1, 1), 600, CLASSES), dtype, torch.get_default_device())
    for name in set(floating(clean)) - {"values"}:
        for value in bad_values(sample, name):
            inputs = {**clean, name: clean[name].clone()}
            inputs[name].view(-1)[1] = value
            for y in results(sample, inputs):
                assert y.isnan().all() if y.is_floating_point() else ((y >= 0) & (y < 600)).all(), (name, value)
