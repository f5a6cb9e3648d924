"""CelebA (Liu et al. 2015) from its own files: aligned faces, forty attributes, and captions made of them."""

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from drpm.data.pictures import read_picture
from drpm.data.symbols import encode_text
from drpm.ops._arguments import require

_SPLITS = {"train": 0, "validation": 1, "test": 2}
_FACE = (slice(35, 183), slice(15, 163))  # 148 x 148 in the middle of 218 x 178
CAPTION_LENGTH = 256


def caption(names: list[str], present: list[bool]) -> str:
    """Names of the attributes that a face has, in lower case, joined by commas, "_" as a space (thesis 4.2.1.1)."""
    kept = (name for name, here in zip(names, present, strict=True) if here)
    return ", ".join(name.lower().replace("_", " ") for name in kept)


class CelebA:
    """Faces with attributes and captions by index; pictures are read when they are asked for.

    Args:
        root: folder with `img_align_celeba/`, `list_attr_celeba.txt` and `list_eval_partition.txt`.
        split: "train", "validation" or "test".
        size: int, side of the images.
    Attributes: `names` of the attributes, `attributes` (N, F) bool.
    Raises: FileNotFoundError; ValueError for an unknown split or files that do not fit.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train", size: int = 64) -> None:
        require(split in _SPLITS, "CelebA", "split", f"be one of {', '.join(_SPLITS)}", split)
        require(size >= 1, "CelebA", "size", "be >= 1", size)
        self.root, self.size = Path(root), size
        lines = self._lines("list_attr_celeba.txt")
        require(
            len(lines) >= 2 and lines[0].strip().isdigit(),
            "CelebA",
            "list_attr_celeba.txt",
            "begin with a number",
            lines[:1],
        )
        count, self.names = int(lines[0]), lines[1].split()
        rows = [line.split() for line in lines[2:] if line.strip()]
        whole = len(rows) == count and all(len(row) == 1 + len(self.names) for row in rows)
        contract = f"hold {count} rows of {len(self.names)} attributes"
        require(
            whole,
            "CelebA",
            "list_attr_celeba.txt",
            contract,
            f"{len(rows)} rows, the last of {len(rows[-1:] and rows[-1])}",
        )
        known = all(value in ("1", "-1") for row in rows for value in row[1:])
        require(known, "CelebA", "list_attr_celeba.txt", "hold 1 and -1", "something else")
        parts = dict(line.split() for line in self._lines("list_eval_partition.txt") if line.strip())
        missing = [row[0] for row in rows if row[0] not in parts]
        require(not missing, "CelebA", "list_eval_partition.txt", "name every file", f"none for {missing[:1]}")
        kept = [row for row in rows if parts[row[0]] == str(_SPLITS[split])]
        self.files = [row[0] for row in kept]
        self.attributes = torch.tensor([[value == "1" for value in row[1:]] for row in kept]).view(-1, len(self.names))

    def _lines(self, name: str) -> list[str]:
        path = self.root / name
        if not path.is_file():
            raise FileNotFoundError(f"CelebA: root must hold {name}, got {self.root}")
        return path.read_text(encoding="utf-8").splitlines()

    def __len__(self) -> int:
        return len(self.files)

    def images(self, indices: Tensor) -> Tensor:  # (B,) -> (B, 3, size, size) in [0, 1]
        """The middle 148 x 148 of each face, averaged down."""
        found = []
        for index in indices.tolist():
            picture = read_picture(self.root / "img_align_celeba" / self.files[index])
            fits = picture.shape == (3, 218, 178)
            require(fits, "CelebA", self.files[index], "have shape (3, 218, 178)", tuple(picture.shape))
            face = picture[:, _FACE[0], _FACE[1]].float().unsqueeze(0) / 255
            found.append(F.interpolate(face, size=(self.size, self.size), mode="bilinear", antialias=True)[0])
        return torch.stack(found).clamp(0, 1)

    def captions(self, indices: Tensor) -> Tensor:  # (B,) -> (B, 256) int64
        """Symbols of the captions, filled with "*"."""
        texts = [caption(self.names, self.attributes[index].tolist()) for index in indices.tolist()]
        return encode_text(texts, CAPTION_LENGTH, fill="*")
