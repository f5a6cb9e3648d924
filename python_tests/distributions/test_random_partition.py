import math

import pytest
import torch

from drpm.distributions import (
    MultivariateNoncentralHypergeometric,
    PlackettLuce,
    RandomPartition,
    RelaxedMultivariateNoncentralHypergeometric,
    RelaxedPlackettLuce,
    RelaxedRandomPartition,
    kl_monte_carlo,
)
from drpm.ops import mvhg_mean


def example(n=5, num_subsets=3, *batch):
    return torch.randn(*batch, num_subsets).double(), torch.randn(*batch, n).double()


def test_shapes_support_and_expand():
    law = RandomPartition(torch.randn(4, 1, 3), torch.randn(2, 6))
    assert law.batch_shape == (4, 2) and law.event_shape == (6,) and law.num_subsets == 3 and not law.has_rsample
    value = law.sample((5,))
    assert value.shape == (5, 4, 2, 6) and value.dtype == torch.int64 and law.support.check(value).all()
    assert law.log_prob(value).shape == (5, 4, 2) and law.marginals.shape == (4, 2, 3, 6)
    wide = RandomPartition(torch.zeros(3), torch.zeros(6), m=torch.tensor([1, 2, 3])).expand((2, 7))
    assert wide.batch_shape == (2, 7) and wide.m.shape == (2, 7, 3)
    sizes = torch.nn.functional.one_hot(wide.sample(), 3).sum(-2)
    assert (sizes == torch.tensor([1, 2, 3])).all()


@pytest.mark.parametrize("m", [None, torch.tensor([2, 3, 4])])
def test_samples_follow_log_prob(m):
    log_omega, log_scores = example()
    law = RandomPartition(log_omega, log_scores * 0.7, m=m)
    labels = law.enumerate_support()
    assert labels.shape == (243, 5) and law.has_enumerate_support
    probability = law.log_prob(labels).exp()
    assert abs(probability.sum() - 1) < 1e-11
    draws = 60000
    base = torch.tensor([81, 27, 9, 3, 1])
    counts = (law.sample((draws,)) * base).sum(-1).bincount(minlength=243)[(labels * base).sum(-1)]
    assert counts[probability == 0].sum() == 0
    expected = draws * probability
    often = expected >= 5
    rest = (counts - expected)[~often].sum() ** 2 / expected[~often].sum().clamp(min=1)
    statistic = ((counts - expected)[often] ** 2 / expected[often]).sum() + rest
    freedom = int(often.sum())
    assert statistic < freedom + 4.5 * math.sqrt(2 * freedom) + 8  # exceeded with probability below 1e-4


def test_mode_and_marginals_against_enumeration():
    law = RandomPartition(*example(), m=torch.tensor([2, 5, 3]))
    labels = law.enumerate_support()
    probability = law.log_prob(labels).exp()
    assert torch.equal(law.mode, labels[probability.argmax()])
    expected = torch.einsum("y,yik->ki", probability, torch.nn.functional.one_hot(labels, 3).double())
    assert (law.marginals - expected).abs().max() < 1e-11


def test_manual_seed_reproduces():
    law = RandomPartition(*example(40, 4))
    torch.manual_seed(1)
    one, two = law.sample(), law.sample()
    torch.manual_seed(1)
    assert torch.equal(law.sample(), one) and not torch.equal(one, two)


@pytest.mark.parametrize("same_capacities", [True, False])
def test_kl_and_its_gradient_are_unbiased(same_capacities):
    replicates = 20000
    parameters = [x.requires_grad_() for x in (*example(4), *example(4))]
    q = RandomPartition(*parameters[:2], m=torch.tensor([2, 4, 4]))
    p = RandomPartition(*parameters[2:], m=q.m if same_capacities else None)
    labels = q.enumerate_support()
    labels = labels[q.log_prob(labels) > -math.inf]
    log_q = q.log_prob(labels)
    exact = (log_q.exp() * (log_q - p.log_prob(labels))).sum()
    expected = torch.autograd.grad(exact, parameters)
    wide_q, wide_p = q.expand((replicates,)), p.expand((replicates,))
    value = kl_monte_carlo(wide_q, wide_p, samples=4)
    wide = (wide_q.log_omega, wide_q.log_scores, wide_p.log_omega, wide_p.log_scores)
    grads = torch.autograd.grad(value.sum(), wide)
    assert abs(value.mean() - exact) < 5 * value.std() / math.sqrt(replicates)
    for got, want in zip(grads, expected, strict=True):
        assert ((got.mean(0) - want).abs() < 5 * got.std(0) / math.sqrt(replicates) + 1e-12).all()


def test_kl_is_zero_for_equal_laws_and_registered():
    law = RandomPartition(*example(12, 4))
    same = RandomPartition(law.log_omega.clone(), law.log_scores.clone())
    assert abs(torch.distributions.kl_divergence(law, same)) < 1e-12
    assert torch.distributions.kl_divergence(law, RandomPartition(*example(12, 4))) > 0
    relaxed = [RelaxedRandomPartition(1.0, *example(12, 4)) for _ in range(2)]
    assert torch.distributions.kl_divergence(*relaxed) > 0


@pytest.mark.parametrize("hard", [True, False])
def test_relaxed_samples_carry_gradients_to_both_parameters(hard):
    log_omega, log_scores = (x.requires_grad_() for x in example(8, 3, 2))
    law = RelaxedRandomPartition(0.7, log_omega, log_scores, hard=hard)
    value = law.rsample((4,))
    assert law.has_rsample and value.shape == (4, 2, 3, 8) and value.dtype == torch.float64
    grads = torch.autograd.grad((value * torch.randn_like(value)).sum(), (log_omega, log_scores))
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in grads)
    assert not law.sample().requires_grad
    if hard:
        assert law.support.check(value).all()
    parts = law.expand((3, 2)).rsample_partition()
    assert parts.assignment.shape == (3, 2, 3, 8) and parts.sizes.shape == (3, 2, 3)


def test_hard_relaxed_samples_are_those_of_the_discrete_law():
    law = RelaxedRandomPartition(0.7, *example(8, 3))
    torch.manual_seed(2)
    value = law.rsample((20,))
    torch.manual_seed(2)
    labels = law.discrete.sample((20,))
    assert torch.equal(value.argmax(-2), labels)
    assert torch.equal(law.log_prob(value), law.discrete.log_prob(labels))
    assert torch.equal(law.mode.argmax(-2), law.discrete.mode) and law.support.check(law.mode)
    assert torch.allclose(law.mean.sum(-1), mvhg_mean(law.log_omega, 8, 8))


def test_empty_and_single():
    for n, num_subsets in ((0, 2), (1, 3), (4, 1)):
        law = RandomPartition(torch.zeros(2, num_subsets), torch.zeros(2, n))
        value = law.sample((3,))
        assert value.shape == (3, 2, n) and law.log_prob(value).shape == (3, 2)
        assert law.mode.shape == (2, n) and law.marginals.shape == (2, num_subsets, n)
        assert RelaxedRandomPartition(1.0, law.log_omega, law.log_scores).rsample().shape == (2, num_subsets, n)


def test_bad_arguments():
    with pytest.raises(ValueError, match="support"):
        RandomPartition(*example()).log_prob(torch.tensor([0, 1, 2, 3, 0]))
    with pytest.raises(ValueError, match="batch shapes must broadcast"):
        RandomPartition(torch.zeros(2, 3), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="must have a last dimension"):
        RandomPartition(torch.tensor(0.0), torch.zeros(5))
    with pytest.raises(ValueError, match="log_omega"):
        RandomPartition(torch.tensor([math.nan, 0.0]), torch.zeros(5))
    with pytest.raises(NotImplementedError, match=r"K\^n must be <= 65536"):
        RandomPartition(*example(20, 3)).enumerate_support()
    law = RelaxedRandomPartition(1.0, *example(), hard=False, validate_args=False)
    with pytest.raises(ValueError, match="hard must be True for log_prob"):
        law.log_prob(law.rsample())
    with pytest.raises(ValueError, match="p must be of q's kind"):
        kl_monte_carlo(RandomPartition(*example()), PlackettLuce(torch.zeros(5)))
    with pytest.raises(ValueError, match="p must have 3 subsets"):
        kl_monte_carlo(RandomPartition(*example()), RandomPartition(*example(5, 2)))


def test_pyro_samples_and_scores():
    import pyro

    from drpm.distributions.pyro import RandomPartition as PyroRandomPartition

    log_omega, log_scores = example(6, 2)

    def model():
        with pyro.plate("rows", 3):
            return pyro.sample("labels", PyroRandomPartition(log_omega, log_scores))

    trace = pyro.poutine.trace(model).get_trace()
    labels = trace.nodes["labels"]["value"]
    assert labels.shape == (3, 6)
    expected = RandomPartition(log_omega, log_scores).log_prob(labels).sum()
    assert torch.allclose(trace.log_prob_sum(), expected)


@pytest.mark.parametrize("name", ["PlackettLuce", "RandomPartition"])
def test_pyro_guide_finds_the_posterior_of_a_conjugate_model(name):
    """With the model's own family as guide, the ELBO is minus the KL: its maximum is the model's law."""
    import pyro
    from pyro.infer import SVI, TraceGraph_ELBO

    from drpm.distributions import pyro as sites

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    log_omega, log_scores = torch.tensor([0.5, -0.5]), torch.tensor([1.0, 0.0, -1.0])

    def law(*parameters):
        return getattr(sites, name)(*parameters[-1:] if name == "PlackettLuce" else parameters)

    def model():
        with pyro.plate("rows", 128):
            pyro.sample("site", law(log_omega, log_scores))

    def guide():
        weights = pyro.param("weights", torch.zeros(2))
        scores = pyro.param("scores", torch.zeros(3))
        with pyro.plate("rows", 128):
            pyro.sample("site", law(weights, scores))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.08}), TraceGraph_ELBO())
    losses = [svi.step() for _ in range(120)]
    scores = pyro.param("scores").detach()
    assert torch.allclose(scores - scores.mean(), log_scores, atol=0.25)
    assert abs(sum(losses[-20:])) < 0.05 * sum(losses[:20])  # per-row KL: from its start to almost 0


@pytest.mark.parametrize("name", ["RelaxedPlackettLuce", "RelaxedRandomPartition"])
def test_relaxed_laws_are_reparametrised_pyro_sites(name):
    import pyro

    from drpm.distributions import pyro as sites

    pyro.set_rng_seed(0)
    log_omega, log_scores = (x.detach().requires_grad_() for x in example(6, 2))
    parameters = (log_scores,) if name == "RelaxedPlackettLuce" else (log_omega, log_scores)

    def model():
        with pyro.plate("rows", 4):
            return pyro.sample("site", getattr(sites, name)(0.5, *parameters, hard=True))

    trace = pyro.poutine.trace(model).get_trace()
    site = trace.nodes["site"]
    assert site["fn"].has_rsample and site["fn"].batch_shape == (4,)
    value = site["value"]
    assert torch.allclose(trace.log_prob_sum(), site["fn"].discrete.log_prob(discrete_of(name, value)).sum())
    (value * torch.arange(value.shape[-1])).sum(-1)[:, 0].sum().backward()
    for parameter in parameters:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0


def discrete_of(name, value):
    return value.detach().argmax(-1 if name == "RelaxedPlackettLuce" else -2)


LAWS = {
    "sizes": lambda omega, scores: MultivariateNoncentralHypergeometric(2, 4, omega),
    "hard sizes": lambda omega, scores: RelaxedMultivariateNoncentralHypergeometric(0.7, 2, 4, omega),
    "relaxed sizes": lambda omega, scores: RelaxedMultivariateNoncentralHypergeometric(0.7, 2, 4, omega, hard=False),
    "order": lambda omega, scores: PlackettLuce(scores),
    "hard order": lambda omega, scores: RelaxedPlackettLuce(0.7, scores, hard=True),
    "relaxed order": lambda omega, scores: RelaxedPlackettLuce(0.7, scores),
    "partition": lambda omega, scores: RandomPartition(omega, scores),
    "hard partition": lambda omega, scores: RelaxedRandomPartition(0.7, omega, scores),
    "relaxed partition": lambda omega, scores: RelaxedRandomPartition(0.7, omega, scores, hard=False),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("law", LAWS)
def test_samples_lie_in_the_support(law, dtype):
    omega, scores = (x.to(dtype) for x in example(40, 3))
    made = LAWS[law](omega, scores)
    samples = made.sample((200,))
    assert made.support.check(samples).all()
    assert made.support.event_dim == len(made.event_shape)
    name = repr(made.support)
    assert name[0].isupper() and name.split("(")[0] in {
        "SizesOf",
        "Permutation",
        "RowStochastic",
        "Assignment",
        "RelaxedAssignment",
        "IndependentConstraint",
        "IntegerInterval",
        "Independent",
    }, name
    if samples.is_floating_point():
        outside = samples.clone()
        outside[0].view(-1)[0] = -1.0
        assert not made.support.check(outside)[0] and made.support.check(outside)[1:].all()
