"""PEP 517 backend: setuptools, plus the torch of the environment that drpm is installed into.

pip's isolated build environment runs the target environment's interpreter but hides its site-packages. This backend
looks there for torch's headers; only where there is none does it ask pip for a torch of its own. The extension uses
torch's stable ABI, so the torch it is built against and the one it later runs with need not be the same release.
"""

import os
import re
import sys
import sysconfig
from pathlib import Path

from programs import find_cmake
from setuptools import build_meta as _setuptools
from setuptools.build_meta import *  # noqa: F403  (sdist and metadata hooks)

FALLBACK_TORCH = "torch==2.13.0"
OLDEST_TORCH = (2, 11)
HEADER = Path("include", "torch", "csrc", "stable", "ops.h")


def _is_new_enough(torch: Path) -> bool:
    """Whether this torch has the headers; an older one is passed over, since pip then installs a newer one anyway."""
    version = torch / "version.py"
    found = re.search(r"""__version__ = ['"](\d+)\.(\d+)""", version.read_text()) if version.is_file() else None
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST_TORCH and (torch / HEADER).is_file()


def find_torch() -> Path | None:
    """Folder of the torch package to build against: DRPM_TORCH, else the environment's, else sys.path's."""
    folders = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), *sys.path]
    candidates = [Path(entry, "torch") for entry in folders if entry]
    if os.environ.get("DRPM_TORCH"):
        candidates.insert(0, Path(os.environ["DRPM_TORCH"]))
    return next((folder for folder in candidates if _is_new_enough(folder)), None)


def _compiles() -> bool:
    return os.environ.get("DRPM_KERNELS") != "0"


def _requires(base: list[str]) -> list[str]:
    if not _compiles():
        return base
    extra = [] if find_cmake() else ["cmake>=3.24"]
    if find_torch() is None:
        extra.append(FALLBACK_TORCH)
    return [*base, *extra]


def _export_torch() -> None:
    if not _compiles():
        return
    torch = find_torch()
    if torch is None:
        sys.exit("drpm: no torch with stable-ABI headers found (torch >= 2.11); set DRPM_TORCH to its package folder")
    os.environ["DRPM_TORCH"] = str(torch)


def get_requires_for_build_wheel(config_settings=None):
    return _requires(_setuptools.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings=None):
    return _requires(_setuptools.get_requires_for_build_editable(config_settings))


def build_wheel(*args, **kwargs):
    _export_torch()
    return _setuptools.build_wheel(*args, **kwargs)


def build_editable(*args, **kwargs):
    _export_torch()
    return _setuptools.build_editable(*args, **kwargs)
