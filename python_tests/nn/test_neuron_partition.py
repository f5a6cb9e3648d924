"""NeuronPartition: every neuron gets one task, gradients reach both layers, noise, autocast, bad arguments."""

import itertools

import pytest
import torch

from drpm import ops
from drpm.nn import Exponential, NeuronPartition, advance_temperatures


def encodings(count=6, features=30):
    return torch.randn(count, features, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tasks", [1, 2, 3, 5])
@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_every_neuron_serves_exactly_one_task(tasks, conditionals):
    torch.manual_seed(0)
    split = NeuronPartition(30, 20, tasks, conditionals=conditionals)(encodings())
    assert split.assignment.shape == (6, tasks, 20)
    assert ((split.assignment == 0) | (split.assignment == 1)).all()
    assert torch.equal(split.assignment.sum(1), torch.ones(6, 20))
    assert torch.equal(split.assignment.sum(2), split.sizes)


def test_it_is_the_op_on_two_linear_layers():
    torch.manual_seed(0)
    layer = NeuronPartition(30, 20, 3, tau=0.5, hard=False, noise=True)
    encoding = encodings()
    wanted = ops.random_partition(layer.log_omega(encoding), layer.log_scores(encoding), 0.5, hard=False, seed=7)
    for own, other in zip(layer(encoding, seed=7), wanted, strict=True):
        assert torch.equal(own, other)


def test_exact_and_merged_conditionals_of_two_tasks_are_the_same():
    # With two classes nothing is merged, so the ablation of the conditionals needs three tasks.
    torch.manual_seed(0)
    layer = NeuronPartition(30, 20, 2)
    weights = torch.randn(6, 2, 20)
    found = {}
    for conditionals in ("exact", "merged"):
        layer.conditionals = conditionals
        encoding = encodings().requires_grad_()
        split = layer(encoding)
        (split.assignment * weights).sum().backward()
        found[conditionals] = (split.labels, encoding.grad)
    assert torch.equal(found["exact"][0], found["merged"][0])
    torch.testing.assert_close(found["exact"][1], found["merged"][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("hard", [True, False])
def test_gradients_reach_both_layers_and_the_encoding(hard):
    torch.manual_seed(0)
    layer = NeuronPartition(30, 20, 3, hard=hard)
    encoding = encodings().requires_grad_()
    (layer(encoding).assignment * torch.randn(6, 3, 20)).sum().backward()
    for tensor in (layer.log_omega.weight, layer.log_scores.weight, encoding):
        assert tensor.grad is not None and tensor.grad.isfinite().all() and tensor.grad.abs().max() > 0


def test_noise_is_off_on_or_for_training_only():
    encoding = encodings()
    torch.manual_seed(0)
    layer = NeuronPartition(30, 20, 3)
    assert torch.equal(layer(encoding).labels, layer(encoding).labels)
    layer.noise = True
    assert not torch.equal(layer(encoding, seed=1).labels, layer(encoding, seed=2).labels)
    assert torch.equal(layer(encoding, seed=1).labels, layer(encoding, seed=1).labels)
    layer.noise = None
    assert not torch.equal(layer(encoding, seed=1).labels, layer(encoding, seed=2).labels)
    layer.eval()
    assert torch.equal(layer(encoding, seed=1).labels, layer(encoding, seed=2).labels)


def test_under_autocast_it_computes_in_float32():
    torch.manual_seed(0)
    layer = NeuronPartition(30, 20, 3)
    encoding = encodings().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        split = layer(encoding)
    assert split.assignment.dtype == torch.float32
    assert torch.equal(split.order, layer(encoding.float()).order)


def test_temperature_follows_its_schedule():
    layer = NeuronPartition(30, 20, 3, tau=Exponential(1.0, 0.25, 2))
    advance_temperatures(layer)
    assert layer.tau == 0.5
    copy = NeuronPartition(30, 20, 3, tau=Exponential(1.0, 0.25, 2))
    copy.load_state_dict(layer.state_dict())
    assert copy.tau == 0.5


def test_kl_is_that_of_the_random_partition_from_the_uniform_one():
    torch.manual_seed(0)
    layer, encoding = NeuronPartition(5, 4, 2), torch.randn(1, 5)
    labels = torch.tensor(list(itertools.product(range(2), repeat=4)))
    log_omega, log_scores = layer.log_omega(encoding), layer.log_scores(encoding)
    log_q = ops.random_partition_log_prob(labels, log_omega, log_scores)
    log_p = ops.random_partition_log_prob(labels, torch.zeros_like(log_omega), torch.zeros_like(log_scores))
    exact = (log_q.exp() * (log_q - log_p)).sum()
    found = layer.kl(encoding, samples=20_000).sum()
    torch.testing.assert_close(found, exact, rtol=0.05, atol=1e-3)
    parameters = list(layer.parameters())
    pairs = zip(*(torch.autograd.grad(value, parameters) for value in (found, exact)), strict=True)
    for own, wanted in pairs:
        assert (own - wanted).norm() < 0.1 * wanted.norm() + 1e-3
    with torch.no_grad():
        for parameter in parameters:
            parameter.zero_()
    assert layer.kl(encoding).item() == 0


def test_kl_pulls_back_where_the_sizes_are_saturated():
    torch.manual_seed(0)
    layer = NeuronPartition(5, 20, 2)
    with torch.no_grad():
        layer.log_omega.bias.copy_(torch.tensor([30.0, 0.0]))
    with torch.autocast("cpu", torch.bfloat16):
        layer.kl(torch.randn(3, 5).bfloat16()).sum().backward()
    assert layer.log_omega.bias.grad[0] > 0 > layer.log_omega.bias.grad[1]
    with pytest.raises(TypeError, match="NeuronPartition: encoding"):
        layer.kl(torch.zeros(3, 5, dtype=torch.int64))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="NeuronPartition: num_tasks must be >= 1, got 0"):
        NeuronPartition(30, 20, 0)
    with pytest.raises(ValueError, match="NeuronPartition: num_neurons must be >= 1, got -1"):
        NeuronPartition(30, -1, 2)
    with pytest.raises(ValueError, match="NeuronPartition: conditionals must be"):
        NeuronPartition(30, 20, 2, conditionals="other")
