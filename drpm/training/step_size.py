"""The step size that every training run of the project follows."""

import math

import torch


def half_cosine(optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Set every group's learning rate: half a cosine from its first value, at step 0, to zero at step `steps`.

    The first value is kept in the group, as `first_lr`, and so in the optimiser's state.
    """
    factor = 0.5 * (1.0 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("first_lr", group["lr"]) * factor
