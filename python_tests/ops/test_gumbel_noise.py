import math

import pytest
import torch

from drpm.ops import gumbel_noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments_and_quantiles_are_gumbel(dtype):
    g = gumbel_noise(7, (50, 4, 2000), stream=0, dtype=dtype).double().flatten()
    n = g.numel()
    assert abs(g.mean() - 0.5772156649) < 5 * math.pi / math.sqrt(6 * n)
    # Kolmogorov–Smirnov statistic against exp(-exp(-g)); 1.95 / sqrt(n) is exceeded with probability 1e-3
    cdf = torch.exp(-torch.exp(-g.sort().values))
    steps = torch.arange(1, n + 1, dtype=torch.float64) / n
    assert (cdf - steps).abs().max() < 1.95 / math.sqrt(n)


def test_larger_shape_starts_with_the_same_values():
    small = gumbel_noise(3, (2, 2, 5), stream=1)
    large = gumbel_noise(3, (3, 2, 300), stream=1)
    assert torch.equal(small, large[:2, :, :5])


def test_seed_stream_row_class_and_element_all_matter():
    base = gumbel_noise(3, (2, 2, 8), stream=0)
    values = torch.cat([base, gumbel_noise(4, (2, 2, 8), stream=0), gumbel_noise(3, (2, 2, 8), stream=1)])
    assert values.flatten().unique().numel() == values.numel()


def test_threads_do_not_change_noise():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gumbel_noise(11, (64, 3, 1000), stream=0)
        torch.set_num_threads(4)
        four = gumbel_noise(11, (64, 3, 1000), stream=0)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, four)


def test_opcheck():
    torch.library.opcheck(torch.ops.drpm.gumbel_noise, (torch.tensor([5]), 0, 2, 3, 4, False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(seed=1, shape=(1, 1), stream=0), "shape must be three sizes"),
        (dict(seed=1, shape=(1, 1, 1), stream=5), "stream must be 0"),
        (dict(seed=1, shape=(1, 1, 1), stream=0, dtype=torch.float16), "dtype must be float32 or float64"),
        (dict(seed=2**70, shape=(1, 1, 1), stream=0), "seed must fit in 64 bits"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        gumbel_noise(**arguments)
