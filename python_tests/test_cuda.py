"""The CUDA kernels on a real device (`make test-gpu`); what they are called on, `test_samples.py` checks on the CPU."""

import itertools

import pytest
import torch

from drpm import ops
from drpm.testing import FLOAT_DTYPES, assert_matches_reference
from drpm.testing.samples import DERIVATIVE, SAMPLES, Shape, outputs_of, value_and_gradients

SHAPE = Shape((3,), 40, 4)
# Same seed, same noise: samples differ only where the two best outcomes are within rounding of each other.
MOST_DIFFERENT_SAMPLES = {torch.float32: 2e-3, torch.float64: 1e-6}

pytestmark = pytest.mark.cuda
each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
every_dtype = pytest.mark.parametrize("dtype", FLOAT_DTYPES)


def on_device(sample, dtype=torch.float64, shape=SHAPE, device="cuda"):
    """The inputs, those with a gradient ready for it, and these."""
    inputs = sample.inputs(shape, dtype, device)
    leaves = [inputs[name].requires_grad_() for name in sample.leaves(inputs)]
    return inputs, leaves


def results(sample, device, dtype=torch.float64):
    inputs = sample.inputs(SHAPE, dtype, device)
    values, gradients = value_and_gradients(sample.of(ops), inputs, sample.leaves(inputs))
    return [*values, *gradients]


def step(sample, inputs, leaves):
    """Values and the gradients of their sum, without a transfer."""
    values = outputs_of(sample.of(ops)(*inputs.values()))
    moving = [x.sum() for x in values if x.requires_grad]
    return [*values, *(torch.autograd.grad(sum(moving), leaves, allow_unused=True) if moving else ())]


@each_sample
@every_dtype
def test_parity_with_the_cpu(sample, dtype):
    """Values and gradients; where sampling is involved, on the same noise."""
    for got, want in itertools.zip_longest(results(sample, "cuda", dtype), results(sample, "cpu", dtype)):
        assert got.device.type == "cuda" and got.dtype == want.dtype
        got = got.cpu()
        if sample.gradient != DERIVATIVE and dtype == torch.float32 and not torch.equal(got, want):
            differ = (got != want).double().mean().item()
            pytest.skip(f"a sample differs by rounding: {differ:.1%} of the values; see test_same_seed_same_samples")
        assert_matches_reference(got.double(), want.double(), gradient=True)


@every_dtype
@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_same_seed_same_samples(conditionals, dtype):
    log_omega = torch.randn(2000, 5).to(dtype)
    want = ops.mvhg_sample(log_omega, 60, 100, seed=7, conditionals=conditionals)
    got = ops.mvhg_sample(log_omega.cuda(), 60, 100, seed=7, conditionals=conditionals).cpu()
    different = (got != want).any(-1).double().mean().item()
    print(f"{conditionals}, {dtype}: {different:.2%} of the samples differ")
    assert different <= MOST_DIFFERENT_SAMPLES[dtype]


@pytest.mark.parametrize("sample", [x for x in SAMPLES if x.gradient == DERIVATIVE], ids=lambda sample: sample.name)
def test_gradients_by_finite_differences(sample):
    inputs, leaves = on_device(sample, shape=Shape((1,), 5, 3))
    if sample.op == "mvhg_log_prob" and "relaxed_sizes" in inputs:
        leaves = [inputs["log_omega"]]  # moved sizes leave the support
    names = [name for name, x in inputs.items() if any(x is leaf for leaf in leaves)]

    def function(*moved):
        values = sample.of(ops)(*{**inputs, **dict(zip(names, moved, strict=True))}.values())
        return tuple(torch.where(torch.isinf(x), 0.0, x) for x in outputs_of(values))

    assert torch.autograd.gradcheck(function, tuple(leaves), atol=1e-6)


@each_sample
def test_side_stream_gives_the_same(sample):
    want = results(sample, "cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # A long kernel first: an op that ran on another stream would read its inputs too early.
        delay = torch.randn(4096, 4096, device="cuda")
        inputs, _ = on_device(sample)
        for x in inputs.values():
            if isinstance(x, torch.Tensor):
                x.data.add_(((delay @ delay).sum() * 0).to(x.dtype))
        values, gradients = value_and_gradients(sample.of(ops), inputs, sample.leaves(inputs))
    stream.synchronize()
    for got, expected in zip([*values, *gradients], want, strict=True):
        assert torch.equal(got, expected)  # no atomics: results repeat exactly


@each_sample
def test_no_device_synchronisation(sample):
    inputs, leaves = on_device(sample, torch.float32)
    step(sample, inputs, leaves)  # whatever is made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(sample, inputs, leaves)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@each_sample
def test_cuda_graph_replays_on_new_inputs(sample):
    inputs, leaves = on_device(sample, torch.float32)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(sample, inputs, leaves)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(sample, inputs, leaves)
    with torch.no_grad():
        for name, x in zip(sample.leaves(inputs), leaves, strict=True):
            if name != "relaxed_sizes":  # they sum to n
                x.add_(torch.randn_like(x) * 0.1)
    graph.replay()
    replayed = [x.clone() for x in captured]
    for got, expected in zip(replayed, step(sample, inputs, leaves), strict=True):
        assert torch.equal(got, expected)


@each_sample
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_runs_on_the_device_of_its_arguments(sample):
    want = results(sample, "cuda:0")
    with torch.cuda.device(0):
        for got, expected in zip(results(sample, "cuda:1"), want, strict=True):
            assert got.device == torch.device("cuda", 1)
            assert torch.equal(got.cpu(), expected.cpu())


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


def test_more_than_two_to_the_31_elements():
    n = 46_400  # n^2 > 2^31
    if torch.cuda.mem_get_info()[0] < 4 * n * n * 1.2:
        pytest.skip("needs 11 GB of device memory")
    scores = torch.randn(n, device="cuda")
    last = ops.relaxed_sort(scores, hard=True)[-1]
    assert last.sum() == 1 and last.argmax() == scores.argmin()


def test_many_rows():
    rows, n, classes = 300_000, 16, 3
    scores, sizes = torch.randn(rows, n), torch.tensor([5.0, 5.0, 6.0]).expand(rows, -1)
    got = ops.partition(scores.cuda(), sizes.cuda())
    assert torch.equal(got.cpu(), ops.partition(scores, sizes)) and got.shape == (rows, classes, n)


def test_counts_out_of_range_give_a_nan_row():
    log_omega, n = torch.zeros(2, 3, device="cuda"), torch.tensor([4, 99], device="cuda")
    value = ops.mvhg_log_normalizer(log_omega, 5, n)
    assert value[0].isfinite() and value[1].isnan()
