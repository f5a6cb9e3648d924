import math

import pytest
import torch

from drpm import nn
from drpm.distributions import RandomAssignment, RandomPartition, RelaxedRandomAssignment, kl_monte_carlo
from drpm.estimators import expectation, partition_kl


def example(n=5, num_subsets=3, *batch):
    return torch.randn(*batch, num_subsets).double(), torch.randn(*batch, num_subsets, n).double()


def test_shapes_support_and_expand():
    law = RandomAssignment(torch.randn(4, 1, 3), torch.randn(2, 3, 6))
    assert law.batch_shape == (4, 2) and law.event_shape == (6,) and law.num_subsets == 3 and not law.has_rsample
    value = law.sample((5,))
    assert value.shape == (5, 4, 2, 6) and value.dtype == torch.int64 and law.support.check(value).all()
    assert law.log_prob(value).shape == (5, 4, 2)
    wide = RandomAssignment(torch.zeros(3), torch.zeros(3, 6), m=torch.tensor([1, 2, 3])).expand((2, 7))
    assert wide.batch_shape == (2, 7) and wide.m.shape == (2, 7, 3)
    sizes = torch.nn.functional.one_hot(wide.sample(), 3).sum(-2)
    assert (sizes == torch.tensor([1, 2, 3])).all()
    assert RandomAssignment(torch.zeros(2), torch.tensor([[0.0], [math.nan]])).sample().shape == (1,)


def test_probabilities_of_the_support():
    for m in (None, torch.tensor([2, 3, 4])):
        law = RandomAssignment(*example(), m=m)
        labels = law.enumerate_support()
        assert labels.shape == (243, 5) and abs(law.log_prob(labels).exp().sum() - 1) < 1e-11
    log_omega, log_scores = example()
    same = RandomAssignment(log_omega, log_scores[:1].expand(3, 5))
    one = RandomPartition(log_omega, log_scores[0])
    assert torch.allclose(same.log_prob(labels), one.log_prob(labels), rtol=1e-12)


def test_there_is_no_mode_and_no_marginal():
    law = RandomAssignment(*example())
    for compute in (lambda: law.mode, lambda: law.marginals):
        with pytest.raises(NotImplementedError, match=r"^RandomAssignment: .*no "):
            compute()
    relaxed = RelaxedRandomAssignment(1.0, *example())
    for compute in (lambda: relaxed.mode, lambda: relaxed.mean):
        with pytest.raises(NotImplementedError, match=r"^RelaxedRandomAssignment: .*no "):
            compute()


@pytest.mark.parametrize("hard", [True, False])
def test_relaxed_samples_carry_gradients_to_both_parameters(hard):
    log_omega, log_scores = (x.requires_grad_() for x in example(8, 3, 2))
    law = RelaxedRandomAssignment(0.7, log_omega, log_scores, hard=hard)
    value = law.rsample((4,))
    assert law.has_rsample and value.shape == (4, 2, 3, 8) and value.dtype == torch.float64
    assert law.support.check(value).all()
    grads = torch.autograd.grad((value * torch.randn_like(value)).sum(), (log_omega, log_scores))
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in grads)
    assert not law.sample().requires_grad
    parts = law.expand((3, 2)).rsample_partition()
    assert parts.assignment.shape == (3, 2, 3, 8) and parts.sizes.shape == (3, 2, 3)
    if hard:
        assert torch.equal(law.log_prob(value), law.discrete.log_prob(value.argmax(-2)))
    else:
        with pytest.raises(ValueError, match="hard must be True for log_prob"):
            law.log_prob(value)


def test_kl_and_its_gradient_are_unbiased():
    replicates = 20000
    parameters = [x.requires_grad_() for x in (*example(4), *example(4))]
    q, p = RandomAssignment(*parameters[:2]), RandomAssignment(*parameters[2:])
    labels = q.enumerate_support()
    log_q = q.log_prob(labels)
    exact = (log_q.exp() * (log_q - p.log_prob(labels))).sum()
    expected = torch.autograd.grad(exact, parameters)
    wide_q, wide_p = q.expand((replicates,)), p.expand((replicates,))
    value = kl_monte_carlo(wide_q, wide_p, samples=4)
    wide = (wide_q.log_omega, wide_q.log_scores, wide_p.log_omega, wide_p.log_scores)
    assert abs(value.mean() - exact) < 5 * value.std() / math.sqrt(replicates)
    for got, want in zip(torch.autograd.grad(value.sum(), wide), expected, strict=True):
        assert ((got.mean(0) - want).abs() < 5 * got.std(0) / math.sqrt(replicates) + 1e-12).all()
    same = RandomAssignment(q.log_omega.detach().clone(), q.log_scores.detach().clone())
    assert abs(torch.distributions.kl_divergence(q, same)) < 1e-12
    relaxed = [RelaxedRandomAssignment(1.0, *example(6)) for _ in range(2)]
    assert torch.distributions.kl_divergence(*relaxed) > 0
    drawn = q.sample((3,))
    parts = partition_kl(
        drawn, *(x.detach() for x in (q.log_omega, p.log_omega, q.log_scores, p.log_scores)), by_subset=True
    )
    assert torch.allclose(parts.order, (log_ratio := assignment_ratio(q, p, drawn)).mean(0)) and log_ratio.shape == (3,)


def assignment_ratio(q, p, labels):
    from drpm.ops import assignment_log_prob

    return (assignment_log_prob(labels, q.log_scores) - assignment_log_prob(labels, p.log_scores)).detach()


def test_the_score_function_is_unbiased():
    replicates = 20000
    log_omega, log_scores = example(4)
    cost = torch.randn(3, 4).double()
    law = RandomAssignment(log_omega.requires_grad_(), log_scores.requires_grad_())
    labels = law.enumerate_support()
    one_hot = torch.nn.functional.one_hot(labels, 3).mT.double()
    exact = (law.log_prob(labels).exp() * (one_hot * cost).sum((-1, -2)).tanh()).sum()
    expected = torch.autograd.grad(exact, (log_omega, log_scores))
    wide = law.expand((replicates,))
    given = wide.log_omega, wide.log_scores
    value = expectation(lambda y: (y * cost).sum((-1, -2)).tanh(), *given, samples=4, by_subset=True, seed=1)
    assert abs(value.mean() - exact) < 5 * value.std() / math.sqrt(replicates)
    for got, want in zip(torch.autograd.grad(value.sum(), given), expected, strict=True):
        assert ((got.mean(0) - want).abs() < 5 * got.std(0) / math.sqrt(replicates) + 1e-12).all()
    through = expectation(lambda y: (y * cost).sum((-1, -2)), *given, method="straight-through", by_subset=True, seed=1)
    assert through.shape == (replicates,) and through.requires_grad
    with pytest.raises(ValueError, match=r"^expectation: method must be 'score' or 'straight-through' with by_subset"):
        expectation(lambda y: y.sum((-1, -2)), log_omega, log_scores, method="marginals", by_subset=True)


@pytest.mark.parametrize("name", ["RandomAssignment", "RelaxedRandomAssignment"])
def test_pyro_samples_and_scores(name):
    import pyro

    from drpm.distributions import pyro as sites

    parameters = example(6, 2) if name == "RandomAssignment" else (0.7, *example(6, 2))

    def model():
        with pyro.plate("rows", 3):
            return pyro.sample("site", getattr(sites, name)(*parameters))

    trace = pyro.poutine.trace(model).get_trace()
    value = trace.nodes["site"]["value"]
    labels = value if name == "RandomAssignment" else value.argmax(-2)
    assert labels.shape == (3, 6)
    expected = RandomAssignment(*parameters[-2:]).log_prob(labels).sum()
    assert torch.allclose(trace.log_prob_sum(), expected)


def test_layer():
    layer = nn.RandomAssignment(3, 8)
    assert layer.log_omega.shape == (3,) and layer.log_scores.shape == (3, 8)
    drawn = layer(sample_shape=4, seed=1)
    assert drawn.assignment.shape == (4, 3, 8)
    (drawn.assignment * torch.randn(3, 8)).sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in layer.parameters())
    given = nn.RandomAssignment(3, m=[2, 3, 3], hard=False).eval()(torch.randn(5, 3, 8))
    assert given.assignment.shape == (5, 3, 8) and "num_subsets=3" in repr(nn.RandomAssignment(3))
    with pytest.raises(ValueError, match=r"^RandomAssignment: num_subsets must be given with num_elements"):
        nn.RandomAssignment(num_elements=4)
    with pytest.raises(TypeError, match=r"^RandomAssignment: log_scores must be given"):
        nn.RandomAssignment(3)()


def test_bad_arguments():
    with pytest.raises(ValueError, match="support"):
        RandomAssignment(*example()).log_prob(torch.tensor([0, 1, 2, 3, 0]))
    with pytest.raises(ValueError, match=r"^RandomAssignment: batch shapes must broadcast"):
        RandomAssignment(torch.zeros(2, 3), torch.zeros(4, 3, 5))
    with pytest.raises(ValueError, match=r"^RandomAssignment: log_scores must be \(\*, 3, n\)"):
        RandomAssignment(torch.zeros(3), torch.zeros(5))
    with pytest.raises(ValueError, match="log_scores"):
        RandomAssignment(torch.zeros(2), torch.tensor([[math.nan], [0.0]]))
    with pytest.raises(NotImplementedError, match=r"^RandomAssignment: K\^n must be <= 65536"):
        RandomAssignment(*example(20, 3)).enumerate_support()
