"""SVHN (Netzer et al. 2011), cropped digits, from the authors' `*_32x32.mat`."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from drpm.data._reading import reading
from drpm.ops._arguments import require


class StreetDigits(NamedTuple):
    """Images (N, 3, 32, 32) uint8, labels (N,) int64 of the centre digit."""

    images: Tensor
    labels: Tensor


def load_svhn(path: str | os.PathLike[str]) -> StreetDigits:
    """Read `train_32x32.mat`, `test_32x32.mat` or `extra_32x32.mat`; label 10 of the file is the digit 0.

    Raises: FileNotFoundError; ValueError when the file is damaged or holds something else; ModuleNotFoundError without
        SciPy.
    """
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("load_svhn: needs SciPy; install it with: pip install scipy") from error
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"load_svhn: path must be a *_32x32.mat file, got {source}")
    with reading("load_svhn", source, ".mat file"):
        content = loadmat(source, variable_names=["X", "y"])
    pixels, labels = np.asarray(content.get("X")), np.asarray(content.get("y"))
    fits = pixels.ndim == 4 and pixels.shape[:3] == (32, 32, 3) and pixels.dtype == np.uint8
    require(fits, "load_svhn", "X", "be (32, 32, 3, N) uint8", f"{pixels.shape} {pixels.dtype}")
    digits = torch.from_numpy(labels.astype(np.int64)).flatten()
    known = len(digits) == pixels.shape[3] and bool(((digits >= 0) & (digits <= 10)).all())
    require(known, "load_svhn", "y", "be a digit for each image", labels.shape)
    return StreetDigits(torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()), digits % 10)
