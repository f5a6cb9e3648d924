"""The table of ops: complete, and right by the reference and by the invariants that it names, at every shape."""

from pathlib import Path

import pytest
import torch

from drpm import ops, reference
from drpm.testing import FLOAT_DTYPES, assert_matches_reference, relative_error
from drpm.testing.invariants import INVARIANTS
from drpm.testing.samples import SAMPLES, SHAPES, missing, outputs_of, value_and_gradients

PUBLIC = [name for name in ops.__all__ if name.islower()]

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def test_every_op_has_a_row():
    assert missing(PUBLIC) == set()
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES)
    assert missing({"an_op_without_a_row"})


def test_every_op_has_a_test_file():
    folder = Path(__file__).parent / "ops"
    assert [op for op in PUBLIC if not (folder / f"test_{op}.py").exists()] == []


@pytest.mark.parametrize("shape", SHAPES)
@each_sample
def test_values_gradients_and_strides(sample, shape):
    """Against the reference, or finite and of the right dtype; the same from inputs that are not contiguous."""
    for dtype in FLOAT_DTYPES:
        inputs = sample.inputs(SHAPES[shape], dtype)
        leaves = sample.leaves(inputs)
        values, gradients = value_and_gradients(sample.of(ops), inputs, leaves)
        assert not leaves or shape != "a batch" or all(g.any() for g in gradients)
        strided = {
            name: x.mT.contiguous().mT if isinstance(x, torch.Tensor) and x.dim() > 1 else x
            for name, x in inputs.items()
        }
        again = value_and_gradients(sample.of(ops), strided, leaves)
        for x, y in zip([*values, *gradients], [*again[0], *again[1]], strict=True):
            assert relative_error(x, y) <= 8 * torch.finfo(dtype).eps
        if sample.twin:
            wide = {k: x.double() if k in leaves else x for k, x in inputs.items()}
            want = value_and_gradients(sample.of(reference), wide, leaves)
            rounded = value_and_gradients(sample.of(reference), inputs, leaves)
            for kind in (0, 1):
                got = (values, gradients)[kind]
                for x, y, z in zip(got, want[kind], rounded[kind], strict=True):
                    assert_matches_reference(x, y, z, gradient=kind == 1)


@pytest.mark.parametrize(
    ("sample", "invariant"), [(s, i) for s in SAMPLES for i in s.invariants], ids=lambda x: getattr(x, "name", x)
)
def test_invariants(sample, invariant):
    for shape in SHAPES.values():
        got, want = INVARIANTS[invariant](sample.of(ops), sample.inputs(shape))
        for x, y in zip(outputs_of(got), outputs_of(want), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)
