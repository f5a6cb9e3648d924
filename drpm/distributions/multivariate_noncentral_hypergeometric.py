"""Fisher's multivariate noncentral hypergeometric distribution."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from drpm.distributions.constraints import SizesOf, finite_vector
from drpm.ops import (
    mvhg_covariance,
    mvhg_draw,
    mvhg_entropy,
    mvhg_kl,
    mvhg_log_normalizer,
    mvhg_log_prob,
    mvhg_mean,
)
from drpm.ops._arguments import argument_error, check_floating, check_tensor, require
from drpm.ops._mvhg_arguments import check_draws

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
        counts.append(torch.as_tensor(value, device=device))
        if counts[-1].is_floating_point() or counts[-1].dtype == torch.bool:
            raise ValueError(f"{op}: {name} must be whole (int or int64), got {counts[-1].dtype}")
    m_t, n_t = counts[0].to(torch.int64), counts[1].to(torch.int64)
    m_t = m_t.expand(classes) if m_t.dim() == 0 else m_t
    batch = torch.broadcast_shapes(log_omega.shape[:-1], m_t.shape[:-1], n_t.shape)
    return m_t.expand(*batch, classes), n_t.expand(batch), log_omega.expand(*batch, classes)


class MultivariateNoncentralHypergeometric(Distribution):
    """Numbers drawn from each of K classes when n items are drawn without replacement, with weights per class.

        p(n; ω) = Π_k C(m_k, n_k) ω_k^{n_k} / P0,  Σ n_k = n                                     (thesis Eq. 2.79)

    Probabilities, moments, entropy and divergence are exact and differentiable in log_omega, samples are exact.
    Maximum likelihood of log_omega is a convex problem; see `fit`.

    Args:
        m: int, (K,) or (*, K) int64, items per class; >= 0.
        n: int or (*) int64, items drawn; 0 <= n <= sum of m.
        log_omega: (*, K) float, natural-log weights of the classes; a common constant does not matter.
    """

    arg_constraints: ClassVar = {
        "m": constraints.independent(constraints.nonnegative_integer, 1),
        "n": constraints.nonnegative_integer,
        "log_omega": finite_vector,
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
        super().__init__(self.log_omega.shape[:-1], self.log_omega.shape[-1:], validate_args=validate_args)
        if self._validate_args and not bool((self.n <= self.m.sum(-1)).all()):
            raise ValueError(f"{type(self).__name__}: n must be at most the sum of m, got more in some row")

    def expand(self, batch_shape: Any, _instance: Any = None) -> MultivariateNoncentralHypergeometric:
        new: MultivariateNoncentralHypergeometric = self._get_checked_instance(
            MultivariateNoncentralHypergeometric, _instance
        )
        batch = torch.Size(batch_shape)
        new.m, new.n = self.m.expand(batch + self.event_shape), self.n.expand(batch)
        new.log_omega = self.log_omega.expand(batch + self.event_shape)
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
        return mvhg_draw(self.log_omega, self.m, self.n, sample_shape=sample_shape)

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
        ways = torch.zeros(int(n[0]) + 1, dtype=torch.float64, device="cpu")
        ways[0] = 1
        for count in m[0].tolist():
            total = ways.cumsum(0)
            ways = total - torch.cat([total.new_zeros(count + 1), total])[: len(total)]
        return bool(ways[-1] <= _LARGEST_SUPPORT)

    def enumerate_support(self, expand: bool = True) -> Tensor:
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
        values = torch.tensor(vectors, dtype=self.log_omega.dtype, device=self.log_omega.device)
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
        weights are determined up to a common factor: log_omega is returned with mean 0 over the classes that vary. A
        class whose mean sits at 0 or m_k has no finite maximum; the observations must not contain one. Where n is 0 or
        the sum of m there is one outcome, whatever the weights, and log_omega is 0.

        Args:
            sizes: (S, K) whole or float, S >= 1 observations, each of which sums to n.
            m: int or (K,) int64, items per class. n: int, items drawn.
            max_iterations, tolerance: of Newton's method; the largest step at which it stops.
        Raises: ValueError for sizes that do not sum to n, leave [0, m] or have a mean at its edge.
        Reference: docs/math/mvhg.md, section 7.
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
        free = (m_t > 0) & (m_t.sum() != n_t) & (n_t > 0)
        edge = ((target <= 0) | (target >= m_t)) & free
        require(
            not bool(edge.any()), op, "sizes", "have means strictly between 0 and m in every class", "one at the edge"
        )
        if not bool(free.any()):
            return cls(m, n, log_omega.to(sizes.dtype if sizes.is_floating_point() else torch.float64))
        fraction = (target / m_t.clamp(min=1)).clamp(1e-12, 1 - 1e-12)
        log_omega = torch.where(free, torch.logit(fraction), 0.0)  # exact for independent binomials

        def shortfall(w: Tensor) -> Tensor:  # concave: log-likelihood per observation, up to a constant
            return (w * target).sum() - cls(m_t, n_t, w, validate_args=False).log_normalizer

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
        log_omega = torch.where(free, log_omega - log_omega[free].mean(), 0.0)
        return cls(m, n, log_omega.to(sizes.dtype if sizes.is_floating_point() else torch.float64))

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
