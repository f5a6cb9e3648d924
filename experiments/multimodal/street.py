"""Street: house numbers set in real fonts on crops of photographs, in the place of SVHN; 32 x 32 RGB.

Fonts of the test set are of other families than those of the training set.
"""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from drpm.data._reading import reading
from drpm.data.svhn import StreetDigits
from drpm.ops._arguments import require
from experiments.multimodal.compose import open_picture

PHOTOGRAPHS = (
    "coffee.png",
    "astronaut.png",
    "chelsea.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "gravel.png",
    "brick.png",
)
COUNTS = {"train": 30_000, "test": 12_000}
SIDE = 32
_HEIGHT = 40  # of the kept glyphs
_TEST_SHARE = 5  # one family of so many is the tests'


class Face(NamedTuple):
    """Ten digits of a font, as (height, width) uint8 coverage."""

    family: str
    glyphs: list[np.ndarray]


class Difficulty(NamedTuple):
    """How street digits are spoilt; tuned until the encoder of Table A.3, as a classifier, has .85 to .95 on the test
    set (docs/experiments/multimodal.md)."""

    contrast: tuple[float, float] = (60.0, 160.0)  # grey levels between digit and background
    blur: float = 0.8  # largest radius
    rotation: float = 10.0  # largest angle in degrees
    shift: float = 1.5  # largest move in pixels
    height: tuple[float, float] = (17.0, 27.0)  # of the digit in pixels
    neighbour: float = 0.45  # share of sides that have one
    noise: float = 5.0  # standard deviation in grey levels


def read_face(content: bytes, name: str) -> Face:
    """The digits of a font.

    Raises: ValueError where the font lacks some of the ten digits, or is damaged.
    """
    from PIL import ImageFont

    with reading("read_face", name, "font"):
        font = ImageFont.truetype(io.BytesIO(content), _HEIGHT)
        family = str(font.getname()[0])
        masks = [font.getmask(str(digit), mode="L") for digit in range(10)]
        glyphs = [np.array(mask, dtype=np.uint8).reshape(mask.size[::-1]) for mask in masks]
    different = len({(glyph.shape, glyph.tobytes()) for glyph in glyphs})
    filled = all(glyph.size and glyph.max() > 100 and min(glyph.shape) >= 2 for glyph in glyphs)
    require(different == 10 and filled, "read_face", "font", "have ten different digits", f"{name} with {different}")
    return Face(family, glyphs)


def read_faces(archives: Sequence[Path]) -> list[Face]:
    """Every usable font of some packages, by name; fonts without the ten digits are left out."""
    found = []
    for archive in archives:
        if not archive.is_file():
            raise FileNotFoundError(
                f"multimodal: {archive.name} is not in {archive.parent}; "
                f"get it with: python -m drpm.data.fetch fonts --root {archive.parents[1]}"
            )
        with reading("read_faces", archive, "tar file"), tarfile.open(archive) as opened:
            members = sorted((m for m in opened.getmembers() if m.isfile()), key=lambda member: member.name)
            contents = [(m.name, opened.extractfile(m)) for m in members if m.name.lower().endswith((".ttf", ".otf"))]
            fonts = [(name, file.read()) for name, file in contents if file is not None]
        for name, content in fonts:
            try:
                found.append(read_face(content, Path(name).name))
            except ValueError:
                continue
    return found


def legible(faces: Sequence[Face], least: int = 8) -> list[Face]:
    """Faces of which at least so many digits look most like the mean of that digit over all faces: without outlines,
    boxes, ornaments and symbols in the digits' places."""
    from PIL import Image

    shapes = np.empty((len(faces), 10, 256))
    for row, face in zip(shapes, faces, strict=True):
        for digit, glyph in enumerate(face.glyphs):
            small = np.asarray(Image.fromarray(glyph).resize((16, 16), Image.Resampling.BOX), dtype=np.float64).ravel()
            small = small - small.mean()
            row[digit] = small / max(float(np.linalg.norm(small)), 1e-9)
    means = shapes.mean(0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    right = ((shapes @ means.T).argmax(-1) == np.arange(10)).sum(-1)
    return [face for face, number in zip(faces, right, strict=True) if number >= least]


def is_for_tests(family: str) -> bool:
    """Whether a family belongs to the test set: by a hash of its first word, so that styles of a face stay together."""
    word = family.split()[0].lower() if family.split() else family
    return hashlib.sha256(word.encode()).digest()[0] % _TEST_SHARE == 0


def split_faces(faces: Sequence[Face], split: str) -> list[Face]:
    kept = [face for face in faces if is_for_tests(face.family) == (split == "test")]
    require(bool(kept), "street", "fonts", f"have a family for {split}", len(faces))
    return kept


def render(
    digit: int, faces: Sequence[Face], photographs: Sequence[Tensor], rng: np.random.Generator, how: Difficulty
) -> np.ndarray:
    """One image, (32, 32, 3) uint8."""
    from PIL import Image, ImageFilter

    face = faces[int(rng.integers(len(faces)))]
    height = rng.uniform(*how.height)
    canvas = Image.new("L", (2 * SIDE, 2 * SIDE))
    edges = [SIDE, SIDE]

    def glyph_of(which: int) -> Any:
        picture = Image.fromarray(face.glyphs[which])
        width = max(2, round(picture.width * height / picture.height))
        return picture.resize((min(width, SIDE + 8), max(2, round(height))), Image.Resampling.BILINEAR)

    middle = glyph_of(digit)
    left = SIDE - middle.width // 2
    top = SIDE - middle.height // 2
    canvas.paste(middle, (left, top))
    edges = [left, left + middle.width]
    gap = int(rng.integers(1, 4))
    for side in range(2):
        has, other = rng.uniform() < how.neighbour, glyph_of(int(rng.integers(10)))
        if has:
            x = edges[0] - gap - other.width if side == 0 else edges[1] + gap
            canvas.paste(other, (x, top))
    dx, dy = rng.uniform(-how.shift, how.shift, 2)
    angle = rng.uniform(-how.rotation, how.rotation)
    turned = canvas.rotate(angle, Image.Resampling.BILINEAR, translate=(round(dx), round(dy)))
    half = SIDE // 2
    turned = turned.crop((half, half, half + SIDE, half + SIDE))
    background = _background(photographs[int(rng.integers(len(photographs)))], rng)
    contrast = rng.uniform(*how.contrast) * rng.choice([-1.0, 1.0])
    base = background.mean((0, 1))
    if not 0 <= base.mean() + contrast <= 255:
        contrast = -contrast
    colour = np.clip(base + contrast + rng.normal(0, 20, 3), 0, 255)
    cover = np.asarray(turned, dtype=np.float64)[..., None] / 255 * rng.uniform(0.8, 1.0)
    mixed = Image.fromarray(np.clip(background * (1 - cover) + colour * cover, 0, 255).astype(np.uint8))
    blurred = mixed.filter(ImageFilter.GaussianBlur(rng.uniform(0, how.blur)))
    noisy = np.asarray(blurred, dtype=np.float64) + rng.normal(0, how.noise, (SIDE, SIDE, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _background(photograph: Tensor, rng: np.random.Generator) -> np.ndarray:  # -> (32, 32, 3) float64
    from PIL import Image

    size = int(rng.integers(SIDE // 2, 2 * SIDE))
    top, left = (int(rng.integers(side - size + 1)) for side in photograph.shape[1:])
    crop = photograph[:, top : top + size, left : left + size].permute(1, 2, 0).numpy()
    small = Image.fromarray(np.ascontiguousarray(crop)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, dtype=np.float64)
    mean = pixels.mean((0, 1))
    return np.clip(mean + (pixels - mean) * rng.uniform(0.2, 0.8), 0, 255)


def render_set(
    faces: Sequence[Face],
    photographs: Sequence[Tensor],
    split: str,
    count: int,
    seed: int = 0,
    how: Difficulty | None = None,
) -> StreetDigits:
    """Images with labels 0, 1, …, 9, 0, …; image i follows from seed, split and i."""
    kept = split_faces(faces, split)
    images = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    for index in range(count):
        rng = np.random.Generator(np.random.PCG64([seed, int(split == "test"), index]))
        images[index] = render(index % 10, kept, photographs, rng, how or Difficulty())
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return StreetDigits(pixels, torch.arange(count) % 10)


def load_street(root: str | Path, split: str, seed: int = 0) -> StreetDigits:
    """The cached set of a split; rendered into `root/street` once, in a minute or two."""
    require(split in COUNTS, "load_street", "split", f"be one of {', '.join(COUNTS)}", split)
    count = COUNTS[split]
    path = Path(root) / "street" / f"{split}_{seed}_{count}.npy"
    if not path.is_file():
        from drpm.data.fetch import _FONTS

        faces = legible(read_faces([Path(root) / "fonts" / f"{name}.tar" for name in _FONTS]))
        made = render_set(faces, [open_picture(name, root) for name in PHOTOGRAPHS], split, count, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        with scratch.open("wb") as file:
            np.save(file, made.images.numpy())
        scratch.replace(path)
    with reading("load_street", path, ".npy file"):
        pixels = torch.from_numpy(np.load(path))
    return StreetDigits(pixels, torch.arange(len(pixels)) % 10)
