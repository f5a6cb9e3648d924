"""The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships (UCI optical recognition, test part)."""

from typing import NamedTuple

import torch
from torch import Tensor


class Digits(NamedTuple):
    """A split of the digits; images are (N, 64) float32 in [0, 1], labels (N,) int64."""

    train_images: Tensor
    train_labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor


def load_digits(seed: int = 0, held_out: int = 360) -> Digits:
    """Load the digits and split them at random.

    Args:
        seed: int, decides the split and nothing else; the same seed gives the same split everywhere.
        held_out: int, images kept from training, 1 <= held_out <= 1796. The split does not look at labels.
    Raises: ModuleNotFoundError when scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits as load_all
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "load_digits: needs scikit-learn; install it with: pip install 'drpm[demo]'"
        ) from error
    source = load_all()
    images = torch.from_numpy(source.data / 16.0).float()
    labels = torch.from_numpy(source.target).long()
    if not 1 <= held_out < len(images):
        raise ValueError(f"load_digits: held_out must lie in [1, {len(images) - 1}], got {held_out}")
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, rest = shuffled[held_out:], shuffled[:held_out]
    return Digits(images[train], labels[train], images[rest], labels[rest])
