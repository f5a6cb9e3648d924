"""Pictures of one run: tuples, samples of the prior, and every modality generated from single ones (Fig. 3.3-3.7)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drpm.data.symbols import decode_text
from drpm.models.multimodal_vae import MultimodalVAE
from drpm.training.figures import pyplot, save_figure
from experiments.multimodal.data import ModalityData
from experiments.multimodal.scores import spread_indices

_SHOWN = 10
_PRIOR = 40  # samples of the prior that are kept


@torch.no_grad()
def picture_arrays(model: MultimodalVAE, data: ModalityData) -> dict[str, np.ndarray]:
    """What `draw_samples` shows, small enough to keep beside a result.

    Returns: "SOURCE MODALITY" -> (N, height, width, 3) uint8 or (N,) text, with SOURCE "data", "prior" or the name of
        the modality that is given.
    """
    generator = torch.Generator().manual_seed(0)
    model = model.eval()
    indices = spread_indices(data.test, 1000)
    labels = data.test.factors(indices)["digit"]
    firsts = torch.stack([(labels == digit).nonzero()[0, 0] for digit in range(10) if bool((labels == digit).any())])
    x = data.test.batch(indices[firsts])
    found = {f"data {name}": _shown(value) for name, value in x.items()}
    for name, value in model.generate(count=_PRIOR, generator=generator).items():
        found[f"prior {name}"] = _shown(value)
    for given in data.names:
        for name, value in model.generate({given: x[given]}, generator=generator).items():
            found[f"{given} {name}"] = _shown(value[0])
    return found


def _shown(x: Tensor) -> np.ndarray:
    if x.dtype == torch.int64:
        return np.array(decode_text(x))
    pixels = (x.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return pixels.expand(-1, -1, -1, 3).contiguous().numpy()


def draw_samples(content: Mapping[str, np.ndarray], path: Path, source: str = "prior") -> None:
    """Draw tuples in columns, a row per modality."""
    names = [key.removeprefix(f"{source} ") for key in content if key.startswith(f"{source} ")]
    figure, axes = pyplot().subplots(
        len(names), _SHOWN, figsize=(0.62 * _SHOWN, 0.62 * len(names)), squeeze=False, layout="constrained"
    )
    for row, name in zip(axes, names, strict=True):
        values = content[f"{source} {name}"]
        for column, axis in enumerate(row):
            axis.set_xticks([])
            axis.set_yticks([])
            if column < len(values):
                if values.dtype.kind == "U":
                    axis.text(0.5, 0.5, str(values[column]), ha="center", va="center", fontsize=6, family="monospace")
                else:
                    axis.imshow(values[column], interpolation="nearest")
        row[0].set_ylabel(name, fontsize=7)
    save_figure(figure, path, dpi=120)
