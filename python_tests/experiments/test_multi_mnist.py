"""MultiMNIST: where the digits lie, what the noise does, and what the seed decides."""

import pytest
import torch

from experiments.multitask.multi_mnist import make_multi_mnist, salt_and_pepper


def digits(count=40):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 28, 28, generator=generator), torch.arange(count) % 10


def test_salt_and_pepper_replaces_the_stated_share_half_black_half_white():
    grey = torch.full((100, 28, 28), 0.5)
    noisy = salt_and_pepper(grey, 0.3, torch.Generator().manual_seed(1))
    pixels = grey.numel()
    spread = (pixels * 0.15 * 0.85) ** 0.5
    assert abs((noisy == 0).sum().item() - 0.15 * pixels) < 5 * spread
    assert abs((noisy == 1).sum().item() - 0.15 * pixels) < 5 * spread
    assert ((noisy == 0) | (noisy == 1) | (noisy == 0.5)).all()
    assert torch.equal(salt_and_pepper(grey, 0.0, torch.Generator().manual_seed(1)), grey)
    assert (salt_and_pepper(grey, 1.0, torch.Generator().manual_seed(1)) != 0.5).all()


def test_left_and_right_digit_lie_where_they_should():
    white, black = torch.ones(1, 28, 28), torch.zeros(1, 28, 28)
    both = torch.cat([white, black])
    made = make_multi_mnist(both, torch.tensor([1, 0]), count=200, seed=0)
    for (left, right), image in zip(made.labels.tolist(), made.images[:, 0], strict=True):
        assert image[0, 0] == left
        assert image[-1, -1] == right
        assert image[14, 14] == max(left, right)  # they overlap in the middle
        assert image[0, -1] == image[-1, 0] == 0  # no digit reaches the other two corners


def test_three_digits_lie_where_they_should():
    both = torch.cat([torch.ones(1, 28, 28), torch.zeros(1, 28, 28)])
    made = make_multi_mnist(both, torch.tensor([1, 0]), count=200, seed=0, digits=3)
    assert made.labels.shape == (200, 3)
    for (left, right, below), image in zip(made.labels.tolist(), made.images[:, 0], strict=True):
        assert image[0, 0] == left
        assert image[0, -1] == right
        assert image[-1, 14] == below
        assert image[14, 14] == max(left, right, below)
        assert image[-1, 0] == image[-1, -1] == 0


def test_pepper_alone_takes_ink_away():
    images, labels = digits()
    clean, pepper = (make_multi_mnist(images, labels, noise=noise, seed=3, salt=0.0) for noise in (0.0, 0.9))
    assert (pepper.images <= clean.images + 1e-6).all() and (pepper.images < clean.images - 0.1).any()


def test_noise_touches_the_right_digit_alone():
    images, labels = digits()
    clean, noisy = (make_multi_mnist(images, labels, noise=noise, seed=3) for noise in (0.0, 0.9))
    assert torch.equal(clean.labels, noisy.labels)  # the same pairs at every noise ratio
    changed = (clean.images != noisy.images).any(dim=0)[0]
    first = 28 * 8 // 36 - 1  # the row of the scaled image where the right digit starts, less the filter's reach
    assert not changed[:first].any() and not changed[:, :first].any()
    assert changed[8:, 8:].all()


def test_seed_decides_everything():
    images, labels = digits()
    a, b, c = (make_multi_mnist(images, labels, noise=0.5, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    assert not torch.equal(a.labels, c.labels)
    assert a.images.shape == (40, 1, 28, 28) and a.images.dtype == torch.float32
    assert a.images.min() >= 0 and a.images.max() <= 1


def test_bytes_and_floats_agree():
    images, labels = digits()
    as_bytes = (images * 255).round().to(torch.uint8)
    same = make_multi_mnist(as_bytes.float() / 255, labels, count=5)
    assert torch.equal(make_multi_mnist(as_bytes, labels, count=5).images, same.images)


def test_bad_input_is_named():
    images, labels = digits()
    with pytest.raises(ValueError, match=r"images must have shape \(M, 28, 28\), got \(40, 784\)"):
        make_multi_mnist(images.flatten(1), labels)
    with pytest.raises(ValueError, match=r"labels must have shape \(40,\), got \(39,\)"):
        make_multi_mnist(images, labels[:-1])
    with pytest.raises(ValueError, match="count and M must be positive, got 0 and 40"):
        make_multi_mnist(images, labels, count=0)
    with pytest.raises(ValueError, match=r"ratio must lie in \[0, 1\], got 1.5"):
        make_multi_mnist(images, labels, noise=1.5)
    with pytest.raises(ValueError, match=r"salt must lie in \[0, 1\], got -1"):
        make_multi_mnist(images, labels, salt=-1)
    with pytest.raises(ValueError, match=r"digits must be one of \[2, 3\], got 4"):
        make_multi_mnist(images, labels, digits=4)
