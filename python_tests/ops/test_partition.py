import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch

from drpm import reference
from drpm.ops import partition, relaxed_sort
from drpm.reference.partition import partition_labels
from drpm.reference.relaxed_sort import sort_order
from drpm.testing import FLOAT_DTYPES

from . import relaxed_sort_oracle as oracle
from .test_relaxed_sort import KINDS, check, scores_of, value_and_gradients


def sizes_of(n, classes, dtype, *, whole=True, batch=()):
    cuts = (torch.rand(*batch, classes - 1, dtype=torch.float64) * (n + 1)).floor().sort(-1).values
    ends = torch.cat([cuts.new_zeros(*batch, 1), cuts, cuts.new_full((*batch, 1), n)], -1)
    sizes = ends.diff(dim=-1)
    return (sizes if whole else sizes + 0.3 * torch.randn_like(sizes)).to(dtype)


def compare(scores, sizes, tau, hard):
    weight = torch.randn(sizes.shape[-1], scores.shape[-1], dtype=torch.float64).to(scores.dtype)
    got = value_and_gradients(partition, [scores, sizes], weight, tau=tau, hard=hard)
    dense = value_and_gradients(reference.partition, [scores, sizes], weight, tau=tau, hard=hard)
    exact = oracle.partition(oracle.to_long(scores), oracle.to_long(sizes), tau, hard, oracle.to_long(weight))
    check(got, dense, exact)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hard", [False, True])
def test_matches_the_formula(kind, hard, dtype):
    for n, classes, tau in [
        (1, 1, 1.0),
        (1, 3, 1.0),
        (2, 2, 0.5),
        (17, 3, 0.1),
        (41, 10, 1.0),
        (130, 1, 1.0),
        (200, 20, 10.0),
        (333, 5, 0.3),
        (400, 4, 1e3),
        (333, 3, 1e-3),
        (150, 3, 1e-4),
    ]:
        compare(scores_of(kind, n, dtype), sizes_of(n, classes, dtype, whole=hard), tau, hard)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("kind", ["normal", "clusters", "equal"])
def test_long_rows_with_interpolated_blocks(kind, hard, dtype):
    n = 600
    compare(scores_of(kind, n, dtype), sizes_of(n, 4, dtype, whole=hard), 2.0, hard)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("gap", [1.0, 3.0, 8.0, 17.4, 17.6, 21.0, 37.9, 38.1])
def test_gap_at_the_edge_of_an_interpolated_block(gap, dtype):
    """A step of `gap` after many near ties: a spike that nodes cannot resolve, or a crowd just outside the band."""
    for ahead, behind in [(300, 150), (250, 1), (1, 300)]:
        scores = torch.cat([torch.full((ahead,), gap), torch.zeros(behind)]) + 1e-4 * torch.rand(ahead + behind)
        compare(scores.to(dtype), sizes_of(ahead + behind, 3, dtype), 1.0, False)


@pytest.mark.parametrize("sizes", [[3.5, -1.0, 4.0, 2.0], [-2.0, 9.0, 0.1, 0.0], [12.0, 1.0, 1.0, -3.0]])
def test_relaxed_boundaries_out_of_order(sizes):
    """Sizes of a relaxed sample may leave the support; the formula holds for any real sizes."""
    compare(torch.randn(11, dtype=torch.float64), torch.tensor(sizes, dtype=torch.float64), 0.7, False)
    compare(torch.randn(300, dtype=torch.float64), torch.tensor(sizes, dtype=torch.float64) * 20, 0.1, False)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_hard_is_one_hot_with_the_given_sizes(dtype):
    scores, sizes = scores_of("ties", 257, dtype, (6,)), sizes_of(257, 5, dtype, batch=(6,))
    value = partition(scores, sizes)
    assert torch.equal(value.sum(-1), sizes)
    assert torch.equal(value.sum(-2), torch.ones(6, 257, dtype=dtype))
    assert torch.equal(value.argmax(-2), partition_labels(sort_order(scores), sizes))
    _, order, labels = torch.ops.drpm.partition(scores, sizes, 1.0, True, 0.5)
    assert torch.equal(order, sort_order(scores)) and torch.equal(labels, value.argmax(-2))
    _, _, relaxed_labels = torch.ops.drpm.partition(scores, sizes, 1.0, False, 0.5)
    assert torch.equal(relaxed_labels, labels)


def test_small_tau_gives_the_hard_partition():
    scores, sizes = torch.randperm(300).double(), sizes_of(300, 4, torch.float64)
    # the sigmoid's tail next to a boundary, e^-500, is kept
    torch.testing.assert_close(
        partition(scores, sizes, 1e-3, hard=False), partition(scores, sizes), rtol=0, atol=1e-216
    )


def test_empty_subsets():
    scores, sizes = torch.randn(40), torch.tensor([0.0, 15.0, 0.0, 0.0, 25.0, 0.0])
    assert torch.equal(partition(scores, sizes).sum(-1), sizes)
    compare(scores.double(), sizes.double(), 0.5, False)
    compare(scores.double(), sizes.double(), 0.5, True)


def test_whole_sizes_may_be_integers():
    scores = torch.randn(3, 9)
    sizes = torch.tensor([2, 3, 4])
    assert torch.equal(partition(scores, sizes), partition(scores, sizes.float()))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_columns_of_relaxed_values_sum_to_one_only_when_normalized(dtype):
    scores, sizes = torch.randn(2, 60, dtype=dtype), sizes_of(60, 3, dtype)
    plain = partition(scores, sizes, hard=False).sum(-2)
    assert torch.allclose(plain, relaxed_sort(scores).sum(-2), atol=1e-5)
    assert (plain - 1).abs().max() > 0.01
    normalized = partition(scores, sizes, hard=False, normalize=True)
    assert (normalized.sum(-2) - 1).abs().max() < 1e-6
    assert torch.equal(partition(scores, sizes, normalize=True), partition(scores, sizes))


def test_permuting_the_scores_permutes_the_columns():
    scores, shuffle, sizes = torch.randn(150), torch.randperm(150), sizes_of(150, 3, torch.float32)
    for hard in (False, True):
        got = partition(scores[shuffle], sizes, 0.7, hard=hard)
        assert torch.equal(partition(scores, sizes, 0.7, hard=hard)[:, shuffle], got)


def test_boundary_offset():
    scores, sizes = torch.randn(30, dtype=torch.float64), sizes_of(30, 3, torch.float64, whole=False)
    for hard in (False, True):
        for eps in (0.0, 0.1, 0.9):
            got = partition(scores, sizes, hard=hard, eps=eps)
            assert torch.allclose(got, reference.partition(scores, sizes, hard=hard, eps=eps), atol=1e-13)


def test_gradcheck():
    scores = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    sizes = (sizes_of(9, 3, torch.float64, batch=(2,)) + 0.2).requires_grad_()
    torch.autograd.gradcheck(lambda s, m: partition(s, m, 0.8, hard=False), (scores, sizes))
    torch.autograd.gradcheck(lambda s, m: partition(s, m, 0.8, hard=False, normalize=True), (scores, sizes))


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_straight_through_gradients_are_the_references(dtype):
    scores, sizes = scores_of("ties", 80, dtype, (3,)), sizes_of(80, 6, dtype, batch=(3,))
    weight = torch.randn(3, 6, 80, dtype=dtype)
    got = value_and_gradients(partition, [scores, sizes], weight, tau=0.5)
    want = value_and_gradients(reference.partition, [scores.double(), sizes.double()], weight.double(), tau=0.5)
    for a, b in zip(got[1:], want[1:], strict=True):
        assert (a - b).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-12) * b.abs().max()


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("hard", [False, True])
def test_opcheck(hard, dtype):
    scores = torch.randn(3, 7, dtype=dtype, requires_grad=True)
    sizes = sizes_of(7, 2, dtype, batch=(3,)).requires_grad_()
    torch.library.opcheck(torch.ops.drpm.partition, (scores, sizes, 0.5, hard, 0.5))


@pytest.mark.parametrize("hard", [False, True])
def test_compiles_without_graph_breaks(hard):
    scores, sizes = torch.randn(2, 12), sizes_of(12, 3, torch.float32)
    compiled = torch.compile(lambda s, m: partition(s, m, 0.5, hard=hard), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(scores, sizes), partition(scores, sizes, 0.5, hard=hard))


def test_batch_shapes_broadcasting_and_strides():
    scores, sizes = torch.randn(2, 1, 30), sizes_of(30, 4, torch.float32, batch=(3,))
    for hard in (False, True):
        got = partition(scores, sizes, 0.5, hard=hard)
        assert got.shape == (2, 3, 4, 30)
        for i in range(2):
            for j in range(3):
                assert torch.equal(got[i, j], partition(scores[i, 0], sizes[j], 0.5, hard=hard))
    strided = torch.randn(60, 2).t()[:, ::2]
    weight = torch.randn(2, 4, 30).transpose(0, 1).contiguous().transpose(0, 1)
    for hard in (False, True):
        a = value_and_gradients(partition, [strided, sizes[0]], weight, hard=hard)
        b = value_and_gradients(partition, [strided.contiguous(), sizes[0]], weight.contiguous(), hard=hard)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0), (2, 0, 4)])
def test_empty(shape, hard):
    scores = torch.zeros(shape, requires_grad=True)
    sizes = torch.zeros(*shape[:-1], 3, requires_grad=True)
    value = partition(scores, sizes, hard=hard)
    assert value.shape == (*shape[:-1], 3, shape[-1])
    grads = torch.autograd.grad(value.sum(), (scores, sizes))
    assert grads[0].shape == shape and torch.equal(grads[1], torch.zeros_like(sizes))


@pytest.mark.parametrize("hard", [False, True])
def test_mixed_dtypes_promote_and_half_computes_in_float32(hard):
    scores, sizes = torch.randn(20), sizes_of(20, 2, torch.float64)
    assert partition(scores, sizes, hard=hard).dtype == torch.float64
    low = scores.bfloat16()
    got = partition(low, sizes.bfloat16(), hard=hard)
    assert torch.equal(got, partition(low.float(), sizes.float(), hard=hard).bfloat16())


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("tau", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("scale", [1.0, 80.0, 1e30])
def test_extreme_scores_stay_finite(scale, tau, dtype):
    scores, sizes = torch.randn(300).to(dtype), sizes_of(300, 4, dtype)
    scores[::7] *= scale
    for hard in (False, True):
        for x in value_and_gradients(partition, [scores, sizes], torch.randn(4, 300, dtype=dtype), tau=tau, hard=hard):
            assert x.isfinite().all()


def test_threads_do_not_change_results():
    before = torch.get_num_threads()
    try:
        for batch, n in [((), 9000), ((3,), 2500), ((40,), 300)]:
            scores, weight = torch.randn(*batch, n), torch.randn(*batch, 5, n)
            sizes = sizes_of(n, 5, torch.float32, batch=batch)
            for hard in (False, True):
                results = []
                for threads in (1, 2, 3, 7):
                    torch.set_num_threads(threads)
                    results.append(value_and_gradients(partition, [scores, sizes], weight, hard=hard))
                for other in results[1:]:
                    assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    finally:
        torch.set_num_threads(before)


def test_interpolated_blocks_agree_with_every_row_computed():
    """DRPM_INTERPOLATE=0 in a process of its own, on a row too long for the oracle."""
    code = (
        "import torch; from drpm.ops import partition; torch.manual_seed(3)\n"
        "s = torch.randn(20000, dtype=torch.float64).requires_grad_(); m = torch.full((5,), 4000.0).double()\n"
        "y = partition(s, m, 1.0, hard=False); g, = torch.autograd.grad((y * torch.randn_like(y)).sum(), s)\n"
        "import sys; torch.save((y.detach(), g), sys.argv[1])"
    )
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for interpolate in "01":
            path = os.path.join(folder, interpolate)
            env = {**os.environ, "DRPM_INTERPOLATE": interpolate}
            subprocess.run([sys.executable, "-c", code, path], env=env, check=True)
            results.append(torch.load(path))
    for rows, nodes in zip(*results, strict=True):
        assert not torch.equal(rows, nodes)
        assert (rows - nodes).abs().max() < 1e-12 * rows.abs().max()


def test_many_classes():
    n, classes = 120, 60
    for hard in (False, True):
        compare(torch.randn(n, dtype=torch.float64), sizes_of(n, classes, torch.float64), 0.5, hard)
        compare(torch.randn(n, dtype=torch.float64), sizes_of(n, classes, torch.float64), 50.0, hard)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x, m: partition(x, m, -1.0), ValueError, "partition: tau must be positive and finite, got -1.0"),
        (lambda x, m: partition(x * float("inf"), m), ValueError, "partition: scores must be finite, got"),
        (lambda x, m: partition(x, m * float("nan")), ValueError, "partition: sizes must be finite, got nan"),
        (lambda x, m: partition(x, -m), ValueError, "partition: sizes must be >= 0, got -3.0"),
        (lambda x, m: partition(x, -m.long()), ValueError, "partition: sizes must be >= 0, got -3"),
        (lambda x, m: partition(x, -m.flip(0).bfloat16()), ValueError, "partition: sizes must be >= 0, got -3.0"),
        (lambda x, m: partition(x, m / 0, hard=False), ValueError, "partition: sizes must be finite, got inf"),
        (lambda x, m: partition(x.long(), m), TypeError, "partition: scores must have a floating dtype"),
        (lambda x, m: partition(x, [1, 3]), TypeError, "partition: sizes must be a tensor, got list"),
        (lambda x, m: partition(x, m > 0), TypeError, "partition: sizes must be float or int64"),
        (lambda x, m: partition(x, m[:0]), ValueError, "partition: sizes must have at least one class"),
        (lambda x, m: partition(x.sum(), m), ValueError, "partition: scores must have an element dimension"),
        (lambda x, m: partition(x.expand(2, 4), m.expand(3, 2)), ValueError, "partition: batch shapes must broadcast"),
    ],
)
def test_bad_input(call, kind, message):
    with pytest.raises(kind, match=message):
        call(torch.arange(1.0, 5.0), torch.tensor([1.0, 3.0]))


def random_case(generator):
    """One case of the differential test: shape, kind of scores, scale, tau, dtype and mode, all random."""

    def draw(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    def uniform(low, high):
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    dtype = FLOAT_DTYPES[draw(0, 2)]
    n = [draw(1, 20), draw(20, 100), draw(100, 300), draw(300, 600)][draw(0, 4)]
    classes = draw(1, 12)
    tau = 10 ** uniform(-4, 3)
    scale = 10 ** uniform(-2, 2)
    offset = [0.0, 1e4, -1e3][draw(0, 3)]
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    kind = draw(0, 6)
    if kind == 1:
        x = (x * 4).round() / 4
    elif kind == 2:
        x = x * 10 ** uniform(-6, -1) + torch.randint(0, 4, (n,), generator=generator) * uniform(0.1, 30) * tau / scale
    elif kind == 3:
        x = x / torch.randn(n, generator=generator, dtype=torch.float64)
    elif kind == 4:
        x = torch.full_like(x, uniform(-1, 1))
    elif kind == 5:
        x = torch.linspace(0, 1, n, dtype=torch.float64) ** uniform(0.2, 5)
    scores = (x * scale + offset).to(dtype)
    hard = draw(0, 2) == 1
    torch.manual_seed(draw(0, 2**31))
    return scores, sizes_of(n, classes, dtype, whole=hard or draw(0, 2) == 1), tau, hard


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run_differential(first, last):
    for case in range(first, last):
        scores, sizes, tau, hard = random_case(torch.Generator().manual_seed(case))
        try:
            compare(scores, sizes, tau, hard)
        except AssertionError as error:
            raise AssertionError(f"case {case}: {tuple(scores.shape)} {scores.dtype} {tau} {hard}") from error


def test_differential_sample(one_thread):
    run_differential(0, 100)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(100))
def test_differential(block, one_thread):
    run_differential(100 * block, 100 * (block + 1))


def test_oracle_agrees_with_autograd():
    """The oracle's gradients against autograd of the dense formula in float64, on a case without cancellation."""
    scores, sizes = torch.randn(40, dtype=torch.float64).round(decimals=1), sizes_of(40, 4, torch.float64)
    weight = torch.randn(4, 40, dtype=torch.float64)
    for hard in (False, True):
        want = value_and_gradients(reference.partition, [scores, sizes], weight, tau=2.0, hard=hard)
        got = oracle.partition(oracle.to_long(scores), oracle.to_long(sizes), 2.0, hard, oracle.to_long(weight))
        for a, b in zip((got[0], got[1][0], got[2]), want, strict=True):
            assert np.abs(a - oracle.to_long(b)).max() < 1e-12
