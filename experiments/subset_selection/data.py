"""Data of the experiment: features, labels of one or several tasks, and the parts that are trained on and scored."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from drpm.data import load_blood_cells, load_images, load_leukaemia

NAMES = ("blood-cells", "blood-cells-tasks", "leukaemia-lineage", "leukaemia-subtype", "mnist", "fashion-mnist")
_FOLDS = 5
_PUBLISHED = 4000  # of the 10,000 test images Abid et al. train on 40 %, drawn at random, and score the others


class Problem(NamedTuple):
    """`x` (N, n) float32; `labels`: task -> (N,) int64, -1: unknown; `classes`: task -> their number; the first task
    decides folds. `folds`: (indices to train on, indices to score)."""

    x: Tensor
    features: list[str]
    labels: dict[str, Tensor]
    classes: dict[str, int]
    folds: list[tuple[Tensor, Tensor]]


def load_problem(name: str, root: str, seed: int, published_split: bool = False, known: float = 1.0) -> Problem:
    """Load a data set of the experiment by name; `seed` decides folds and which labels are unknown.

    Args:
        published_split: of images: the split of Abid et al.'s code, which has only the test images in it.
        known: share of the labels that each task keeps in training, where tasks are several.
    """
    if name in ("mnist", "fashion-mnist"):
        return _images(name, root, seed, published_split)
    table = load_blood_cells(root) if name.startswith("blood-cells") else load_leukaemia(root)
    tasks = {
        "blood-cells": ["cell type"],
        "blood-cells-tasks": ["cell type", "cycle", "cluster"],
        "leukaemia-lineage": ["lineage"],
        "leukaemia-subtype": ["subtype"],
    }[name]
    rows = table.labels[tasks[0]] >= 0
    labels = {task: table.labels[task][rows] for task in tasks}
    folds = stratified_folds(labels[tasks[0]], seed)
    classes = {task: len(table.classes[task]) for task in tasks}
    problem = Problem(table.values[rows], table.genes, labels, classes, folds)
    if known < 1.0:
        generator = torch.Generator().manual_seed(seed)
        for task in tasks:  # unknown where trained on; what is scored is known, see `training_labels`
            hidden = torch.rand(len(labels[task]), generator=generator) >= known
            problem.labels[f"known {task}"] = torch.where(hidden, -1, labels[task])
    return problem


def training_labels(problem: Problem, task: str) -> Tensor:
    """Labels of a task as far as training may know them."""
    return problem.labels.get(f"known {task}", problem.labels[task])


def stratified_folds(labels: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Five parts with the classes' shares in each, the same for every method."""
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels.numpy())
    return [(torch.from_numpy(train), torch.from_numpy(test)) for train, test in folds]


def _images(name: str, root: str, seed: int, published_split: bool) -> Problem:
    images = load_images(name, root)
    pixels, labels = images.test_images, images.test_labels
    if published_split:
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
        fold = (order[:_PUBLISHED], order[_PUBLISHED:])
    else:
        trained = len(images.train_images)
        fold = (torch.arange(trained), torch.arange(trained, trained + len(pixels)))
        pixels = torch.cat([images.train_images, pixels])
        labels = torch.cat([images.train_labels, labels])
    x = pixels.flatten(1).float() / 255.0
    names = [f"{row},{column}" for row in range(28) for column in range(28)]
    return Problem(x, names, {"digit": labels.long()}, {"digit": 10}, [fold])
