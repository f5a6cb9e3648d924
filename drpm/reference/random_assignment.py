"""Partitions by a matrix of scores, a row a subset: the readable twins of `drpm.ops.random_assignment` and its kin.

S_1 is the first n_1 elements of a Plackett-Luce order of all by row 1, S_2 the first n_2 of an order of those that
remain by row 2, and so on; the last subset takes what remains. Plackett-Luce has no memory, so equal rows give
`random_partition`. Given the sizes, log p(Y) = Σ_k log Pr[S_k precedes S_{k+1}, …, S_K in an order by row k].
"""

import math

import torch
from torch import Tensor

from .mvhg import mvhg_log_prob, mvhg_sample
from .mvhg_tables import Counts
from .partition import partition
from .partition_log_prob import counted_labels, log_subset_first, partition_sizes
from .random_partition import Partition
from .relaxed_sort import sort_order


def assignment_log_prob(
    labels: Tensor,  # (*, n) int64
    log_scores: Tensor,  # (*, K, n)
    *,
    lengths: Tensor | None = None,  # (*)
) -> Tensor:  # (*)
    """Exact log-probability of a partition by rows of scores, given its subset sizes.

    Args:
        labels: (*, n) int64, subset of every element, in 0..K - 1.
        log_scores: (*, K, n), log-scores of every element for every subset; the last row has no effect.
        lengths: (*) int64, how many of the n elements count.
    Returns: (*).
    Gradient: exact w.r.t. log_scores (of the quadrature, whose error is below rounding).
    """
    if lengths is not None:
        counted = torch.arange(log_scores.shape[-1], device=log_scores.device) < lengths.unsqueeze(-1)
        labels, log_scores = torch.where(counted, labels, -1), torch.where(counted.unsqueeze(-2), log_scores, 0.0)
    log_prob = log_scores.new_zeros(torch.broadcast_shapes(labels.shape[:-1], log_scores.shape[:-2]))
    for k in range(log_scores.shape[-2] - 1):
        log_prob = log_prob + log_subset_first(log_scores[..., k, :], labels == k, labels > k)
    return log_prob


def random_assignment_log_prob(
    labels: Tensor,  # (*, n) int64
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, K, n)
    *,
    m: Counts | None = None,
    lengths: Tensor | None = None,  # (*)
) -> Tensor:  # (*)
    """Exact log-probability: log p(n; omega) + log p(Y | n; log_scores).

    Args: as `random_assignment`; labels as `assignment_log_prob`.
    Gradient: exact w.r.t. log_omega and log_scores.
    """
    n, num_subsets = labels.shape[-1], log_omega.shape[-1]
    drawn: Counts = n
    if lengths is not None:
        labels, m, drawn = counted_labels(labels, m, lengths, num_subsets)
    sizes = partition_sizes(labels, num_subsets)
    log_prob_sizes = mvhg_log_prob(sizes, log_omega, n if m is None else m, drawn)
    return log_prob_sizes + assignment_log_prob(labels, log_scores, lengths=lengths)


def random_assignment(
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, K, n)
    tau: float = 1.0,
    *,
    m: Counts | None = None,  # None, int, (K,) or (*, K) int64
    hard: bool = True,
    size_gumbel: Tensor | None = None,  # (*, K - 1 or K, max m + 1)
    score_gumbel: Tensor | None = None,  # (*, K, n)
    conditionals: str = "exact",
    lengths: Tensor | None = None,  # (*)
) -> Partition:
    """Draw sizes from the MVHG, then fill every subset in turn by its own row of scores.

    Args:
        log_omega: (*, K), log importance of the subsets.
        log_scores: (*, K, n), log-scores of every element for every subset; the last row only orders the last subset.
        tau: float > 0, shared by sizes, orders and boundaries.
        m: items per class; None: n for every class.
        size_gumbel: noise of the sizes, indexed as in `mvhg_sample`. None: no noise.
        score_gumbel: noise added to log_scores. None: no noise.
        lengths: (*) int64, how many of the n elements count; the others have columns of zeros and label -1, and
            come last in the order.
    Returns: `Partition`; order: the subsets in turn, each by decreasing perturbed score of its own row. hard=False
        relaxes assignment and sizes, while order and labels are those of the hard draw on the same noise.
    Gradient: w.r.t. log_omega (through the sizes) and log_scores, straight-through or of the relaxation.
    """
    num_subsets, n = log_scores.shape[-2:]
    drawn: Counts = n
    if lengths is not None:
        drawn = lengths
        m = lengths.unsqueeze(-1).expand(*lengths.shape, num_subsets) if m is None else m
    m = n if m is None else m
    scores = log_scores if score_gumbel is None else log_scores + score_gumbel

    def draw_sizes(hard: bool) -> Tensor:
        return mvhg_sample(log_omega, m, drawn, tau, hard=hard, gumbel=size_gumbel, conditionals=conditionals)

    sizes = draw_sizes(hard)
    with torch.no_grad():
        whole_sizes = sizes if hard else draw_sizes(hard=True)

    batch = torch.broadcast_shapes(sizes.shape[:-1], scores.shape[:-2])
    rows = math.prod(batch)
    flat_scores = scores.expand(*batch, num_subsets, n).reshape(rows, num_subsets, n)
    flat_sizes, flat_whole = (x.expand(*batch, num_subsets).reshape(rows, num_subsets) for x in (sizes, whole_sizes))
    counts = [n] * rows if lengths is None else lengths.expand(batch).reshape(-1).tolist()
    assignment = flat_scores.new_zeros(flat_scores.shape)
    order, labels = (torch.zeros((rows, n), dtype=torch.int64) for _ in range(2))
    for row, count in enumerate(counts):
        whole = [int(size) for size in flat_whole[row]]
        planes, order[row, :count] = _fill(flat_scores[row, :, :count], flat_sizes[row], whole, tau, hard)
        assignment = assignment.index_put(
            (torch.tensor(row),), torch.nn.functional.pad(planes, (0, n - count)), accumulate=True
        )
        order[row, count:] = torch.arange(count, n)
        labels[row, order[row, :count]] = torch.repeat_interleave(torch.arange(num_subsets), torch.tensor(whole))
        labels[row, count:] = -1
    expanded = sizes.expand(*batch, num_subsets)
    return Partition(
        assignment.reshape(*batch, num_subsets, n), expanded, order.reshape(*batch, n), labels.reshape(*batch, n)
    )


def _fill(
    scores: Tensor,  # (K, n)
    sizes: Tensor,  # (K), maybe relaxed
    whole: list[int],  # the whole sizes, which sum to n
    tau: float,
    hard: bool,
) -> tuple[Tensor, Tensor]:  # (K, n), (n) int64
    """One row: y_k = rho_k u_k, rho_{k+1} = rho_k (1 - u_k), rho_1 = 1, y_K = rho_K.

    u_k is the first plane of the `partition` into two of the elements that remain. Elsewhere it is a constant: whether
    the element would be taken here, were it still here; without it an earlier step does not see what its choice costs
    later. Its size gives way to what rho has gained or lost, so that the subset keeps its size.
    """
    num_subsets, n = scores.shape
    left, rho = torch.arange(n), scores.new_ones(n)
    planes, order = [], []
    for k in range(num_subsets - 1):
        ranked = left[sort_order(scores[k, left])]
        taken = ranked[: whole[k]]
        fixed = torch.zeros_like(rho)
        if len(taken):
            fixed = (scores[k] > scores[k, taken[-1]]).to(rho.dtype).detach()
        fixed[taken] = 1.0
        fixed[ranked[whole[k] :]] = 0.0

        def plane(size: Tensor, k: int = k, left: Tensor = left, fixed: Tensor = fixed) -> Tensor:
            both = torch.stack([size, len(left) - size])
            inside = partition(scores[k, left], both, tau, hard=hard, normalize=not hard)[0]
            return fixed.index_put((left,), inside)

        with torch.no_grad():
            value = plane(sizes[k])
        u = plane(sizes[k] - ((rho - rho.detach()) * value).sum())
        planes.append(rho * u)
        rho = rho * (1 - u)
        order.append(taken)
        left = ranked[whole[k] :].sort().values
    order.append(left[sort_order(scores[-1, left])])
    return torch.stack([*planes, rho]), torch.cat(order)
