"""Runs CMake (the build truth) through ninja; everything else stands in pyproject.toml."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
sys.path.insert(0, str(ROOT / "_build"))
from programs import find_cmake, find_ninja  # noqa: E402


def torch_folder() -> Path:
    if os.environ.get("DRPM_TORCH"):
        return Path(os.environ["DRPM_TORCH"])
    spec = importlib.util.find_spec("torch")  # without build isolation
    if spec is None or not spec.submodule_search_locations:
        sys.exit("drpm: torch is not installed; install torch >= 2.11 first, or set DRPM_TORCH to its package folder")
    return Path(next(iter(spec.submodule_search_locations)))


def pybind11_include() -> str:
    import pybind11

    return pybind11.get_include()


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        if not (os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")):
            sys.exit(
                "drpm: no C++ compiler found; install g++ 11 or newer (Debian: apt install g++), "
                "or set DRPM_KERNELS=0 to install the pure-PyTorch `drpm.reference` alone."
            )
        cmake = find_cmake() or sys.exit("drpm: cmake is not installed; `pip install cmake`")
        output = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"  # kept: a rebuild compiles what changed
        build.mkdir(parents=True, exist_ok=True)
        definitions = {
            "CMAKE_MAKE_PROGRAM": find_ninja() or sys.exit("drpm: ninja is not installed; `pip install ninja`"),
            "DRPM_TORCH": torch_folder(),
            "DRPM_PYTHON_INCLUDE": sysconfig.get_path("include"),
            "DRPM_PYBIND11_INCLUDE": pybind11_include(),
            "DRPM_EXTENSION_SUFFIX": sysconfig.get_config_var("EXT_SUFFIX"),
            "DRPM_OUTPUT": output,
            "DRPM_CUDA": os.environ.get("DRPM_CUDA", "auto"),
            "DRPM_CUDA_ARCHS": os.environ.get("DRPM_CUDA_ARCHS", "").replace(",", ";"),
        }
        flags = [f"-D{name}={value}" for name, value in definitions.items()]
        subprocess.check_call([cmake, "-G", "Ninja", "-S", str(ROOT), "-B", str(build), *flags])
        subprocess.check_call([cmake, "--build", str(build), "--target", "_C"])


# DRPM_KERNELS=0: a pure-Python install, in which drpm.reference works and drpm.ops says what is missing.
KERNELS = [] if os.environ.get("DRPM_KERNELS") == "0" else [Extension("drpm._C", [])]
setup(ext_modules=KERNELS, cmdclass={"build_ext": CMakeBuild})
