"""Arguments that every op on subsets of exactly k elements takes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from drpm.ops._arguments import (
    Counts,
    argument_error,
    as_dtype,
    broadcast_batch,
    check_floating,
    compute_dtype,
    counts_tensor,
    is_readable,
    require,
    rows,
)
from drpm.ops._lengths import row_lengths


class KSubsetArguments(NamedTuple):
    log_weights: Tensor  # (B, n) contiguous, float32 or float64; -inf: never chosen
    k: Tensor  # (1) or (B)
    batch: torch.Size
    largest_k: int  # a bound on min(k, n - k) that needs no look at device memory; -1: none


def k_subset_arguments(
    op: str,
    log_weights: Tensor,  # (*, n)
    k: Counts,  # int or (*)
    lengths: Counts | None = None,  # int or (*)
    *,
    others: dict[str, torch.Size] | None = None,  # further batch shapes to broadcast with
) -> KSubsetArguments:
    """Checks and flattens; a k that all rows share stays one number. Elements beyond `lengths` get weight zero."""
    check_floating(op, "log_weights", log_weights)
    require(log_weights.dim() >= 1, op, "log_weights", "have an element dimension", "a scalar")
    device, n = log_weights.device, log_weights.shape[-1]
    weights = as_dtype(log_weights, compute_dtype(log_weights))
    shapes = {"log_weights": log_weights.shape[:-1]}
    if lengths is not None:
        counts, mask = row_lengths(op, lengths, n, device)
        weights = torch.where(mask, weights, -torch.inf)
        shapes["lengths"] = counts.shape
    k_t = counts_tensor(op, "k", k, device)
    if k_t.dim():
        shapes["k"] = k_t.shape
    batch = broadcast_batch(op, **shapes, **(others or {}))
    if is_readable(weights):
        _check_values(op, weights.detach(), k_t, n)
    largest = min(k, n - k) if isinstance(k, (int, torch.SymInt)) else -1
    return KSubsetArguments(
        rows(weights, batch, (n,)),
        k_t.reshape(1) if k_t.dim() == 0 else rows(k_t, batch),
        batch,
        largest,
    )


def _check_values(op: str, weights: Tensor, k: Tensor, n: int) -> None:
    wrong = torch.isnan(weights) | (weights == torch.inf)
    if bool(wrong.any()):
        raise argument_error(op, "log_weights", "be finite or -inf", weights[wrong][0].item())
    if not is_readable(k) or not k.numel():
        return
    require(int(k.max()) <= n, op, "k", f"be <= n = {n}", int(k.max()))
    finite = torch.isfinite(weights).sum(-1)
    try:
        short = k > finite
    except RuntimeError:  # shapes that do not broadcast have been reported
        return
    if bool(short.any()):
        allowed = finite.expand_as(short)[short][0].item()
        raise argument_error(
            op, "k", "be <= the number of weights above zero", f"{k.expand_as(short)[short][0].item()} > {allowed}"
        )


def classes_of(log_weights: Tensor) -> tuple[Tensor, Tensor]:  # (B, n) -> (B, n), (1 or B, n)
    """The subset as an MVHG: finite weights and items per class, 1, or 0 where the weight is zero."""
    zero = log_weights.detach() == -torch.inf
    if is_readable(zero) and not bool(zero.any()):
        return log_weights, torch.ones((1, log_weights.shape[1]), dtype=torch.int64, device=log_weights.device)
    return torch.where(zero, 0.0, log_weights), (~zero).to(torch.int64)
