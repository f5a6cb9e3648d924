"""Subsets of k elements by enumeration."""

import itertools

import torch
from torch import Tensor


def subsets(n: int, k: int) -> Tensor:  # (C(n, k), n)
    return torch.tensor(
        [[float(i in chosen) for i in range(n)] for chosen in itertools.combinations(range(n), k)], dtype=torch.float64
    ).reshape(-1, n)


def probabilities(log_weights: Tensor, k: int) -> Tensor:  # (n) -> (C(n, k)), in the order of `subsets`
    """Subsets that hold an element of weight zero have probability 0."""
    masks = subsets(len(log_weights), k)
    return torch.where(masks > 0, log_weights.double(), 0.0).sum(-1).softmax(0)
