"""mpi3d (Gondal et al. 2019): images of a robot arm with seven factors, in the file format of its authors."""

import contextlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drpm.data._reading import reading

NAMES = (
    "object colour",
    "object shape",
    "object size",
    "camera height",
    "background colour",
    "horizontal axis",
    "vertical axis",
)
SIZES = ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40))  # toy, realistic and real; complex


class MPI3D:
    """Images by factor values, read from `mpi3d_*.npz` as published, without loading the file into memory.

    The array `images` of the file, (N, 64, 64, 3) uint8 with the last factor running fastest, is unpacked once into
    an `.npy` file (12.7 GB for the full sets) and mapped from there; an `.npy` file is mapped directly.

    Args:
        path: the .npz or .npy file.
        unpacked: where the .npy goes; by default beside the .npz, with that suffix.
        sizes: number of values of each factor; by default found from N.
    Raises: FileNotFoundError; ValueError when the file is damaged or the array not of that format.
    """

    names: tuple[str, ...] = NAMES

    def __init__(
        self,
        path: str | os.PathLike[str],
        unpacked: str | os.PathLike[str] | None = None,
        sizes: tuple[int, ...] | None = None,
    ) -> None:
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"MPI3D: path must be an mpi3d .npz or .npy file, got {source}")
        if source.suffix == ".npz":
            target = source.with_suffix(".npy") if unpacked is None else Path(unpacked)
            if not target.exists():
                _unpack(source, target)
            source = target
        with reading("MPI3D", source, ".npy file"):
            self._pixels = np.lib.format.open_memmap(source, mode="r")
        if self._pixels.shape[1:] != (64, 64, 3) or self._pixels.dtype != np.uint8:
            raise ValueError(
                f"MPI3D: images must be (N, 64, 64, 3) uint8, got {self._pixels.shape} {self._pixels.dtype}"
            )
        by_count = {int(np.prod(known)): known for known in SIZES}
        found = by_count.get(len(self._pixels)) if sizes is None else tuple(sizes)
        if found is None or int(np.prod(found)) != len(self._pixels):
            wanted = sorted(by_count) if sizes is None else int(np.prod(sizes))
            raise ValueError(f"MPI3D: the number of images must be {wanted}, got {len(self._pixels)}")
        self.sizes = found

    def images(self, factors: Tensor) -> Tensor:
        """The images of these factor values.

        Args:
            factors: (..., 7) int64.
        Returns: (..., 3, 64, 64) float32 in [0, 1].
        Raises: ValueError when the shape or a value is out of range.
        """
        if factors.shape[-1:] != (len(self.sizes),):
            raise ValueError(f"MPI3D: factors must have shape (..., {len(self.sizes)}), got {tuple(factors.shape)}")
        limits = torch.tensor(self.sizes)
        if ((factors < 0) | (factors >= limits)).any():
            raise ValueError(f"MPI3D: factors must lie in [0, s) with s = {self.sizes}")
        strides = torch.tensor([int(np.prod(self.sizes[k + 1 :])) for k in range(len(self.sizes))])
        index = (factors * strides).sum(dim=-1).reshape(-1).numpy()
        order = np.argsort(index, kind="stable")  # reads the file forwards
        pixels = np.empty((len(index), 64, 64, 3), dtype=np.uint8)
        pixels[order] = self._pixels[index[order]]
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
        return images.reshape(*factors.shape[:-1], 3, 64, 64)


def _unpack(archive: Path, target: Path) -> None:
    """Stream the member images.npy to `target`, whole or not at all."""
    with contextlib.ExitStack() as stack:
        with reading("MPI3D", archive, ".npz file"):
            opened = stack.enter_context(zipfile.ZipFile(archive))
        if "images.npy" not in opened.namelist():
            raise ValueError(f"MPI3D: {archive} must hold an array `images`, got {opened.namelist()}")
        descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".partial")
        try:
            with (
                os.fdopen(descriptor, "wb") as plain,
                reading("MPI3D", archive, ".npz file"),
                opened.open("images.npy") as packed,
            ):
                shutil.copyfileobj(packed, plain, 2**22)
            os.replace(partial, target)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
