"""Exactly k of n elements, drawn from the conditional Bernoulli law, with the gradient of its marginals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drpm.ops._arguments import Counts, as_dtype
from drpm.ops._eager import differentiable
from drpm.ops._k_subset_arguments import classes_of, k_subset_arguments
from drpm.ops._mvhg_arguments import sample_count
from drpm.ops._random import seed_tensor
from drpm.ops._vmap import fold
from drpm.ops.mvhg_covariance import covariance_product

_OP = "k_subset_sample"


def k_subset_sample(
    log_weights: Tensor,  # (*, n)
    k: Counts,  # int or (*)
    *,
    noise: bool = True,
    sample_shape: Sequence[int] = (),
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    lengths: Counts | None = None,  # int or (*)
) -> Tensor:  # sample_shape + (*, n)
    """Draw subsets of exactly k elements.

        p(S) ∝ Π_{i ∈ S} exp(l_i),  |S| = k                                       (Eq. 1, docs/math/k_subset.md)

    The conditional Bernoulli (conditional Poisson) law: independent Bernoulli variables of odds exp(l_i), given their
    total; the MVHG with one item per class. Plackett-Luce sets (Gumbel top k) follow another law, see
    `partition_log_prob`.

    Args:
        log_weights: (*, n) float, log odds of the elements; a common constant does not matter. −inf: never chosen.
        k: int or (*) int64, elements to choose; at most as many as have a weight above zero.
        noise: False: the k largest weights (ties by index), the most probable subset.
        sample_shape: independent draws per batch row.
        generator, seed: where the randomness comes from; default torch's own generator.
        lengths: int or (*) int64, how many elements of each row count; None: all. The others are never chosen.
    Returns: sample_shape + (*, n) of 0 and 1, in the dtype of log_weights (float32 for half); a row of NaN where
        unchecked values are invalid.
    Gradient: w.r.t. log_weights, that of the exact marginals: covariance · grad (SIMPLE), also with noise=False. None
        w.r.t. k.
    Numerics: laws of counts in float64, windows cut 45 nats below their mode; about 40 bytes per element.
    Raises: ValueError for values out of range (CPU, eager), seed together with generator, or either with noise=False;
        TypeError for wrong dtypes.
    Reference: Chen, Dempster and Liu, Weighted finite population sampling to maximize entropy, 1994; Ahmed, Zeng,
        Niepert and Van den Broeck, SIMPLE: a gradient estimator for k-subset sampling, 2023.
    """
    arguments = k_subset_arguments(_OP, log_weights, k, lengths)
    shape, samples = sample_count(_OP, sample_shape)
    drawn = seed_tensor(_OP, log_weights.device, noise=noise, generator=generator, seed=seed)
    mask: Tensor = _kernel(arguments.log_weights, arguments.k, drawn, samples, noise, arguments.largest_k)
    return as_dtype(mask.reshape(*shape, *arguments.batch, log_weights.shape[-1]), arguments.log_weights.dtype)


@torch.library.register_fake("drpm::k_subset_sample")
def _fake(log_weights: Tensor, k: Tensor, seed: Tensor, samples: int, noise: bool, largest_k: int = -1) -> Tensor:
    return log_weights.new_empty((samples * log_weights.shape[0], log_weights.shape[1]))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    log_weights, k, _, samples, _, _ = inputs
    ctx.save_for_backward(log_weights, k)
    ctx.samples = samples


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    log_weights, k = ctx.saved_tensors
    rows, n = log_weights.shape
    if n == 0:
        return torch.zeros_like(log_weights), None, None, None, None, None
    # the derivative is the same for every draw of a row
    summed = grad.reshape(ctx.samples, rows, n).sum(0)
    weights, m = classes_of(log_weights)
    return covariance_product(weights, m, k, summed.contiguous()), None, None, None, None, None


_kernel = differentiable("k_subset_sample", _backward, _setup_context, fold(shared=(1,), samples=3, drawn=True))
