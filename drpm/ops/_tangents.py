"""Second derivatives of the relaxed sort and of what is built on it, by the banded kernels themselves.

Along u the logits of P move by dL_ij = (α_j + i β_j)/τ, hence P by P_ij (dL_ij − Σ_l P_il dL_il): a product with the
derivative of P is one with P, of more columns (Eq. 13–17, docs/math/relaxed_sort.md). The functions here return what a
gradient of a gradient needs: df(u), the directional derivative of the op f, and the gradients of <G, df(u)>. Written
out rather than left to autograd, so that they hold under every transform of torch.func, and twice differentiable like
the ops that they call. Everything in float64: α_j and i β_j cancel to a fraction of their size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from drpm.ops._tau import Tau

Product = Callable[[Tensor, Tensor], Tensor]  # scores (B, n), values (B, n, d) -> P values (B, n, d)
ProductBackward = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# grad (B, n, d), scores, values -> gradients w.r.t. scores and values; the latter is the transpose of P times grad


def logit_tangent(scores: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:  # (B, n) both -> (B, n), (B, n)
    """α and β of τ dL_ij = α_j + i β_j, i = 0 … n − 1; sign(0) = 0 at ties."""
    order = scores.detach().argsort(dim=-1, descending=True, stable=True)
    ascending = -scores.detach().gather(-1, order)
    wanted = -scores.detach()
    larger = torch.searchsorted(ascending, wanted)  # how many scores are larger
    not_smaller = torch.searchsorted(ascending, wanted, right=True)
    sums = torch.nn.functional.pad(direction.gather(-1, order).cumsum(-1), (1, 0))
    beyond = sums[..., -1:] - sums.gather(-1, not_smaller) - sums.gather(-1, larger)
    return (larger + not_smaller - 1) * direction + beyond, -2 * direction


def ranks(x: Tensor) -> Tensor:
    return torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)


def relaxed_sort_second(
    relax: Callable[[Tensor], Tensor],  # scores -> P
    relax_backward: Callable[[Tensor, Tensor], Tensor],  # grad (B, n, n), scores -> (B, n)
    grad: Tensor,  # (B, n, n)
    scores: Tensor,  # (B, n)
    tau: Tau,
    direction: Tensor,  # (B, n)
) -> tuple[Tensor, Tensor]:
    """dP, and the gradient of <grad, dP> w.r.t. scores."""
    permutation = relax(scores)
    alpha, beta = logit_tangent(scores, direction)
    logits = (alpha.unsqueeze(-2) + ranks(scores).unsqueeze(-1) * beta.unsqueeze(-2)) / tau
    logits = logits - (permutation * logits).sum(-1, keepdim=True)
    by_permutation = (grad - (permutation * grad).sum(-1, keepdim=True)) * logits
    return permutation * logits, relax_backward(by_permutation, scores)


def relaxed_sort_matmul_second(
    product: Product,
    product_backward: ProductBackward,
    grad: Tensor,  # (B, n, d)
    scores: Tensor,
    values: Tensor,
    tau: Tau,
    scores_direction: Tensor | None,
    values_direction: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """d(P V) = dP V + P dV, and the gradients of <grad, d(P V)> w.r.t. scores and values: two products."""
    if scores_direction is None:
        assert values_direction is not None
        tangent = product(scores, values_direction)
        by_scores, _ = product_backward(grad, scores, values_direction)
        return tangent, by_scores, torch.zeros_like(values)
    alpha, beta = (x.unsqueeze(-1) for x in logit_tangent(scores, scores_direction))
    columns = [alpha * values, beta * values, values, alpha, beta]
    if values_direction is not None:
        columns.append(values_direction)
    widths, right = [x.shape[-1] for x in columns], torch.cat(columns, -1)
    by_alpha, by_beta, plain, mean_alpha, mean_beta, *rest = product(scores, right).split(widths, -1)
    position = ranks(scores).unsqueeze(-1)
    center = mean_alpha + position * mean_beta
    tangent = (by_alpha + position * by_beta - center * plain) / tau
    scaled = grad / tau
    by_center = -(scaled * plain).sum(-1, keepdim=True)
    lefts = [scaled, position * scaled, -center * scaled, by_center, position * by_center]
    if values_direction is not None:
        tangent = tangent + rest[0]
        lefts.append(grad)
    by_scores, by_columns = product_backward(torch.cat(lefts, -1), scores, right)
    first, second, third, *_ = by_columns.split(widths, -1)
    return tangent, by_scores, alpha * first + beta * second + third


def partition_second(
    product: Product,
    product_backward: ProductBackward,
    grad: Tensor,  # (B, K, n)
    scores: Tensor,  # (B, n)
    sizes: Tensor,  # (B, K)
    tau: Tau,
    eps: float,
    scores_direction: Tensor | None,
    sizes_direction: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dY = dA P + A dP with A = α(sizes), K x n, and the gradients of <grad, dY> w.r.t. scores and sizes.

    A dP is the transpose of P times A, i A and c A (c_i = Σ_j P_ij (α_j + i β_j)) with columns weighted after.
    """
    n, position = scores.shape[-1], ranks(scores)
    inner = sizes.cumsum(-1)[..., :-1].unsqueeze(-1)  # (B, K - 1, 1)
    f = torch.sigmoid((inner - (position + 1) + eps) / tau)
    slope = f * (1 - f) / tau
    edge = f.new_zeros((f.shape[0], 1, n))
    grad = grad.mT  # (B, n, K): by element, as the transposed product comes

    def of_boundaries(moved: Tensor, last: float) -> Tensor:  # (B, K - 1, n) -> (B, n, K)
        return torch.cat([edge, moved, edge + last], -2).diff(dim=-2).mT

    def to_boundaries(by_weights: Tensor) -> Tensor:  # its transpose
        return -by_weights.mT.diff(dim=-2)

    zero = torch.zeros_like(grad)
    alpha, beta = (
        (torch.zeros_like(scores), torch.zeros_like(scores))
        if scores_direction is None
        else logit_tangent(scores, scores_direction)
    )
    alpha, beta = alpha.unsqueeze(-1), beta.unsqueeze(-1)
    drift = None if sizes_direction is None else sizes_direction.cumsum(-1)[..., :-1].unsqueeze(-1)
    weights = of_boundaries(f, 1.0)
    moved_weights = zero if drift is None else of_boundaries(slope * drift, 0.0)
    right = torch.cat([grad, alpha * grad / tau, beta * grad / tau, -grad / tau, alpha, beta], -1)
    widths = [sizes.shape[-1]] * 4 + [1, 1]
    q_moved, q_plain, q_rank, q_center, mean_alpha, mean_beta = product(scores, right).split(widths, -1)
    position = position.unsqueeze(-1)
    center = mean_alpha + position * mean_beta
    by_center = (weights * q_center).sum(-1, keepdim=True)
    left = [moved_weights, weights, position * weights, center * weights, by_center, position * by_center]
    by_scores, transposed = product_backward(torch.cat(left, -1), scores, right)
    t_moved, t_plain, t_rank, t_center, _, _ = transposed.split(widths, -1)
    tangent = t_moved + (alpha * t_plain + beta * t_rank - t_center) / tau

    by_boundary = to_boundaries(q_plain + position * q_rank + center * q_center) * slope
    if drift is not None:
        by_boundary = by_boundary + to_boundaries(q_moved) * slope * (1 - 2 * f) / tau * drift
    by_inner = by_boundary.sum(-1)  # (B, K - 1)
    by_sizes = torch.nn.functional.pad(by_inner.flip(-1).cumsum(-1).flip(-1), (0, 1))
    return tangent.mT, by_scores, by_sizes
