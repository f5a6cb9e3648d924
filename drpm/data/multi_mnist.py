"""MultiMNIST and noisyMultiMNIST: two overlapping digits per image, made from MNIST (thesis 5.3.2.1)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

DIGIT = 28  # pixels of a digit, and of the image in the end
SHIFT = 8  # the right digit lies this far below and to the right of the left one


class MultiMNIST(NamedTuple):
    """Images (N, 1, 28, 28) float32 in [0, 1]; `labels` (N, 2) int64, those of the left and of the right digit."""

    images: Tensor
    labels: Tensor


def salt_and_pepper(images: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Replace a share of the pixels by black or white, half each.

    Args:
        images: (..., H, W) float in [0, 1].
        ratio: float in [0, 1], the probability that a pixel is replaced.
        generator: decides which pixels, and black or white.
    Returns: (..., H, W), a new tensor.
    Raises: ValueError when ratio lies outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"salt_and_pepper: ratio must lie in [0, 1], got {ratio}")
    draw = torch.rand(images.shape, generator=generator)
    noisy = torch.where(draw < ratio / 2, torch.zeros((), dtype=images.dtype), images)
    return torch.where((draw >= ratio / 2) & (draw < ratio), torch.ones((), dtype=images.dtype), noisy)


def make_multi_mnist(
    images: Tensor,  # (M, 28, 28)
    labels: Tensor,  # (M,)
    count: int | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> MultiMNIST:
    """Overlay pairs of digits (Sabour et al. 2017; Sener and Koltun 2018), the right one with salt and pepper noise.

    The left digit lies at the top left of a canvas of 36 x 36 pixels, the right one at the bottom right; where both
    have ink the brighter pixel is kept; the canvas is scaled to 28 x 28 (bilinear, antialiased). Pairs are drawn
    independently and uniformly. The same seed gives the same pairs at every noise ratio.

    Args:
        images: (M, 28, 28) uint8 or float in [0, 1], single digits.
        labels: (M,) int64.
        count: int, images to make; by default M.
        noise: float in [0, 1], share of the right digit's 28 x 28 pixels that become black or white, half each.
        seed: int, decides the pairs and the noise.
    Raises: ValueError when shapes or values are not as above.
    """
    if images.dim() != 3 or images.shape[1:] != (DIGIT, DIGIT):
        raise ValueError(f"make_multi_mnist: images must have shape (M, 28, 28), got {tuple(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"make_multi_mnist: labels must have shape ({len(images)},), got {tuple(labels.shape)}")
    total = len(images) if count is None else count
    if total < 1 or len(images) < 1:
        raise ValueError(f"make_multi_mnist: count and M must be positive, got {total} and {len(images)}")
    digits = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    pairs = torch.randint(len(images), (total, 2), generator=torch.Generator().manual_seed(2 * seed))
    noise_generator = torch.Generator().manual_seed(2 * seed + 1)
    made = []
    for some in pairs.split(4096):  # bounds the memory of canvases and noise
        canvas = torch.zeros(len(some), DIGIT + SHIFT, DIGIT + SHIFT)
        canvas[:, :DIGIT, :DIGIT] = digits[some[:, 0]]
        right = salt_and_pepper(digits[some[:, 1]], noise, noise_generator)
        corner = canvas[:, SHIFT:, SHIFT:]
        torch.maximum(corner, right, out=corner)
        made.append(
            functional.interpolate(
                canvas.unsqueeze(1), size=(DIGIT, DIGIT), mode="bilinear", align_corners=False, antialias=True
            )
        )
    return MultiMNIST(torch.cat(made).clamp_(0, 1), labels[pairs])
