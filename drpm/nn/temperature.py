"""The temperature of a relaxation as a module: a buffer that follows a schedule."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from drpm.ops._modes import PLAIN
from drpm.ops._tau import Tau

Schedule = Callable[[int], float]
"""Maps the number of training steps taken to a value."""


class Temperature(nn.Module):
    """A positive number that is part of a model's state and, with a schedule, of its training.

    The buffers `value` and `step` are the truth: whatever writes or replaces them (checkpoints, averaged copies of a
    model, `torch.func.functional_call`, a broadcast) changes the temperature. `float(...)` reads `value`; one on a
    device is waited for only where it was written to or replaced since it was last read. In a compiled graph the value
    is read when the graph runs, from a device by a copy.

    Args:
        tau: a positive float, or a schedule such as `drpm.nn.Exponential(1.0, 0.5, steps=10_000)`.
    Raises: ValueError when a value is not positive and finite.
    """

    value: Tensor  # () float64
    step: Tensor  # () int64

    def __init__(self, tau: float | Schedule) -> None:
        super().__init__()
        self.schedule: Schedule | None = tau if callable(tau) else None
        self._initial = _checked(tau(0) if callable(tau) else tau)
        # of each buffer: the tensor, its version and its number when it was last read or written
        self._seen: dict[str, tuple[Tensor, int, float]] = {}
        self.register_buffer("value", torch.tensor(self._initial, dtype=torch.float64))
        self.register_buffer("step", torch.tensor(0, dtype=torch.int64))
        self.reset_parameters()

    def __float__(self) -> float:
        return _checked(self._read("value"))

    def current(self) -> Tau:
        """What the ops take: a float or, where its value is not known yet (in a graph, mapped over), the buffer."""
        value = self.value.to_local() if hasattr(self.value, "to_local") else self.value
        if torch.compiler.is_compiling() or type(value) not in PLAIN:
            return value.cpu()
        return value.cpu() if torch._C._functorch.is_functorch_wrapped_tensor(value) else float(self)

    def set(self, tau: float) -> None:
        """Change the value; a schedule takes it over again at the next `advance`."""
        self._write("value", _checked(tau))

    def advance(self, steps: int = 1) -> float:
        """Count training steps; give the value after them. Without a schedule it stays what it is."""
        if steps < 0:
            raise ValueError(f"Temperature.advance: steps must be >= 0, got {steps}")
        step = int(self._read("step")) + steps
        value = float(self) if self.schedule is None else _checked(self.schedule(step))
        self._write("step", step)
        self._write("value", value)
        return value

    def reset_parameters(self) -> None:
        """Start again: step 0, and the value that the module was made with."""
        self._write("value", self._initial)
        self._write("step", 0)

    def _read(self, name: str) -> float:
        buffer: Tensor = getattr(self, name)
        seen, version, number = self._seen[name]
        if buffer.is_meta:
            return number  # nothing is there to be read: what was there before
        tracked = not (buffer.is_cpu or buffer.is_inference())
        if tracked and seen is buffer and version == buffer._version:
            return number
        number = buffer.item()
        self._seen[name] = (buffer, buffer._version if tracked else -1, number)
        return number

    @torch.no_grad()
    def _write(self, name: str, number: float) -> None:
        buffer: Tensor = getattr(self, name)
        if not buffer.is_meta:
            buffer.fill_(number)  # in place: DistributedDataParallel holds on to the buffers it found
        self._seen[name] = (buffer, -1 if buffer.is_inference() else buffer._version, number)

    def extra_repr(self) -> str:
        return f"{self._read('value'):g}" + (f", schedule={self.schedule}" if self.schedule is not None else "")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Temperature:
        kept = {name: self._read(name) for name in ("value", "step")}
        super()._apply(fn, recurse)
        self.value = self.value.double()  # .half() and .to(bfloat16) rounded it, to_empty() lost it
        for name, number in kept.items():
            self._write(name, number)
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        _checked(self._read("value"))


class Annealed(nn.Module):
    """A layer with a temperature of its own."""

    temperature: Temperature

    @property
    def tau(self) -> Tau:
        """The temperature: a float; in a graph, or mapped over, the buffer that holds it."""
        return self.temperature.current()

    def advance(self, steps: int = 1) -> None:
        """Count training steps of the temperature's schedule."""
        self.temperature.advance(steps)


def advance_temperatures(model: nn.Module, steps: int = 1) -> None:
    """Count training steps in every `Temperature` of a model: call it after `optimizer.step()`."""
    for module in model.modules():
        if isinstance(module, Temperature):
            module.advance(steps)


def _checked(tau: float) -> float:
    if isinstance(tau, bool) or not isinstance(tau, numbers.Real):
        raise TypeError(f"Temperature: tau must be a float or a schedule of them, got {type(tau).__name__}")
    if not (tau > 0 and math.isfinite(tau)):
        raise ValueError(f"Temperature: tau must be positive and finite, got {tau}")
    return float(tau)
