"""Two-stage random partitions: the readable twin of `drpm.ops.random_partition`."""

from typing import NamedTuple

import torch
from torch import Tensor

from .mvhg import mvhg_sample
from .mvhg_tables import Counts
from .partition import partition, partition_labels
from .relaxed_sort import sort_order


class Partition(NamedTuple):
    """What `random_partition` returns."""

    assignment: Tensor  # (*, K, n)
    sizes: Tensor  # (*, K)
    order: Tensor  # (*, n) int64
    labels: Tensor  # (*, n) int64


def random_partition(
    log_omega: Tensor,  # (*, K)
    log_scores: Tensor,  # (*, n)
    tau: float = 1.0,
    *,
    m: Counts | None = None,  # None, int, (K,) or (*, K) int64
    hard: bool = True,
    size_gumbel: Tensor | None = None,  # (*, K - 1 or K, max m + 1)
    score_gumbel: Tensor | None = None,  # (*, n)
    conditionals: str = "exact",
    lengths: Tensor | None = None,  # (*)
) -> Partition:
    """Draw a partition: sizes from the MVHG, order from Plackett-Luce, then fill the subsets in order.

    n ~ p(n; omega),  pi ~ p(pi; s),  y_k = sum_{i = nu_k + 1}^{nu_k + n_k} pi_i    (thesis Eq. 5.60)

    Args:
        log_omega: (*, K), log importance of the subsets.
        log_scores: (*, n), Plackett-Luce log-scores.
        tau: float > 0, shared by sizes, order and boundaries.
        m: items per class; None: n for every class.
        size_gumbel: noise of the sizes, indexed as in `mvhg_sample`. None: no noise.
        score_gumbel: noise added to log_scores. None: no noise.
        lengths: (*) int64, how many of the n elements count; the others have columns of zeros and label -1, and
            come last in the order.
    Returns: `Partition`; hard=False relaxes assignment and sizes, while order and labels are those of the
        hard partition on the same noise.
    Gradient: w.r.t. log_omega (through the sizes) and log_scores (through the order).
    """
    n = log_scores.shape[-1]
    drawn: Counts = n
    counted = None
    if lengths is not None:
        drawn, counted = lengths, torch.arange(n, device=log_scores.device) < lengths.unsqueeze(-1)
        m = lengths.unsqueeze(-1).expand(*lengths.shape, log_omega.shape[-1]) if m is None else m
    m = n if m is None else m
    scores = log_scores if score_gumbel is None else log_scores + score_gumbel

    def draw_sizes(hard: bool) -> Tensor:
        return mvhg_sample(log_omega, m, drawn, tau, hard=hard, gumbel=size_gumbel, conditionals=conditionals)

    sizes = draw_sizes(hard)
    with torch.no_grad():
        whole_sizes = sizes if hard else draw_sizes(hard=True)

    batch = torch.broadcast_shapes(sizes.shape[:-1], scores.shape[:-1])
    scores = scores.expand(*batch, n)
    sizes = sizes.expand(*batch, sizes.shape[-1])
    order = sort_order(scores if counted is None else torch.where(counted, scores, -torch.inf))
    labels = partition_labels(order, whole_sizes.expand(sizes.shape))
    if counted is not None:
        labels = torch.where(counted, labels, -1)
    return Partition(partition(scores, sizes, tau, hard=hard, lengths=lengths), sizes, order, labels)
