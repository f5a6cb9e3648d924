"""torch.vmap of the ops. They are batched over rows already, so the mapped dimension is folded into the rows.

A rule is called as rule(op, size, in_dims, arguments) and returns (outputs, out_dims), like torch.library's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from drpm.ops._tau import library_op

Rule = Callable[[Callable[..., Any], int, Sequence[Any], Sequence[Any]], tuple[Any, Any]]


def fold(
    *,
    shared: Sequence[int] = (),
    by_sample: Sequence[int] = (),
    samples: int | None = None,
    counts: Sequence[int] = (),
    drawn: bool = False,
) -> Rule:
    """The mapped dimension becomes the slowest one of the rows.

    A seed is a row, too: kernels take one for each of equal groups of rows, so each index gets the noise that its own
    call would get. Scalars (the temperature as a tensor) are the same for all rows: where one is mapped, the op is
    called for each index.

    Args:
        shared: positions of arguments that may have one row which stands for all of them, or none; it stays so.
        by_sample: positions of arguments with a row for each sample of each row, samples slowest.
        samples: position of the number of samples; None: it follows from the arguments `by_sample`.
        counts: positions of whole numbers that count rows.
        drawn: whether the outputs, too, have a row for each sample of each row.
    """

    def rule(op: Callable[..., Any], size: int, in_dims: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, Any]:
        # the mapped dimension first; None where it is missing
        mapped = [None if dim is None else x.movedim(dim, 0) for x, dim in zip(arguments, in_dims, strict=True)]
        if any(x is not None and x.dim() == 1 for x in mapped):
            return _one_by_one(op, size, mapped, arguments)

        def rows(i: int) -> int:  # of one call
            x = mapped[i]
            return int(arguments[i].shape[0]) if x is None else int(x.shape[1])

        tensors = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.dim() > 0]
        batch = next(rows(i) for i in tensors if i not in shared and i not in by_sample)
        repeats = 1
        if samples is not None:
            repeats = arguments[samples]
        elif by_sample and batch > 0:
            repeats = next(rows(i) for i in by_sample if i not in shared) // batch
        folded = [size * x if i in counts else x for i, x in enumerate(arguments)]
        for i in tensors:
            x = mapped[i]
            if i in shared and (rows(i) == 0 or (rows(i) == 1 and x is None)):
                folded[i] = arguments[i] if x is None else x[0]
                continue
            if x is None:
                x = arguments[i].expand(size, *arguments[i].shape)
            if i in shared and x.shape[1] == 1:
                x = x.expand(size, batch * (repeats if i in by_sample else 1), *x.shape[2:])
            own, tail = x.shape[1], x.shape[2:]
            if i in by_sample and repeats != 1:
                x = x.reshape(size, repeats, own // repeats, *tail).movedim(0, 1)
            folded[i] = x.reshape(size * own, *tail).contiguous()

        def unfold(y: Tensor) -> Tensor:
            own, tail = y.shape[0] // size, y.shape[1:]
            if drawn and repeats != 1:
                y = y.reshape(repeats, size, own // repeats, *tail).movedim(1, 0)
            return y.reshape(size, own, *tail)

        out = op(*folded)
        return (tuple(map(unfold, out)), (0,) * len(out)) if isinstance(out, tuple) else (unfold(out), 0)

    return rule


def _one_by_one(
    op: Callable[..., Any], size: int, mapped: Sequence[Tensor | None], arguments: Sequence[Any]
) -> tuple[Any, Any]:
    calls = [
        op(*(a if x is None else x[index].contiguous() for a, x in zip(arguments, mapped, strict=True)))
        for index in range(size)
    ]
    if isinstance(calls[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*calls, strict=True)), (0,) * len(calls[0])
    return torch.stack(calls), 0


def register_vmap(name: str, rule: Rule) -> None:
    """The rule of torch.ops.drpm.<name>."""

    def register(op: OpOverload) -> None:
        def registered(info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
            return rule(op, info.batch_size, in_dims, arguments)

        torch.library.register_vmap(op._name, registered)

    for op in library_op(name).both():
        register(op)
