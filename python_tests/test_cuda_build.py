"""The CUDA kernels as far as no device is needed: what is registered, and for which architectures."""

import re
from pathlib import Path

import pytest
import torch

import drpm
import drpm.ops

ROOT = Path(__file__).parents[1]


@pytest.fixture
def architectures() -> list[str]:
    built = drpm.build_info()["cuda_architectures"]
    if not built:
        pytest.skip("built without CUDA")
    return built


def native_ops() -> list[str]:
    return re.findall(r'm\.def\(\s*"(\w+)\(', (ROOT / "csrc" / "library.cpp").read_text())


def test_every_native_op_has_a_cuda_kernel(architectures):
    assert len(native_ops()) > 20
    for name in native_ops():
        assert hasattr(torch.ops.drpm, name)
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"drpm::{name}", "CUDA"), name


def test_architectures_end_with_portable_code(architectures):
    assert architectures[-1].startswith("compute_")
    assert all(name.startswith("sm_") for name in architectures[:-1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_kernel_without_a_device_raises(architectures):
    with pytest.raises((RuntimeError, AssertionError)):
        drpm.ops.gumbel_noise(1, (1, 1, 4), stream=0, device="cuda")
