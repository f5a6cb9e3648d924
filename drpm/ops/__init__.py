"""The functional API: compiled kernels, batched over any leading shape, differentiable."""

from drpm._build_info import require_compiled

require_compiled()

from drpm.ops._random import STREAM_ASSIGNMENT, STREAM_ORDER, STREAM_SIZES  # noqa: E402
from drpm.ops.assignment_log_prob import assignment_log_prob  # noqa: E402
from drpm.ops.gumbel_noise import gumbel_noise  # noqa: E402
from drpm.ops.hypergeometric_log_weights import hypergeometric_log_weights  # noqa: E402
from drpm.ops.k_subset_entropy import k_subset_entropy  # noqa: E402
from drpm.ops.k_subset_log_prob import k_subset_log_prob  # noqa: E402
from drpm.ops.k_subset_marginals import k_subset_marginals  # noqa: E402
from drpm.ops.k_subset_sample import k_subset_sample  # noqa: E402
from drpm.ops.mvhg_covariance import mvhg_covariance  # noqa: E402
from drpm.ops.mvhg_draw import mvhg_draw  # noqa: E402
from drpm.ops.mvhg_entropy import mvhg_entropy  # noqa: E402
from drpm.ops.mvhg_kl import mvhg_kl  # noqa: E402
from drpm.ops.mvhg_log_normalizer import mvhg_log_normalizer  # noqa: E402
from drpm.ops.mvhg_log_prob import mvhg_log_prob  # noqa: E402
from drpm.ops.mvhg_mean import mvhg_mean  # noqa: E402
from drpm.ops.mvhg_sample import mvhg_sample  # noqa: E402
from drpm.ops.partition import partition  # noqa: E402
from drpm.ops.partition_log_prob import partition_log_prob  # noqa: E402
from drpm.ops.partition_log_prob_bounds import partition_log_prob_bounds  # noqa: E402
from drpm.ops.partition_marginals import partition_marginals  # noqa: E402
from drpm.ops.partition_mode import partition_mode  # noqa: E402
from drpm.ops.plackett_luce_log_prob import plackett_luce_log_prob  # noqa: E402
from drpm.ops.random_assignment import random_assignment  # noqa: E402
from drpm.ops.random_assignment_log_prob import random_assignment_log_prob  # noqa: E402
from drpm.ops.random_partition import Partition, random_partition  # noqa: E402
from drpm.ops.random_partition_log_prob import random_partition_log_prob  # noqa: E402
from drpm.ops.relaxed_sort import relaxed_sort, relaxed_sort_matmul  # noqa: E402
from drpm.ops.sized_assignment import SizedAssignment, sized_assignment  # noqa: E402

__all__ = [
    "STREAM_ASSIGNMENT",
    "STREAM_ORDER",
    "STREAM_SIZES",
    "Partition",
    "SizedAssignment",
    "assignment_log_prob",
    "gumbel_noise",
    "hypergeometric_log_weights",
    "k_subset_entropy",
    "k_subset_log_prob",
    "k_subset_marginals",
    "k_subset_sample",
    "mvhg_covariance",
    "mvhg_draw",
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
