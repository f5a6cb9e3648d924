"""Differentiable random partition models: fused kernels, exact probabilities, PyTorch autograd.

`drpm.ops` holds the functions, `drpm.reference` their plain PyTorch twins, `drpm.distributions` and `drpm.models` what
is built on them. Submodules load when they are first used; `drpm.reference` needs no compiled kernels.
"""

import importlib
from typing import Any

from drpm._build_info import build_info
from drpm._version import __version__

_OPTIONAL = ("sklearn",)  # needs scikit-learn: an attribute, but no part of `from drpm import *`
_SUBMODULES = ("distributed", "distributions", "estimators", "models", "nn", "ops", "reference")

__all__ = ["__version__", "build_info", *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES or name in _OPTIONAL:
        return importlib.import_module(f"drpm.{name}")
    raise AttributeError(f"module 'drpm' has no attribute {name!r}")
