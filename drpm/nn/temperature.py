"""The temperature of a relaxation as a module: a buffer that follows a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Schedule = Callable[[int], float]
"""Maps the number of training steps taken to a value."""


class Temperature(nn.Module):
    """A positive number that is part of a model's state and, with a schedule, of its training.

    The ops take the temperature as a Python float (it gets no gradient, and reading it never waits for a device), so it
    is kept twice: as the buffers `value` and `step`, which checkpoints hold, and as the float that `float(...)` gives.
    Set it with `set` or `advance`, not by writing to the buffer.

    Args:
        tau: a positive float, or a schedule such as `drpm.nn.Exponential(1.0, 0.5, steps=10_000)`.
    Raises: ValueError when a value is not positive and finite.
    """

    value: Tensor  # () float64
    step: Tensor  # () int64

    def __init__(self, tau: float | Schedule) -> None:
        super().__init__()
        self.schedule: Schedule | None = tau if callable(tau) else None
        self._steps = 0
        self._tau = _checked(tau(0) if callable(tau) else tau)
        self.register_buffer("value", torch.tensor(self._tau, dtype=torch.float64))
        self.register_buffer("step", torch.tensor(0, dtype=torch.int64))

    def __float__(self) -> float:
        return self._tau

    def set(self, tau: float) -> None:
        """Change the value; a schedule takes it over again at the next `advance`."""
        self._tau = _checked(tau)
        self.reset_parameters()

    def advance(self, steps: int = 1) -> float:
        """Count training steps; give the value after them. Without a schedule it stays what it is."""
        if steps < 0:
            raise ValueError(f"Temperature.advance: steps must be >= 0, got {steps}")
        self._steps += steps
        if self.schedule is not None:
            self._tau = _checked(self.schedule(self._steps))
        self.reset_parameters()
        return self._tau

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Write the buffers anew."""
        if self.value.device.type != "meta":  # in place: DistributedDataParallel holds on to the buffers it found
            self.value.fill_(self._tau)
            self.step.fill_(self._steps)

    def extra_repr(self) -> str:
        return f"{self._tau:g}" + (f", schedule={self.schedule}" if self.schedule is not None else "")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Temperature:
        super()._apply(fn, recurse)
        self.value = self.value.double()  # .half() and .to(bfloat16) rounded it, to_empty() lost it
        self.reset_parameters()
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        value, step = state_dict.get(prefix + "value"), state_dict.get(prefix + "step")
        if value is not None and step is not None:
            self._tau, self._steps = _checked(float(value)), int(step)
            self.reset_parameters()


class Annealed(nn.Module):
    """A layer with a temperature of its own."""

    temperature: Temperature

    @property
    def tau(self) -> float:
        return float(self.temperature)

    def advance(self, steps: int = 1) -> None:
        """Count training steps of the temperature's schedule."""
        self.temperature.advance(steps)


def advance_temperatures(model: nn.Module, steps: int = 1) -> None:
    """Count training steps in every `Temperature` of a model: call it after `optimizer.step()`."""
    for module in model.modules():
        if isinstance(module, Temperature):
            module.advance(steps)


def _checked(tau: float) -> float:
    if isinstance(tau, bool) or not isinstance(tau, (int, float)):
        raise TypeError(f"Temperature: tau must be a Python float or a schedule of them, got {type(tau).__name__}")
    if not (tau > 0 and math.isfinite(tau)):
        raise ValueError(f"Temperature: tau must be positive and finite, got {tau}")
    return float(tau)
