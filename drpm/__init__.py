"""Differentiable random partition models: fused kernels, exact probabilities, PyTorch autograd.

`drpm.ops` holds the functions, `drpm.reference` their plain PyTorch twins, `drpm.distributions` and `drpm.models` what
is built on them. Submodules load when they are first used; `drpm.reference` needs no compiled kernels.
"""

import importlib
from typing import TYPE_CHECKING, Any

from drpm._build_info import build_info
from drpm._version import __version__

if TYPE_CHECKING:  # what the submodules loaded below are, for type checkers
    from drpm import data as data
    from drpm import distributed, distributions, estimators, models, nn, ops, reference
    from drpm import sklearn as sklearn

__all__ = [
    "__version__",
    "build_info",
    "distributed",
    "distributions",
    "estimators",
    "models",
    "nn",
    "ops",
    "reference",
]
_SUBMODULES = {*__all__[2:], "data", "sklearn"}  # these two need further packages: no part of `import *`

if not TYPE_CHECKING:  # a checker would take every name for Any

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:
            return importlib.import_module(f"drpm.{name}")
        raise AttributeError(f"module 'drpm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
