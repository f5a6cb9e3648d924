"""What every public function and class does with arguments of other kinds: arrays, lists, NumPy's scalars, devices."""

import io

import numpy as np
import pytest
import torch

import drpm
from drpm import distributions as laws
from drpm import estimators, nn, ops

Z = torch.zeros(3)
M = torch.zeros(3, 3)
LABELS = torch.tensor([0, 1, 2])


def total(y):
    return y.sum((-1, -2))


TENSORS = {  # of each function a call for each of its tensors
    "mvhg_sample log_omega": lambda x: ops.mvhg_sample(x, 2, 3),
    "mvhg_draw log_omega": lambda x: ops.mvhg_draw(x, 2, 3),
    "mvhg_mean log_omega": lambda x: ops.mvhg_mean(x, 2, 3),
    "mvhg_covariance log_omega": lambda x: ops.mvhg_covariance(x, 2, 3),
    "mvhg_entropy log_omega": lambda x: ops.mvhg_entropy(x, 2, 3),
    "mvhg_log_normalizer log_omega": lambda x: ops.mvhg_log_normalizer(x, 2, 3),
    "mvhg_log_prob sizes": lambda x: ops.mvhg_log_prob(x, Z, 2, 3),
    "mvhg_log_prob log_omega": lambda x: ops.mvhg_log_prob(Z, x, 2, 3),
    "mvhg_kl log_omega_q": lambda x: ops.mvhg_kl(x, Z, 2, 3),
    "mvhg_kl log_omega_p": lambda x: ops.mvhg_kl(Z, x, 2, 3),
    "hypergeometric_log_weights log_omega_left": lambda x: ops.hypergeometric_log_weights(x, Z, 2, 3, 3),
    "hypergeometric_log_weights log_omega_right": lambda x: ops.hypergeometric_log_weights(Z, x, 2, 3, 3),
    "relaxed_sort scores": ops.relaxed_sort,
    "relaxed_sort_matmul scores": lambda x: ops.relaxed_sort_matmul(x, Z.unsqueeze(-1)),
    "relaxed_sort_matmul values": lambda x: ops.relaxed_sort_matmul(Z, x),
    "partition scores": lambda x: ops.partition(x, Z),
    "partition sizes": lambda x: ops.partition(Z, x),
    "random_partition log_omega": lambda x: ops.random_partition(x, Z),
    "random_partition log_scores": lambda x: ops.random_partition(Z, x),
    "plackett_luce_log_prob order": lambda x: ops.plackett_luce_log_prob(x, Z),
    "plackett_luce_log_prob log_scores": lambda x: ops.plackett_luce_log_prob(LABELS, x),
    "partition_log_prob labels": lambda x: ops.partition_log_prob(x, Z, 3),
    "partition_log_prob log_scores": lambda x: ops.partition_log_prob(LABELS, x, 3),
    "random_partition_log_prob labels": lambda x: ops.random_partition_log_prob(x, Z, Z),
    "random_partition_log_prob log_omega": lambda x: ops.random_partition_log_prob(LABELS, x, Z),
    "random_partition_log_prob log_scores": lambda x: ops.random_partition_log_prob(LABELS, Z, x),
    "random_assignment log_omega": lambda x: ops.random_assignment(x, M),
    "random_assignment log_scores": lambda x: ops.random_assignment(Z, x),
    "assignment_log_prob labels": lambda x: ops.assignment_log_prob(x, M),
    "assignment_log_prob log_scores": lambda x: ops.assignment_log_prob(LABELS, x),
    "random_assignment_log_prob labels": lambda x: ops.random_assignment_log_prob(x, Z, M),
    "random_assignment_log_prob log_omega": lambda x: ops.random_assignment_log_prob(LABELS, x, M),
    "random_assignment_log_prob log_scores": lambda x: ops.random_assignment_log_prob(LABELS, Z, x),
    "partition_log_prob_bounds labels": lambda x: ops.partition_log_prob_bounds(x, Z, Z),
    "partition_log_prob_bounds log_omega": lambda x: ops.partition_log_prob_bounds(LABELS, x, Z),
    "partition_log_prob_bounds log_scores": lambda x: ops.partition_log_prob_bounds(LABELS, Z, x),
    "partition_log_prob_bounds order": lambda x: ops.partition_log_prob_bounds(LABELS, Z, Z, order=x),
    "partition_log_prob_bounds sizes": lambda x: ops.partition_log_prob_bounds(LABELS, Z, Z, sizes=x),
    "partition_marginals log_omega": lambda x: ops.partition_marginals(x, Z),
    "partition_marginals log_scores": lambda x: ops.partition_marginals(Z, x),
    "partition_mode log_omega": lambda x: ops.partition_mode(x, Z),
    "partition_mode log_scores": lambda x: ops.partition_mode(Z, x),
    "MultivariateNoncentralHypergeometric log_omega": lambda x: laws.MultivariateNoncentralHypergeometric(2, 3, x),
    "RelaxedMultivariateNoncentralHypergeometric log_omega": lambda x: laws.RelaxedMultivariateNoncentralHypergeometric(
        1.0, 2, 3, x
    ),
    "MultivariateNoncentralHypergeometric.fit sizes": lambda x: laws.MultivariateNoncentralHypergeometric.fit(x, 2, 3),
    "PlackettLuce log_scores": laws.PlackettLuce,
    "RelaxedPlackettLuce log_scores": lambda x: laws.RelaxedPlackettLuce(1.0, x),
    "RandomPartition log_omega": lambda x: laws.RandomPartition(x, Z),
    "RandomPartition log_scores": lambda x: laws.RandomPartition(Z, x),
    "RandomAssignment log_omega": lambda x: laws.RandomAssignment(x, M),
    "RandomAssignment log_scores": lambda x: laws.RandomAssignment(Z, x),
    "RelaxedRandomAssignment log_omega": lambda x: laws.RelaxedRandomAssignment(1.0, x, M),
    "RelaxedRandomPartition log_omega": lambda x: laws.RelaxedRandomPartition(1.0, x, Z),
    "RelaxedRandomPartition log_scores": lambda x: laws.RelaxedRandomPartition(1.0, Z, x),
    "random_partition log_scores (nn)": lambda x: nn.RandomPartition(3)(x),
    "SubsetSelector log_scores": lambda x: nn.SubsetSelector()(x),
    "relaxed_sort scores (nn)": lambda x: nn.RelaxedSort()(x),
    "NeuronPartition encoding": lambda x: nn.NeuronPartition(3, 4, 2)(x),
    "leave_one_out values": lambda x: estimators.leave_one_out(x, Z),
    "leave_one_out log_prob": lambda x: estimators.leave_one_out(Z, x),
    "partition_kl labels": lambda x: estimators.partition_kl(x, Z, Z, Z, Z),
    "partition_kl log_omega_q": lambda x: estimators.partition_kl(LABELS, x, Z, Z, Z),
    "partition_kl log_omega_p": lambda x: estimators.partition_kl(LABELS, Z, x, Z, Z),
    "partition_kl_bound sizes": lambda x: estimators.partition_kl_bound(x, Z, Z),
    "partition_kl_bound log_omega": lambda x: estimators.partition_kl_bound(Z, x, Z),
    "partition_kl_bound log_scores": lambda x: estimators.partition_kl_bound(Z, Z, x),
}


@pytest.mark.parametrize("call", TENSORS)
def test_arrays_and_lists_are_no_tensors(call):
    op, argument = call.removesuffix(" (nn)").split()
    for given, kind in ((np.zeros(3, np.float32), "ndarray"), ([0.0, 0.0, 0.0], "list")):
        with pytest.raises(TypeError, match=rf"^{op}: {argument} must be a tensor, got {kind}$"):
            TENSORS[call](given)


SAMPLED = {
    "mvhg_sample": lambda **given: ops.mvhg_sample(Z, 2, 3, **given),
    "mvhg_draw": lambda **given: ops.mvhg_draw(Z, 2, 3, **given),
    "random_partition": lambda **given: ops.random_partition(Z, Z, **given).sizes,
    "random_assignment": lambda **given: ops.random_assignment(Z, M, **given).sizes,
    "nn.RandomPartition": lambda **given: nn.RandomPartition(3, 3)(**given).sizes,
    "nn.RandomAssignment": lambda **given: nn.RandomAssignment(3, 3)(**given).sizes,
    "nn.SubsetSelector": lambda **given: nn.SubsetSelector(3)(**given).mask,
}


@pytest.mark.parametrize("call", SAMPLED)
def test_one_number_is_a_sample_shape_and_numpy_numbers_are_numbers(call):
    draw = SAMPLED[call]
    want = draw(sample_shape=(5,), seed=7)
    for shape in (5, np.int64(5), [5], (np.int32(5),), torch.Size([5])):
        assert torch.equal(draw(sample_shape=shape, seed=np.int64(7)), want)
    for wrong in (5.0, "ab", (2.5,), True):
        with pytest.raises(TypeError, match="sample_shape must be an int or a sequence of them, got"):
            draw(sample_shape=wrong, seed=7)
    with pytest.raises(ValueError, match=r"sample_shape must have sizes >= 0, got \(-1,\)"):
        draw(sample_shape=-1)


@pytest.mark.parametrize(
    "law",
    [
        laws.MultivariateNoncentralHypergeometric(2, 3, Z),
        laws.RelaxedMultivariateNoncentralHypergeometric(1.0, 2, 3, Z),
        laws.PlackettLuce(Z),
        laws.RelaxedPlackettLuce(1.0, Z),
        laws.RandomPartition(Z, Z),
        laws.RelaxedRandomPartition(1.0, Z, Z),
        laws.RandomAssignment(Z, M),
        laws.RelaxedRandomAssignment(1.0, Z, M),
    ],
    ids=lambda law: type(law).__name__,
)
def test_distributions_take_one_number_as_a_sample_shape(law):
    assert law.sample(5).shape == law.sample(np.int64(5)).shape == law.sample((5,)).shape


def test_numpy_temperatures_and_counts():
    tau = np.float32(0.5)
    assert torch.equal(ops.relaxed_sort(Z, tau), ops.relaxed_sort(Z, 0.5))
    assert torch.equal(ops.partition(Z, Z + 1, tau, hard=False), ops.partition(Z, Z + 1, 0.5, hard=False))
    assert nn.RelaxedSort(tau).tau == laws.RelaxedPlackettLuce(tau, Z).tau == 0.5
    assert nn.RelaxedSort(nn.Exponential(tau, np.float32(0.25), np.int64(2))).tau == 0.5
    two, three = np.int64(2), np.int32(3)
    assert torch.equal(ops.mvhg_mean(Z, two, three), ops.mvhg_mean(Z, 2, 3))
    assert torch.equal(ops.mvhg_mean(Z, np.array([2, 2, 2]), three), ops.mvhg_mean(Z, 2, 3))
    weights = ops.hypergeometric_log_weights(Z, Z, two, three, three)
    assert torch.equal(weights, ops.hypergeometric_log_weights(Z, Z, 2, 3, 3))
    assert torch.equal(ops.partition_log_prob(LABELS, Z, three), ops.partition_log_prob(LABELS, Z, 3))
    assert torch.equal(
        nn.RandomPartition(three, three)(seed=np.int64(1)).labels, nn.RandomPartition(3, 3)(seed=1).labels
    )
    assert nn.NeuronPartition(three, three, two)(Z).sizes.shape == (2,)
    noise = ops.gumbel_noise(np.int64(1), (np.int64(2), 1, three), stream=np.int64(0))
    assert torch.equal(noise, ops.gumbel_noise(1, (2, 1, 3), stream=0))
    value = estimators.expectation(total, Z, Z, samples=np.int64(4), seed=np.int64(1), tau=tau)
    assert torch.equal(value, estimators.expectation(total, Z, Z, samples=4, seed=1))
    for wrong in (True, np.bool_(True), 1.0, np.float64(1.0)):
        with pytest.raises(TypeError, match="mvhg_draw: seed must be an int or one int64, got"):
            ops.mvhg_draw(Z, 2, 3, seed=wrong)


def results():
    """Of calls whose counts, orders and seeds come from the host, or that make tensors of their own."""
    omega, scores = torch.tensor([[0.3, -0.2, 0.1]], device="cpu"), torch.tensor([[0.1, 0.5, -1.0, 0.3]], device="cpu")
    labels = torch.tensor([[0, 2, 1, 1]], device="cpu")
    omega.requires_grad_()
    scores.requires_grad_()
    found = {
        "sizes": ops.mvhg_sample(omega, [2, 2, 1], 3, class_order=[2, 0, 1], sample_shape=2, seed=1),
        "merged": ops.mvhg_sample(omega, 2, [3], conditionals="merged", class_order="random", seed=1),
        "draw": ops.mvhg_draw(omega, [2, 2, 1], [3], seed=1),
        "mean": ops.mvhg_mean(omega, [2, 2, 1], 3),
        "covariance": ops.mvhg_covariance(omega, [2, 2, 1], 3),
        "entropy": ops.mvhg_entropy(omega, [2, 2, 1], 3),
        "kl": ops.mvhg_kl(omega, omega * 2, [2, 2, 1], 3),
        "weights": ops.hypergeometric_log_weights(omega, omega, [1, 2, 2], 3, 3),
        "matrix": ops.relaxed_sort(scores, 0.5),
        "sorted": ops.relaxed_sort_matmul(scores, scores.unsqueeze(-1), lengths=[3]),
        "assignment": ops.random_partition(omega, scores, m=[4, 4, 2], lengths=[3], seed=1).assignment,
        "log_prob": ops.random_partition_log_prob(labels, omega, scores, m=[4, 4, 2], lengths=[3]),
        "bounds": torch.stack(ops.partition_log_prob_bounds(labels, omega, scores)),
        "marginals": ops.partition_marginals(omega, scores, m=[4, 4, 2]),
        "mode": ops.partition_mode(omega, scores),
        "noise": ops.gumbel_noise(3, (1, 2, 3), stream=0),
        "law of sizes": laws.MultivariateNoncentralHypergeometric([2, 2, 1], 3, omega[0]).enumerate_support(),
        "fit": laws.MultivariateNoncentralHypergeometric.fit(
            omega.detach().exp() * 3 / omega.exp().sum(), 4, 3
        ).log_omega,
        "orders": laws.PlackettLuce(scores[0]).enumerate_support(),
        "partitions": laws.RandomPartition(omega[0], scores[0]).enumerate_support(),
        "law": laws.RandomPartition(omega, scores, m=[4, 4, 2]).log_prob(labels),
        "expectation": estimators.expectation(total, omega, scores, m=[4, 4, 4], seed=1, method="straight-through"),
        "selected": nn.SubsetSelector(k=torch.tensor(2, device="cpu"))(scores, seed=1).mask,
    }
    gradients = torch.autograd.grad(
        sum(x.square().sum() for x in found.values() if x.requires_grad), (omega, scores), create_graph=False
    )
    second = torch.autograd.functional.hvp(
        lambda x: ops.partition_log_prob(labels, x, 3).sum(), scores.detach(), torch.ones_like(scores)
    )[1]
    return {**found, "gradient 0": gradients[0], "gradient 1": gradients[1], "second": second}


def test_default_device_does_not_matter_to_tensors_on_another():
    with torch.device("meta"):
        got = results()
    want = results()
    for name, value in want.items():
        assert torch.equal(got[name].cpu(), value), name


@pytest.mark.parametrize(
    "value",
    [
        ops.random_partition(Z, Z, seed=1),
        nn.Selection(Z, Z.sum(), LABELS),
        estimators.PartitionKL(Z.sum(), Z.sum()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_named_tuples_pass_through_files_of_weights(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert type(loaded) is type(value)
    assert all(torch.equal(a, b) for a, b in zip(loaded, value, strict=True))


def test_submodules_are_listed():
    missing = {"ops", "nn", "distributions", "estimators", "models", "reference", "sklearn", "data"} - set(dir(drpm))
    assert not missing and drpm.data.load_keel
