"""Multitask learning with a learned split of neurons (thesis 5.3.2, Fig. 5.12) and its baseline (Fig. A.1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from drpm.nn import NeuronPartition, Schedule


class MultitaskOutput(NamedTuple):
    """`logits` (T, B, C), a block per task; `masks` (B, T, d) and `sizes` (B, T) of the neurons, and the `encoding`
    (B, features) that they come from, or None."""

    logits: Tensor
    masks: Tensor | None
    sizes: Tensor | None
    encoding: Tensor | None = None


class LeNetEncoder(nn.Module):
    """The shared part of the LeNet adaptation of Sener and Koltun (2018): 28 x 28 images to `features` neurons.

    Two 5 x 5 convolutions (10 and 20 channels) with max-pooling and ReLU, channel dropout after the second, one
    dense layer with ReLU.
    """

    def __init__(self, features: int = 50, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 10, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(10, 20, 5),
            nn.Dropout2d(dropout),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(320, features),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:  # (B, 1, 28, 28) -> (B, features)
        return self.layers(images)


class TaskHead(nn.Sequential):
    """One task's classifier: dense, ReLU, dropout, dense. Returns logits (B, classes)."""

    def __init__(self, features: int = 50, classes: int = 10, hidden: int = 50, dropout: float = 0.5) -> None:
        super().__init__(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes))


class UnitaryScaling(nn.Module):
    """The baseline ULS (Fig. A.1): every task reads all neurons of the last shared layer."""

    def __init__(self, num_tasks: int = 2, features: int = 50, classes: int = 10, dropout: float = 0.5) -> None:
        super().__init__()
        self.encoder = LeNetEncoder(features, dropout)
        self.heads = nn.ModuleList(TaskHead(features, classes, dropout=dropout) for _ in range(num_tasks))

    def forward(self, images: Tensor) -> MultitaskOutput:
        """Eq. 5.79-5.80."""
        z = self.encoder(images)
        return MultitaskOutput(torch.stack([head(z) for head in self.heads]), None, None)


class PartitionedMultitask(nn.Module):
    """DRPM-MTL (Fig. 5.12): every task reads the neurons that a learned partition gives it (Eq. 5.81-5.83).

    A second encoder of the same architecture predicts the partition of each image.

    Args:
        tau, hard, conditionals, noise: as in `drpm.nn.NeuronPartition`; `drpm.nn.advance_temperatures` counts steps.
    """

    def __init__(
        self,
        num_tasks: int = 2,
        features: int = 50,
        classes: int = 10,
        dropout: float = 0.5,
        *,
        tau: float | Schedule = 1.0,
        hard: bool = True,
        conditionals: str = "exact",
        noise: bool | None = False,
    ) -> None:
        super().__init__()
        self.encoder = LeNetEncoder(features, dropout)
        self.partition_encoder = LeNetEncoder(features, dropout)
        self.partition = NeuronPartition(
            features, features, num_tasks, tau=tau, hard=hard, conditionals=conditionals, noise=noise
        )
        self.heads = nn.ModuleList(TaskHead(features, classes, dropout=dropout) for _ in range(num_tasks))

    def forward(self, images: Tensor) -> MultitaskOutput:
        z = self.encoder(images)
        encoding = self.partition_encoder(images)
        split = self.partition(encoding)
        masked = z.unsqueeze(0) * split.assignment.transpose(0, 1)  # (T, B, d)
        logits = torch.stack([head(part) for head, part in zip(self.heads, masked, strict=True)])
        return MultitaskOutput(logits, split.assignment, split.sizes, encoding)


def multitask_loss(logits: Tensor, labels: Tensor, weights: tuple[float, ...] | None = None) -> tuple[Tensor, Tensor]:
    """Weighted sum of the tasks' mean cross-entropies (Eq. 5.77-5.78).

    Args:
        logits: (T, B, C).
        labels: (B, T) int64.
        weights: one per task; by default 1/T each.
    Returns: the loss, and the tasks' own losses (T,).
    Raises: ValueError when the number of weights is not T.
    """
    tasks = len(logits)
    if weights is not None and len(weights) != tasks:
        raise ValueError(f"multitask_loss: weights must be {tasks} numbers, one per task, got {len(weights)}")
    losses = torch.stack([functional.cross_entropy(own, labels[:, t]) for t, own in enumerate(logits)])
    scale = losses.new_full((tasks,), 1 / tasks) if weights is None else losses.new_tensor(weights)
    return (scale * losses).sum(), losses
