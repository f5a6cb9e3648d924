"""MNIST and Fashion-MNIST from IDX files, in the folder layout of torchvision or as packages install them."""

import gzip
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from drpm.data._reading import reading

_KINDS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}  # some mirrors write train-images.idx3-ubyte
DATA_SETS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # name -> torchvision's folder
_INSTALLED = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}  # Debian package dataset-fashion-mnist


class ImageSet(NamedTuple):
    """The published split: images (N, height, width) uint8, labels (N,) int64."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, gzip-compressed or not: magic 0 0 type rank, big-endian sizes, data.

    Raises: FileNotFoundError; ValueError when the file is not IDX, its length does not fit its sizes, or the compressed
        file is damaged.
    """
    source = Path(path)
    content = source.read_bytes()
    if content[:2] == b"\x1f\x8b":
        with reading("read_idx", source, "gzip file"):
            content = gzip.decompress(content)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _KINDS:
        raise ValueError(f"read_idx: path must be an IDX file, got {source} beginning with {content[:4].hex()}")
    kind, rank = np.dtype(_KINDS[content[2]]), content[3]
    begin = 4 + 4 * rank
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, begin, 4))
    wanted = begin + kind.itemsize * math.prod(shape)
    if len(content) != wanted:
        raise ValueError(f"read_idx: path must hold {wanted} bytes for shape {shape}, got {source} with {len(content)}")
    with reading("read_idx", source, "IDX file"):  # NumPy has at most 64 dimensions
        return np.frombuffer(content, kind, offset=begin).reshape(shape).astype(kind.newbyteorder("="))


def load_images(name: str, root: str | os.PathLike[str] = "data") -> ImageSet:
    """Load a data set of images by name.

    Args:
        name: "mnist" or "fashion-mnist".
        root: folder in torchvision's layout, `root/MNIST/raw/train-images-idx3-ubyte` (or `.gz`), or the folder that
            holds the four files itself. A dot before "idx" is fine, too. Fashion-MNIST is also found where its Debian
            package installs it.
    Raises: FileNotFoundError that says how to get the files; ValueError for an unknown name or files that do not fit.
    """
    if name not in DATA_SETS:
        raise ValueError(f"load_images: name must be one of {sorted(DATA_SETS)}, got {name!r}")
    folder = _find(name, Path(root))
    parts = []
    for split, (images_name, labels_name) in _FILES.items():
        images, labels = (read_idx(_file(folder, file)) for file in (images_name, labels_name))
        if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"load_images: {split} files in {folder} must hold (N, height, width) uint8 and (N,) labels, "
                f"got {images.shape} {images.dtype} and {labels.shape}"
            )
        parts += [torch.from_numpy(images), torch.from_numpy(labels).long()]
    return ImageSet(*parts)


def _file(folder: Path, name: str) -> Path:
    """The first spelling of the name that is there."""
    spellings = [folder / f"{stem}{suffix}" for suffix in ("", ".gz") for stem in (name, name.replace("-idx", ".idx"))]
    return next((path for path in spellings if path.is_file()), spellings[0])


def _find(name: str, root: Path) -> Path:
    first = _FILES["train"][0]
    candidates = [root / DATA_SETS[name] / "raw", root]
    candidates += [path for path in (_INSTALLED.get(name),) if path is not None]
    for folder in candidates:
        if _file(folder, first).is_file():
            return folder
    raise FileNotFoundError(
        f"load_images: {name} is not in {', '.join(str(folder) for folder in candidates)}; "
        f"get it with: python -m drpm.data.fetch {name} --root {root}"
    )
