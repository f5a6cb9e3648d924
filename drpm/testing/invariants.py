"""What holds of an op whatever its inputs, by the names that rows of `drpm.testing.samples` give.

An invariant takes a function and its inputs by name, and returns two tuples of tensors that must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from drpm.testing.samples import outputs_of

Outputs = tuple[Tensor, ...]
Invariant = Callable[[Callable[..., Any], Mapping[str, Any]], tuple[Outputs, Outputs]]

BY_CLASS = ("log_omega", "log_omega_p", "m", "capacity", "sizes", "relaxed_sizes")
BY_ELEMENT = ("scores", "labels", "mask")
SHIFT = 0.75


def _call(function: Callable[..., Any], inputs: Mapping[str, Any], **changed: Any) -> Outputs:
    return outputs_of(function(*{**inputs, **changed}.values()))


def _batch_dims(inputs: Mapping[str, Any]) -> int:
    return int(next(inputs[name].dim() - 1 for name in ("log_omega", "scores") if name in inputs))


def _shifted(name: str) -> Invariant:
    def compare(function: Callable[..., Any], inputs: Mapping[str, Any]) -> tuple[Outputs, Outputs]:
        return _call(function, inputs, **{name: inputs[name] + SHIFT}), _call(function, inputs)

    return compare


def _classes_permuted(function: Callable[..., Any], inputs: Mapping[str, Any]) -> tuple[Outputs, Outputs]:
    batch = _batch_dims(inputs)
    flipped = _call(function, inputs, **{name: inputs[name].flip(-1) for name in BY_CLASS if name in inputs})
    return flipped, tuple(x.flip(tuple(range(batch, x.dim()))) for x in _call(function, inputs))


def _elements_permuted(function: Callable[..., Any], inputs: Mapping[str, Any]) -> tuple[Outputs, Outputs]:
    batch = _batch_dims(inputs)
    flipped = _call(function, inputs, **{name: inputs[name].flip(-1) for name in BY_ELEMENT if name in inputs})
    return flipped, tuple(x.flip(-1) if x.dim() > batch else x for x in _call(function, inputs))


def _sums(dim: int, total: str | float) -> Invariant:
    def compare(function: Callable[..., Any], inputs: Mapping[str, Any]) -> tuple[Outputs, Outputs]:
        sums = tuple(x.sum(dim) for x in _call(function, inputs))
        want = inputs[total] if isinstance(total, str) else total
        return sums, tuple(torch.full_like(x, want) for x in sums)

    return compare


INVARIANTS: dict[str, Invariant] = {
    "log_omega is shifted": _shifted("log_omega"),
    "scores are shifted": _shifted("scores"),
    "classes are permuted": _classes_permuted,
    "elements are permuted": _elements_permuted,
    "sizes sum to n": _sums(-1, "elements"),
    "rows sum to k": _sums(-1, "k"),
    "rows sum to one": _sums(-1, 1.0),
    "columns sum to one": _sums(-2, 1.0),
}
