"""PolyMNIST (thesis A.2.1) and Levels: handwritten digits on crops of pictures, several pictures of one tuple."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drpm.data.pictures import read_picture
from drpm.ops._arguments import require
from experiments.multimodal.drawing import Partners, drawn

POLY_PICTURES = ("fractal", "coffee.png", "astronaut.png", "hubble_deep_field.jpg", "brick.png")
LEVEL_PICTURES = ("fractal", "coffee.png", "astronaut.png")
SIDE = 28
HUES, SLANTS = 6, 5
_BRICK = (0.8, 0.45, 0.35)  # the picture is grey of middle brightness, on which an inverted digit would not show


def fractal(size: int = 512, steps: int = 60) -> Tensor:
    """A picture of a Julia set, c = -0.74543 + 0.11301 i: (3, size, size) uint8."""
    axis = np.linspace(-1.3, 1.3, size)
    z = axis[None, :] + 1j * axis[:, None]
    escaped = np.full(z.shape, steps)
    for step in range(steps):
        z = np.where(escaped == steps, z * z + (-0.74543 + 0.11301j), z)
        escaped[(escaped == steps) & (np.abs(z) > 2)] = step
    colours = [escaped * factor % 256 for factor in (9, 23, 47)]
    return torch.from_numpy(np.stack(colours).astype(np.uint8))


def open_picture(name: str, root: str | Path) -> Tensor:
    """A picture by name: the rendered fractal, or a file of `python -m drpm.data.fetch pictures`."""
    if name == "fractal":
        return fractal()
    path = Path(root) / "pictures" / name
    if not path.is_file():
        raise FileNotFoundError(
            f"multimodal: {name} is not in {path.parent}; get it with: python -m drpm.data.fetch pictures --root {root}"
        )
    picture = read_picture(path)
    if name == "brick.png":
        picture = (picture * torch.tensor(_BRICK).view(3, 1, 1)).round().to(torch.uint8)
    return picture


def _crops(picture: Tensor, seed: int, stream: int, indices: Tensor) -> Tensor:  # -> (B, 3, 28, 28) uint8
    height, width = picture.shape[1:]
    top = drawn(seed, stream, indices, height - SIDE + 1)
    left = drawn(seed, stream + 1, indices, width - SIDE + 1)
    side = torch.arange(SIDE)
    rows, columns = top.view(-1, 1, 1) + side.view(1, -1, 1), left.view(-1, 1, 1) + side.view(1, 1, -1)
    return picture[:, rows, columns].transpose(0, 1)


class PolyDigits:
    """Tuples of M pictures of one digit, each another handwriting on another background.

    The i-th tuple has the label of the i-th digit; every modality draws a digit with that label and a crop of its own
    picture, on which the binarised digit is inverted.

    Args:
        digits: (N, 28, 28) uint8; labels: (N,) int64.
        pictures: M tensors (3, height, width) uint8, larger than 28 x 28.
        seed: int.
    """

    def __init__(self, digits: Tensor, labels: Tensor, pictures: Sequence[Tensor], seed: int = 0) -> None:
        small = [tuple(picture.shape) for picture in pictures if min(picture.shape[1:]) < SIDE]
        require(not small, "PolyDigits", "pictures", "be 28 x 28 at least", small)
        self.strokes, self.labels, self.pictures, self.seed = digits > 127, labels, list(pictures), seed
        self._partners = Partners(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def exemplars(self, modality: int, indices: Tensor) -> Tensor:
        return self._partners(self.seed, 8 * modality, indices, self.labels[indices])

    def pixels(self, modality: int, indices: Tensor) -> Tensor:  # (B,) -> (B, 3, 28, 28) uint8
        crops = _crops(self.pictures[modality], self.seed, 8 * modality + 1, indices)
        strokes = self.strokes[self.exemplars(modality, indices)].unsqueeze(1)
        return torch.where(strokes, 255 - crops, crops)

    def factors(self, indices: Tensor) -> dict[str, Tensor]:
        return {"digit": self.labels[indices]}


class LevelDigits(PolyDigits):
    """Three modalities that share factors on known levels: the digit by all, the strokes' hue by 0 and 1, the slant by
    1 and 2; handwriting and crop are private. Nothing is shared by 0 and 2 alone.

    Strokes of modality 2 are white, those of modality 0 upright. Backgrounds are darkened, so that hues show.
    """

    def hues(self, indices: Tensor) -> Tensor:
        return drawn(self.seed, 101, indices, HUES)

    def slants(self, indices: Tensor) -> Tensor:
        return drawn(self.seed, 102, indices, SLANTS)

    def factors(self, indices: Tensor) -> dict[str, Tensor]:
        return {"digit": self.labels[indices], "hue": self.hues(indices), "slant": self.slants(indices)}

    def pixels(self, modality: int, indices: Tensor) -> Tensor:
        crops = _crops(self.pictures[modality], self.seed, 8 * modality + 1, indices) // 3
        strokes = self.strokes[self.exemplars(modality, indices)]
        if modality > 0:
            strokes = _slanted(strokes, self.slants(indices))
        white = torch.full((len(indices), 3), 255, dtype=torch.uint8)
        colours = white if modality == 2 else _HUE_COLOURS[self.hues(indices)]
        return torch.where(strokes.unsqueeze(1), colours.view(-1, 3, 1, 1), crops)


_HUE_COLOURS = torch.tensor(
    [[255, 40, 40], [255, 255, 40], [40, 255, 40], [40, 255, 255], [80, 80, 255], [255, 40, 255]], dtype=torch.uint8
)


def _slanted(strokes: Tensor, slants: Tensor) -> Tensor:  # (B, 28, 28) bool, (B,)
    """Rows moved sideways by up to 8 pixels at the top and bottom: slant 0 leans left, 2 not, 4 right."""
    rows = torch.arange(SIDE)
    moved = (slants.view(-1, 1) - 2) * (2 * rows - SIDE + 1)  # half pixels x 14 / 4 at the ends
    shift = torch.div(moved * 8 + 28, 56, rounding_mode="floor")  # nearest whole pixel of moved / 7
    columns = torch.arange(SIDE).view(1, 1, -1) + shift.unsqueeze(-1)
    inside = (columns >= 0) & (columns < SIDE)
    return strokes.gather(2, columns.clamp(0, SIDE - 1)) & inside
