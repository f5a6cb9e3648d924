"""torch.vmap of the ops. They are batched over rows already, so the mapped dimension is folded into the rows.

A rule is called as rule(op, size, in_dims, arguments) and returns (outputs, out_dims), like torch.library's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Rule = Callable[[Callable[..., Any], int, Sequence[Any], Sequence[Any]], tuple[Any, Any]]


def fold(*, shared: Sequence[int] = ()) -> Rule:
    """The mapped dimension becomes the slowest one of the rows.

    `shared`: positions of arguments that may have one row which stands for all of them; such a row stays one.
    """

    def rule(op: Callable[..., Any], size: int, in_dims: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, Any]:
        count = 1  # rows of one call
        for i, (x, dim) in enumerate(zip(arguments, in_dims, strict=True)):
            if isinstance(x, Tensor) and i not in shared:
                count = x.shape[0] if dim is None else x.movedim(dim, 0).shape[1]
                break
        folded = []
        for i, (x, dim) in enumerate(zip(arguments, in_dims, strict=True)):
            if not isinstance(x, Tensor) or (dim is None and i in shared and x.shape[0] == 1):
                folded.append(x)
                continue
            x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
            if i in shared and x.shape[1] == 1:
                x = x.expand(size, count, *x.shape[2:])
            folded.append(x.reshape(size * x.shape[1], *x.shape[2:]).contiguous())
        out = op(*folded)

        def unfold(y: Tensor) -> Tensor:
            return y.reshape(size, y.shape[0] // size, *y.shape[1:])

        return (tuple(map(unfold, out)), (0,) * len(out)) if isinstance(out, tuple) else (unfold(out), 0)

    return rule


def seeded(*, foldable: Callable[..., bool] | None = None, shared: Sequence[int] = ()) -> Rule:
    """Ops that draw noise by row from one seed: one call for each index of the mapped dimension, so that each gets the
    noise that its own call would get. `foldable(*arguments)`: no noise is drawn, the rows are independent.
    """
    folded = fold(shared=shared)

    def rule(op: Callable[..., Any], size: int, in_dims: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, Any]:
        if foldable is not None and foldable(*arguments):
            return folded(op, size, in_dims, arguments)
        calls = []
        for index in range(size):
            calls.append(
                op(
                    *(
                        x if dim is None else x.select(dim, index).contiguous()
                        for x, dim in zip(arguments, in_dims, strict=True)
                    )
                )
            )
        if isinstance(calls[0], tuple):
            return tuple(torch.stack(parts) for parts in zip(*calls, strict=True)), (0,) * len(calls[0])
        return torch.stack(calls), 0

    return rule


def register_vmap(name: str, rule: Rule) -> None:
    """The rule of torch.ops.drpm.<name>."""
    op = getattr(torch.ops.drpm, name).default

    def registered(info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
        return rule(op, info.batch_size, in_dims, arguments)

    torch.library.register_vmap(f"drpm::{name}", registered)
