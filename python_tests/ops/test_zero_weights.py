"""log_omega = −inf is a class of weight zero: as if it had no items, in every op of the MVHG."""

import itertools
import math

import pytest
import torch

from drpm import ops
from drpm.distributions import (
    MultivariateNoncentralHypergeometric,
    RandomPartition,
    RelaxedMultivariateNoncentralHypergeometric,
    RelaxedRandomPartition,
)
from drpm.ops import (
    hypergeometric_log_weights,
    mvhg_covariance,
    mvhg_draw,
    mvhg_entropy,
    mvhg_kl,
    mvhg_log_normalizer,
    mvhg_log_prob,
    mvhg_mean,
    mvhg_sample,
    partition_marginals,
    partition_mode,
    random_partition,
    random_partition_log_prob,
)
from drpm.testing import FLOAT_DTYPES

INF = math.inf
M = torch.tensor([5, 4, 6, 3])
KEPT = [0, 2, 3]
EXACT_AND_MERGED = pytest.mark.parametrize("conditionals", ["exact", "merged"])
DRAWN = pytest.mark.parametrize("n", [0, 1, 6, 13, 14])  # 14: all that can be drawn


def weights(dtype=torch.float64):
    return torch.tensor([0.3, -INF, -0.5, 1.0], dtype=dtype, requires_grad=True)


def others(dtype=torch.float64):
    return torch.tensor([0.3, -0.5, 1.0], dtype=dtype, requires_grad=True)


def support(m, n):
    return torch.tensor([x for x in itertools.product(*[range(int(c) + 1) for c in m]) if sum(x) == n])


@DRAWN
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_moments_are_those_without_the_class(n, dtype):
    tolerance = dict(rtol=1e-12, atol=1e-12) if dtype == torch.float64 else dict(rtol=1e-5, atol=1e-5)
    for op in (mvhg_log_normalizer, mvhg_mean, mvhg_covariance, mvhg_entropy):
        w, v = weights(dtype), others(dtype)
        got, want = op(w, M, n), op(v, M[KEPT], n)
        for dim in range(got.dim()):
            assert (got.select(dim, 1) == 0).all()
            got = got.index_select(dim, torch.tensor(KEPT))
        torch.testing.assert_close(got, want, **tolerance)
        direction = torch.randn_like(want)
        (by_w,), (by_v,) = (torch.autograd.grad((x * direction).sum(), y) for x, y in ((got, w), (want, v)))
        assert by_w[1] == 0
        torch.testing.assert_close(by_w[KEPT], by_v, **tolerance)


@DRAWN
@EXACT_AND_MERGED
def test_probabilities_and_samples_leave_the_class_empty(n, conditionals):
    w, v = weights(), others()
    every = support(M, n).double().requires_grad_()
    log_prob = mvhg_log_prob(every, w, M, n, conditionals=conditionals)
    inside = every[:, 1] == 0
    assert (log_prob[~inside] == -INF).all() and abs(log_prob.logsumexp(0)) < 1e-12
    want = mvhg_log_prob(every[inside][:, KEPT], v, M[KEPT], n, conditionals=conditionals)
    torch.testing.assert_close(log_prob[inside], want, rtol=1e-12, atol=1e-12)
    by_sizes, by_w = torch.autograd.grad(log_prob[inside].sum(), (every, w), retain_graph=True)
    (by_v,) = torch.autograd.grad(want.sum(), v)
    assert by_w[1] == 0 and torch.isfinite(by_sizes).all()
    torch.testing.assert_close(by_w[KEPT], by_v, rtol=1e-11, atol=1e-11)
    if inside.any() and not inside.all():
        for grad in torch.autograd.grad(log_prob[~inside].sum(), (every, w)):
            assert (grad == 0).all()
    for hard, order in itertools.product((True, False), (None, [1, 0, 2, 3], [3, 2, 0, 1])):
        w = weights()
        options = dict(hard=hard, conditionals=conditionals, class_order=order, sample_shape=(20,), seed=1)
        sizes = mvhg_sample(w, M, n, 0.7, **options)
        if hard or order != [3, 2, 0, 1]:  # relaxed, the last class in the order takes what is left, whatever it holds
            assert (sizes[:, 1] == 0).all()
        torch.testing.assert_close(sizes.sum(-1), torch.full((20,), float(n), dtype=torch.float64))
        (grad,) = torch.autograd.grad((sizes * torch.randn_like(sizes)).sum(), w)
        assert grad[1] == 0 and torch.isfinite(grad).all()


@DRAWN
@pytest.mark.parametrize("largest_table", [0, 100])
def test_draws_follow_the_law_without_the_class(n, largest_table):
    shape = dict(sample_shape=(4000,), seed=2, largest_table=largest_table)
    draws, w = mvhg_draw(weights(), M, n, **shape), weights().detach()
    assert (draws[:, 1] == 0).all() and (draws.sum(-1) == n).all()
    deviation = (mvhg_covariance(w, M, n).diagonal() / 4000).sqrt()
    assert ((draws.mean(0) - mvhg_mean(w, M, n)).abs() <= 5 * deviation + 1e-12).all()


@DRAWN
def test_divergence(n):
    """Infinite where p never draws from a class that q does; the other way round a finite sum."""
    q, p = weights(), torch.tensor([0.1, 0.2, 0.3, -0.4], dtype=torch.float64, requires_grad=True)
    every = support(M, n)
    log_q, log_p = (mvhg_log_prob(every, x.detach(), M, n) for x in (q, p))
    want = torch.where(log_q > -INF, log_q.exp() * (log_q - log_p), 0.0).sum()
    got = mvhg_kl(q, p, M, n)
    assert abs(got - want) < 1e-12 * max(1, float(want))
    for grad in torch.autograd.grad(got, (q, p)):
        assert torch.isfinite(grad).all()
    by_p = torch.autograd.functional.jacobian(lambda x: mvhg_kl(q.detach(), x, M, n), p)
    torch.testing.assert_close(by_p, mvhg_mean(p, M, n).detach() - mvhg_mean(q, M, n).detach())
    infinite = mvhg_kl(p, q, M, n)
    assert infinite == (0 if n == 0 else INF)
    assert all((grad == 0).all() for grad in torch.autograd.grad(infinite, (p, q)))
    same = torch.stack([q.detach(), q.detach()])
    assert (mvhg_kl(same, q, M, n) == 0).all()


def test_two_classes():
    left = torch.tensor([-INF, 0.2, -INF], dtype=torch.float64, requires_grad=True)
    right = torch.tensor([0.1, -INF, 0.1], dtype=torch.float64, requires_grad=True)
    got = hypergeometric_log_weights(left, right, 3, 4, torch.tensor([2, 3, 0]))
    assert torch.isfinite(got).tolist() == [[x == only for x in range(4)] for only in (0, 3, 0)]
    near = hypergeometric_log_weights(left.clamp(min=-80), right.clamp(min=-80), 3, 4, torch.tensor([2, 3, 0]))
    for row, only in enumerate((0, 3, 0)):
        torch.testing.assert_close(got[row, only], near[row, only])
    by_left, by_right = torch.autograd.grad(got[torch.isfinite(got)].sum(), (left, right))
    assert by_left.tolist() == [0.0, 3.0, 0.0] and by_right.tolist() == [2.0, 0.0, 0.0]


def test_partitions_leave_the_subset_empty():
    w, v = weights(), others()
    scores = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    for conditionals in ("exact", "merged"):
        drawn = random_partition(w, scores, sample_shape=(50,), seed=3, conditionals=conditionals)
        assert (drawn.sizes[:, 1] == 0).all() and not (drawn.labels == 1).any()
        (grad,) = torch.autograd.grad((drawn.assignment * torch.randn_like(drawn.assignment)).sum(), w)
        assert grad[1] == 0 and torch.isfinite(grad).all()
    for got, want in (
        (partition_marginals(w, scores)[KEPT], partition_marginals(v, scores)),
        (
            random_partition_log_prob(torch.tensor([0, 2, 3, 3, 0, 2]), w, scores),
            random_partition_log_prob(torch.tensor([0, 1, 2, 2, 0, 1]), v, scores),
        ),
    ):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
        grads = [torch.autograd.grad(x.square().sum(), (y, scores)) for x, y in ((got, w), (want, v))]
        assert grads[0][0][1] == 0
        torch.testing.assert_close(grads[0][0][KEPT], grads[1][0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(grads[0][1], grads[1][1], rtol=1e-9, atol=1e-9)
    assert (partition_marginals(w, scores)[1] == 0).all()
    mode = partition_mode(v, scores)
    assert torch.equal(partition_mode(w, scores), torch.tensor(KEPT)[mode])
    assert random_partition_log_prob(torch.tensor([0, 1, 3, 3, 0, 2]), w, scores) == -INF


def test_distributions_take_it():
    w = weights().detach()
    law = MultivariateNoncentralHypergeometric(M, 6, w, validate_args=True)
    sizes = law.sample((30,))
    assert (sizes[:, 1] == 0).all() and torch.isfinite(law.log_prob(sizes)).all() and law.mean[1] == 0
    assert law.log_prob(torch.tensor([2.0, 1.0, 2.0, 1.0])) == -INF
    assert abs(law.log_prob(law.enumerate_support()).logsumexp(0)) < 1e-12
    other = MultivariateNoncentralHypergeometric(M, 6, w.clamp(min=-1))
    assert torch.distributions.kl_divergence(other, law) == INF
    assert torch.isfinite(torch.distributions.kl_divergence(law, other))
    relaxed = RelaxedMultivariateNoncentralHypergeometric(0.5, M, 6, w, validate_args=True)
    assert (relaxed.rsample((5,))[:, 1] == 0).all()
    partition = RandomPartition(w, torch.zeros(6, dtype=torch.float64), validate_args=True)
    assert torch.isfinite(partition.log_prob(partition.sample((5,)))).all()
    assert (RelaxedRandomPartition(0.5, w, torch.zeros(6, dtype=torch.float64)).rsample((5,))[:, 1] == 0).all()
    for kind in (MultivariateNoncentralHypergeometric, lambda *a, **k: type(relaxed)(0.5, *a, **k)):
        with pytest.raises(ValueError, match="n must be at most the sum of m"):
            kind(M, 15, w, validate_args=True)
        with pytest.raises(ValueError, match="log_omega"):
            kind(M, 6, -w, validate_args=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda w: mvhg_log_prob(torch.tensor([5, 1, 6, 3]), w, M, 15),
        lambda w: mvhg_log_normalizer(w, M, 15),
        lambda w: mvhg_mean(w, M, torch.tensor([3, 15])),
        lambda w: mvhg_covariance(torch.stack([w, w.clamp(min=-1)]), M, 15),
        lambda w: mvhg_entropy(w, M, 15),
        lambda w: mvhg_kl(w.clamp(min=-1), w, M, 15),
        lambda w: mvhg_draw(w, 5, 16),
        lambda w: mvhg_sample(w, 5, 16),
        lambda w: mvhg_sample(w, M, 15, conditionals="merged"),
        lambda w: random_partition(w, torch.zeros(16, dtype=torch.float64), m=5),
        lambda w: random_partition_log_prob(torch.zeros(16, dtype=torch.int64), w, torch.zeros(16).double(), m=5),
        lambda w: partition_marginals(w, torch.zeros(16, dtype=torch.float64), m=5),
        lambda w: partition_mode(w, torch.zeros(16, dtype=torch.float64), m=5),
        lambda w: hypergeometric_log_weights(w[1], w[0], 3, 4, 5),
    ],
)
def test_more_than_the_other_classes_hold_is_an_error(function):
    with pytest.raises(ValueError, match="n must be <= "):
        function(weights().detach())


def test_values_that_nobody_checks():
    """Row 1 draws more than can be; the others are those of a checked call."""
    log_omega = torch.tensor([[0.0, -INF, 0.5], [0.0, -INF, 0.5], [0.0, 0.0, -INF], [-INF, -INF, -INF]]).double()
    m, n = torch.tensor([[3, 2, 2]]), torch.tensor([4, 6, 5, 0])
    seed = torch.tensor([1])
    sizes = torch.tensor([[2.0, 0.0, 2.0], [3.0, 1.0, 2.0], [3.0, 2.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    kernels = torch.ops.drpm
    for value in (
        kernels.mvhg_log_normalizer(log_omega, m, n, False)[0],
        kernels.mvhg_log_normalizer(log_omega, m, n, True)[1],
        kernels.mvhg_log_prob(sizes, log_omega, m, n, False)[0],
        kernels.mvhg_log_prob_merged(sizes, log_omega, m, n)[0],
        kernels.mvhg_covariance_product(log_omega, m, n, torch.ones_like(log_omega)),
        kernels.mvhg_entropy(log_omega, m, n)[0],
        kernels.mvhg_kl(log_omega, log_omega, m, n)[0],
        kernels.mvhg_draw(log_omega, m, n, seed, 1, 100),
        kernels.mvhg_sample_exact(log_omega, m, n, seed, None, 1.0, 1, True, False)[0],
        kernels.mvhg_sample_merged(log_omega, m, n, seed, None, 1.0, 1, True, False)[0],
    ):
        assert torch.isnan(value[1]).all() and torch.isfinite(value[[0, 2, 3]]).all()
    together = torch.func.vmap(lambda w, k: mvhg_mean(w, m[0], k))(log_omega, n)
    apart = torch.stack([mvhg_mean(log_omega[i], m[0], n[i]) for i in (0, 2, 3)])
    assert torch.isnan(together[1]).all() and torch.equal(together[[0, 2, 3]], apart)


def test_second_derivatives():
    w = weights()

    def gradient_of(op):
        return torch.autograd.grad(op(w), w, create_graph=True)[0]

    sizes = torch.tensor([2.0, 0.0, 3.0, 1.0], dtype=torch.float64)
    for op in (
        lambda w: mvhg_log_normalizer(w, M, 6),
        lambda w: mvhg_entropy(w, M, 6),
        lambda w: mvhg_log_prob(sizes, w, M, 6),
        lambda w: mvhg_log_prob(sizes, w, M, 6, conditionals="merged"),
    ):
        (second,) = torch.autograd.grad(gradient_of(op)[0], w)
        assert torch.isfinite(second).all() and second[1] == 0 and second[0] != 0
    assert ops.mvhg_covariance(w, M, 6)[0, 0] > 0
