"""Picture files as tensors."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drpm.data._reading import reading


def read_picture(path: str | os.PathLike[str]) -> Tensor:
    """Read a PNG or JPEG file.

    Returns: (3, height, width) uint8.
    Raises: FileNotFoundError; ValueError when the file is damaged; ModuleNotFoundError without Pillow.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("read_picture: needs Pillow; install it with: pip install pillow") from error
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"read_picture: path must be a picture file, got {source}")
    with reading("read_picture", source, "picture file"), Image.open(source) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()
