"""Pictures of one weakly supervised run: what each latent dimension changes, and how often views share it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drpm.models.experts import gaussian_kl
from drpm.models.multiview_vae import MultiviewVAE
from drpm.training.figures import pyplot, save_figure

_TRAVERSED = 7  # values of a dimension, from -2 to 2
_SHOWN = 4  # tuples beside their reconstructions


@torch.no_grad()
def traverse(model: MultiviewVAE, views: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Compute the pictures of `draw_traversals`, small enough to keep beside a result.

    Args:
        views: V tensors (B, 3, 64, 64) in [0, 1], B >= 4.
    Returns: "pairs", views of the first tuples above what is decoded of them, and "moved", a row per latent dimension,
        both (height, width, 3) uint8; per row of "moved" the "dimension", its "kl" and how often a group shares it
        ("shared", (d, K - 1)).
    """
    selection, posterior = model.infer(views)
    kl = gaussian_kl(posterior.means, posterior.log_variances, 0.0, 0.0).mean((0, 1))
    ranked = kl.argsort(descending=True)
    reconstructed = [decoded.sigmoid() for decoded in model.decode(posterior.means)]

    base = posterior.means[0, 0]
    values = torch.linspace(-2.0, 2.0, _TRAVERSED)
    z = base.repeat(len(base), _TRAVERSED, 1)
    z[torch.arange(len(base)), :, ranked] = values
    # every view needs a vector: a single decoder gets them in turn, decoders of their own the same one
    flat = z.flatten(0, 1).unsqueeze(1).expand(-1, model.num_views, -1)
    moved = model.decode(flat)[0].sigmoid().unflatten(0, (len(base), _TRAVERSED))

    pairs = torch.stack([torch.stack([v[:_SHOWN], r[:_SHOWN]]) for v, r in zip(views, reconstructed, strict=True)], 1)
    # (2, V, shown, 3, H, W): views above, what is decoded of them below
    top = torch.cat([torch.cat(list(row.transpose(0, 1).flatten(0, 1)), -1) for row in pairs], -2)
    grid = torch.cat([torch.cat(list(row), -1) for row in moved], -2)
    found = {"pairs": _image(top), "moved": _image(grid), "dimension": ranked, "kl": kl[ranked]}
    found["shared"] = selection.masks.mean(0)[:-1, ranked].T
    return {name: value.numpy() for name, value in found.items()}


def _image(picture: Tensor) -> Tensor:  # (3, H, W) in [0, 1] -> (H, W, 3)
    return (picture.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)


def draw_traversals(content: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw tuples with their reconstructions, and each dimension of the first view's posterior mean moved from -2 to 2.

    Rows are sorted by the dimension's mean KL to the prior, and say how often each group of views shares it (noise-free
    partitions of the tuples given).

    Args:
        content: what `traverse` gives.
    Reference: thesis Fig. 5.16 and Table 5.3 give numbers only; the form is that of Locatello et al. (2020).
    """
    rows = len(content["dimension"])
    height = 0.42 * rows
    figure, axes = pyplot().subplots(
        2, 1, figsize=(5.6, height + 1.6), height_ratios=(1.3, height), layout="constrained"
    )
    for axis, name in zip(axes, ("pairs", "moved"), strict=True):
        axis.imshow(content[name], interpolation="nearest")
        axis.set_xticks([])
        axis.tick_params(length=0)
    side = content["moved"].shape[0] // rows
    axes[0].set_yticks([0.5 * side, 1.5 * side], ["views", "decoded"], fontsize=8)
    names = []
    for dimension, kl, groups in zip(content["dimension"], content["kl"], content["shared"], strict=True):
        shared = " / ".join(f"{100 * float(share):.0f} %" for share in groups)
        names.append(f"z{int(dimension)}: KL {float(kl):.1f}, shared {shared}")
    axes[1].set_yticks([(row + 0.5) * side for row in range(rows)], names, fontsize=8)
    axes[1].set_xlabel("value of the dimension, -2 to 2", fontsize=8)
    save_figure(figure, path, dpi=100)
