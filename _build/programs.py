"""Where the build's programs are; shared by the PEP 517 backend and setup.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def runs(program: str) -> bool:
    """Whether `program --version` works: a cmake that pip put into some environment is a Python script, and it fails
    inside pip's isolated build, where that environment's packages are hidden."""
    try:
        return subprocess.run([program, "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def find_cmake() -> str | None:
    """The first cmake that runs: the build environment's package, else those on PATH in order."""
    candidates = []
    try:
        from cmake import CMAKE_BIN_DIR  # of the package: the folder cmake/ of this repository can be imported, too

        candidates.append(str(Path(CMAKE_BIN_DIR, "cmake")))
    except ImportError:
        pass
    candidates += filter(None, (shutil.which("cmake", path=d) for d in os.get_exec_path()))
    return next((program for program in candidates if runs(program)), None)


def find_ninja() -> str | None:
    try:
        import ninja

        return str(Path(ninja.BIN_DIR, "ninja"))
    except ImportError:
        return shutil.which("ninja")
