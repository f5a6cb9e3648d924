"""The devices that tests run on: the CPU, CUDA kernels emulated on it, CUDA."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

# CUDA kernels compiled for the CPU, built by `make test-cuda`.
EMULATED_LIBRARY = Path(__file__).parents[2] / "build/cuda-plain/csrc/tests/cuda/libdrpm_emulated.so"
TEST_DEVICES = ("cpu", "emulated", "cuda")  # where tests of an op can run


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
