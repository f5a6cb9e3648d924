"""What the compiled module is; the one place that imports it."""

from __future__ import annotations

import importlib
import os
from typing import Any

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "drpm needs torch 2.11 or newer, which is not installed: https://pytorch.org/get-started/locally", name="torch"
    ) from error

try:
    _C: Any = importlib.import_module("drpm._C")
except ImportError as error:  # a checkout without a compiler: drpm.reference still works
    _C = None
    _reason: ImportError | None = error
else:
    _reason = None


_SIMD_LEVELS = ("baseline", "avx2", "avx512")


def require_compiled() -> None:
    """Raise an ImportError that says what to do where the compiled kernels are missing, a ValueError for a DRPM_SIMD
    that names no instruction set."""
    if _C is None:
        if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11):
            raise ImportError(f"drpm: needs torch 2.11 or newer, found {torch.__version__}") from _reason
        raise ImportError(
            "drpm: the compiled kernels are not available; build them with `pip install -e .` "
            f"(needs a C++17 compiler; drpm.reference works without). Reason: {_reason}"
        ) from _reason
    chosen = os.environ.get("DRPM_SIMD", "")
    if chosen not in ("", *_SIMD_LEVELS):
        raise ValueError(f"drpm: DRPM_SIMD must be one of {', '.join(_SIMD_LEVELS)}, got {chosen!r}")


def build_info() -> dict[str, Any]:
    """Describe the build: versions, compiler, SIMD level in use and compiled, CUDA architectures.

    Returns: dict with `version`, `compiler`, `torch_headers` (release whose headers were used), `torch_target`
        (oldest torch that the binary serves), `torch` (the one running now), `simd`, `simd_compiled`,
        `cuda_architectures` (empty: built without CUDA).
    Raises: ImportError when the kernels were not compiled, ValueError for a DRPM_SIMD that names no instruction set.
    """
    require_compiled()
    assert _C is not None
    return {**_C.build_info(), "torch": torch.__version__}
