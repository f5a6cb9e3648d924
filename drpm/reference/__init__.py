"""Plain PyTorch twins of every op in `drpm.ops`, written to be read.

They follow the formulas of the thesis, differentiate by autograd, batch over leading dimensions and take
explicit noise instead of seeds. Nothing here needs the compiled module. Time and memory are quadratic in n
or worse; they are the yardstick of the kernels, not a replacement. Arguments are not validated.
"""

from .k_subset import k_subset_entropy, k_subset_log_prob, k_subset_marginals, k_subset_sample
from .mvhg import hypergeometric_log_weights, mvhg_log_normalizer, mvhg_log_prob, mvhg_sample
from .mvhg_moments import mvhg_covariance, mvhg_entropy, mvhg_kl, mvhg_mean
from .partition import partition
from .partition_log_prob import (
    partition_log_prob,
    partition_log_prob_bounds,
    partition_marginals,
    partition_mode,
    random_partition_log_prob,
)
from .plackett_luce import plackett_luce_log_prob
from .random_assignment import assignment_log_prob, random_assignment, random_assignment_log_prob
from .random_partition import Partition, random_partition
from .relaxed_sort import relaxed_sort, relaxed_sort_matmul
from .sized_assignment import SizedAssignment, sized_assignment

__all__ = [
    "Partition",
    "SizedAssignment",
    "assignment_log_prob",
    "hypergeometric_log_weights",
    "k_subset_entropy",
    "k_subset_log_prob",
    "k_subset_marginals",
    "k_subset_sample",
    "mvhg_covariance",
    "mvhg_entropy",
    "mvhg_kl",
    "mvhg_log_normalizer",
    "mvhg_log_prob",
    "mvhg_mean",
    "mvhg_sample",
    "partition",
    "partition_log_prob",
    "partition_log_prob_bounds",
    "partition_marginals",
    "partition_mode",
    "plackett_luce_log_prob",
    "random_assignment",
    "random_assignment_log_prob",
    "random_partition",
    "random_partition_log_prob",
    "relaxed_sort",
    "relaxed_sort_matmul",
    "sized_assignment",
]
