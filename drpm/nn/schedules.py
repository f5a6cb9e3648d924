"""Annealing schedules: functions of the training step, used for temperatures and for weights of loss terms."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Exponential:
    """Go from one positive value to another by a constant factor per step, then stay there.

        value_t = init (final / init)^{t / steps},  not beyond final                                (thesis Eq. 5.73)

    "Not beyond" is max(final, ·) where it falls, as a temperature does, and min(final, ·) for a rising one, as for
    the weights β, γ and δ of thesis A.4.1. (The sign of Eq. 5.73 as printed is a misprint: the temperature would rise.)

    Args:
        init: value at step 0; > 0.
        final: value from step `steps` on; > 0.
        steps: int >= 0, length of the way; 0: final at once.
        every: int >= 1, change only at multiples of so many steps: a staircase.
    Raises: ValueError when an argument is out of range.
    """

    init: float
    final: float
    steps: int
    every: int = 1

    def __post_init__(self) -> None:
        for name in ("init", "final"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"Exponential: {name} must be positive and finite, got {value}")
        if self.steps < 0:
            raise ValueError(f"Exponential: steps must be >= 0, got {self.steps}")
        if self.every < 1:
            raise ValueError(f"Exponential: every must be >= 1, got {self.every}")

    def __call__(self, step: int) -> float:
        """The value at `step` >= 0."""
        if step >= self.steps:
            return float(self.final)
        value: float = self.init * (self.final / self.init) ** (step // self.every * self.every / self.steps)
        return max(self.final, value) if self.final < self.init else min(self.final, value)
