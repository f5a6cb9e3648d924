"""What holds of an op whatever its inputs, by the names that rows of `drpm.testing.samples` give.

An invariant takes a function and its inputs by name, and returns two tuples of tensors that must be equal. Those that
enumerate a support look at a corner of rows whose support is too large for that: its first elements and subsets.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from drpm import ops
from drpm.testing.samples import outputs_of

Outputs = tuple[Tensor, ...]
Function = Callable[..., Any]
Inputs = Mapping[str, Any]
Invariant = Callable[[Function, Inputs], tuple[Outputs, Outputs]]

COUNTS = ("m", "capacity", "sizes", "relaxed_sizes")
BY_CLASS = ("log_omega", "log_omega_p", *COUNTS)
BY_ELEMENT = ("scores", "labels", "mask", "each_mask", "affinities", "permutation")
SHIFT = 0.75
SCALE = 2.0  # of temperatures too: the default of rows that take tau is TAU
TAU = 0.7
LARGEST_SUPPORT = 3000


def _call(function: Function, inputs: Inputs, **changed: Any) -> Outputs:
    """With some inputs changed; what is no input is an option of the call."""
    options = {name: x for name, x in changed.items() if name not in inputs}
    return outputs_of(function(*(changed.get(name, x) for name, x in inputs.items()), **options))


def _batch_dims(inputs: Inputs) -> int:
    if "affinities" in inputs:
        return int(inputs["affinities"].dim()) - 2
    return int(next(inputs[name].dim() - 1 for name in ("log_omega", "scores") if name in inputs))


def _mixed(size: int) -> Tensor:
    """A permutation that is not its own inverse (from four on)."""
    return torch.tensor([*range(1, size, 2), *range(0, size, 2)], dtype=torch.int64)


def _reordered(x: Tensor, dim: int) -> Tensor:
    return x.index_select(dim, _mixed(x.shape[dim]).to(x.device))


def _shifted(name: str, relate: Callable[[Tensor, Inputs], Tensor] = lambda x, inputs: x) -> Invariant:
    def compare(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
        moved = _call(function, inputs, **{name: inputs[name] + SHIFT})
        return moved, tuple(relate(x, inputs) for x in _call(function, inputs))

    return compare


def _affinities_shifted(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:  # by a constant an element
    affinities = inputs["affinities"]
    shift = SHIFT * torch.arange(affinities.shape[-1], device=affinities.device)
    return _call(function, inputs, affinities=affinities + shift), _call(function, inputs)


def _rows_shifted(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:  # by a constant a subset
    affinities = inputs["affinities"]
    shift = SHIFT * torch.arange(affinities.shape[-2], device=affinities.device).unsqueeze(-1)
    return _call(function, inputs, affinities=affinities + shift), _call(function, inputs)


def _scaled(*names: str) -> Invariant:
    def compare(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
        changed = {name: SCALE * (TAU if name == "tau" else inputs[name]) for name in names}
        return _call(function, inputs, **changed), _call(function, inputs)

    return compare


def _linear(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    values = inputs["values"]
    other = values.flip(-1) - 0.5
    sums = _call(function, inputs, values=values + SCALE * other)
    parts = zip(_call(function, inputs), _call(function, inputs, values=other), strict=True)
    return sums, tuple(x + SCALE * y for x, y in parts)


def _classes_permuted(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    batch = _batch_dims(inputs)
    moved = _call(function, inputs, **{name: _reordered(inputs[name], -1) for name in BY_CLASS if name in inputs})
    want = _call(function, inputs)
    for dim in range(batch, max(x.dim() for x in want)):
        want = tuple(_reordered(x, dim) for x in want)
    return moved, want


def _subsets_permuted(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    changed = {name: _reordered(inputs[name], -1) for name in BY_CLASS if name in inputs}
    moved = _call(function, inputs, affinities=_reordered(inputs["affinities"], -2), **changed)
    return moved, tuple(_reordered(x, -2) for x in _call(function, inputs))


def _elements_permuted(equivariant: bool) -> Invariant:
    def compare(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
        batch = _batch_dims(inputs)
        changed = {name: _reordered(inputs[name], -1) for name in BY_ELEMENT if name in inputs}
        if "values" in inputs:
            changed["values"] = _reordered(inputs["values"], -2)
        if "order" in inputs:  # where the elements went
            order = inputs["order"]
            changed["order"] = _mixed(order.shape[-1]).argsort().to(order.device)[order]
        moved = _call(function, inputs, **changed)
        want = _call(function, inputs)
        return moved, tuple(_reordered(x, -1) if equivariant and x.dim() > batch else x for x in want)

    return compare


def _sums(dim: int, total: str | float) -> Invariant:
    def compare(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
        sums = tuple(x.sum(dim) for x in _call(function, inputs))
        want = inputs[total] if isinstance(total, str) else total
        return sums, tuple(torch.as_tensor(want).to(x).expand_as(x) for x in sums)

    return compare


def _sums_to_mean(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    n = inputs["scores"].shape[-1]
    (marginals,) = _call(function, inputs)
    return (marginals.sum(-1),), (ops.mvhg_mean(inputs["log_omega"], inputs.get("capacity", n), n),)


def _equal_laws(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    kl = _call(function, inputs, log_omega_p=inputs["log_omega"])
    return kl, tuple(torch.zeros_like(x) for x in kl)


def _bounds_hold(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    exact = ops.random_partition_log_prob(inputs["labels"], inputs["log_omega"], inputs["scores"])
    lower, upper = _call(function, inputs)
    return (lower, upper), (torch.minimum(lower, exact), torch.maximum(upper, exact))


def _with_class(inputs: Inputs) -> dict[str, Any]:
    """One more class without elements, of a weight of its own."""
    return {
        name: torch.cat([x, torch.full_like(x[..., :1], 0 if name in COUNTS else 3)], -1)
        for name, x in inputs.items()
        if name in BY_CLASS
    }


def _empty_class(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    batch = _batch_dims(inputs)
    got, want = _call(function, inputs, **_with_class(inputs)), list(_call(function, inputs))
    for i, (x, y) in enumerate(zip(got, want, strict=True)):
        for dim in range(batch, y.dim()):
            if x.shape[dim] > y.shape[dim]:
                shape = [*want[i].shape[:dim], 1, *want[i].shape[dim + 1 :]]
                want[i] = torch.cat([want[i], want[i].new_zeros(shape)], dim)
    return got, tuple(want)


def _split(inputs: Inputs) -> dict[str, Any]:
    """The first class as two of the same weight, each with a share of its counts."""

    def halves(name: str, x: Tensor) -> Tensor:
        first = x[..., :1]
        if name not in COUNTS:
            return torch.cat([first, x], -1)
        if name == "sizes" and "capacity" in inputs:  # that fit
            share = torch.minimum(first, inputs["capacity"][..., :1] // 2)
        else:
            share = first / 2 if x.is_floating_point() else first // 2
        return torch.cat([share, first - share, x[..., 1:]], -1)

    return {name: halves(name, x) for name, x in inputs.items() if name in BY_CLASS}


def _class_split(values_add: bool) -> Invariant:
    def compare(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
        batch, want = _batch_dims(inputs), _call(function, inputs)
        got = _call(function, inputs, **_split(inputs))
        if not values_add:
            return got, want

        def together(x: Tensor, y: Tensor) -> Tensor:
            for dim in range(batch, y.dim()):
                if x.shape[dim] > y.shape[dim]:
                    first = x.narrow(dim, 0, 2).sum(dim, keepdim=True)
                    x = torch.cat([first, x.narrow(dim, 2, x.shape[dim] - 2)], dim)
            return x

        return tuple(together(x, y) for x, y in zip(got, want, strict=True)), want

    return compare


def _log_choose(m: Tensor, x: Tensor) -> Tensor:
    m, x = m.double(), x.double()
    return (m + 1).lgamma() - (x + 1).lgamma() - (m - x + 1).lgamma()


def _sizes_split(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    """Within a class of one weight elements are drawn by a hypergeometric law."""
    changed = _split(inputs)
    (got,), (want,) = _call(function, inputs, **changed), _call(function, inputs)
    fine = _log_choose(changed["capacity"][..., :2], changed["sizes"][..., :2]).sum(-1)
    return (got,), (want + fine - _log_choose(inputs["capacity"][..., 0], inputs["sizes"][..., 0]),)


def _normalizer_relation(x: Tensor, inputs: Inputs) -> Tensor:
    whole: Tensor = (inputs["m"] * inputs["log_omega"]).sum(-1)  # log weight of the urn
    return x - whole


def _others(x: Tensor, inputs: Inputs) -> Tensor:
    whole: Tensor | int = inputs.get("m", 1)
    return whole - x


def _complement(relate: Callable[[Tensor, Inputs], Tensor] = lambda x, inputs: x) -> Invariant:
    """What stays in the urn has the inverse weights."""

    def compare(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
        changed = {name: -inputs[name] for name in ("log_omega", "log_omega_p", "scores") if name in inputs}
        if "capacity" in inputs:
            changed["sizes"] = inputs["capacity"] - inputs["sizes"]
            changed["elements"] = inputs["capacity"].sum(-1) - inputs["elements"]
        if "m" in inputs:
            changed["n"] = inputs["m"].sum(-1) - inputs["n"]
        if "each_k" in inputs:
            changed["each_k"] = inputs["scores"].shape[-1] - inputs["each_k"]
        if "each_mask" in inputs:
            changed["each_mask"] = ~inputs["each_mask"]
        return _call(function, inputs, **changed), tuple(relate(x, inputs) for x in _call(function, inputs))

    return compare


def _num_classes(inputs: Inputs) -> int:
    if "log_omega" in inputs:
        return int(inputs["log_omega"].shape[-1])
    return int(inputs["affinities"].shape[-2] if "affinities" in inputs else inputs.get("classes", 1))


def _corner(inputs: Inputs, largest: Callable[[int, int], int]) -> dict[str, Any]:
    """The first elements and classes, as many as `largest(elements, classes)` says is little enough to enumerate."""
    classes = _num_classes(inputs)
    n = next(inputs[name] for name in ("scores", "affinities") if name in inputs).shape[-1]
    while n and largest(n, classes) > LARGEST_SUPPORT:
        n -= 1
    corner = {name: x[..., :n] if name in BY_ELEMENT else x for name, x in inputs.items()}
    if "order" in corner:
        corner["order"] = corner["order"][..., :n].argsort(-1)
    if "each_k" in corner:
        corner["each_k"] = corner["each_k"].clamp(max=n)
    if "k" in corner:
        corner["k"] = min(corner["k"], n)
    return corner


def _each(function: Function, inputs: Inputs, name: str, values: Tensor) -> Tensor:  # (count, *batch)
    """The op's values with each of these, (count, size), for its input of that name."""
    given = next(inputs[x] for x in ("log_omega", "scores", "labels") if x in inputs)
    batch = given.shape[:-1]
    expanded = values.reshape(len(values), *(1,) * len(batch), values.shape[-1])
    return _call(function, inputs, **{name: expanded.expand(len(values), *batch, values.shape[-1])})[0]


def _choices(values: int, places: int) -> Tensor:  # (values^places, places)
    return torch.tensor(list(itertools.product(range(values), repeat=places)), dtype=torch.int64).reshape(
        values**places, places
    )


def _compositions(total: int, parts: int) -> Tensor:  # (*, parts)
    bars = itertools.combinations(range(total + parts - 1), parts - 1)
    edges = torch.tensor([(-1, *each, total + parts - 1) for each in bars], dtype=torch.int64)
    return edges.diff(dim=-1) - 1


def _normalized(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    """The sum of the probabilities over the support."""
    if "sizes" in inputs or "relaxed_sizes" in inputs:
        name = "sizes" if "sizes" in inputs else "relaxed_sizes"
        values = _compositions(inputs["elements"], inputs[name].shape[-1]).to(inputs[name].dtype)
        log_prob = _each(function, inputs, name, values)
    elif "order" in inputs:
        inputs = _corner(inputs, lambda n, classes: math.factorial(n))
        n = inputs["scores"].shape[-1]
        values = torch.tensor(list(itertools.permutations(range(n))), dtype=torch.int64)
        log_prob = _each(function, inputs, "order", values)
    elif "labels" in inputs:
        inputs = _corner(inputs, lambda n, classes: classes**n)
        classes = _num_classes(inputs)
        values = _choices(classes, inputs["labels"].shape[-1])
        log_prob = _each(function, inputs, "labels", values)
        if "log_omega" not in inputs:  # given the sizes
            counts = torch.stack([(values == k).sum(-1) for k in range(classes)], -1)
            own = torch.stack([(inputs["labels"] == k).sum(-1) for k in range(classes)], -1)
            fits = (counts.reshape(len(values), *(1,) * (own.dim() - 1), classes) == own).all(-1)
            log_prob = log_prob.masked_fill(~fits, -torch.inf)
    else:
        inputs = _corner(inputs, lambda n, classes: 2**n)
        values = _choices(2, inputs["scores"].shape[-1])
        k = inputs["k"] if "k" in inputs else inputs["each_k"]
        log_prob = _each(function, inputs, "mask" if "mask" in inputs else "each_mask", values.bool())
        fits = values.sum(-1).reshape(len(values), *(1,) * (log_prob.dim() - 1)) == k
        assert bool((log_prob[~fits.expand_as(log_prob)] == -torch.inf).all())
    total = log_prob.logsumexp(0)
    return (total,), (torch.zeros_like(total),)


def _merged_subsets(function: Function, inputs: Inputs) -> tuple[Outputs, Outputs]:
    """A subset of one partition is two consecutive ones of finer partitions, whose probabilities add up."""
    inputs = _corner(inputs, lambda n, classes: 2**n)
    labels, classes = inputs["labels"], inputs["classes"]
    halves = _choices(2, labels.shape[-1])
    halves = halves.reshape(len(halves), *(1,) * (labels.dim() - 1), labels.shape[-1])
    first = labels == 0
    fine = torch.where(first, halves, labels + 1)
    valid = ((halves == 0) | first).all(-1) & (torch.where(first, halves, 0).sum(-1) == first.sum(-1) // 2)
    (log_prob,) = _call(function, inputs, labels=fine, classes=classes + 1)
    return (log_prob.masked_fill(~valid, -torch.inf).logsumexp(0),), _call(function, inputs)


INVARIANTS: dict[str, Invariant] = {
    "log_omega is shifted": _shifted("log_omega"),
    "log_omega is shifted, n times": _shifted(
        "log_omega", lambda x, inputs: x + SHIFT * (inputs["n"] if "n" in inputs else inputs["elements"])
    ),
    "scores are shifted": _shifted("scores"),
    "affinities are shifted": _affinities_shifted,
    "affinities are shifted by rows": _rows_shifted,
    "scores are scaled": _scaled("scores"),
    "scores and tau are scaled": _scaled("scores", "tau"),
    "affinities are scaled": _scaled("affinities"),
    "affinities and tau are scaled": _scaled("affinities", "tau"),
    "linear in values": _linear,
    "classes are permuted": _classes_permuted,
    "subsets are permuted": _subsets_permuted,
    "elements are permuted": _elements_permuted(True),
    "elements are permuted, sorted again": _elements_permuted(False),
    "sizes sum to n": _sums(-1, "elements"),
    "sizes sum to each n": _sums(-1, "n"),
    "rows sum to k": _sums(-1, "k"),
    "rows sum to each k": _sums(-1, "each_k"),
    "rows sum to zero": _sums(-1, 0.0),
    "rows sum to one": _sums(-1, 1.0),
    "rows sum to the sizes": _sums(-1, "sizes"),
    "rows sum to the mean": _sums_to_mean,
    "columns sum to one": _sums(-2, 1.0),
    "zero of equal laws": _equal_laws,
    "bounds hold": _bounds_hold,
    "an empty class is added": _empty_class,
    "a class is split": _class_split(values_add=False),
    "a class is split, values add": _class_split(values_add=True),
    "a class is split, sizes too": _sizes_split,
    "the complement is as probable": _complement(),
    "the complement has the others": _complement(_others),
    "the complement has its normalizer": _complement(_normalizer_relation),
    "probabilities sum to one": _normalized,
    "merged subsets add up": _merged_subsets,
}
