"""Plain PyTorch twins of every op in `drpm.ops`, written to be read.

They follow the formulas of the thesis, differentiate by autograd, batch over leading dimensions and take
explicit noise instead of seeds. Nothing here needs the compiled module. Memory and time are quadratic in n
or worse; they are the yardstick of the kernels, not a replacement.
"""

from .mvhg import hypergeometric_log_weights, mvhg_log_normalizer, mvhg_log_prob, mvhg_sample
from .partition import partition
from .plackett_luce import plackett_luce_log_prob
from .random_partition import Partition, random_partition
from .relaxed_sort import relaxed_sort, relaxed_sort_matmul

__all__ = [
    "Partition",
    "hypergeometric_log_weights",
    "mvhg_log_normalizer",
    "mvhg_log_prob",
    "mvhg_sample",
    "partition",
    "plackett_luce_log_prob",
    "random_partition",
    "relaxed_sort",
    "relaxed_sort_matmul",
]
