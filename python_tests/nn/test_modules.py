"""drpm.nn: what is learned and given, gradients, temperatures in checkpoints, moves and copies of modules."""

import copy
import io
import math
import pickle

import pytest
import torch

import drpm.ops
from drpm.models import ClusteringConfig
from drpm.models.clustering_config import annealed
from drpm.nn import (
    Exponential,
    RandomPartition,
    RelaxedSort,
    SubsetSelector,
    Temperature,
    advance_temperatures,
)


def test_falling_schedule_is_that_of_the_thesis():
    schedule = Exponential(1.0, 0.5, 100_000)
    rate = -(math.log(0.5) - math.log(1.0)) / 100_000  # r of Eq. 5.73 with the sign that makes tau fall
    for step in (0, 1, 777, 50_000, 99_999, 100_000, 200_000):
        assert schedule(step) == pytest.approx(max(0.5, math.exp(-rate * step)), rel=1e-14)


def test_rising_schedule_stops_at_its_final_value():
    schedule = Exponential(0.01, 0.1, 10)
    assert [schedule(0), schedule(10), schedule(11)] == [0.01, 0.1, 0.1]
    assert schedule(5) == pytest.approx(0.01 * 10**0.5)
    assert all(schedule(t) < schedule(t + 1) <= 0.1 for t in range(10))
    assert Exponential(2.0, 0.3, 0)(0) == 0.3


def test_schedule_in_stairs():
    schedule = Exponential(1.0, 0.5, 12, every=4)
    assert [schedule(t) for t in range(13)] == [schedule(t // 4 * 4) for t in range(13)]
    assert len({schedule(t) for t in range(100)}) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 5), "Exponential: init must be positive and finite, got 0.0"),
        ((1.0, math.inf, 5), "Exponential: final must be positive and finite, got inf"),
        ((1.0, 0.5, -1), "Exponential: steps must be >= 0, got -1"),
        ((1.0, 0.5, 5, 0), "Exponential: every must be >= 1, got 0"),
    ],
)
def test_bad_schedules(arguments, message):
    with pytest.raises(ValueError, match=message):
        Exponential(*arguments)


def test_clustering_anneals_with_the_same_schedules():
    config = ClusteringConfig(tau_init=1.0, tau_final=0.25, beta=2.0, anneal_fraction=0.4)
    for step in (0, 7, 40, 90):
        weights = annealed(config, step, 100)
        assert weights.tau == Exponential(1.0, 0.25, 40)(step)
        assert weights.beta == 2.0 * Exponential(0.1, 1.0, 40)(step)


def test_partition_layer_is_the_op():
    scores, omega = torch.randn(2, 9), torch.randn(2, 3)
    layer = RandomPartition(tau=0.4, conditionals="merged", noise=True)
    got = layer(scores, omega, sample_shape=(5,), seed=3)
    want = drpm.ops.random_partition(omega, scores, 0.4, conditionals="merged", sample_shape=(5,), seed=3)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)


def test_learned_partition_gets_gradients_and_evaluation_has_no_noise():
    layer = RandomPartition(3, 12, tau=0.5)
    with torch.no_grad():
        layer.log_scores.copy_(torch.randn(12))
    (layer(seed=0).assignment * torch.rand(3, 12)).sum().backward()
    assert layer.log_omega.grad.abs().sum() > 0 and layer.log_scores.grad.abs().sum() > 0
    layer.eval()
    first, second = layer(seed=1), layer(generator=torch.Generator().manual_seed(5))
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.order, layer.log_scores.argsort(descending=True))
    layer.noise = True
    assert not torch.equal(layer(seed=1).order, layer(seed=2).order)


def test_learned_importances_learn_the_sizes():
    torch.manual_seed(0)
    layer = RandomPartition(3, 30, tau=1.0)
    want = torch.tensor([18.0, 9.0, 3.0])
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for step in range(120):
        optimizer.zero_grad()
        (layer(sample_shape=(16,), seed=step).sizes.mean(0) - want).square().sum().backward()
        optimizer.step()
    got = drpm.ops.mvhg_mean(layer.log_omega.detach(), 30, 30)
    assert (got - want).abs().max() < 0.8, got  # the last steps' samples have a standard error of 0.4


def test_selector_with_given_k_chooses_k():
    scores = torch.randn(4, 10, requires_grad=True)
    for k in (0, 3, 10, torch.tensor([0, 1, 5, 10])):
        chosen = SubsetSelector(k=k, tau=0.3)(scores, sample_shape=(6,), seed=1)
        assert chosen.mask.shape == (6, 4, 10)
        assert torch.equal(chosen.size, torch.as_tensor(k, dtype=torch.float32).expand(6, 4))
        assert torch.equal(chosen.mask.sum(-1), chosen.size)
    top = SubsetSelector(k=3).eval()(scores)
    assert torch.equal(top.mask.nonzero()[:, 1].reshape(4, 3), scores.topk(3).indices.sort(-1).values)
    (SubsetSelector(k=3, tau=0.5)(scores, seed=2).mask * torch.randn(10)).sum().backward()
    assert scores.grad.abs().sum() > 0


def test_selector_learns_which_and_how_many():
    """Targets depend on 4 of 12 features; each one read costs a little, and is noise where it is not of the 4."""
    torch.manual_seed(0)
    useful = torch.tensor([1, 4, 6, 11])
    x = torch.randn(256, 12)
    y = x[:, useful].sum(-1)
    select = SubsetSelector(num_elements=12, tau=Exponential(1.0, 0.3, 250))
    optimizer = torch.optim.Adam(select.parameters(), lr=0.1)
    for step in range(300):
        optimizer.zero_grad()
        mask = select(sample_shape=(16,), seed=step).mask
        error = (mask @ x.T - y).square().mean()
        (error + 0.1 * mask.sum(-1).mean()).backward()
        optimizer.step()
        select.advance()
    assert sorted(select.eval()().order[:4].tolist()) == useful.tolist()
    odds = torch.cat([select.log_odds.detach(), torch.zeros(1)])
    # from 6 at the start; k varies by about one, and the straight-through gradient is biased (docs/estimators.md)
    assert abs(drpm.ops.mvhg_mean(odds, 12, 12)[0] - 4) < 1


def test_selector_with_given_odds():
    select = SubsetSelector(given_odds=True)
    odds = torch.tensor([-200.0, 0.0, 200.0], requires_grad=True)
    chosen = select(torch.randn(3, 20), odds, seed=0)
    assert chosen.size[0] == 0 and chosen.size[2] == 20 and 3 < chosen.size[1] < 17
    chosen.size.sum().backward()
    assert odds.grad[1] > 0


def test_sort_layer_is_the_op():
    scores, values = torch.randn(2, 7), torch.randn(2, 7, 3)
    layer = RelaxedSort(0.3)
    assert torch.equal(layer(scores), drpm.ops.relaxed_sort(scores, 0.3))
    assert torch.equal(layer(scores, values), drpm.ops.relaxed_sort_matmul(scores, values, 0.3))
    hard = RelaxedSort(hard=True)(scores, scores.unsqueeze(-1)).squeeze(-1)
    assert torch.equal(hard, scores.sort(descending=True).values)


def modules():
    return [
        RandomPartition(3, 12, tau=Exponential(1.0, 0.5, 10), m=[12, 12, 8]),
        SubsetSelector(12, tau=Exponential(1.0, 0.5, 10)),
        SubsetSelector(12, k=5, tau=Exponential(1.0, 0.5, 10)),
        SubsetSelector(12, law="conditional-bernoulli", tau=Exponential(1.0, 0.5, 10)),
        RelaxedSort(Exponential(1.0, 0.5, 10)),
    ]


@pytest.mark.parametrize("module", modules(), ids=lambda m: type(m).__name__)
def test_copies_pickles_and_checkpoints_hold_everything(module):
    written = repr(module)
    module = copy.deepcopy(module)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    module.advance(4)

    def through_a_file():
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        fresh = next(m for m in modules() if repr(m) == written)
        fresh.load_state_dict(torch.load(file, weights_only=True))
        return fresh

    state = module.state_dict()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), through_a_file()):
        assert other.tau == module.tau == Exponential(1.0, 0.5, 10)(4)
        for name, value in other.state_dict().items():
            assert torch.equal(value, state[name]), name
        other.advance()
        assert other.tau == Exponential(1.0, 0.5, 10)(5) != module.tau
        arguments = (torch.linspace(-1, 1, 12),) if isinstance(module, RelaxedSort) else ()
        seed = {} if isinstance(module, RelaxedSort) else {"seed": 1}
        other.temperature.set(module.tau)
        for a, b in zip(other(*arguments, **seed), module(*arguments, **seed), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("module", modules(), ids=lambda m: type(m).__name__)
def test_moves_keep_buffers_and_the_exact_temperature(module):
    module = copy.deepcopy(module).to(torch.bfloat16)
    assert all(p.dtype == torch.bfloat16 for p in module.parameters())
    module.temperature.set(0.3)
    module.double().half().float()
    assert module.tau == 0.3 and module.temperature.value.item() == 0.3
    assert module.temperature.step.dtype == torch.int64
    empty = module.to("meta").to_empty(device="cpu")
    empty.reset_parameters() if hasattr(empty, "reset_parameters") else None
    assert empty.tau == 0.3 and empty.temperature.value.item() == 0.3
    assert {b.device.type for b in empty.buffers()} == {"cpu"}


def start_and_end():
    """One that stands at 1, and one that has come to 0.1."""
    start, end = (RelaxedSort(Exponential(1.0, 0.1, 10)) for _ in range(2))
    end.advance(10)
    return start, end, torch.tensor([0.3, -1.0, 0.5, 2.0])


def written_in_place(layer, end):
    layer.temperature.value.copy_(end.temperature.value)
    layer.temperature.step.copy_(end.temperature.step)
    return layer


def averaged(layer, end):
    copied = torch.optim.swa_utils.AveragedModel(layer)
    copied.update_parameters(end)
    return copied.module


def with_other_buffers(layer, end):
    for name, buffer in end.temperature.named_buffers():
        setattr(layer.temperature, name, buffer)
    return layer


def loaded(layer, end):
    layer.load_state_dict(end.state_dict(), assign=True)
    return layer


@pytest.mark.parametrize("change", [written_in_place, averaged, with_other_buffers, loaded])
def test_the_buffer_is_the_temperature(change):
    start, end, scores = start_and_end()
    start(scores)
    changed = change(start, end)
    assert changed.tau == 0.1
    assert torch.equal(changed(scores), drpm.ops.relaxed_sort(scores, 0.1))
    changed.advance(0)
    assert changed.temperature.step == 10 and changed.tau == 0.1
    changed.temperature.value.fill_(math.nan)
    with pytest.raises(ValueError, match="tau must be positive and finite, got nan"):
        changed(scores)


def test_functional_calls_and_mapped_modules_use_the_buffers_that_they_are_given():
    start, end, scores = start_and_end()
    got = torch.func.functional_call(start, dict(end.named_buffers()), (scores,))
    assert torch.equal(got, end(scores))
    assert torch.equal(start(scores), drpm.ops.relaxed_sort(scores, 1.0))
    stacked = torch.func.stack_module_state([start, end])
    both = torch.vmap(lambda *state: torch.func.functional_call(start, state, (scores,)))(*stacked)
    assert torch.equal(both, torch.stack([start(scores), end(scores)]))


@pytest.mark.parametrize("change", [written_in_place, loaded])
def test_a_compiled_module_uses_the_buffer(change):
    from torch._dynamo.testing import CompileCounterWithBackend

    start, end, scores = start_and_end()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(start, fullgraph=True, backend=counter)
    assert torch.equal(compiled(scores), drpm.ops.relaxed_sort(scores, 1.0))
    frames = counter.frame_count
    change(compiled._orig_mod if change is loaded else compiled, end)
    assert torch.equal(compiled(scores), drpm.ops.relaxed_sort(scores, 0.1))
    assert counter.frame_count == frames or change is loaded  # which puts another tensor in the buffer's place


@pytest.mark.parametrize("k", [2, [2, 3], torch.tensor([2, 3])])
def test_deferred_initialisation_writes_what_was_given(k):
    with torch.device("meta"):
        partition, select = RandomPartition(2, 4, m=[4, 3], tau=Exponential(0.5, 0.1, 3)), SubsetSelector(k=k)
    assert (
        partition.m.is_meta
        and (select.k.is_meta or isinstance(k, torch.Tensor))
        and f"k={select._given_k}" in repr(select)
    )
    for module in (partition, select):
        module.to_empty(device="cpu")
        for part in module.modules():
            for buffer in part.buffers(recurse=False):
                buffer.fill_(77)
            part.reset_parameters()
    assert partition.m.tolist() == [4, 3] and partition.tau == 0.5 and partition.temperature.step == 0
    assert torch.equal(select.k, torch.as_tensor(k)) and select.tau == 1.0
    assert torch.equal(select(torch.randn(2, 5)).size, torch.as_tensor(k).expand(2).float())


def test_advance_reaches_every_temperature_of_a_model():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), RelaxedSort(Exponential(1.0, 0.5, 4)), RelaxedSort(0.7))
    advance_temperatures(model, 2)
    assert model[1].tau == pytest.approx(0.5**0.5) and model[2].tau == 0.7
    assert model[1].temperature.step == 2


def test_module_without_a_device_argument_follows_the_default_device():
    with torch.device("meta"):
        module = RandomPartition(3, 4)
    assert module.log_omega.device.type == module.temperature.value.device.type == "meta"


def test_compiles_without_graph_breaks_and_an_annealed_temperature_stays_under_the_limit():
    from torch._dynamo.testing import CompileCounterWithBackend

    layer = RandomPartition(3, 12, tau=Exponential(1.0, 0.5, 30, every=5))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    for step in range(40):
        got = compiled(seed=torch.tensor([step]))
        if step % 5 == 0:
            want = layer(seed=step)
            assert torch.equal(got.assignment, want.assignment)
        layer.advance()
    assert counter.frame_count <= 8


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RandomPartition(0), ValueError, "RandomPartition: num_subsets must be >= 1, got 0"),
        (lambda: RandomPartition(2.0), TypeError, "RandomPartition: num_subsets must be an int or None, got float"),
        (lambda: RandomPartition(2, tau=-1.0), ValueError, "Temperature: tau must be positive and finite, got -1.0"),
        (lambda: RandomPartition(2, m=[1.5, 2.0]), TypeError, "RandomPartition: m must be whole"),
        (lambda: RandomPartition(2, conditionals="none"), ValueError, "RandomPartition: conditionals must be"),
        (lambda: RandomPartition(2)(), TypeError, "log_scores must be given, this module does not learn it"),
        (
            lambda: RandomPartition(2, 3)(torch.zeros(3)),
            TypeError,
            "RandomPartition: log_scores must not be given, this module learns it",
        ),
        (lambda: SubsetSelector(3, k=-1), ValueError, "SubsetSelector: k must be >= 0, got -1"),
        (lambda: SubsetSelector(3, k=2, given_odds=True), ValueError, "SubsetSelector: given_odds must be False"),
        (lambda: SubsetSelector(k=2)(torch.zeros(3), torch.zeros(())), TypeError, "log_odds must not be given, k is"),
        (
            lambda: SubsetSelector(k=[2, 4])(torch.zeros(2, 3)),
            ValueError,
            "SubsetSelector: k must be at most the number of elements, 3, got 4",
        ),
        (lambda: SubsetSelector(3, law="poisson"), ValueError, "SubsetSelector: law must be one of .*, got 'poisson'"),
        (
            lambda: SubsetSelector(3, law="conditional-bernoulli", hard=False),
            ValueError,
            "SubsetSelector: hard must be True with law='conditional-bernoulli', got False",
        ),
        (
            lambda: SubsetSelector(3, k=1, law="conditional-bernoulli", tau=0.5),
            ValueError,
            "SubsetSelector: tau must be None with law='conditional-bernoulli' and k given, got 0.5",
        ),
        (lambda: RandomPartition(2, m=-1), ValueError, "RandomPartition: m must be >= 0, got -1"),
        (lambda: SubsetSelector(k=1)([0.0]), TypeError, "SubsetSelector: log_scores must be a tensor, got list"),
        (lambda: Temperature(torch.tensor(1.0)), TypeError, "Temperature: tau must be a float or a schedule"),
        (lambda: Temperature(1.0).advance(-1), ValueError, "Temperature.advance: steps must be >= 0, got -1"),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()
