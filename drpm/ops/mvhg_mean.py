"""Mean of the multivariate noncentral hypergeometric distribution."""

from __future__ import annotations

from torch import Tensor

from drpm.ops._arguments import Counts, as_dtype
from drpm.ops._mvhg_arguments import mvhg_arguments, plain_arguments
from drpm.ops.mvhg_log_normalizer import normalizer_and_mean

_OP = "mvhg_mean"


def mvhg_mean(
    log_omega: Tensor,  # (*, K)
    m: Counts,  # int, (K,) or (*, K)
    n: Counts,  # int or (*)
) -> Tensor:  # (*, K)
    """Expected sizes.

        E n_k = m_k (p_k + <ρ_k>)                                                                   (Eq. 13)

    Args:
        log_omega: (*, K) float, natural-log weights of the classes. −inf: never drawn, as if m_k = 0.
        m: int, (K,) or (*, K) int64, items per class; 0 … 2^53.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
    Returns: (*, K) of log_omega's dtype; rows sum to n; a row of NaN where device counts are invalid.
    Gradient: exact, the covariance; three times differentiable (third and fourth cumulants).
    Numerics: as `mvhg_log_normalizer`, whose op computes it; relative error below 1e-14, for counts up to 2^53.
    Raises: ValueError for values out of range (CPU, eager), TypeError for wrong dtypes.
    Reference: docs/math/mvhg.md, section 4.
    """
    plain = plain_arguments(m, n, log_omega)
    if plain is not None:
        (_, of_m, of_n, *_), needs_gradient = plain
        mean: Tensor = normalizer_and_mean.plain(needs_gradient, (log_omega, of_m, of_n, True))[1]
        return mean
    arguments = mvhg_arguments(_OP, log_omega, m, n)
    _, mean = normalizer_and_mean(arguments.log_omega, arguments.m, arguments.n, True)
    return as_dtype(mean.reshape(*arguments.batch, arguments.classes), log_omega.dtype)
