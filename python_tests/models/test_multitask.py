"""Multitask models: masks that split the neurons, gradients to both DRPM parameters, the loss."""

import pytest
import torch

from drpm.models.multitask import PartitionedMultitask, UnitaryScaling, multitask_loss


def batch(count=6, tasks=2):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 28, 28, generator=generator), torch.randint(10, (count, tasks), generator=generator)


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_every_neuron_serves_exactly_one_task(tasks, conditionals):
    torch.manual_seed(0)
    model = PartitionedMultitask(tasks, features=20, conditionals=conditionals)
    images, _ = batch()
    out = model(images)
    assert out.logits.shape == (tasks, 6, 10) and out.masks.shape == (6, tasks, 20) and out.sizes.shape == (6, tasks)
    assert torch.equal(out.masks.sum(dim=1), torch.ones(6, 20))
    assert torch.equal(out.masks.sum(dim=2), out.sizes)


def test_a_task_reads_its_own_neurons_only():
    torch.manual_seed(0)
    model = PartitionedMultitask(2, features=20).eval()
    images, _ = batch(1)
    seen = {}
    for task, head in enumerate(model.heads):
        head.register_forward_hook(lambda module, inputs, output, task=task: seen.update({task: inputs[0].detach()}))
    masks = model(images).masks[0].detach()
    z = model.encoder(images)[0]
    for task in range(2):
        torch.testing.assert_close(seen[task][0], z * masks[task])
        assert (seen[task][0][masks[task] == 0] == 0).all()


@pytest.mark.parametrize("hard", [True, False])
def test_gradients_reach_sizes_and_order(hard):
    torch.manual_seed(0)
    model = PartitionedMultitask(2, features=20, hard=hard)
    images, labels = batch()
    loss, _ = multitask_loss(model(images).logits, labels)
    loss.backward()
    for layer in (model.partition.log_omega, model.partition.log_scores):
        gradient = layer.weight.grad
        assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_baseline_gives_every_task_all_neurons():
    torch.manual_seed(0)
    model = UnitaryScaling(3, features=20).eval()
    images, _ = batch()
    out = model(images)
    assert out.logits.shape == (3, 6, 10) and out.masks is None
    torch.testing.assert_close(out.logits[1], model.heads[1](model.encoder(images)))


def test_loss_is_the_weighted_sum_of_cross_entropies():
    logits = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, labels = batch(5)
    by_hand = torch.stack([-logits[t].log_softmax(-1)[torch.arange(5), labels[:, t]].mean() for t in range(2)])
    loss, own = multitask_loss(logits, labels)
    torch.testing.assert_close(own, by_hand)
    torch.testing.assert_close(loss, by_hand.mean())
    torch.testing.assert_close(multitask_loss(logits, labels, (1.0, 0.25))[0], by_hand[0] + 0.25 * by_hand[1])
    with pytest.raises(ValueError, match="weights must be 2 numbers, one per task, got 3"):
        multitask_loss(logits, labels, (1.0, 1.0, 1.0))
