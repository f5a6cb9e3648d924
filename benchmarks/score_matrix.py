"""The picture of docs/score_matrix.md: one score matrix, and what each of its three uses makes of it.

    python -m benchmarks.score_matrix [--figure docs/pictures/score_matrix.png]

Points in the plane, scores −squared distance to three centres. Left to right: every point at its best centre, without
sizes; the best partition with equal sizes; one draw of the law with these sizes; the mean of many draws, and the
relaxed best one, as mixed colours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from drpm.ops import random_assignment, sized_assignment

COLOURS = torch.tensor([[0.12, 0.47, 0.71], [0.89, 0.35, 0.13], [0.17, 0.63, 0.17]], dtype=torch.float64)
DRAWS, PER_SUBSET = 2000, 20


def panels() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Points (n, 2), centres (K, 2) and assignments (K, n) by title."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.tensor([[-1.0, 0.0], [0.6, 0.9], [0.9, -0.9]], dtype=torch.float64)
    spread = torch.tensor([30, 18, 12])
    noise = torch.randn(3 * PER_SUBSET, 2, generator=generator, dtype=torch.float64)
    points = centres.repeat_interleave(spread, 0) + 0.65 * noise
    scores = -2 * torch.cdist(centres, points).square()
    sizes = torch.full((3,), PER_SUBSET)
    zeros = torch.zeros(3, dtype=torch.float64)
    drawn = random_assignment(zeros, scores, m=sizes, sample_shape=DRAWS, seed=1).assignment
    nearest = torch.nn.functional.one_hot(scores.argmax(0), 3).mT.double()
    return (
        points,
        centres,
        {
            f"best centre of each: sizes {[int(x) for x in nearest.sum(-1)]}": nearest,
            "sized_assignment, tau = 0": sized_assignment(scores, sizes).assignment,
            "sized_assignment, tau = 0.5": sized_assignment(scores, sizes, tau=0.5).assignment,
            "random_assignment: one draw": drawn[0],
            f"random_assignment: mean of {DRAWS} draws": drawn.mean(0),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, default=Path("docs/pictures/score_matrix.png"))
    arguments = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points, centres, assignments = panels()
    figure, axes = plt.subplots(1, len(assignments), figsize=(15, 3.4), sharex=True, sharey=True, layout="constrained")
    for axis, (title, assignment) in zip(axes, assignments.items(), strict=True):
        axis.scatter(*points.T, c=(assignment.mT @ COLOURS).clamp(0, 1).numpy(), s=26)
        axis.scatter(*centres.T, c=COLOURS.numpy(), marker="*", s=190, edgecolors="black", linewidths=0.8)
        axis.set_title(title, fontsize=9)
        axis.set(xticks=[], yticks=[], aspect="equal")
    arguments.figure.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.figure, dpi=110)


if __name__ == "__main__":
    main()
