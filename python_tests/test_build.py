"""What was built: the compiled sets, and that no code compiled for a newer processor can run on an older one."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import drpm

ROOT = Path(__file__).parents[1]


def test_build_info_names_versions_and_sets():
    info = drpm.build_info()
    assert info["version"] == drpm.__version__
    assert info["torch"] == torch.__version__
    assert info["simd"] in info["simd_compiled"]
    assert "baseline" in info["simd_compiled"]


@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_lower_instruction_set_gives_the_same_noise(level):
    if level not in drpm.build_info()["simd_compiled"]:
        pytest.skip(f"{level} was not compiled")
    code = (
        "import torch, drpm; from drpm.ops import gumbel_noise;"
        "print(drpm.build_info()['simd'], gumbel_noise(1, (4, 4, 100), stream=0, dtype=torch.float64).sum().item())"
    )

    def run(simd):
        env = {**os.environ, "DRPM_SIMD": simd}
        return subprocess.check_output([sys.executable, "-c", code], env=env, text=True).split()

    native, lowered = run(""), run(level)
    assert lowered[0] in ("baseline", level)
    assert float(lowered[1]) == pytest.approx(float(native[1]), rel=1e-13)


@pytest.mark.parametrize("simd", ["AVX2", "baselin"])
def test_misspelt_instruction_set_is_an_error(simd):
    code = (
        "import drpm\nfor use in (lambda: drpm.ops, drpm.build_info):\n  try: use()\n  except ValueError as e: print(e)"
    )
    out = subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "DRPM_SIMD": simd}, text=True)
    assert out.splitlines() == [f"drpm: DRPM_SIMD must be one of baseline, avx2, avx512, got {simd!r}"] * 2


def test_build_passes_over_a_torch_that_is_too_old(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "_build"))
    backend = importlib.import_module("drpm_build")
    path = [str(tmp_path / "old"), str(tmp_path / "new")]
    monkeypatch.setattr(backend, "sysconfig", SimpleNamespace(get_path=lambda _: None))
    monkeypatch.setattr(backend, "sys", SimpleNamespace(path=path))
    for name, version in (("old", "2.9.1+cpu"), ("new", "2.11.0")):
        header = tmp_path / name / "torch" / backend.HEADER
        header.parent.mkdir(parents=True)
        header.touch()
        (tmp_path / name / "torch" / "version.py").write_text(f"__version__ = '{version}'\n")
    monkeypatch.delenv("DRPM_TORCH", raising=False)
    assert backend.find_torch() == tmp_path / "new" / "torch"
    path.pop()
    assert backend.find_torch() is None
    assert backend.FALLBACK_TORCH in backend._requires([])
    monkeypatch.setenv("DRPM_TORCH", str(tmp_path / "new" / "torch"))
    assert backend.find_torch() == tmp_path / "new" / "torch"


def module_symbols(*options):
    """The dynamic symbols of drpm._C, one line each."""
    if shutil.which("nm") is None or sys.platform != "linux":
        pytest.skip("no nm to look at the module with")
    return subprocess.check_output(["nm", "-D", *options, importlib.import_module("drpm._C").__file__], text=True)


def test_module_asks_for_no_newer_libraries_than_manylinux_2_28():
    if not drpm.build_info()["compiler"].startswith(("GNU 11.", "GNU 12.")):
        pytest.skip("what another compiler takes from its libraries is not known")
    allowed = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}
    symbols = re.findall(r"(\w+)@(GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)", module_symbols("--undefined-only"))
    if drpm.build_info()["cuda_architectures"]:  # cudart_static: functions that glibc 2.34 moved to libc
        symbols = [found for found in symbols if not re.match("pthread_|sem_|shm_|dl", found[0])]
    versions = [found[1:] for found in symbols]
    assert versions
    newer = {(name, v) for name, v in versions if tuple(map(int, v.split("."))) > allowed[name]}
    assert not newer


def test_module_exports_its_entry_alone():
    names = [line.split()[-1] for line in module_symbols("--defined-only").splitlines()]
    assert names == ["PyInit__C"]


def test_kernel_objects_share_no_symbol_between_instruction_sets():
    objects = sorted(ROOT.glob("build/cmake-*/CMakeFiles/drpm_kernels_avx*.dir/csrc/**/*.o"))
    if not objects or shutil.which("nm") is None:
        pytest.skip("no build folder to look at")
    for path in objects:
        listing = subprocess.check_output(["nm", "-C", str(path)], text=True)
        weak = [line for line in listing.splitlines() if line[17:18] in "WVu"]
        shared = [line for line in weak if "isa_avx" not in line]
        assert not shared, f"{path.name}: {shared}"
