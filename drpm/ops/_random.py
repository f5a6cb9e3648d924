"""Seeds: kernels are deterministic functions of an int64 seed tensor, drawn here."""

from __future__ import annotations

import torch
from torch import Tensor

from drpm._build_info import _C
from drpm.ops._arguments import argument_error, plain_int

STREAM_SIZES: int = _C.noise_streams["sizes"]  # noise of subset sizes, for `gumbel_noise`
STREAM_ORDER: int = _C.noise_streams["order"]  # noise of orders, for `gumbel_noise`
STREAM_ASSIGNMENT: int = _C.noise_streams["assignment"]  # noise of assignments by rows, for `gumbel_noise`
STREAM_CLASS_ORDER: int = _C.noise_streams["class_order"]
CPU = torch.device("cpu")


def seed_tensor(
    op: str,
    device: torch.device,
    *,
    noise: bool = True,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
) -> Tensor:
    """The seed for an op that takes one always; without noise it is zero and unused."""
    drawn = seed_of_noise(op, device, noise=noise, generator=generator, seed=seed)
    return torch.zeros(1, dtype=torch.int64, device=device) if drawn is None else drawn


def seed_of_noise(
    op: str,
    device: torch.device,
    *,
    noise: bool,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
) -> Tensor | None:
    """The (1,) int64 seed that stands for this call's noise; None without noise.

    Drawn from `generator` (default: torch's own, so that torch.manual_seed reproduces), or given as `seed`.
    """
    if generator is not None and seed is not None:
        raise argument_error(op, "seed", "be None where a generator is given", seed)
    if not noise:
        if generator is not None:
            raise argument_error(op, "generator", "be None with noise=False", generator)
        if seed is not None:
            raise argument_error(op, "seed", "be None with noise=False", seed)
        return None
    if seed is None:
        # the full range but the last value: 2^63 - 1 is the largest bound that randint takes
        return torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64, device=device, generator=generator)
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.numel() != 1:
            raise argument_error(op, "seed", "be an int or one int64", f"{seed.dtype} of shape {tuple(seed.shape)}")
        if seed.device != device:
            raise argument_error(op, "seed", f"be on {device} as the other arguments", seed.device)
        return seed.reshape(1)
    seed = plain_int(seed)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"{op}: seed must be an int or one int64, got {type(seed).__name__}")
    if not -(2**63) <= seed < 2**63:
        raise argument_error(op, "seed", "fit in 64 bits", seed)
    return torch.full((1,), seed, dtype=torch.int64, device=device)
