"""The CUDA kernels as far as no device is needed: what is registered, and for which architectures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import drpm
import drpm.ops

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "_build"))
from programs import find_cmake, find_ninja  # noqa: E402


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


def test_nvcc_that_does_not_work_is_left_alone(tmp_path):
    """By default CUDA kernels are built where nvcc is found; a toolkit that does not fit must not stop an install."""
    if find_cmake() is None or find_ninja() is None:
        pytest.skip("no cmake, or no ninja")
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho unsupported GNU version; exit 1\n")
    nvcc.chmod(0o755)
    flags = ["-DDRPM_CUDA=auto", "-DDRPM_BUILD_EXTENSION=OFF", f"-DCMAKE_MAKE_PROGRAM={find_ninja()}"]
    configure = [find_cmake(), "-G", "Ninja", "-S", ROOT, "-B", tmp_path / "build", *flags]
    env = {**os.environ, "CUDACXX": str(nvcc)}
    result = subprocess.run([str(word) for word in configure], env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "No CUDA kernels" in result.stderr and "unsupported GNU version" in result.stderr
