"""What must hold of every row of the table of ops on inputs that hypothesis chooses: shapes, dtypes, strides,
broadcasting, magnitudes, and the row's invariants.

A `Case` is all that a check needs, and can be kept as JSON. `python_tests/test_properties.py` runs a fixed set of
them, `tools/fuzz.py` new ones for as long as it is told to.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from drpm import ops, reference
from drpm.testing.accuracy import assert_matches_reference, relative_error
from drpm.testing.invariants import INVARIANTS
from drpm.testing.samples import BY_NAME, DERIVATIVE, SAMPLES, Inputs, Sample, Shape, outputs_of, value_and_gradients

NARROW = {"float16": torch.float16, "bfloat16": torch.bfloat16}
INVARIANT_TOLERANCE = 1e-10
PAIRED = ("m", "n")  # inputs that are valid row by row: they are broadcast in the same dimensions
ROUNDINGS = 16  # what the same call may differ by from inputs that lie otherwise in memory


@dataclass(frozen=True)
class Case:
    """One check of one row of the table on inputs that follow from these numbers."""

    check: str
    sample: str
    batch: tuple[int, ...] = ()
    elements: int = 3
    classes: int = 2
    dtype: str = "float64"
    spread: float = 1.0
    tied: bool = False
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "batch": list(self.batch)}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> Case:
        return Case(**{**fields, "batch": tuple(fields["batch"])})

    @property
    def row(self) -> Sample:
        return BY_NAME[self.sample]

    def inputs(self, dtype: torch.dtype | None = None) -> Inputs:
        shape = Shape(self.batch, self.elements, self.classes)
        dtype = dtype or getattr(torch, self.dtype)
        return self.row.inputs(shape, dtype, seed=self.seed, spread=self.spread, tied=self.tied)

    def choices(self) -> random.Random:
        """For what no number stands for: how a tensor lies in memory, which one is broadcast."""
        return random.Random(self.seed)

    def run(self) -> None:
        """AssertionError where the property does not hold."""
        CHECKS[self.check](self)


def _assert_same(got: Any, want: Any, tolerance: float) -> None:
    for x, y in zip(outputs_of(got), outputs_of(want), strict=True):
        assert x.dtype == y.dtype, f"{x.dtype} and {y.dtype}"
        error = relative_error(x, y)
        assert error <= tolerance, f"differ by {error:.3g} > {tolerance:.3g}"


def _check_reference(case: Case) -> None:
    """Values and gradients against `drpm.reference`; where there is no twin they are finite, or −inf."""
    sample, inputs = case.row, case.inputs()
    leaves = sample.leaves(inputs)
    got = value_and_gradients(sample.of(ops), inputs, leaves)
    for x in (*got[0], *got[1]):
        assert not bool((torch.isnan(x) | (x == torch.inf)).any()), "a value or gradient is not finite"
    for name, gradient in zip(leaves, got[1], strict=True):
        assert gradient.dtype == inputs[name].dtype
    if not sample.twin:
        return
    wide = {name: x.double() if name in leaves else x for name, x in inputs.items()}
    want = value_and_gradients(sample.of(reference), wide, leaves)
    rounded = value_and_gradients(sample.of(reference), inputs, leaves)
    for kind in (0, 1):
        for x, y, z in zip(got[kind], want[kind], rounded[kind], strict=True):
            assert_matches_reference(x, y, z, gradient=kind == 1)


def _transposed(x: Tensor) -> Tensor:
    return x.mT.contiguous().mT if x.dim() > 1 else x


def _every_other(x: Tensor) -> Tensor:
    """Between the elements of a longer tensor, whose others are what an op would stumble on."""
    if x.dim() == 0:
        return x
    buffer = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), torch.nan if x.is_floating_point() else True)
    buffer[..., 1::2] = x
    return buffer[..., 1::2]


def _off_the_start(x: Tensor) -> Tensor:
    buffer = x.new_zeros(x.numel() + 3)
    buffer[3:] = x.flatten()
    return buffer[3:].view(x.shape)


LAYOUTS: tuple[Callable[[Tensor], Tensor], ...] = (_transposed, _every_other, _off_the_start, lambda x: x)


def _check_layout(case: Case) -> None:
    """The same values and gradients however the inputs lie in memory, and inputs that stay as they were."""
    sample, inputs, choices = case.row, case.inputs(), case.choices()
    leaves = sample.leaves(inputs)
    laid = {name: choices.choice(LAYOUTS)(x) if isinstance(x, Tensor) else x for name, x in inputs.items()}
    want = value_and_gradients(sample.of(ops), inputs, leaves)
    got = value_and_gradients(sample.of(ops), laid, leaves)
    tolerance = ROUNDINGS * torch.finfo(getattr(torch, case.dtype)).eps
    for kind in (0, 1):
        _assert_same(tuple(got[kind]), tuple(want[kind]), tolerance)
    for name, x in case.inputs().items():
        assert not isinstance(x, Tensor) or torch.equal(x, laid[name]), f"{name} was written to"


def _check_broadcast(case: Case) -> None:
    """Batch dimensions of size one, or absent, are those of the other inputs; gradients add up over them."""
    sample, inputs, choices = case.row, case.inputs(), case.choices()
    leaves = sample.leaves(inputs)
    batch = len(case.batch)
    few, full = dict(inputs), dict(inputs)
    batched = [name for name, x in inputs.items() if isinstance(x, Tensor) and name != "seed"]
    whole = choices.choice((batched[0], batched[-1]))  # one keeps the batch
    together = [dim for dim in range(batch) if choices.random() < 0.6]
    for name in batched:
        if name == whole or {name, whole} <= set(PAIRED):
            continue
        x = inputs[name]
        dims = together if name in PAIRED else [dim for dim in range(batch) if choices.random() < 0.6]
        for dim in dims:
            x = x.narrow(dim, 0, 1) if x.shape[dim] else x
        full[name] = x.expand(inputs[name].shape)
        for dim in range(batch):
            if dim not in dims or x.shape[0] != 1 or choices.random() < 0.5:
                break
            x = x.squeeze(0)
        few[name] = x

    def expanded(*given: Any) -> Any:
        spread = (
            x.expand(full[name].shape) if isinstance(x, Tensor) else x for name, x in zip(few, given, strict=True)
        )
        return sample.of(ops)(*(x.contiguous() if isinstance(x, Tensor) else x for x in spread))

    got = value_and_gradients(sample.of(ops), few, leaves)
    want = value_and_gradients(expanded, few, leaves)
    tolerance = ROUNDINGS * torch.finfo(getattr(torch, case.dtype)).eps
    for kind in (0, 1):
        _assert_same(tuple(got[kind]), tuple(want[kind]), tolerance * (1 if kind == 0 else 8))


def _check_rows(case: Case) -> None:
    """A row's value does not depend on the rows beside it."""
    sample, inputs = case.row, case.inputs()
    if sample.seeded:
        return
    whole = outputs_of(sample.of(ops)(*inputs.values()))
    tolerance = ROUNDINGS * torch.finfo(getattr(torch, case.dtype)).eps
    for index in range(case.batch[0]):
        alone = outputs_of(sample.of(ops)(*(x[index] if isinstance(x, Tensor) else x for x in inputs.values())))
        if sample.op == "hypergeometric_log_weights":
            whole = tuple(x[..., : alone[0].shape[-1]] for x in whole)
        _assert_same(alone, tuple(x[index] for x in whole), tolerance)


def _check_dtype(case: Case) -> None:
    """Half precision computes as float32 and comes back as it went in, whole results as float32 at least; one float64
    argument makes the result that of float64 arguments."""
    sample, inputs = case.row, case.inputs()
    floating = _floating(sample)
    if case.dtype in NARROW:
        dtype = NARROW[case.dtype]
        wide = {name: x.float() if name in floating else x for name, x in inputs.items()}
    else:
        dtype = torch.float64
        last = floating[-1]
        wide = {name: x.double() if name in floating else x for name, x in inputs.items()}
        inputs = {**inputs, last: wide[last]}
    got = outputs_of(sample.of(ops)(*inputs.values()))
    want = outputs_of(sample.of(ops)(*wide.values()))
    for x, y in zip(got, want, strict=True):
        whole = not y.is_floating_point() or sample.gradient != DERIVATIVE
        assert x.dtype in (dtype, y.dtype) if whole else x.dtype == dtype, f"{x.dtype} of {dtype}"
        error = relative_error(x, y.to(x.dtype))
        assert error <= 2 * torch.finfo(dtype).eps, f"differ by {error:.3g}"


def _check_invariant(case: Case) -> None:
    inputs = case.inputs()
    got, want = INVARIANTS[case.check](case.row.of(ops), inputs)
    for x, y in zip(got, want, strict=True):
        error = relative_error(x, y)
        assert error <= INVARIANT_TOLERANCE, f"differ by {error:.3g}"


CHECKS: dict[str, Callable[[Case], None]] = {
    "reference": _check_reference,
    "layout": _check_layout,
    "broadcast": _check_broadcast,
    "rows": _check_rows,
    "dtype": _check_dtype,
    **dict.fromkeys(INVARIANTS, _check_invariant),
}
KINDS = ("reference", "layout", "broadcast", "rows", "dtype")


def pairs() -> list[tuple[str, str]]:
    """Every check of every row."""

    def applies(check: str, sample: Sample) -> bool:
        return not (check == "rows" and sample.seeded) and not (
            check in ("dtype", "broadcast") and not _floating(sample)
        )

    checks = [(check, sample) for sample in SAMPLES for check in (*KINDS, *sample.invariants)]
    return [(check, sample.name) for check, sample in checks if applies(check, sample)]


def _floating(sample: Sample) -> list[str]:
    return [name for name, x in sample.inputs().items() if isinstance(x, Tensor) and x.is_floating_point()]


@functools.cache
def _continuous(sample: str) -> bool:
    """Whether the outputs are continuous in the inputs: ties are no question then."""
    row = BY_NAME[sample]
    outputs = outputs_of(row.of(ops)(*row.inputs().values()))
    return row.gradient == DERIVATIVE and all(x.is_floating_point() for x in outputs)


def _dtypes(check: str, sample: Sample) -> tuple[str, ...]:
    if check == "dtype":  # what is drawn depends on the dtype; bounds have a dtype of their own
        mixes = sample.gradient == DERIVATIVE and sample.op != "sized_assignment"
        return (*NARROW, "float32") if mixes else tuple(NARROW)
    return ("float32", "float64") if check in ("reference", "layout", "rows") else ("float64",)


@st.composite
def cases(draw: st.DrawFn, check: str, sample: str, elements: int = 12, classes: int = 5) -> Case:
    """Cases of one check of one row; ties and wide spreads where the answer is continuous in the inputs."""
    continuous = _continuous(sample)
    spreads: tuple[float, ...] = (1.0, 0.0, 0.01, 4.0, 12.0) if continuous else (1.0, 4.0)
    if check == "reference":  # whose covariances are off by 1e-9 where nearly all of the mass is in one place
        spreads = tuple(x for x in spreads if x <= 4)
    dims = st.lists(st.integers(0, 3), min_size=int(check in ("rows", "broadcast")), max_size=2).map(tuple)
    return Case(
        check=check,
        sample=sample,
        batch=draw(dims),
        elements=draw(st.integers(0, elements)),
        classes=draw(st.integers(1, classes)),
        dtype=draw(st.sampled_from(_dtypes(check, BY_NAME[sample]))),
        spread=draw(st.sampled_from(spreads)),
        tied=draw(st.booleans()) if continuous else False,
        seed=draw(st.integers(0, 2**31 - 1)),
    )
