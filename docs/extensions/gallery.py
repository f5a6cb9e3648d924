"""The gallery's rules: one style, a palette for colour-blind readers, alt text for every picture, a limit of time."""

from __future__ import annotations

import time
from typing import Any

import matplotlib
import torch

LIMIT = 20.0  # seconds of CPU time
_started: dict[str, float] = {}


def reset(conf: dict[str, Any], file: str, when: str) -> None:
    """Before an example: the same style and seed for each. After it: how long did it take?"""
    if when == "before":
        matplotlib.rcdefaults()
        matplotlib.style.use("tableau-colorblind10")
        matplotlib.rcParams.update(
            {"figure.constrained_layout.use": True, "axes.spines.top": False, "axes.spines.right": False}
        )
        torch.manual_seed(0)
        _started[file] = time.process_time()
    elif when == "after" and file in _started:
        spent = time.process_time() - _started.pop(file)
        if spent > LIMIT:
            raise RuntimeError(f"{file}: an example must take at most {LIMIT:g} s of CPU time, took {spent:.1f}")


def scrape(block: Any, variables: dict[str, Any], conf: dict[str, Any]) -> str:
    """Save the figures of a block. A figure's label is its alternative text: `figure.set_label("…")`."""
    from matplotlib import pyplot as plt

    text = ""
    for number in plt.get_fignums():
        figure = plt.figure(number)
        alt = " ".join(str(figure.get_label()).split())
        if len(alt) < 20:
            raise ValueError(
                f"{variables['src_file']}: a figure must have an alternative text, figure.set_label(…), got {alt!r}"
            )
        path = next(variables["image_path_iterator"])
        figure.savefig(path, dpi=100)
        name = path.replace("\\", "/").rpartition("/gallery/")[2]
        text += f"\n.. image-sg:: /gallery/{name}\n   :alt: {alt}\n   :srcset: /gallery/{name}\n"
        text += "   :class: sphx-glr-single-img\n\n"
    plt.close("all")
    return text


def setup(app: Any) -> dict[str, Any]:
    return {"parallel_read_safe": True}
