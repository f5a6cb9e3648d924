"""The processes of a run: one by itself, or those that torchrun started."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class World:
    """Rank, size and device of this process, and the few exchanges that a training loop needs."""

    def __init__(self, rank: int = 0, size: int = 1, device: str = "cpu") -> None:
        self.rank, self.size, self.device = rank, size, torch.device(device)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @classmethod
    @contextlib.contextmanager
    def join(cls, device: str = "cpu") -> "Iterator[World]":
        """Join the job that torchrun describes in the environment, or stand alone; leave it at the end."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            yield cls(device=device)
            return
        if torch.device(device).type == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        try:
            yield cls(dist.get_rank(), size, device)
        finally:
            dist.destroy_process_group()

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def agree(self, flag: bool) -> bool:
        """Whether the flag is set on any process; the same answer everywhere."""
        if self.size == 1:
            return flag
        shared = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return bool(shared.item())

    def gather(self, content: Any) -> list[Any]:
        """Give every process's content, by rank."""
        if self.size == 1:
            return [content]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, content)
        return found

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the processes; a missing one counts as zero."""
        if self.size == 1:
            return
        held = [p for p in parameters if p.requires_grad]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in held]
        if not grads:
            return
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= self.size
        for p, part in zip(held, flat.split([g.numel() for g in grads]), strict=True):
            p.grad = part.view_as(p).clone()

    def average(self, values: dict[str, float]) -> dict[str, float]:
        """Give the mean of each value over the processes."""
        if self.size == 1:
            return values
        shared = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return dict(zip(values, (shared / self.size).tolist(), strict=True))
