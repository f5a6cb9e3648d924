"""Random partitions of a batch that is spread over the processes of a torch.distributed job.

A partition couples its elements: to cut the batch into one part per process and partition each is another model. Here
every process gathers the scores of all (O(n) numbers), draws the same partition of the whole, and keeps the columns of
its own elements.

Gradients follow the convention of DistributedDataParallel: what backward gives are the derivatives of the *sum* of the
processes' losses, and averaging parameter gradients over the processes, as it does, makes it their mean. A model whose
loss on one process would be f(whole batch) / W behaves as W processes with the parts of f.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from drpm.ops import Partition
from drpm.ops import random_partition as _random_partition
from drpm.ops._arguments import Counts, check_floating, check_tensor
from drpm.ops._random import seed_tensor
from drpm.ops._tau import Tau

__all__ = ["gather", "random_partition"]

_MAX_DIMS = 14


def random_partition(
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n_r) on process r
    tau: Tau = 1.0,
    *,
    m: Counts | None = None,  # int, (K,) or (*, K)
    hard: bool = True,
    noise: bool = True,
    conditionals: str = "exact",
    sample_shape: int | Sequence[int] = (),
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    group: dist.ProcessGroup | None = None,
    lengths: Sequence[int] | None = None,
) -> Partition:
    """Partition the elements of all processes at once, as `drpm.ops.random_partition` of the concatenated scores.

    Args:
        log_omega: (*, K) float, log importance of the subsets; the same values on every process.
        log_scores: (*, n_r) float, scores of this process's elements; n_r may differ between processes and be 0, the
            other dimensions and the dtype may not.
        tau, m, hard, noise, conditionals, sample_shape: as in `drpm.ops.random_partition`; the same everywhere.
        generator, seed: where the noise comes from. A seed must be the same on every process; without one, the first
            process of the group draws it and the others get it.
        group: processes that share the batch; None: all.
        lengths: n_r of every process, where they are known: spares the exchange of shapes (one small collective and,
            on a device, a synchronisation) and with it the check that the processes agree.
    Returns: `Partition` of this process's elements: assignment (…, K, n_r) and labels (…, n_r); sizes (…, K) and order
        (…, n), n = Σ n_r, are those of the whole batch, the same on every process.
    Gradient: of the sum of the processes' losses w.r.t. this process's log_scores. W.r.t. log_omega, of this process's
        loss: sum (or, with DistributedDataParallel, average) over the processes, as for any replicated parameter.
    Numerics: values and gradients are those of the single-process result on the same seed; O(n K) memory on each.
    Raises: ValueError on every process where shapes, dtypes or log_omega differ between them; else as
        `drpm.ops.random_partition`.
    """
    check_floating("random_partition", "log_scores", log_scores)
    check_floating("random_partition", "log_omega", log_omega)
    scores, start = _gather("random_partition", log_scores, -1, group, lengths, same=log_omega)
    if noise and seed is None:
        drawn = seed_tensor("random_partition", log_scores.device, generator=generator, seed=None)
        dist.broadcast(drawn, group=group, group_src=0)
        generator, seed = None, drawn
    whole = _random_partition(
        log_omega,
        scores,
        tau,
        m=m,
        hard=hard,
        noise=noise,
        conditionals=conditionals,
        sample_shape=sample_shape,
        generator=generator,
        seed=seed,
    )
    own = slice(start, start + log_scores.shape[-1])
    return Partition(whole.assignment[..., own], whole.sizes, whole.order, whole.labels[..., own])


def gather(
    x: Tensor,  # (*, n_r, *) on process r
    dim: int = 0,
    *,
    group: dist.ProcessGroup | None = None,
    lengths: Sequence[int] | None = None,
) -> Tensor:  # (*, Σ n_r, *)
    """Concatenate the tensors of all processes along `dim`, differentiably.

    For statistics of the whole batch that go into a partition, such as sizes voted for by all elements:
    `log_omega = gather(votes).logsumexp(0)`.

    Args:
        x: any dtype, on the device of the group's backend; only the length of `dim` may differ between processes.
        dim: dimension along which to concatenate.
        group: processes that take part; None: all.
        lengths: length of `dim` on every process, where they are known; see `random_partition`.
    Returns: the same tensor on every process, in the order of their ranks.
    Gradient: of the sum of the processes' losses; first order only.
    Raises: ValueError on every process where shapes or dtypes differ between them.
    """
    return _gather("gather", x, dim, group, lengths)[0]


def _gather(
    op: str,
    x: Tensor,
    dim: int,
    group: dist.ProcessGroup | None,
    lengths: Sequence[int] | None,
    same: Tensor | None = None,
) -> tuple[Tensor, int]:
    """The concatenation, and where this process's part starts."""
    check_tensor(op, "x", x)
    if x.dim() < 1:
        raise ValueError(f"{op}: x must have a dimension to concatenate, got a scalar")
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    front = x.movedim(dim, 0)
    if lengths is None:
        lengths = _agreed_lengths(op, front, group, world, same)
    elif len(lengths) != world or lengths[rank] != front.shape[0]:
        raise ValueError(
            f"{op}: lengths must hold one length per process and {front.shape[0]} for process {rank}, got {lengths}"
        )
    longest = max(lengths)
    padded = F.pad(front, [0, 0] * (front.dim() - 1) + [0, longest - front.shape[0]]) if longest else front
    parts: Tensor = _AllGather.apply(padded.contiguous(), group, rank, world)
    if any(length != longest for length in lengths):
        parts = torch.cat([part[:length] for part, length in zip(parts.unbind(0), lengths, strict=True)])
    else:
        parts = parts.flatten(0, 1)
    return parts.movedim(0, dim), sum(lengths[:rank])


def _agreed_lengths(
    op: str, front: Tensor, group: dist.ProcessGroup | None, world: int, same: Tensor | None
) -> list[int]:
    """Every process's length; an error on all processes where anything else differs.

    All that must agree travels as one row of float64, so that every process sees the same rows and fails alike.
    """
    row = torch.full((4 + _MAX_DIMS,), -1.0, dtype=torch.float64, device="cpu")
    if front.dim() > _MAX_DIMS:
        raise ValueError(f"{op}: x must have at most {_MAX_DIMS} dimensions, got {front.dim()}")
    row[0], row[1], row[2] = front.shape[0], front.dim(), _DTYPES.index(front.dtype)
    row[3] = 0 if same is None else same.numel()
    row[4 : 3 + front.dim()] = torch.tensor(front.shape[1:], dtype=torch.float64, device="cpu")
    rows = torch.empty(world, len(row), dtype=torch.float64, device=front.device)
    dist.all_gather_into_tensor(rows.view(-1), row.to(front.device), group=group)
    rows = rows.cpu()
    different = (rows[:, 1:] != rows[0, 1:]).any(-1).nonzero().flatten().tolist()
    if different:
        other = different[0]
        raise ValueError(
            f"{op}: shapes and dtypes must agree between processes but for the gathered length, got process 0 with "
            f"{_describe(rows[0])} and process {other} with {_describe(rows[other])}"
        )
    if same is not None:
        values = torch.empty(world * same.numel(), dtype=torch.float64, device=front.device)
        dist.all_gather_into_tensor(values, same.detach().double().flatten(), group=group)
        values = values.view(world, -1)
        if not bool((values == values[0]).all()):
            raise ValueError(f"{op}: log_omega must be the same on every process, got {values.tolist()}")
    return [int(length) for length in rows[:, 0]]


_DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


def _describe(row: Tensor) -> str:
    shape = [int(length) for length in row[4 : 3 + int(row[1])]]
    return f"{_DTYPES[int(row[2])]} of ({', '.join(['n', *map(str, shape)])}) and {int(row[3])} log_omega"


class _AllGather(torch.autograd.Function):
    """Stack of the processes' tensors; backward sums what all processes want to know about this one's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None, rank: int, world: int) -> Tensor:
        ctx.group, ctx.rank = group, rank
        out = x.new_empty((world, *x.shape))
        dist.all_gather_into_tensor(out.view(-1), x.flatten(), group=group)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        total = grad.contiguous().clone()
        dist.all_reduce(total, group=ctx.group)  # every backend has it; n numbers are few
        return total[ctx.rank], None, None, None
