"""MultiMNIST and noisyMultiMNIST: overlapping digits, made from MNIST (thesis 5.3.2.1)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

DIGIT = 28  # pixels of a digit, and of the image in the end
# Top left corners of the digits, and the side of the canvas: two as Sabour et al. and Sener and Koltun have them, three
# with the noisy one below between the others.
LAYOUTS = {2: (((0, 0), (8, 8)), 36), 3: (((0, 0), (0, 16), (16, 8)), 44)}


class MultiMNIST(NamedTuple):
    """Images (N, 1, 28, 28) float32 in [0, 1]; `labels` (N, digits) int64, the left one first."""

    images: Tensor
    labels: Tensor


def salt_and_pepper(images: Tensor, ratio: float, generator: torch.Generator, salt: float = 0.5) -> Tensor:
    """Replace a share of the pixels by black or white.

    Args:
        images: (..., H, W) float in [0, 1].
        ratio: float in [0, 1], the probability that a pixel is replaced.
        generator: decides which pixels, and black or white.
        salt: float in [0, 1], the share of the replaced pixels that becomes white; 0: pepper alone.
    Returns: (..., H, W), a new tensor.
    Raises: ValueError when ratio or salt lies outside [0, 1].
    """
    for name, value in (("ratio", ratio), ("salt", salt)):
        if not 0 <= value <= 1:
            raise ValueError(f"salt_and_pepper: {name} must lie in [0, 1], got {value}")
    draw = torch.rand(images.shape, generator=generator)
    black = ratio * (1 - salt)
    noisy = torch.where(draw < black, torch.zeros((), dtype=images.dtype), images)
    return torch.where((draw >= black) & (draw < ratio), torch.ones((), dtype=images.dtype), noisy)


def make_multi_mnist(
    images: Tensor,  # (M, 28, 28)
    labels: Tensor,  # (M,)
    count: int | None = None,
    noise: float = 0.0,
    seed: int = 0,
    *,
    salt: float = 0.5,
    digits: int = 2,
) -> MultiMNIST:
    """Overlay digits (Sabour et al. 2017; Sener and Koltun 2018), the last one with salt and pepper noise.

    Of two, the left digit lies at the top left of a canvas of 36 x 36 pixels, the right one at the bottom right; of
    three, on 44 x 44 pixels, the third lies below between the other two. Where several have ink the brightest pixel is
    kept; the canvas is scaled to 28 x 28 (bilinear, antialiased). Digits are drawn independently and uniformly. The
    same seed gives the same ones at every noise ratio.

    Args:
        images: (M, 28, 28) uint8 or float in [0, 1], single digits.
        labels: (M,) int64.
        count: int, images to make; by default M.
        noise: float in [0, 1], share of the last digit's 28 x 28 pixels that become black or white.
        seed: int, decides the digits and the noise.
        salt: float in [0, 1], share of those pixels that becomes white.
        digits: int, per image, 2 or 3.
    Raises: ValueError when shapes or values are not as above.
    """
    if images.dim() != 3 or images.shape[1:] != (DIGIT, DIGIT):
        raise ValueError(f"make_multi_mnist: images must have shape (M, 28, 28), got {tuple(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"make_multi_mnist: labels must have shape ({len(images)},), got {tuple(labels.shape)}")
    total = len(images) if count is None else count
    if total < 1 or len(images) < 1:
        raise ValueError(f"make_multi_mnist: count and M must be positive, got {total} and {len(images)}")
    if digits not in LAYOUTS:
        raise ValueError(f"make_multi_mnist: digits must be one of {sorted(LAYOUTS)}, got {digits}")
    corners, side = LAYOUTS[digits]
    single = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    drawn = torch.randint(len(images), (total, digits), generator=torch.Generator().manual_seed(2 * seed))
    noise_generator = torch.Generator().manual_seed(2 * seed + 1)
    made = []
    for some in drawn.split(4096):  # bounds the memory of canvases and noise
        canvas = torch.zeros(len(some), side, side)
        for place, (top, left) in enumerate(corners):
            digit = single[some[:, place]]
            if place == digits - 1:
                digit = salt_and_pepper(digit, noise, noise_generator, salt)
            box = canvas[:, top : top + DIGIT, left : left + DIGIT]
            torch.maximum(box, digit, out=box)
        made.append(
            functional.interpolate(
                canvas.unsqueeze(1), size=(DIGIT, DIGIT), mode="bilinear", align_corners=False, antialias=True
            )
        )
    return MultiMNIST(torch.cat(made).clamp_(0, 1), labels[drawn])
