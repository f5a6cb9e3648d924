"""Fisher's multivariate noncentral hypergeometric distribution."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from drpm.distributions.constraints import SizesOf, weights_vector
from drpm.ops import (
    mvhg_covariance,
    mvhg_draw,
    mvhg_entropy,
    mvhg_kl,
    mvhg_log_normalizer,
    mvhg_log_prob,
    mvhg_mean,
)
from drpm.ops._arguments import (
    argument_error,
    as_dtype,
    check_count,
    check_floating,
    check_tensor,
    plain_int,
    require,
)
from drpm.ops._mvhg_arguments import beyond_float32, check_draws

_LARGEST_SUPPORT = 100_000  # size vectors that enumerate_support is willing to list


def broadcast_counts(
    op: str,
    m: int | Tensor,
    n: int | Tensor,
    log_omega: Tensor,  # (*, K)
) -> tuple[Tensor, Tensor, Tensor]:  # (*, K), (*), (*, K)
    """m (*, K) and n (*) as int64 on the device of log_omega, all of one batch shape."""
    check_floating(op, "log_omega", log_omega)
    require(log_omega.dim() >= 1, op, "log_omega", "have at least one dimension (*, K)", "a scalar")
    device, classes = log_omega.device, log_omega.shape[-1]
    counts = []
    for name, value in (("m", m), ("n", n)):
        value = plain_int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            check_count(op, name, value)
        counts.append(torch.as_tensor(value, device=device))
        if counts[-1].is_floating_point() or counts[-1].dtype == torch.bool:
            raise ValueError(f"{op}: {name} must be whole (int or int64), got {counts[-1].dtype}")
    m_t, n_t = counts[0].to(torch.int64), counts[1].to(torch.int64)
    m_t = m_t.expand(classes) if m_t.dim() == 0 else m_t
    batch = torch.broadcast_shapes(log_omega.shape[:-1], m_t.shape[:-1], n_t.shape)
    return m_t.expand(*batch, classes), n_t.expand(batch), log_omega.expand(*batch, classes)


def check_possible(op: str, m: Tensor, n: Tensor, log_omega: Tensor) -> None:
    """n <= Σ m over the classes of a weight above zero."""
    if not bool((n <= torch.where(log_omega == -torch.inf, 0, m).sum(-1)).all()):
        raise ValueError(
            f"{op}: n must be at most the sum of m (over the classes of weight above zero), got more in some row"
        )


def count_ways(counts: list[int], n: int, limit: int) -> int:
    """Size vectors with 0 <= n_k <= m_k and Σ n_k = n; some number above `limit` where there are more than that."""
    n, rest = min(n, sum(counts) - n), sum(counts)  # what is left behind has as many
    if n < 0:
        return 0
    low, ways = 0, torch.ones(1, dtype=torch.int64, device="cpu")  # of totals low, low + 1, … of the classes so far
    for count in sorted(counts, reverse=True):
        rest -= count
        first, last = max(0, n - rest), min(n, low + len(ways) - 1 + count)  # totals that the others can complete
        if last - first >= limit:  # each has a way
            return limit + 1
        totals = torch.arange(first, last + 1, device="cpu")
        sums = torch.cat([ways.new_zeros(1), ways.cumsum(0)])  # of the totals below low + i
        ways = sums[(totals + 1 - low).clamp(0, len(ways))] - sums[(totals - count - low).clamp(0, len(ways))]
        low = first
        if int(ways.sum()) > limit:
            return limit + 1
    return int(ways.sum())


class MultivariateNoncentralHypergeometric(Distribution):
    """Numbers drawn from each of K classes when n items are drawn without replacement, with weights per class.

        p(n; ω) = Π_k C(m_k, n_k) ω_k^{n_k} / P0,  Σ n_k = n                                     (thesis Eq. 2.79)

    Probabilities, moments, entropy and divergence are exact and differentiable in log_omega, samples are exact.
    Maximum likelihood of log_omega is a convex problem; see `fit`.

    Args:
        m: int, (K,) or (*, K) int64, items per class; >= 0.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
        log_omega: (*, K) float, natural-log weights of the classes; a common constant does not matter. −inf: never
            drawn, as if m_k = 0.
    Values: (*, K) in the dtype of log_omega, float64 where m and n as Python numbers allow sizes above 2^24; counts in
        tensors keep float32, which rounds such sizes.
    """

    arg_constraints: ClassVar = {
        "m": constraints.independent(constraints.nonnegative_integer, 1),
        "n": constraints.nonnegative_integer,
        "log_omega": weights_vector,
    }
    has_rsample = False

    def __init__(
        self,
        m: int | Tensor,
        n: int | Tensor,
        log_omega: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.m, self.n, self.log_omega = broadcast_counts("MultivariateNoncentralHypergeometric", m, n, log_omega)
        self._beyond_float32 = beyond_float32(plain_int(m), plain_int(n))
        super().__init__(self.log_omega.shape[:-1], self.log_omega.shape[-1:], validate_args=validate_args)
        if self._validate_args:
            check_possible(type(self).__name__, self.m, self.n, self.log_omega)

    def expand(self, batch_shape: Any, _instance: Any = None) -> MultivariateNoncentralHypergeometric:
        new: MultivariateNoncentralHypergeometric = self._get_checked_instance(
            MultivariateNoncentralHypergeometric, _instance
        )
        batch = torch.Size(batch_shape)
        new.m, new.n = self.m.expand(batch + self.event_shape), self.n.expand(batch)
        new.log_omega = self.log_omega.expand(batch + self.event_shape)
        new._beyond_float32 = self._beyond_float32
        super(MultivariateNoncentralHypergeometric, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> SizesOf:
        return SizesOf(self.m, self.n)

    @property
    def mean(self) -> Tensor:
        return mvhg_mean(self.log_omega, self.m, self.n)

    @property
    def covariance_matrix(self) -> Tensor:
        return mvhg_covariance(self.log_omega, self.m, self.n)

    @property
    def variance(self) -> Tensor:
        return self.covariance_matrix.diagonal(dim1=-2, dim2=-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return mvhg_draw(self._weights_for_sizes, self.m, self.n, sample_shape=sample_shape)

    @property
    def _weights_for_sizes(self) -> Tensor:
        return as_dtype(self.log_omega, torch.float64) if self._beyond_float32 else self.log_omega

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return mvhg_log_prob(value, self.log_omega, self.m, self.n)

    def entropy(self) -> Tensor:
        return mvhg_entropy(self.log_omega, self.m, self.n)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether all batch entries share m and n and the support is small."""
        m, n = self.m.reshape(-1, self.event_shape[0]), self.n.reshape(-1)
        if n.numel() == 0 or not bool((m == m[0]).all() and (n == n[0]).all()):
            return False
        return count_ways(m[0].tolist(), int(n[0]), _LARGEST_SUPPORT) <= _LARGEST_SUPPORT

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Those of probability zero, with sizes above 0 in a class of weight zero, included."""
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"enumerate_support needs one m and n for the whole batch and at most {_LARGEST_SUPPORT} size vectors"
            )
        counts, n = self.m.reshape(-1, self.event_shape[0])[0].tolist(), int(self.n.reshape(-1)[0])
        left = [sum(counts[k + 1 :]) for k in range(len(counts))]
        vectors: list[list[int]] = [[]]
        for k, count in enumerate(counts):
            vectors = [
                [*v, x] for v in vectors for x in range(max(0, n - sum(v) - left[k]), min(count, n - sum(v)) + 1)
            ]
        values = torch.tensor(vectors, dtype=self._weights_for_sizes.dtype, device=self.log_omega.device)
        values = values.reshape((-1,) + (1,) * len(self.batch_shape) + self.event_shape)
        return values.expand((-1, *self.batch_shape, *self.event_shape)) if expand else values

    @classmethod
    def fit(
        cls,
        sizes: Tensor,  # (S, K)
        m: int | Tensor,
        n: int | Tensor,
        *,
        max_iterations: int = 50,
        tolerance: float = 1e-10,
    ) -> MultivariateNoncentralHypergeometric:
        """Maximum likelihood of log_omega by Newton's method, the mean over S observations matched to E n.

        The log-likelihood is concave in log_omega; its gradient is S (mean of sizes − E n), its Hessian −S Cov. The
        weights are determined up to a common factor: log_omega is returned with mean 0 over the classes that vary.

        At the edges the maximum is a limit: a class that was never drawn gets −inf, a weight of zero; one that was
        always drawn whole, while others varied, has no finite maximum and is an error. Where all or nothing is drawn
        (n is 0 or the sum of m), or all of the classes that were drawn at all, there is one outcome, whatever their
        weights, which are 0.

        Args:
            sizes: (S, K) whole or float, S >= 1 observations, each of which sums to n.
            m: int or (K,) int64, items per class. n: int, items drawn.
            max_iterations, tolerance: of Newton's method; the largest step at which it stops.
        Returns: the law; its log_omega has the dtype of floating sizes, else float64.
        Raises: ValueError for sizes that do not sum to n, leave [0, m], or are m_k in every observation of a class.
        Reference: docs/math/mvhg.md, section 8.
        """
        op = f"{cls.__name__}.fit"
        check_tensor(op, "sizes", sizes)
        require(sizes.dim() == 2 and len(sizes) >= 1, op, "sizes", "be (S, K) with S >= 1", tuple(sizes.shape))
        target = sizes.detach().double().mean(0)
        m_t, n_t, log_omega = broadcast_counts(op, m, n, torch.zeros_like(target))
        require(n_t.dim() == 0, op, "m and n", "be the same for all observations", tuple(n_t.shape))
        check_draws(op, n_t, m_t)
        total = sizes.detach().double().sum(-1)
        if not bool(((total - n_t).abs() <= 1e-5 * (1 + n_t)).all()):
            wrong = total[~((total - n_t).abs() <= 1e-5 * (1 + n_t))][0]
            raise argument_error(op, "sizes", f"sum to n = {int(n_t)}", float(wrong))
        require(not bool(((sizes < 0) | (sizes > m_t)).any()), op, "sizes", "lie in [0, m]", "some outside")
        dtype = sizes.dtype if sizes.is_floating_point() else torch.float64
        free = (m_t > 0) & (m_t.sum() != n_t) & (n_t > 0)
        never = free & (target <= 0)
        m_t = torch.where(never, 0, m_t)  # the law of the others
        free = free & ~never & (m_t.sum() != n_t)
        whole = (free & (target >= m_t)).nonzero()
        if len(whole):
            got = f"class {int(whole[0])}, always drawn whole"
            raise argument_error(op, "sizes", "have a mean below m in every class: no weight is large enough for", got)
        log_omega = torch.where(never, -torch.inf, log_omega)
        if int(free.sum()) <= 1:
            return cls(m, n, log_omega.to(dtype))
        fraction = (target / m_t.clamp(min=1)).clamp(1e-12, 1 - 1e-12)
        log_omega = torch.where(free, torch.logit(fraction), log_omega)  # exact for independent binomials

        def shortfall(w: Tensor) -> Tensor:  # concave: log-likelihood per observation, up to a constant
            return (torch.where(free, w, 0.0) * target).sum() - cls(m_t, n_t, w, validate_args=False).log_normalizer

        for _ in range(max_iterations):
            law = cls(m_t, n_t, log_omega, validate_args=False)
            gradient = target - law.mean
            # Cov is singular along the all-ones direction, where the likelihood is flat: a rank-one term fills it
            ones = free.double()
            scale = law.variance.mean() / ones.sum().clamp(min=1)
            hessian = law.covariance_matrix + scale * torch.outer(ones, ones) + torch.diag(1 - ones)
            step = torch.linalg.solve(hessian, gradient)
            size, here = 1.0, shortfall(log_omega)
            while shortfall(log_omega + size * step) < here - 1e-12 * here.abs() and size > 1e-6:
                size /= 2  # far from the maximum a full step may overshoot
            log_omega = log_omega + size * step
            if float(step.abs().max()) < tolerance:
                break
        log_omega = torch.where(free, log_omega - log_omega[free].mean(), log_omega)
        return cls(m, n, log_omega.to(dtype))

    @property
    def log_normalizer(self) -> Tensor:
        """log P0, without the prefactors of the classes' binomials."""
        return mvhg_log_normalizer(self.log_omega, self.m, self.n)


@register_kl(MultivariateNoncentralHypergeometric, MultivariateNoncentralHypergeometric)
def _kl(p: MultivariateNoncentralHypergeometric, q: MultivariateNoncentralHypergeometric) -> Tensor:
    """KL(p ‖ q); both must draw the same n from the same m, else the divergence is infinite or not defined."""
    return kl_of_equal_counts(p, q)


def kl_of_equal_counts(p: Any, q: Any) -> Tensor:
    """NaN instead of the error where torch.compile can not look at the counts."""
    same = (p.m == q.m).all(-1) & (p.n == q.n)
    if torch.compiler.is_compiling():
        return torch.where(same, mvhg_kl(p.log_omega, q.log_omega, p.m, p.n), torch.nan)
    if not bool(same.all()):
        raise NotImplementedError("kl_divergence: m and n of the two distributions must be equal")
    return mvhg_kl(p.log_omega, q.log_omega, p.m, p.n)
