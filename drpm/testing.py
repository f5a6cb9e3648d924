"""What the tests of every op share: devices, the one tolerance table, and comparison against float64."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted deviation, relative to the largest magnitude of the expected values."""

    value: float
    gradient: float


# float64: kernel against the float64 reference on well-conditioned inputs. float32: a floor below which the rule
# "at most twice the error of the reference in float32, both against float64" is not applied.
TOLERANCE = {
    torch.float64: Tolerance(value=1e-10, gradient=1e-10),
    torch.float32: Tolerance(value=2e-6, gradient=1e-5),
}


EMULATED_LIBRARY = Path(__file__).parents[1] / "build/cuda-plain/csrc/tests/cuda/libdrpm_emulated.so"
TEST_DEVICES = ("cpu", "emulated", "cuda")


@contextmanager
def use_device(device: str) -> Iterator[list[str]]:
    """Run what is inside on one of TEST_DEVICES; yields the names of the ops whose kernels are replaced.

    "emulated": CPU tensors, but every op that has a CUDA kernel runs that kernel's unmodified source, thread by thread
    on the CPU (`make test-cuda` builds EMULATED_LIBRARY). "cuda": new tensors are made on the CUDA device.
    """
    if device not in TEST_DEVICES:
        raise ValueError(f"use_device: device must be one of {TEST_DEVICES}, got {device!r}")
    if device == "cuda":
        with torch.device("cuda"):
            yield []
        return
    importlib.import_module("drpm.ops")  # the kernels that are replaced are registered first
    library = torch.library.Library("drpm", "IMPL")
    try:
        names = emulated_ops() if device == "emulated" else []
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*Overriding a previously registered kernel.*")
            for name in names:
                library.impl(name, getattr(torch.ops.drpm_emulated, name).default, "CPU")
        yield names
    finally:
        library._destroy()


def emulated_ops() -> list[str]:
    """Ops with a CUDA kernel in EMULATED_LIBRARY, without the namespace."""
    torch.ops.load_library(EMULATED_LIBRARY)
    prefix = "drpm_emulated::"
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith(prefix)]
    return sorted(
        name.removeprefix(prefix) for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")
    )


def devices() -> list[str]:
    """Devices that the op tests run on."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def relative_error(got: Tensor, want: Tensor) -> float:
    """max |got - want| / max(|want|, 1), in float64; equal infinities do not count, a NaN gives NaN."""
    got, want = got.detach().double(), want.detach().double()
    if got.shape != want.shape:
        raise AssertionError(f"shapes differ: {tuple(got.shape)} and {tuple(want.shape)}")
    same = got == want
    difference = torch.where(same, torch.zeros_like(got), got - want)
    finite = torch.where(torch.isfinite(want), want, torch.zeros_like(want))
    if difference.numel() == 0:
        return 0.0
    return float(difference.abs().max() / finite.abs().max().clamp(min=1.0))


def assert_matches_reference(
    got: Tensor,
    reference_float64: Tensor,
    reference_same_dtype: Tensor | None = None,
    *,
    gradient: bool = False,
) -> None:
    """The accuracy rule of the project.

    float64: within TOLERANCE of the reference. float32: within TOLERANCE, or within twice the error that the reference
    itself makes in float32.
    """
    table = TOLERANCE[torch.float64 if got.dtype == torch.float64 else torch.float32]
    allowed = table.gradient if gradient else table.value
    if got.dtype != torch.float64 and reference_same_dtype is not None:
        allowed = max(allowed, 2 * relative_error(reference_same_dtype, reference_float64))
    error = relative_error(got, reference_float64)
    if not error <= allowed:
        raise AssertionError(f"error {error:.3g} > {allowed:.3g} (relative to the largest expected magnitude)")
