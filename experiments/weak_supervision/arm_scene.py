"""A scene with seven known factors, rendered on demand: an arm with two joints that holds an object.

A stand-in for mpi3d, which no package ships: the same kinds of factors (the object's shape, colour and size, the
camera's height, the background's colour, two degrees of freedom of the arm), 64 x 64 RGB, drawn with antialiased
signed distances. Every factor can be read off every image.
"""

import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SIDE = 64
_OBJECT_COLORS = (
    (0.95, 0.95, 0.95),
    (0.2, 0.8, 0.25),
    (0.9, 0.2, 0.2),
    (0.2, 0.4, 0.95),
    (0.55, 0.35, 0.15),
    (0.95, 0.8, 0.2),
)
_BACKGROUNDS = ((0.35, 0.2, 0.45), (0.1, 0.35, 0.35), (0.45, 0.4, 0.3))
_ARM_COLOR = (0.08, 0.08, 0.1)
_JOINT_COLOR = (0.5, 0.5, 0.55)
_HEIGHTS = (-0.18, 0.0, 0.18)  # vertical shift of the scene
_SCALES = (0.13, 0.19)  # the object's radius
_UPPER, _LOWER = 0.45, 0.35  # lengths of the arm's parts; the image spans [-1, 1]
_EDGE = 1.5 / SIDE  # half the width of an edge's ramp


def _polygon(p: Tensor, corners: int, radius: Tensor) -> Tensor:
    """Signed distance (up to the corners' rounding) to a regular polygon of circumradius `radius`."""
    sector = 2 * math.pi / corners
    angle = torch.atan2(p[..., 0], p[..., 1])
    angle = angle - sector * torch.round(angle / sector)
    return p.norm(dim=-1) * torch.cos(angle) - radius * math.cos(sector / 2)


def _box(p: Tensor, width: Tensor, height: Tensor) -> Tensor:
    return torch.maximum(p[..., 0].abs() - width, p[..., 1].abs() - height)


def _segment(p: Tensor, start: Tensor, end: Tensor, width: float) -> Tensor:
    along, from_start = end - start, p - start
    share = ((from_start * along).sum(-1) / (along * along).sum(-1)).clamp(0, 1)
    return (from_start - share.unsqueeze(-1) * along).norm(dim=-1) - width


def _shape(p: Tensor, radius: Tensor, kind: int) -> Tensor:
    """Signed distance (..., H, W) to a shape around the origin: disc, triangle, square, cross, ring or bar."""
    if kind == 0:
        return p.norm(dim=-1) - radius
    if kind == 1:
        return _polygon(p, 3, 1.25 * radius)
    if kind == 2:
        return _polygon(p, 4, 1.15 * radius)
    if kind == 3:
        return torch.minimum(_box(p, radius, 0.32 * radius), _box(p, 0.32 * radius, radius))
    if kind == 4:
        return (p.norm(dim=-1) - 0.72 * radius).abs() - 0.28 * radius
    return _box(p, 0.4 * radius, 1.1 * radius)


def _outside(flat: Tensor, sizes: tuple[int, ...]) -> list[int]:
    """The first row that holds a value outside its range."""
    wrong = ((flat < 0) | (flat >= torch.tensor(sizes))).any(dim=-1)
    return flat[wrong][0].tolist()


class ArmScene:
    """Seven factors, 6 * 6 * 2 * 3 * 3 * 20 * 20 = 259,200 images (64,800 with 10 values of each joint).

    | factor | values |
    |---|---|
    | object shape | disc, triangle, square, cross, ring, bar |
    | object colour | white, green, red, blue, brown, yellow |
    | object size | small, large |
    | camera height | 3 vertical positions of the scene |
    | background colour | 3 |
    | first joint | `joint_values` angles over 150 degrees |
    | second joint | `joint_values` angles over 140 degrees |

    Args:
        joint_values: int >= 2.
    """

    names: tuple[str, ...] = (
        "object shape",
        "object colour",
        "object size",
        "camera height",
        "background colour",
        "first joint",
        "second joint",
    )

    def __init__(self, joint_values: int = 20) -> None:
        if joint_values < 2:
            raise ValueError(f"ArmScene: joint_values must be >= 2, got {joint_values}")
        self.sizes = (6, 6, 2, 3, 3, joint_values, joint_values)

    def images(self, factors: Tensor) -> Tensor:
        """Render.

        Args:
            factors: (..., 7) int64, values as in the table, each below its `sizes` entry.
        Returns: (..., 3, 64, 64) float32 in [0, 1].
        Raises: ValueError when a shape or a value is not as above.
        """
        if factors.shape[-1:] != (len(self.sizes),):
            raise ValueError(f"ArmScene: factors must have shape (..., {len(self.sizes)}), got {tuple(factors.shape)}")
        flat = factors.reshape(-1, len(self.sizes))
        if ((flat < 0) | (flat >= torch.tensor(self.sizes))).any():
            raise ValueError(
                f"ArmScene: factors must lie in [0, s) with s = {self.sizes}, got {_outside(flat, self.sizes)}"
            )
        drawn = [self._render(some) for some in flat.split(512)]  # bounds the memory of the distance fields
        images = torch.cat(drawn) if drawn else torch.zeros(0, 3, SIDE, SIDE)
        return images.reshape(*factors.shape[:-1], 3, SIDE, SIDE)

    def _render(self, factors: Tensor) -> Tensor:  # (N, 7) -> (N, 3, 64, 64)
        shape, colour, size, height, background, first, second = factors.unbind(-1)
        grid = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
        y, x = torch.meshgrid(grid, grid, indexing="ij")
        pixels = torch.stack([x, y], dim=-1)  # (64, 64, 2), y downwards

        shift = torch.tensor(_HEIGHTS)[height]
        base = torch.stack([torch.zeros_like(shift), 0.38 + shift], dim=-1)
        angle = math.radians(-75) + math.radians(150) * first / (self.sizes[5] - 1)  # from straight up
        bend = angle + math.radians(-70) + math.radians(140) * second / (self.sizes[6] - 1)
        elbow = base + _UPPER * torch.stack([angle.sin(), -angle.cos()], dim=-1)
        tip = elbow + _LOWER * torch.stack([bend.sin(), -bend.cos()], dim=-1)
        base, elbow, tip = (point[:, None, None, :] for point in (base, elbow, tip))

        radius = torch.tensor(_SCALES)[size][:, None, None]
        held = torch.empty(len(factors), SIDE, SIDE)  # distance to the object
        for kind in range(self.sizes[0]):
            rows = shape == kind
            held[rows] = _shape(pixels - tip[rows], radius[rows], kind)
        layers = (
            (torch.minimum(_segment(pixels, base, elbow, 0.05), _segment(pixels, elbow, tip, 0.04)), _ARM_COLOR),
            (torch.minimum((pixels - base).norm(dim=-1), (pixels - elbow).norm(dim=-1)) - 0.075, _JOINT_COLOR),
            (held, torch.tensor(_OBJECT_COLORS)[colour]),
        )
        image = torch.tensor(_BACKGROUNDS)[background][:, None, None, :] * (1.15 - 0.25 * y[..., None])
        for distance, paint in layers:
            cover = (0.5 - distance / (2 * _EDGE)).clamp(0, 1).unsqueeze(-1)
            tint = paint[:, None, None, :] if isinstance(paint, Tensor) else torch.tensor(paint)
            image = image * (1 - cover) + tint * cover
        return image.clamp(0, 1).permute(0, 3, 1, 2).contiguous()


def render_all(path: str | os.PathLike[str], scene: ArmScene | None = None) -> Path:
    """Render every image of the scene once into a file of mpi3d's format, which `drpm.data.MPI3D` maps from disk.

    (N, 64, 64, 3) uint8, the last factor running fastest: 3.2 GB and some minutes for 20 values of each joint. A file
    that is there is kept; an interrupted call leaves none.

    Args:
        path: the .npy file.
        scene: what to render; by default `ArmScene()`.
    Returns: the path.
    """
    target, scene = Path(path), ArmScene() if scene is None else scene
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    count = math.prod(scene.sizes)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3))
        for rows in torch.arange(count).split(4096):
            factors = torch.stack(torch.unravel_index(rows, scene.sizes), dim=-1)
            images = scene.images(factors).mul_(255).round_().to(torch.uint8)
            pixels[rows[0] : rows[-1] + 1] = images.permute(0, 2, 3, 1).numpy()
        pixels.flush()
        del pixels
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target
