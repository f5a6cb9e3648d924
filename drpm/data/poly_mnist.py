"""PolyMNIST from the folders that its authors publish (Sutter, Daunhawer and Vogt 2021)."""

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from drpm.data.pictures import read_picture
from drpm.ops._arguments import require


class PolyMNIST(NamedTuple):
    """Tuples (N, M, 3, 28, 28) uint8, labels (N,) int64."""

    images: Tensor
    labels: Tensor


def load_poly_mnist(folder: str | os.PathLike[str], limit: int | None = None) -> PolyMNIST:
    """Read one split: `folder/m0/INDEX.LABEL.png`, `folder/m1/…`, as many modalities as there are folders.

    Args:
        folder: for example `PolyMNIST/MMNIST/train`.
        limit: only the first tuples, by index.
    Raises: FileNotFoundError where there is no `m0`; ValueError when modalities differ in their files, or a file is
        damaged or has another size.
    """
    root = Path(folder)
    places: list[Path] = []
    while (place := root / f"m{len(places)}").is_dir():
        places.append(place)
    if not places:
        raise FileNotFoundError(f"load_poly_mnist: folder must hold m0, m1, …, got {root}")
    names = {path.name for path in places[0].glob("*.png")}
    for place in places[1:]:
        same = {path.name for path in place.glob("*.png")} == names
        require(same, "load_poly_mnist", "folder", "have the same files in every modality", f"others in {place}")
    parsed = sorted((tuple(int(part) for part in name.split(".")[:2]), name) for name in names)[:limit]
    require(bool(parsed), "load_poly_mnist", "folder", "hold INDEX.LABEL.png files", f"none in {places[0]}")
    tuples = []
    for _, name in parsed:
        found = [read_picture(place / name) for place in places]
        wrong = next((picture for picture in found if picture.shape != (3, 28, 28)), None)
        require(wrong is None, "load_poly_mnist", name, "be 28 x 28", wrong if wrong is None else tuple(wrong.shape))
        tuples.append(torch.stack(found))
    return PolyMNIST(torch.stack(tuples), torch.tensor([label for (_, label), _ in parsed]))
