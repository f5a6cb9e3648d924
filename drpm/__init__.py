"""Differentiable random partition models: fused kernels, exact probabilities, PyTorch autograd.

`drpm.ops` holds the functions, `drpm.reference` their plain PyTorch twins, `drpm.models` what is built on them.
"""

from drpm._build_info import build_info
from drpm._version import __version__

__all__ = ["__version__", "build_info"]
