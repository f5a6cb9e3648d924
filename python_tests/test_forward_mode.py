"""Forward mode outside of torch.func (torch.autograd.forward_ad): the right tangent or an error, never silently 0."""

import pytest
import torch
from torch.autograd import forward_ad

from drpm import ops
from drpm.testing.samples import DERIVATIVE, REFUSED, SAMPLES, outputs_of
from drpm.testing.samples import EXACT as EXACT_SECOND

STEP = 1e-5
EXACT = [sample for sample in SAMPLES if sample.gradient == DERIVATIVE and sample.second != REFUSED]


def floats(sample, inputs):
    return {name: inputs[name] for name in sample.leaves(inputs)}


def tangents_of(function, inputs, directions):
    """Tangents of all floating outputs; None where there is none."""
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, directions[name]) if name in directions else x for name, x in inputs.items()]
        outputs = outputs_of(function(*duals))
        return [forward_ad.unpack_dual(y).tangent for y in outputs if y.is_floating_point()]


def finite_differences(function, inputs, directions):
    def moved(step):
        shifted = [x + step * directions[name] if name in directions else x for name, x in inputs.items()]
        return [y for y in outputs_of(function(*shifted)) if y.is_floating_point()]

    return [
        torch.where(torch.isinf(up), 0.0, (up - down) / (2 * STEP))
        for up, down in zip(moved(STEP), moved(-STEP), strict=True)
    ]


def directions_for(leaves):
    """Sizes move with their total unchanged: off it log-probabilities are -inf."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, x in leaves.items():
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        found[name] = direction - direction.mean(-1, keepdim=True) if "sizes" in name else direction
    return found


@pytest.mark.parametrize("sample", EXACT, ids=lambda sample: sample.name)
def test_tangents_are_the_finite_differences(sample):
    inputs = sample.inputs()
    function = sample.of(ops)
    every = directions_for(floats(sample, inputs))
    for name, direction in every.items():
        got = tangents_of(function, inputs, {name: direction})
        want = finite_differences(function, inputs, {name: direction})
        for tangent, difference in zip(got, want, strict=True):
            tangent = torch.zeros_like(difference) if tangent is None else torch.nan_to_num(tangent)
            torch.testing.assert_close(tangent, difference, rtol=2e-6, atol=2e-6)
    got = tangents_of(function, inputs, every)
    for tangent, difference in zip(got, finite_differences(function, inputs, every), strict=True):
        torch.testing.assert_close(torch.nan_to_num(tangent), difference, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.second == REFUSED], ids=lambda sample: sample.name)
def test_gradients_of_first_order_only_have_no_forward_mode(sample):
    inputs = sample.inputs()
    with pytest.raises(RuntimeError, match="first order only"):
        tangents_of(sample.of(ops), inputs, directions_for(floats(sample, inputs)))


def test_jacobians_in_forward_mode():
    log_omega = torch.randn(3, dtype=torch.float64)

    def mean(w):
        return ops.mvhg_mean(w, 4, 5)

    want = torch.autograd.functional.jacobian(mean, log_omega)
    got = torch.autograd.functional.jacobian(mean, log_omega, strategy="forward-mode", vectorize=True)
    torch.testing.assert_close(got, want)
    assert want.abs().max() > 0.1


def test_merged_log_probability_is_pushed_forward_and_twice_differentiable():
    sizes = torch.tensor([2, 2, 1])

    def log_prob(w):
        return ops.mvhg_log_prob(sizes, w, 4, 5, conditionals="merged")

    at, first = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 0, 0], dtype=torch.float64)
    _, tangent = torch.func.jvp(log_prob, (at,), (first,))
    torch.testing.assert_close(tangent, torch.tensor(1 / 3, dtype=torch.float64))
    gradient = torch.func.grad(log_prob)
    hessian = torch.func.hessian(log_prob)(at)
    for k in range(3):
        unit = STEP * torch.eye(3, dtype=torch.float64)[k]
        difference = (gradient(at + unit) - gradient(at - unit)) / (2 * STEP)
        torch.testing.assert_close(hessian[k], difference, rtol=1e-6, atol=1e-6)
    weights = at.clone().requires_grad_()
    relaxed = torch.tensor([1.5, 2.25, 1.25], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda w: ops.mvhg_log_prob(relaxed.detach(), w, 4, 5, conditionals="merged"), (weights,)
    )


@pytest.mark.parametrize("sample", [s for s in EXACT if s.second == EXACT_SECOND], ids=lambda sample: sample.name)
def test_gradients_are_pushed_forward(sample):
    """Forward over reverse, which is how Hessian products are taken."""
    inputs = sample.inputs()
    leaves = floats(sample, inputs)
    directions = directions_for(leaves)

    def gradients(*values):
        given = {name: x.requires_grad_() if name in leaves else x for name, x in zip(inputs, values, strict=True)}
        outputs = [y for y in outputs_of(sample.of(ops)(*given.values())) if y.requires_grad]
        loss = sum((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).cos().reshape(y.shape)).sum() for y in outputs)
        return torch.autograd.grad(loss, [given[name] for name in leaves], create_graph=True)

    got = tangents_of(lambda *values: tuple(gradients(*values)), inputs, directions)
    want = finite_differences(lambda *values: tuple(g.detach() for g in gradients(*values)), inputs, directions)
    for tangent, difference in zip(got, want, strict=True):
        tangent = torch.zeros_like(difference) if tangent is None else tangent
        torch.testing.assert_close(tangent, difference, rtol=5e-6, atol=5e-6)
