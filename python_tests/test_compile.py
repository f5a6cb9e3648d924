"""torch.compile, torch.export, checkpointing, determinism and precision of a model that uses every op."""

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

from drpm import ops
from drpm.distributions import (
    MultivariateNoncentralHypergeometric,
    PlackettLuce,
    RandomPartition,
    RelaxedMultivariateNoncentralHypergeometric,
    RelaxedPlackettLuce,
    RelaxedRandomPartition,
)
from drpm.nn import Exponential
from drpm.nn import RandomPartition as RandomPartitionLayer
from drpm.testing import devices
from drpm.testing.samples import NO_GRADIENT, SAMPLES, Shape, draw_inputs, outputs_of

K = 3
COUNTS = ("elements", "classes", "k")  # read off the shapes, that a graph may serve several
NAMES = sorted({name for sample in SAMPLES for name in sample.arguments} - set(COUNTS))
LEAVES = [name for name, x in draw_inputs(NAMES, Shape(), torch.float32).items() if x.is_floating_point()]


def every_op(*inputs):
    """All of drpm.ops; a list of outputs, those that are differentiable first."""
    given = dict(zip(NAMES, inputs, strict=True))
    n = given["scores"].shape[-1]
    given.update(elements=n, classes=K, k=n // 2)
    differentiable, others = [], []
    for sample in SAMPLES:
        for x in outputs_of(sample.of(ops)(*(given[name] for name in sample.arguments))):
            has_gradient = x.is_floating_point() and sample.gradient != NO_GRADIENT
            (differentiable if has_gradient else others).append(torch.where(torch.isinf(x), 0, x))
    return differentiable, others


def arguments(batch, n, dtype=torch.float32):
    inputs = draw_inputs(NAMES, Shape((batch,), n, K), dtype)
    return tuple(x.requires_grad_(x.is_floating_point()) for x in inputs.values())


def leaves_of(inputs):
    return [x for name, x in zip(NAMES, inputs, strict=True) if name in LEAVES]


def problem(*shape, names=("log_omega", "scores", "seed")):
    batch, n = shape
    inputs = draw_inputs(names, Shape((batch,), n, K), torch.float32)
    return tuple(x.requires_grad_(x.is_floating_point()) for x in inputs.values())


def values_and_gradients(function, inputs):
    differentiable, others = function(*inputs)
    loss = sum((x**2).sum() for x in differentiable)
    grads = torch.autograd.grad(loss, leaves_of(inputs))
    return [*(x.detach() for x in differentiable), *others, *grads]


def assert_same(got, want, exact=True):
    assert len(got) == len(want)
    for x, y in zip(got, want, strict=True):
        if exact:
            assert torch.equal(x, y)
        else:
            torch.testing.assert_close(x, y, rtol=2e-5, atol=2e-5)


def test_no_graph_breaks_and_no_recompilation():
    """fullgraph: a graph break raises. The second shape must be served by the first graph."""
    torch._dynamo.reset()
    compiled = torch.compile(every_op, fullgraph=True, dynamic=True, backend="eager")
    inputs = arguments(2, 7)
    assert_same(values_and_gradients(compiled, inputs), values_and_gradients(every_op, inputs))
    with torch._dynamo.config.patch(error_on_recompile=True):
        inputs = arguments(4, 9)
        assert_same(values_and_gradients(compiled, inputs), values_and_gradients(every_op, inputs))


@pytest.mark.slow
def test_one_graph():
    torch._dynamo.reset()
    explained = torch._dynamo.explain(every_op)(*arguments(2, 7))
    assert explained.graph_count == 1 and explained.graph_break_count == 0


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_forward_and_backward_compiled(backend, dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(every_op, fullgraph=True, dynamic=dynamic, backend=backend)
    for batch, n in ((2, 7), (4, 9)):
        inputs = arguments(batch, n)
        want = values_and_gradients(every_op, inputs)
        with torch._dynamo.config.patch(error_on_recompile=dynamic and n == 9):
            assert_same(values_and_gradients(compiled, inputs), want, exact=backend == "aot_eager")


def test_inductor():
    """The part of the above that takes seconds: the training step of a random partition."""
    torch._dynamo.reset()

    def step(log_omega, scores, seed):
        out = ops.random_partition(log_omega * 1.0, scores.sin(), seed=seed)
        return [out.assignment, ops.relaxed_sort_matmul(scores, scores.unsqueeze(-1))], [out.labels]

    log_omega, scores, seed = problem(2, 7)
    compiled = torch.compile(step, fullgraph=True)

    def both(function):
        differentiable, others = function(log_omega, scores, seed)
        loss = sum((x**3).sum() for x in differentiable)
        return [*differentiable, *others, *torch.autograd.grad(loss, (log_omega, scores))]

    assert_same(both(compiled), both(step), exact=False)


def test_draws_without_a_seed_under_compile():
    """torch.manual_seed governs them; `seed=` gives the eager draw."""
    torch._dynamo.reset()
    log_omega, scores = torch.zeros(K), torch.zeros(40)
    compiled = torch.compile(lambda seed: ops.random_partition(log_omega, scores, seed=seed).labels, fullgraph=True)
    unseeded = torch.compile(lambda s: ops.random_partition(log_omega, s).labels, fullgraph=True, backend="eager")
    assert torch.equal(compiled(torch.tensor([5])), ops.random_partition(log_omega, scores, seed=5).labels)
    torch.manual_seed(1)
    first, second = unseeded(scores), unseeded(scores)
    torch.manual_seed(1)
    assert torch.equal(first, unseeded(scores)) and not torch.equal(first, second)


def annealed(log_omega, scores, tau, seed):
    """Every op that takes a temperature."""
    drawn = ops.random_partition(log_omega, scores, tau, seed=seed)
    merged = ops.mvhg_sample(log_omega, 7, 7, tau, hard=False, conditionals="merged", seed=seed)
    soft = ops.partition(scores, merged, tau, hard=False, lengths=6)
    sorted_scores = ops.relaxed_sort_matmul(scores, scores.unsqueeze(-1), tau, lengths=6)
    return [drawn.assignment, drawn.sizes, merged, soft, sorted_scores, ops.relaxed_sort(scores, tau)]


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("float", "aot_eager"), ("tensor", "aot_eager"), ("module", "aot_eager"), ("float", "inductor")],
)
def test_annealing_compiles_at_most_twice(kind, backend):
    """20 temperatures: one graph for the first, one for all that follow; a tensor is an input of the graph at once."""
    torch._dynamo.reset()
    log_omega, scores, seed = problem(2, 7)
    counters.clear()
    function = annealed
    if kind == "module":
        module = RandomPartitionLayer(tau=Exponential(2.0, 0.1, steps=20))

        def function(log_omega, scores, tau, seed):
            out = module(scores, log_omega, seed=seed)
            return [out.assignment, out.sizes]

    def both(function, tau):
        outputs = function(log_omega, scores, tau, seed)
        return [*outputs, *torch.autograd.grad(sum((x**3).sum() for x in outputs), (log_omega, scores))]

    compiled = torch.compile(function, fullgraph=True, backend=backend)
    for step in range(20):
        tau = 2.0 * 0.9**step
        got = both(compiled, torch.tensor(tau, dtype=torch.float64) if kind == "tensor" else tau)
        assert_same(got, both(function, tau), exact=backend == "aot_eager")
        if kind == "module":
            module.advance()
    assert counters["stats"]["unique_graphs"] <= (1 if kind == "tensor" else 2)


class Sorter(torch.nn.Module):
    """An inference path: learned scores, the partition without noise, pooled features of every subset."""

    def __init__(self):
        super().__init__()
        self.score = torch.nn.Linear(4, 1)
        self.log_omega = torch.nn.Parameter(torch.tensor([0.5, 0.0, -0.5]))

    def forward(self, x):
        scores = self.score(x).squeeze(-1)
        out = ops.random_partition(self.log_omega, scores, noise=False)
        soft = ops.partition(scores, out.sizes, hard=False)
        log_prob = ops.random_partition_log_prob(out.labels, self.log_omega, scores)
        return out.assignment @ x, soft, log_prob, ops.partition_mode(self.log_omega, scores)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict, tmp_path):
    model, x = Sorter().eval(), torch.randn(2, 7, 4)
    shapes = ({0: torch.export.Dim("batch", min=2), 1: torch.export.Dim("n", min=2, max=4000)},)
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=shapes, strict=strict)
        torch.export.save(program, tmp_path / "sorter.pt2")
        loaded = torch.export.load(tmp_path / "sorter.pt2").module()
        for batch, n in ((2, 7), (5, 11)):
            x = torch.randn(batch, n, 4)
            assert_same(loaded(x), model(x))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing(use_reentrant):
    """Recomputed with the same draws, seeds given or not."""

    def unseeded(*inputs):
        given = dict(zip(NAMES, inputs, strict=True))
        return every_op(*inputs)[0] + [ops.random_partition(given["log_omega"], given["scores"]).assignment]

    def gradients(function):
        inputs = arguments(2, 7)
        torch.manual_seed(4)
        return torch.autograd.grad(sum((x**2).sum() for x in function(*inputs)), leaves_of(inputs))

    def checkpointed(*inputs):
        return checkpoint(lambda *a: tuple(unseeded(*a)), *inputs, use_reentrant=use_reentrant)

    if not use_reentrant:
        assert_same(gradients(checkpointed), gradients(unseeded))
        return
    inputs = arguments(2, 7)  # the reentrant kind wants backward()
    torch.manual_seed(4)
    sum((x**2).sum() for x in checkpointed(*inputs)).backward()
    assert_same([x.grad for x in leaves_of(inputs)], gradients(unseeded))


@pytest.mark.parametrize("device", devices())
def test_threads_and_runs_do_not_change_a_bit(device):
    """The same seed: bitwise the same values and gradients, under torch.use_deterministic_algorithms."""
    inputs = problem(3, 2500, names=("log_omega", "scores", "values", "labels", "order", "seed"))
    inputs = [x.detach().to(device).requires_grad_(x.requires_grad) for x in inputs]
    before = torch.get_num_threads()

    def run(threads):
        torch.set_num_threads(threads)
        log_omega, scores, values, labels, order, seed = inputs
        sizes = ops.mvhg_sample(log_omega, 2500, 2500, seed=seed)
        outputs = [
            sizes,
            ops.random_partition(log_omega, scores, seed=seed).assignment,
            ops.mvhg_sample(log_omega, 2500, 2500, seed=seed, hard=False, conditionals="merged"),
            ops.partition(scores, sizes, 0.3, hard=False),
            ops.relaxed_sort_matmul(scores, values),
            ops.plackett_luce_log_prob(order, scores),
            ops.random_partition_log_prob(labels, log_omega, scores),
            ops.relaxed_sort(scores[:, :200], 0.3),
            ops.partition_marginals(log_omega, scores[:, :60]),
            ops.mvhg_log_prob(sizes, log_omega, 2500, 2500),
            ops.mvhg_covariance(log_omega, 2500, 2500),
            ops.mvhg_entropy(log_omega, 2500, 2500),
            ops.mvhg_kl(log_omega, -log_omega, 2500, 2500),
        ]
        weights = [torch.linspace(-1, 1, x.numel(), device=device).reshape(x.shape) for x in outputs]
        return [*outputs, *torch.autograd.grad(outputs, inputs[:3], weights)]

    torch.use_deterministic_algorithms(True)
    try:
        want = run(1)
        for threads in (1, 2, 3, 8):
            assert_same(run(threads), want)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)


def test_generators_and_checkpoints_of_their_state(tmp_path):
    log_omega, scores = torch.zeros(K), torch.zeros(50)
    generator = torch.Generator().manual_seed(7)

    def draw():
        return ops.random_partition(log_omega, scores, generator=generator).labels

    draw()
    torch.save({"generator": generator.get_state(), "torch": torch.get_rng_state()}, tmp_path / "state.pt")
    want = [draw(), draw(), ops.random_partition(log_omega, scores).labels]
    state = torch.load(tmp_path / "state.pt")
    generator = torch.Generator()
    generator.set_state(state["generator"])
    torch.set_rng_state(state["torch"])
    assert_same([draw(), draw(), ops.random_partition(log_omega, scores).labels], want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_compute_in_float32(dtype):
    """Relaxed values come back in the inputs' dtype, correctly rounded; counts and their moments as float32."""
    inputs = [x.detach().to(dtype) if x.is_floating_point() else x for x in arguments(2, 7)]
    wide = [x.float() if x.is_floating_point() else x for x in inputs]
    for got, want in zip(every_op(*inputs)[0], every_op(*wide)[0], strict=True):
        assert got.dtype in (dtype, torch.float32)
        assert torch.allclose(got.float(), want, rtol=2 * torch.finfo(dtype).eps, atol=2e-3)
    given = dict(zip(NAMES, inputs, strict=True))
    drawn = ops.random_partition(given["log_omega"], given["scores"], seed=1)
    assert drawn.sizes.dtype == torch.float32 and drawn.assignment.dtype == dtype
    assert ops.relaxed_sort(given["scores"]).dtype == dtype


def test_autocast():
    """Layers in bfloat16, the ops on what they give; no op falls below float32 inside."""
    model, x = Sorter(), torch.randn(2, 7, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model.score(x).squeeze(-1)
        assert scores.dtype == torch.bfloat16
        pooled, soft, log_prob, _ = model(x)
        assert soft.dtype in (torch.bfloat16, torch.float32) and log_prob.dtype == torch.float32
        (pooled.float().sum() + log_prob.sum()).backward()
        exact = torch.randn(2, 7)
        matrix = ops.relaxed_sort(exact)
        inside = ops.plackett_luce_log_prob(matrix, exact)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.allclose(inside, ops.plackett_luce_log_prob(matrix, exact), rtol=1e-6)


def test_float64_is_kept():
    for x in every_op(*arguments(2, 7, torch.float64))[0]:
        assert x.dtype == torch.float64


def test_distributions_compile():
    torch._dynamo.reset()

    def all_of(log_omega, scores):
        sizes = MultivariateNoncentralHypergeometric(7, 7, log_omega, validate_args=False)
        other = MultivariateNoncentralHypergeometric(7, 7, -log_omega, validate_args=False)
        order = PlackettLuce(scores, validate_args=False)
        partition = RandomPartition(log_omega, scores, validate_args=False)
        return [
            sizes.log_prob(sizes.sample()),
            sizes.mean,
            sizes.entropy(),
            torch.distributions.kl_divergence(sizes, other),
            order.log_prob(order.sample()),
            partition.log_prob(partition.sample()),
            RelaxedMultivariateNoncentralHypergeometric(0.5, 7, 7, log_omega, validate_args=False).rsample(),
            RelaxedPlackettLuce(0.5, scores, validate_args=False).rsample(),
            RelaxedRandomPartition(0.5, log_omega, scores, validate_args=False).rsample(),
        ]

    log_omega, scores, _ = problem(2, 7)
    compiled = torch.compile(all_of, fullgraph=True, backend="eager")
    torch.manual_seed(3)
    got = compiled(log_omega, scores)
    torch.manual_seed(3)
    assert_same(got, all_of(log_omega, scores))
