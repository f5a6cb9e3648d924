import pytest
import torch

from drpm import reference
from drpm.ops import STREAM_ORDER, STREAM_SIZES, Partition, gumbel_noise, mvhg_sample, partition, random_partition
from drpm.testing import FLOAT_DTYPES


def draw(log_omega, log_scores, tau=1.0, **options):
    return random_partition(log_omega, log_scores, tau, conditionals="merged", **options)


def noise_of(seed, rows, classes, n, dtype):
    sizes = gumbel_noise(seed, (rows, classes, n + 1), stream=STREAM_SIZES, dtype=dtype)
    return sizes, gumbel_noise(seed, (rows, 1, n), stream=STREAM_ORDER, dtype=dtype).squeeze(1)


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
