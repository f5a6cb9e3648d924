"""The CUDA kernels on a real device (`make test-gpu`); without one only the cases are checked, on the CPU."""

import itertools

import pytest
import torch

from benchmarks.gpu_cases import OPS, value_and_gradients
from drpm import ops
from drpm.testing import FLOAT_DTYPES, assert_matches_reference

SHAPE = (3, 40, 4)
SMALL = (2, 7, 3)  # for the references, some of which sum over everything
# Same seed, same noise: samples differ only where the two best outcomes are within rounding of each other.
MOST_DIFFERENT_SAMPLES = {torch.float32: 2e-3, torch.float64: 1e-6}
DISCRETE = ("random_partition", "mvhg_sample, exact", "mvhg_sample, merged", "mvhg_draw", "partition_mode")

cuda = pytest.mark.cuda
every_op = pytest.mark.parametrize("op", OPS)
every_dtype = pytest.mark.parametrize("dtype", FLOAT_DTYPES)


def results(op, device, dtype=torch.float64, shape=SHAPE):
    value, gradients = value_and_gradients(OPS[op].kernel, *OPS[op].inputs(*shape, dtype, device))
    return [value, *gradients]


@every_op
def test_cases_run_on_the_cpu(op):
    value, *gradients = results(op, "cpu", shape=SMALL)
    assert value.isfinite().all() and all(g.isfinite().all() for g in gradients)
    if OPS[op].reference is not None:
        leaves, constants = OPS[op].inputs(*SMALL, torch.float64, "cpu")
        assert_matches_reference(value.double(), OPS[op].reference(leaves, constants).detach().double())


def test_there_is_a_case_for_every_op():
    covered = {op.split(",")[0] for op in OPS}
    derived = {"mvhg_log_normalizer", "partition_log_prob_bounds", "gumbel_noise", "hypergeometric_log_weights"}
    functions = {name for name in ops.__all__ if name.islower() and callable(getattr(ops, name))}
    assert functions - covered == derived


@cuda
@every_op
@every_dtype
def test_parity_with_the_cpu(op, dtype):
    """Values and gradients; where sampling is involved, on the same noise."""
    for got, want in itertools.zip_longest(results(op, "cuda", dtype), results(op, "cpu", dtype)):
        assert got.device.type == "cuda" and got.dtype == want.dtype
        got = got.cpu()
        if op in DISCRETE and dtype == torch.float32 and not torch.equal(got, want):
            differ = (got != want).double().mean().item()
            pytest.skip(f"a sample differs by rounding: {differ:.1%} of the values; see test_same_seed_same_samples")
        assert_matches_reference(got.double(), want.double(), gradient=True)


@cuda
@every_dtype
@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_same_seed_same_samples(conditionals, dtype):
    log_omega = torch.randn(2000, 5).to(dtype)
    want = ops.mvhg_sample(log_omega, 60, 100, seed=7, conditionals=conditionals)
    got = ops.mvhg_sample(log_omega.cuda(), 60, 100, seed=7, conditionals=conditionals).cpu()
    different = (got != want).any(-1).double().mean().item()
    print(f"{conditionals}, {dtype}: {different:.2%} of the samples differ")
    assert different <= MOST_DIFFERENT_SAMPLES[dtype]


@cuda
@every_op
def test_gradients_by_finite_differences(op):
    if op in DISCRETE or "hard" in op:
        pytest.skip("straight-through, or no gradient")
    leaves, constants = OPS[op].inputs(1, 5, 3, torch.float64, "cuda")
    names = list(leaves)
    assert torch.autograd.gradcheck(
        lambda *x: OPS[op].kernel(dict(zip(names, x, strict=True)), constants), tuple(leaves.values()), atol=1e-6
    )


@cuda
@every_op
def test_side_stream_gives_the_same(op):
    want = results(op, "cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # A long kernel first: an op that ran on another stream would read its inputs too early.
        delay = torch.randn(4096, 4096, device="cuda")
        inputs = OPS[op].inputs(*SHAPE, torch.float64, "cuda")
        for x in inputs[0].values():
            x.data.add_((delay @ delay).sum() * 0)
        value, gradients = value_and_gradients(OPS[op].kernel, *inputs)
    stream.synchronize()
    for got, expected in zip([value, *gradients], want, strict=True):
        assert torch.equal(got, expected)  # no atomics: results repeat exactly


@cuda
@every_op
def test_no_device_synchronisation(op):
    leaves, constants = OPS[op].inputs(*SHAPE, torch.float32, "cuda")
    OPS[op].kernel(leaves, constants)  # whatever is made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = OPS[op].kernel(leaves, constants)
        if value.requires_grad:
            torch.autograd.grad(value.sum(), list(leaves.values()))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@cuda
@every_op
def test_cuda_graph_replays_on_new_inputs(op):
    case = OPS[op]
    leaves, constants = case.inputs(*SHAPE, torch.float32, "cuda")

    def step():
        value = case.kernel(leaves, constants)
        return [value, *torch.autograd.grad(value.sum(), list(leaves.values()))] if value.requires_grad else [value]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for x in leaves.values():
            x.add_(torch.randn_like(x) * 0.1)
    graph.replay()
    replayed = [x.clone() for x in captured]
    for got, expected in zip(replayed, step(), strict=True):
        assert torch.equal(got, expected)


@cuda
@every_op
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_runs_on_the_device_of_its_arguments(op):
    want = results(op, "cuda:0")
    with torch.cuda.device(0):
        for got, expected in zip(results(op, "cuda:1"), want, strict=True):
            assert got.device == torch.device("cuda", 1)
            assert torch.equal(got.cpu(), expected.cpu())


@cuda
@pytest.mark.parametrize("n", [20_000, 200_000])
def test_long_rows(n):
    scores, sizes = torch.randn(n), torch.tensor([n // 2, n // 4, n - n // 2 - n // 4]).float()
    want = [x.requires_grad_() for x in (scores, sizes)]
    got = [x.detach().cuda().requires_grad_() for x in (scores, sizes)]
    weight = torch.randn(3, n)
    values = [ops.partition(*x, 0.01) for x in (want, got)]
    assert torch.equal(values[0], values[1].cpu())
    for a, b in zip(
        torch.autograd.grad((values[0] * weight).sum(), want),
        torch.autograd.grad((values[1] * weight.cuda()).sum(), got),
        strict=True,
    ):
        assert_matches_reference(b.cpu().double(), a.double(), gradient=True)


@cuda
def test_more_than_two_to_the_31_elements():
    n = 46_400  # n^2 > 2^31
    if torch.cuda.mem_get_info()[0] < 4 * n * n * 1.2:
        pytest.skip("needs 11 GB of device memory")
    scores = torch.randn(n, device="cuda")
    last = ops.relaxed_sort(scores, hard=True)[-1]
    assert last.sum() == 1 and last.argmax() == scores.argmin()


@cuda
def test_many_rows():
    rows, n, classes = 300_000, 16, 3
    scores, sizes = torch.randn(rows, n), torch.tensor([5.0, 5.0, 6.0]).expand(rows, -1)
    got = ops.partition(scores.cuda(), sizes.cuda())
    assert torch.equal(got.cpu(), ops.partition(scores, sizes)) and got.shape == (rows, classes, n)


@cuda
def test_counts_out_of_range_give_a_nan_row():
    log_omega, n = torch.zeros(2, 3, device="cuda"), torch.tensor([4, 99], device="cuda")
    value = ops.mvhg_log_normalizer(log_omega, 5, n)
    assert value[0].isfinite() and value[1].isnan()
