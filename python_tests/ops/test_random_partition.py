import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from drpm import reference
from drpm.ops import STREAM_ORDER, STREAM_SIZES, Partition, gumbel_noise, mvhg_sample, partition, random_partition
from drpm.ops._lengths import SORT_SPACING, pad_scores
from drpm.testing import FLOAT_DTYPES


def draw(log_omega, log_scores, tau=1.0, **options):
    return random_partition(log_omega, log_scores, tau, conditionals="merged", **options)


def noise_of(seed, rows, classes, n, dtype):
    sizes = gumbel_noise(seed, (rows, classes, n + 1), stream=STREAM_SIZES, dtype=dtype)
    return sizes, gumbel_noise(seed, (rows, 1, n), stream=STREAM_ORDER, dtype=dtype).squeeze(1)


def composed(log_omega, log_scores, tau, hard=True, seed=None, conditionals="exact", m=None, samples=1, lengths=None):
    """The same partition out of the ops of its parts, for arguments of one batch dimension."""
    (batch, n), classes = log_scores.shape, log_omega.shape[1]
    drawn = n if lengths is None else lengths
    if m is None:
        m = n if lengths is None else lengths.unsqueeze(-1).expand(batch, classes)
    options = dict(conditionals=conditionals, sample_shape=samples, noise=seed is not None, seed=seed)
    sizes = mvhg_sample(log_omega, m, drawn, tau, hard=hard, **options)
    scores = log_scores.expand(samples, batch, n)
    if seed is not None:
        noise = gumbel_noise(seed, (samples * batch, 1, n), stream=STREAM_ORDER, dtype=log_scores.dtype)
        scores = scores + noise.reshape(samples, batch, n)
    mask = torch.ones(batch, n, dtype=torch.bool)
    if lengths is not None:
        mask = torch.arange(n) < lengths.unsqueeze(-1)
        scores = pad_scores(scores, mask, SORT_SPACING * tau)
    assignment = partition(scores, sizes, tau, hard=hard)
    exact_sizes = mvhg_sample(log_omega, m, drawn, tau, **options).detach()
    labels = partition(scores.detach(), exact_sizes, tau).argmax(-2)
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    return (
        torch.where(mask.unsqueeze(-2), assignment, 0.0),
        sizes,
        order,
        torch.where(mask, labels, -1),
    )


CALLS = {
    "plain": dict(seed=3),
    "without noise": dict(),
    "merged": dict(seed=3, conditionals="merged"),
    "several samples": dict(seed=3, samples=5),
    "several samples without noise": dict(samples=2, conditionals="merged"),
    "many samples": dict(seed=4, samples=70),  # more than one group of the backward
    "capacities": dict(seed=3, m=torch.tensor([9, 4, 12])),
    "each row's capacities": dict(seed=3, m=torch.tensor([[9, 4, 12], [11, 1, 2], [5, 6, 7], [0, 20, 3]]), samples=2),
    "each row's length": dict(seed=3, lengths=torch.tensor([11, 0, 4, 1])),
    "each row's length, several samples": dict(
        seed=3, lengths=torch.tensor([7, 2, 11, 5]), samples=3, conditionals="merged"
    ),
}


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_is_the_composition_of_its_parts(name, hard, dtype):
    torch.manual_seed(sum(map(ord, name)))
    options = CALLS[name]
    samples = options.get("samples", 1)
    inputs = [torch.randn(4, 3, dtype=dtype), torch.randn(4, 11, dtype=dtype)]
    weights = [torch.randn(samples, 4, 3, 11, dtype=dtype), torch.randn(samples, 4, 3, dtype=dtype)]
    one, two = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    given = {key: value for key, value in options.items() if key != "samples"}
    got = random_partition(*one, 0.7, hard=hard, noise="seed" in options, sample_shape=samples, **given)
    want = composed(*two, 0.7, hard, **options)
    single = dtype == torch.float32
    tolerance = 0 if hard else 2e-6 if single else 1e-12  # as partition states
    assert torch.equal(got.order, want[2]) and torch.equal(got.labels, want[3])
    assert (got.sizes - want[1]).abs().max() <= 11 * tolerance
    assert (got.assignment - want[0]).abs().max() <= tolerance
    for part in ((0, 1), (0,), (1,)):
        grads = [
            torch.autograd.grad(
                sum((out[i] * weights[i]).sum() for i in part), xs, retain_graph=True, allow_unused=True
            )
            for out, xs in ((got, one), (want, two))
        ]
        for a, b in zip(*grads, strict=True):
            if a is None or b is None:  # sizes do not depend on the scores
                assert part == (1,) and not (a if b is None else b).abs().max()
                continue
            assert (a - b).abs().max() <= (1e-5 if single else 1e-10) * max(1.0, float(b.abs().max())) * samples


def test_dtypes_may_differ():
    omega, scores = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 8)
    for one, two in ((omega, scores), (omega.float(), scores.double())):
        one.requires_grad_(), two.requires_grad_()
        got, want = random_partition(one, two, 0.5, hard=False, seed=1), composed(one, two, 0.5, False, seed=1)
        assert got.assignment.dtype == two.dtype and got.sizes.dtype == one.dtype
        assert torch.equal(got.order, want[2][0]) and torch.equal(got.labels, want[3][0])
        assert (got.assignment - want[0][0]).abs().max() <= 2e-6
        grads = torch.autograd.grad(got.assignment.square().sum(), (one, two))
        for a, b in zip(grads, torch.autograd.grad(want[0].square().sum(), (one, two)), strict=True):
            assert a.dtype == b.dtype and (a - b).abs().max() <= 1e-5 * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("name", ["plain", "several samples", "each row's length, several samples"])
def test_second_derivatives_of_relaxed_values(name):
    torch.manual_seed(2)
    options = CALLS[name]
    inputs = [torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 11, dtype=torch.float64)]
    weight = torch.randn(options.get("samples", 1), 4, 3, 11, dtype=torch.float64)
    direction = torch.randn(4, 11, dtype=torch.float64)
    given = {key: value for key, value in options.items() if key != "samples"}

    def seconds(function):
        omega, scores = (x.clone().requires_grad_() for x in inputs)
        (grad,) = torch.autograd.grad((function(omega, scores)[0] * weight).square().sum(), scores, create_graph=True)
        return torch.autograd.grad((grad * direction).sum(), (omega, scores))

    shape = options.get("samples", 1)
    got = seconds(lambda o, s: random_partition(o, s, 0.7, hard=False, sample_shape=shape, **given))
    want = seconds(lambda o, s: composed(o, s, 0.7, False, **options))
    for a, b in zip(got, want, strict=True):
        assert (a - b).abs().max() <= 1e-9 * max(1.0, float(b.abs().max()))
    omega, scores = (x.clone().requires_grad_() for x in inputs)
    out = random_partition(omega, scores, 0.7, hard=False, sample_shape=shape, **given)
    (grad,) = torch.autograd.grad(out.assignment.square().sum(), omega, create_graph=True)
    with pytest.raises(RuntimeError, match="mvhg_sample: the gradient is of first order only"):
        torch.autograd.grad(grad.sum(), scores)


def test_seeds_of_mapped_calls_with_several_samples_and_second_derivatives():
    torch.manual_seed(5)
    omega, scores = torch.randn(3, 2, 3, dtype=torch.float64), torch.randn(3, 2, 6, dtype=torch.float64)
    seeds = torch.tensor([[1], [7], [5]])

    def loss(o, s, seed):
        return random_partition(o, s, 0.6, hard=False, seed=seed, sample_shape=4).assignment.square().sum()

    def curvature(o, s, seed):
        return torch.func.jvp(lambda x: torch.func.grad(loss, 1)(o, x, seed), (s,), (torch.ones_like(s),))[1]

    got = torch.func.vmap(curvature)(omega, scores, seeds)
    mapped = torch.func.grad(lambda s: torch.func.vmap(loss)(omega, s, seeds).sum())(scores)
    for i in range(3):
        want = curvature(omega[i], scores[i], seeds[i])
        assert (got[i] - want).abs().max() <= 1e-10 * max(1.0, float(want.abs().max()))
        assert (mapped[i] - torch.func.grad(loss, 1)(omega[i], scores[i], seeds[i])).abs().max() <= 1e-11


def test_one_call_of_torch_beside_the_seed():
    names = []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            names.append(str(op))
            return op(*args, **(kwargs or {}))

    omega, scores = torch.randn(5, 3, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    with Names():
        out = random_partition(omega, scores)
        drawn = [name for name in names if "randint" not in name and "detach" not in name]
        assert drawn == ["drpm.random_partition.default"]
        names.clear()
        torch.autograd.grad(out.assignment, (omega, scores), torch.ones_like(out.assignment))
        assert [x for x in names if "ones_like" not in x and "detach" not in x] == [
            "drpm.random_partition_backward.default"
        ]
        names.clear()
        mvhg_sample(omega, 8, 8)
    assert [x for x in names if "randint" not in x and "detach" not in x] == ["drpm.mvhg_sample_exact.default"]


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("hard", [False, True])
def test_matches_the_reference_on_the_same_noise(hard, dtype):
    log_omega = torch.randn(4, 5, dtype=dtype, requires_grad=True)
    log_scores = torch.randn(4, 30, dtype=dtype, requires_grad=True)
    weight = torch.randn(4, 5, 30, dtype=torch.float64)
    got = draw(log_omega, log_scores, 0.7, hard=hard, seed=11)
    got_grads = torch.autograd.grad((got.assignment * weight.to(dtype)).sum(), (log_omega, log_scores))
    size_gumbel, score_gumbel = noise_of(11, 4, 5, 30, dtype)
    omega, scores = (x.detach().double().requires_grad_() for x in (log_omega, log_scores))
    want = reference.random_partition(
        omega,
        scores,
        0.7,
        hard=hard,
        size_gumbel=size_gumbel.double(),
        score_gumbel=score_gumbel.double(),
        conditionals="merged",
    )
    want_grads = torch.autograd.grad((want.assignment * weight).sum(), (omega, scores))
    assert isinstance(got, Partition)
    assert torch.equal(got.order, want.order) and torch.equal(got.labels, want.labels)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    assert (got.sizes - want.sizes).abs().max() <= tolerance * 30
    assert (got.assignment - want.assignment).abs().max() <= tolerance
    for a, b in zip(got_grads, want_grads, strict=True):
        assert (a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max()))


def test_one_seed_draws_sizes_and_order_independently():
    log_omega, log_scores = torch.zeros(2, 3), torch.randn(2, 8)
    got = draw(log_omega, log_scores, seed=5, sample_shape=(6,))
    assert torch.equal(got.sizes, mvhg_sample(log_omega, 8, 8, conditionals="merged", seed=5, sample_shape=(6,)))
    _, gumbel = noise_of(5, 12, 3, 8, torch.float32)
    scores = log_scores + gumbel.reshape(6, 2, 8)
    assert torch.equal(got.order, scores.sort(dim=-1, descending=True, stable=True).indices)
    assert torch.equal(got.assignment, partition(scores, got.sizes))


@pytest.mark.parametrize("hard", [False, True])
def test_labels_order_and_sizes_agree(hard):
    got = draw(torch.randn(3, 4), torch.randn(3, 50), hard=hard, sample_shape=(2, 5), seed=1)
    assert got.assignment.shape == (2, 5, 3, 4, 50) and got.sizes.shape == (2, 5, 3, 4)
    assert got.order.shape == got.labels.shape == (2, 5, 3, 50)
    exact = draw(torch.randn(1, 4), torch.randn(1, 50), hard=True, seed=2)
    assert torch.equal(exact.labels, exact.assignment.argmax(-2))
    counts = torch.nn.functional.one_hot(got.labels, 4).sum(-2)
    assert torch.equal(counts.sum(-1), torch.full((2, 5, 3), 50))
    if hard:
        assert torch.equal(counts.float(), got.sizes)
    along = got.labels.gather(-1, got.order)
    assert (along.diff(dim=-1) >= 0).all()


def test_relaxed_draw_keeps_order_and_labels_of_the_hard_one():
    log_omega, log_scores = torch.randn(2, 4), torch.randn(2, 40)
    soft, hard = draw(log_omega, log_scores, hard=False, seed=3), draw(log_omega, log_scores, seed=3)
    assert torch.equal(soft.order, hard.order) and torch.equal(soft.labels, hard.labels)
    assert (soft.sizes - soft.sizes.round()).abs().max() > 1e-3


def test_without_noise_sorts_the_scores_with_ties_by_index():
    log_scores = torch.tensor([0.0, 1.0, 0.0, 1.0, -1.0])
    got = draw(torch.zeros(2), log_scores, noise=False)
    assert got.order.tolist() == [1, 3, 0, 2, 4]
    assert all(torch.equal(a, b) for a, b in zip(got, draw(torch.zeros(2), log_scores, noise=False), strict=True))


def test_manual_seed_and_generator_reproduce():
    arguments = torch.randn(3), torch.randn(20)
    torch.manual_seed(4)
    first = draw(*arguments)
    torch.manual_seed(4)
    assert all(torch.equal(a, b) for a, b in zip(first, draw(*arguments), strict=True))
    assert not torch.equal(first.order, draw(*arguments).order)
    one, two = (draw(*arguments, generator=torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(one.assignment, two.assignment)


def test_order_follows_the_plackett_luce_law():
    scores = torch.tensor([0.7, -0.2, 0.0])
    got = draw(torch.zeros(2), scores, sample_shape=(40000,), seed=0)
    counts = torch.bincount(got.order[:, 0] * 3 + got.order[:, 1], minlength=9).double()
    s = scores.double().exp()
    expected = torch.zeros(9, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            if i != j:
                expected[3 * i + j] = s[i] / s.sum() * s[j] / (s.sum() - s[i]) * 40000
    kept = expected > 0
    statistic = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    assert statistic < 25.7  # chi-square with 5 degrees of freedom, exceeded with probability 1e-4


def test_batches_of_scores_and_weights_broadcast():
    got = draw(torch.randn(3, 1, 2), torch.randn(4, 10))
    assert got.assignment.shape == (3, 4, 2, 10) and got.labels.shape == (3, 4, 10)


@pytest.mark.parametrize("hard", [False, True])
def test_edges(hard):
    single = draw(torch.zeros(1), torch.randn(6), hard=hard)
    assert torch.equal(single.labels, torch.zeros(6, dtype=torch.int64)) and single.sizes.tolist() == [6.0]
    nothing = draw(torch.zeros(3), torch.zeros(0), hard=hard)
    assert nothing.assignment.shape == (3, 0) and nothing.sizes.tolist() == [0.0, 0.0, 0.0]
    assert draw(torch.zeros(0, 3), torch.zeros(0, 5), hard=hard).assignment.shape == (0, 3, 5)
    one = draw(torch.zeros(3), torch.zeros(1), hard=hard)
    assert one.assignment.shape == (3, 1)


def test_dtypes():
    assert draw(torch.zeros(2).double(), torch.zeros(4).double()).assignment.dtype == torch.float64
    half = draw(torch.zeros(2).half(), torch.zeros(4).half())
    assert half.assignment.dtype == torch.float16 and half.sizes.dtype == torch.float32


def test_items_per_class_bound_the_sizes():
    got = draw(torch.tensor([9.0, 0.0, 0.0]), torch.zeros(20), m=[5, 10, 10], sample_shape=(50,), seed=0)
    assert (got.sizes[:, 0] <= 5).all() and (got.sizes.sum(-1) == 20).all()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            dict(seed=1, generator=torch.Generator()),
            ValueError,
            "random_partition: seed must be None where",
        ),
        (dict(noise=False, seed=1), ValueError, "random_partition: seed must be None with noise=False"),
        (dict(tau=0.0), ValueError, "random_partition: tau must be positive and finite"),
        (dict(log_scores=torch.tensor([1.0, float("nan")])), ValueError, "random_partition: log_scores must be finite"),
        (dict(log_omega=torch.tensor([float("inf"), 0.0])), ValueError, "random_partition: log_omega must be finite"),
        (dict(log_omega=torch.zeros(2).long()), TypeError, "random_partition: log_omega must have a floating dtype"),
        (dict(log_omega=torch.zeros(3, 2), log_scores=torch.zeros(2, 4)), ValueError, "batch shapes must broadcast"),
        (dict(m=1), ValueError, "must"),
    ],
)
def test_bad_input(options, kind, message):
    arguments = {"log_omega": torch.zeros(2), "log_scores": torch.zeros(4), "conditionals": "merged", **options}
    with pytest.raises(kind, match=message):
        random_partition(**arguments)
