"""The torch.distributions contract of the MVHG and of its relaxed sibling."""

import pytest
import torch
from torch.distributions import kl_divergence

from drpm.distributions import MultivariateNoncentralHypergeometric, RelaxedMultivariateNoncentralHypergeometric

M, N = torch.tensor([4, 3, 5]), 6
LOG_OMEGA = torch.tensor([[0.0, 1.0, -0.5], [2.0, 0.0, 0.3]], dtype=torch.float64)


def exact(log_omega=LOG_OMEGA, **kwargs):
    return MultivariateNoncentralHypergeometric(M, N, log_omega, **kwargs)


def relaxed(log_omega=LOG_OMEGA, **kwargs):
    return RelaxedMultivariateNoncentralHypergeometric(0.7, M, N, log_omega, **kwargs)


@pytest.mark.parametrize("make", [exact, relaxed])
def test_shapes_samples_and_support(make):
    law = make()
    assert law.batch_shape == (2,) and law.event_shape == (3,)
    draws = law.sample((5, 7))
    assert draws.shape == (5, 7, 2, 3) and draws.dtype == torch.float64 and not draws.requires_grad
    assert law.support.check(draws).all()
    assert law.log_prob(draws).shape == (5, 7, 2)
    assert not law.support.check(torch.tensor([[1.5, 1.5, 3.0], [4.0, 3.0, 5.0]])).any()
    assert make().has_rsample == (make is relaxed)
    assert repr(law)


def test_enumerated_support_carries_all_probability():
    law = exact()
    assert law.has_enumerate_support
    support = law.enumerate_support()
    prob = law.log_prob(support).exp()
    torch.testing.assert_close(prob.sum(0), torch.ones(2, dtype=torch.float64))
    mean = (prob.unsqueeze(-1) * support).sum(0)
    torch.testing.assert_close(law.mean, mean)
    second = (prob.unsqueeze(-1) * (support - mean) ** 2).sum(0)
    torch.testing.assert_close(law.variance, second)
    torch.testing.assert_close(law.entropy(), -(prob * prob.log()).sum(0))
    assert law.enumerate_support(expand=False).shape == (len(support), 1, 3)
    assert len(support.unique(dim=0)) == len(support)
    large = MultivariateNoncentralHypergeometric(100, 300, torch.zeros(6))
    assert not large.has_enumerate_support
    with pytest.raises(NotImplementedError):
        large.enumerate_support()


@pytest.mark.parametrize("make", [exact, relaxed])
def test_expand(make):
    law = make().expand((4, 2))
    assert law.batch_shape == (4, 2) and law.sample((3,)).shape == (3, 4, 2, 3)
    assert type(law) is type(make())
    value = law.sample()
    torch.testing.assert_close(law.log_prob(value)[1], make().log_prob(value[1]))
    torch.testing.assert_close(law.mean[3], make().mean)


def test_divergence_is_that_of_the_enumeration_and_differentiable():
    p, q = exact(), exact(LOG_OMEGA.flip(0).clone().requires_grad_())
    support = p.enumerate_support()
    log_p, log_q = p.log_prob(support), q.log_prob(support)
    want = (log_p.exp() * (log_p - log_q)).sum(0)
    torch.testing.assert_close(kl_divergence(p, q), want)
    torch.testing.assert_close(kl_divergence(relaxed(), q), want)
    torch.testing.assert_close(kl_divergence(relaxed(), relaxed()), torch.zeros(2, dtype=torch.float64))
    kl_divergence(p, q).sum().backward()
    assert torch.isfinite(q.log_omega).all()
    with pytest.raises(NotImplementedError):
        kl_divergence(p, MultivariateNoncentralHypergeometric(M, N - 1, LOG_OMEGA))


def test_log_prob_averages_to_minus_entropy_over_samples():
    """The original's log-probability of its own samples is off by up to 5.5 nats."""
    law = MultivariateNoncentralHypergeometric(200, 180, torch.tensor([0.0, 2.3, 0.0], dtype=torch.float64))
    torch.manual_seed(1)
    log_prob = law.log_prob(law.sample((20000,)))
    error = (log_prob.mean() + law.entropy()) / (log_prob.std() / 20000**0.5)
    assert error.abs() < 4.5


def test_relaxed_samples_carry_gradients():
    log_omega = LOG_OMEGA.clone().requires_grad_()
    hard = relaxed(log_omega).rsample((10,))
    assert torch.equal(hard, hard.round()) and hard.requires_grad
    hard[..., 0].sum().backward()
    assert torch.isfinite(log_omega.grad).all() and (log_omega.grad[:, 0] > 0).all()
    soft = relaxed(log_omega, hard=False)
    draws = soft.rsample((10,))
    assert not torch.equal(draws, draws.round()) and soft.support.check(draws).all()
    merged = relaxed(log_omega, conditionals="merged").rsample((10,))
    assert torch.equal(merged.sum(-1), torch.full((10, 2), 6.0, dtype=torch.float64))


def test_counts_may_vary_over_the_batch():
    law = MultivariateNoncentralHypergeometric(
        torch.tensor([[4, 3, 5], [1, 0, 2]]), torch.tensor([6, 2]), torch.zeros(3)
    )
    assert law.batch_shape == (2,)
    assert torch.equal(law.sample((9,)).sum(-1), torch.tensor([6.0, 2.0]).expand(9, 2))
    assert not law.has_enumerate_support


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.tensor([4, -1]), 2, torch.zeros(2)), "m"),
        ((torch.tensor([4, 1]), 7, torch.zeros(2)), "n must be at most the sum of m"),
        ((torch.tensor([4, 1]), -1, torch.zeros(2)), "n"),
        ((torch.tensor([4, 1]), 2, torch.tensor([0.0, float("nan")])), "log_omega"),
        ((torch.tensor([4.5, 1]), 2, torch.zeros(2)), "m must be whole"),
        ((4, 2, torch.tensor(0.0)), "log_omega must have at least one dimension"),
    ],
)
def test_validation(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultivariateNoncentralHypergeometric(*arguments, validate_args=True)
    with pytest.raises(ValueError, match=message):
        RelaxedMultivariateNoncentralHypergeometric(1.0, *arguments, validate_args=True)


def test_log_prob_validates_its_value():
    law = exact(validate_args=True)
    with pytest.raises(ValueError, match="support"):
        law.log_prob(torch.tensor([1.0, 1.0, 1.0]))
    assert (exact(validate_args=False).log_prob(torch.tensor([1.0, 1.0, 1.0])) == -torch.inf).all()
    with pytest.raises(ValueError, match="tau must be positive"):
        RelaxedMultivariateNoncentralHypergeometric(0.0, M, N, LOG_OMEGA)


@pytest.mark.parametrize("n", [40, 1000, 10**6])
def test_newton_finds_the_weights(n):
    """Maximum likelihood matches the mean of the sizes to E n; the problem is convex."""
    truth = torch.tensor([0.8, -1.2, 0.1, 0.3], dtype=torch.float64)
    m = torch.tensor([n, n // 2, n, 2 * n])
    torch.manual_seed(1)
    sizes = MultivariateNoncentralHypergeometric(m, n, truth).sample((400,))
    fitted = MultivariateNoncentralHypergeometric.fit(sizes, m, n)
    torch.testing.assert_close(fitted.mean, sizes.mean(0), rtol=1e-8, atol=1e-8)
    # standard errors from the Fisher information, along the identified directions
    information = 400 * fitted.covariance_matrix
    error = fitted.log_omega - truth
    error = error - error.mean()
    assert error @ information @ error < 25  # chi-square with 3 degrees of freedom: probability 1e-5


def test_fit_at_the_edges():
    """What was never drawn has weight zero; the others are fitted as if it were not there."""
    fit = MultivariateNoncentralHypergeometric.fit
    m = torch.tensor([5, 4, 6, 3])
    sizes = torch.tensor([[2.0, 0.0, 3.0, 1.0], [1.0, 0.0, 4.0, 1.0], [3.0, 0.0, 3.0, 0.0]], dtype=torch.float64)
    fitted, others = fit(sizes, m, 6), fit(sizes[:, [0, 2, 3]], m[[0, 2, 3]], 6)
    assert fitted.log_omega[1] == -torch.inf and torch.isfinite(fitted.log_prob(sizes)).all()
    torch.testing.assert_close(fitted.log_omega[[0, 2, 3]], others.log_omega)
    torch.testing.assert_close(fitted.mean, sizes.mean(0))
    # one outcome, however the classes that were drawn are weighted
    alone = fit(torch.tensor([[3.0, 0.0], [3.0, 0.0]]), 5, 3)
    whole = fit(torch.tensor([[4.0, 2.0, 0.0]]), torch.tensor([4, 2, 3]), 6)
    assert alone.log_omega.tolist() == [0.0, -torch.inf] and whole.log_omega.tolist() == [0.0, 0.0, -torch.inf]
    assert alone.mean.tolist() == [3.0, 0.0] and whole.log_prob(torch.tensor([4.0, 2.0, 0.0])) == 0
    with pytest.raises(ValueError, match=r"fit: sizes must have a mean below m in every class.*got class 1, always"):
        fit(torch.tensor([[1.0, 2.0, 2.0], [2.0, 2.0, 1.0]]), torch.tensor([4, 2, 3]), 5)


def test_sizes_beyond_float32_come_as_float64():
    """Float32 can not hold them: samples had probability zero under their own law."""
    n = 2**26
    for law in (
        MultivariateNoncentralHypergeometric(n, n, torch.zeros(3)),
        RelaxedMultivariateNoncentralHypergeometric(0.5, n, n, torch.zeros(3), conditionals="merged"),
    ):
        for each in (law, law.expand((2,))):
            sizes = each.sample((4,))
            assert sizes.dtype == torch.float64 and (sizes.sum(-1) == n).all()
            log_prob = each.log_prob(sizes)
            assert log_prob.dtype == torch.float32 and torch.isfinite(log_prob).all()
    assert MultivariateNoncentralHypergeometric(n, 5, torch.zeros(3)).sample().dtype == torch.float32
    few = MultivariateNoncentralHypergeometric(torch.tensor([n, 1]), n, torch.zeros(2)).enumerate_support()
    assert few.dtype == torch.float64 and few.tolist() == [[n - 1, 1], [n, 0]]


def test_the_size_of_the_support_takes_no_memory():
    law, equal = MultivariateNoncentralHypergeometric, torch.zeros(3)
    for m, n in (
        (10**8, 3),
        (2**53, 3),
        (10**8, 2 * 10**8),
        (2**53, 2**52),
        ([4, 5, 6], 9),
        ([10**9, 2, 1], 5 * 10**8),
    ):
        one = law(torch.tensor(m) if isinstance(m, list) else m, n, equal)
        counts = one.m.tolist()
        least = min(n, sum(counts) - n)
        if least < 100 or counts[1] < 100:
            large = max(counts)
            small = [min(c, least) for c in sorted(counts)[:2]]
            ways = sum(0 <= least - x - y <= large for x in range(small[0] + 1) for y in range(small[1] + 1))
            assert one.has_enumerate_support == (ways <= 100_000)
            assert len(one.enumerate_support()) == ways
        else:
            assert not one.has_enumerate_support
    assert not law(1, 100_000, torch.zeros(200_000)).has_enumerate_support


def test_pyro_model_and_guide():
    """A model with MVHG sizes and a guide that learns them, by SVI; and enumeration-free replay of the trace."""
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, Trace_ELBO

    from drpm.distributions.pyro import MultivariateNoncentralHypergeometric as Sizes

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    truth = torch.tensor([1.5, -0.5, -1.0])
    data = MultivariateNoncentralHypergeometric(20, 25, truth).sample((300,))

    def model(data):
        log_omega = pyro.sample("log_omega", dist.Normal(torch.zeros(3), 2.0).to_event(1))
        with pyro.plate("observations", len(data)):
            pyro.sample("sizes", Sizes(20, 25, log_omega), obs=data)

    def guide(data):
        location = pyro.param("location", torch.zeros(3))
        scale = pyro.param("scale", torch.full((3,), 0.1), constraint=dist.constraints.positive)
        pyro.sample("log_omega", dist.Normal(location, scale).to_event(1))

    trace = pyro.poutine.trace(model).get_trace(data)
    trace.compute_log_prob()
    assert trace.nodes["sizes"]["log_prob"].shape == (300,)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(data) for _ in range(200)]
    assert sum(losses[-20:]) < sum(losses[:20])
    location = pyro.param("location").detach()
    contrast = (location - location.mean()) - (truth - truth.mean())
    assert contrast.abs().max() < 0.3

    def sizes_model():
        return pyro.sample("sizes", Sizes(20, 25, truth))

    def sizes_guide():
        return pyro.sample("sizes", Sizes(20, 25, pyro.param("guide_omega", torch.zeros(3))))

    svi = SVI(sizes_model, sizes_guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO(num_particles=8))
    svi.step()
    assert torch.isfinite(pyro.param("guide_omega")).all()


def test_relaxed_sizes_as_a_site_of_a_pyro_guide():
    """The guide's straight-through samples carry the gradient of the model's log-probability: it finds the model."""
    import pyro
    from pyro.infer import SVI, Trace_ELBO

    from drpm.distributions.pyro import MultivariateNoncentralHypergeometric as Sizes
    from drpm.distributions.pyro import RelaxedMultivariateNoncentralHypergeometric as RelaxedSizes

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    truth = torch.tensor([1.2, -0.4, -0.8])

    def model():
        with pyro.plate("rows", 64):
            pyro.sample("sizes", Sizes(20, 25, truth))

    def guide():
        with pyro.plate("rows", 64):
            pyro.sample("sizes", RelaxedSizes(0.5, 20, 25, pyro.param("weights", torch.zeros(3))))

    assert pyro.poutine.trace(guide).get_trace().nodes["sizes"]["fn"].has_rsample
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step() for _ in range(150)]
    assert sum(losses[-20:]) < 0.2 * sum(losses[:20])
    weights = pyro.param("weights").detach()
    assert ((weights - weights.mean()) - (truth - truth.mean())).abs().max() < 0.25


@pytest.mark.parametrize(
    "law",
    [MultivariateNoncentralHypergeometric, lambda *a, **k: RelaxedMultivariateNoncentralHypergeometric(0.5, *a, **k)],
)
def test_moments_follow_the_parameters_and_the_support_prints_its_name(law):
    one = law(torch.tensor([4, 3]), 5, torch.zeros(2))
    before = one.mean.clone(), one.variance.clone()
    one.log_omega.copy_(torch.tensor([1.0, -1.0]))
    again = law(torch.tensor([4, 3]), 5, torch.tensor([1.0, -1.0]))
    assert torch.equal(one.mean, again.mean) and not torch.equal(one.mean, before[0])
    assert torch.equal(one.variance, again.variance) and not torch.equal(one.variance, before[1])
    assert repr(one.support).startswith("SizesOf(m=[4, 3], n=5")
    with pytest.raises(ValueError, match=r"SizesOf\(m=\[4, 3\], n=5"):
        one.log_prob(torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize(
    ("sizes", "n", "message"),
    [
        ([[1.0, 2.0], [1.0, 1.0]], 3, r"fit: sizes must sum to n = 3, got 2\.0"),
        ([[float("nan"), 2.0]], 3, "fit: sizes must sum to n = 3, got nan"),
        ([[-1.0, 4.0], [2.0, 1.0]], 3, r"fit: sizes must lie in \[0, m\], got some outside"),
        ([1.0, 2.0], 3, r"fit: sizes must be \(S, K\) with S >= 1, got \(2,\)"),
        ([[1.0, 2.0]], 9, "fit: n must be <= the sum of m, got 9 > 8"),
    ],
)
def test_observations_that_cannot_be_are_refused(sizes, n, message):
    with pytest.raises(ValueError, match=message):
        MultivariateNoncentralHypergeometric.fit(torch.tensor(sizes), 4, n)


@pytest.mark.parametrize("n", [0, 7])
def test_one_outcome_is_explained_by_equal_weights(n):
    m = torch.tensor([4, 3])
    sizes = torch.zeros(2) if n == 0 else m.double()
    fitted = MultivariateNoncentralHypergeometric.fit(sizes.expand(5, 2), m, n)
    assert torch.equal(fitted.log_omega, torch.zeros(2, dtype=sizes.dtype))
    assert fitted.log_prob(sizes) == 0 and torch.equal(fitted.mean, sizes)
