"""torch.func of every op: vmap over any argument, grad, jacobians, hessians; double backward."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from drpm import ops, reference
from drpm.reference.partition_log_prob_gradient import assignment_log_prob_gradient, partition_log_prob_gradient
from drpm.testing.samples import EXACT, NO_GRADIENT, REFUSED, SAMPLES, Shape, outputs_of

DTYPE = torch.float64
SIZE, K, N = 3, 3, 6  # of the mapped dimension, classes, elements


def arguments(sample, dtype=DTYPE):
    """The inputs of a sample with a leading dimension to map over; counts that all rows share have none."""
    inputs = sample.inputs(Shape((SIZE,), N, K), dtype)
    if sample.seeded:
        inputs["seed"] = torch.arange(SIZE).reshape(SIZE, 1)
    return list(inputs.values())


def mappings(every):
    """Each choice of inputs to map over: the inputs, the dimensions, and the inputs of an index."""
    tensors = [isinstance(x, torch.Tensor) for x in every]
    for mapped in itertools.product(*((True, False) if tensor else (False,) for tensor in tensors)):
        if not any(mapped):
            continue
        inputs = [x[0] if tensor and not m else x for x, tensor, m in zip(every, tensors, mapped, strict=True)]

        def at(index, inputs=inputs, mapped=mapped):
            return [x[index] if m else x for x, m in zip(inputs, mapped, strict=True)]

        yield inputs, tuple(0 if m else None for m in mapped), at


def loss_of(function):
    def loss(*inputs):
        outputs = [x for x in outputs_of(function(*inputs)) if x.is_floating_point()]
        return sum((torch.where(x == -torch.inf, 0.0, x) ** 2).sum() for x in outputs)

    return loss


FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}


def assert_close(got, want, rtol=1e-9, atol=1e-10):
    torch.testing.assert_close(got, want, rtol=rtol, atol=atol)


def samples(condition=lambda sample: True, slow=()):
    marks = {True: pytest.mark.slow, False: ()}
    chosen = [pytest.param(x, marks=marks[x.name in slow], id=x.name) for x in SAMPLES if condition(x)]
    return pytest.mark.parametrize("sample", chosen)


def floating(inputs):
    return tuple(i for i, x in enumerate(inputs) if isinstance(x, torch.Tensor) and x.is_floating_point())


@samples()
def test_vmap_over_any_argument(sample):
    function = sample.of(ops)
    for inputs, dims, at in mappings(arguments(sample)):
        got = outputs_of(torch.vmap(function, dims)(*inputs))
        want = [outputs_of(function(*at(index))) for index in range(SIZE)]
        for x, parts in zip(got, zip(*want, strict=True), strict=True):
            assert_close(x, torch.stack(parts))

        if sample.gradient == NO_GRADIENT:
            continue
        moving = floating(inputs)
        gradient = torch.func.grad(loss_of(function), moving)
        of_each = torch.vmap(gradient, dims)(*inputs)
        want = [gradient(*at(index)) for index in range(SIZE)]
        for x, parts in zip(of_each, zip(*want, strict=True), strict=True):
            assert_close(x, torch.stack(parts))

        def total(*inputs, dims=dims):
            return torch.vmap(loss_of(function), dims)(*inputs).sum()

        of_all = torch.func.grad(total, moving)(*inputs)
        for i, x, each in zip(moving, of_all, of_each, strict=True):
            assert_close(x, each if dims[i] == 0 else each.sum(0))


def test_vmap_over_another_dimension_and_nested():
    scores, sizes = torch.randn(N, 4, dtype=DTYPE), torch.rand(2, K, dtype=DTYPE) * 2

    def soft(s, z):
        return ops.partition(s, z, hard=False)

    want = torch.stack([torch.stack([soft(scores[:, i], sizes[j]) for j in range(2)]) for i in range(4)])
    over_sizes = torch.vmap(soft, (None, 0))
    assert_close(torch.vmap(over_sizes, (1, None))(scores, sizes), want)
    assert_close(torch.vmap(over_sizes, (1, None), out_dims=2)(scores, sizes), want.movedim(0, 2))


class CountKernels(TorchDispatchMode):
    """The ops of the library that are called, in order."""

    def __init__(self):
        super().__init__()
        self.called = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "drpm":
            self.called.append(op.__name__)
        return op(*args, **(kwargs or {}))


@samples()
def test_vmap_folds_instead_of_looping(sample):
    """As many kernels are called for all indices together as for one of them."""
    function, (inputs, dims, at) = sample.of(ops), next(mappings(arguments(sample)))
    with CountKernels() as of_one:
        function(*at(0))
    with CountKernels() as of_all:
        torch.vmap(function, dims)(*inputs)
    assert of_all.called == of_one.called != []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@samples(lambda sample: sample.seeded)
def test_vmap_of_draws_is_bitwise_that_of_a_call_each(sample, dtype):
    """Each index draws with its own seed, or all with the one that is not mapped; the gradients are the same, too."""
    function = sample.of(ops)

    def both(*inputs):
        values = outputs_of(function(*inputs))
        if sample.gradient == NO_GRADIENT:
            return values
        return *values, *torch.func.grad(loss_of(function), floating(inputs))(*inputs)

    for inputs, dims, at in mappings(arguments(sample, dtype)):
        got = torch.vmap(both, dims)(*inputs)
        for index in range(SIZE):
            for x, y in zip(got, both(*at(index)), strict=True):
                # samples with an order of classes each go back through tables of their own: sums in another order
                if "class_order" in sample.arguments and x is got[-1]:
                    assert_close(x[index].double(), y.double(), **({} if dtype == torch.float64 else FLOAT32))
                else:
                    assert torch.equal(x[index], y)


def test_vmap_randomness():
    log_omega, scores = torch.zeros(4, K), torch.zeros(4, 50)

    def draw(o, s):
        return ops.random_partition(o, s).labels

    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(draw)(log_omega, scores)
    torch.manual_seed(2)
    same = torch.vmap(draw, randomness="same")(log_omega, scores)
    torch.manual_seed(2)
    assert (same == draw(log_omega[0], scores[0])).all()
    different = torch.vmap(draw, randomness="different")(log_omega, scores)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(different, 2))


def test_vmap_over_tau():
    """A kernel takes one temperature, so it is called for each of them; gradients and other mapped inputs go along."""
    scores, sizes, taus = torch.randn(3, N, dtype=DTYPE), torch.rand(3, K, dtype=DTYPE), torch.tensor([0.2, 1.0, 5.0])

    def soft(s, z, tau):
        return ops.partition(s, z, tau, hard=False) ** 2

    def drawn(s, z, tau):
        return tuple(ops.random_partition(z, s, tau, seed=2, hard=False))[:2]

    for function in (soft, drawn):
        got = outputs_of(torch.vmap(function)(scores, sizes, taus))
        want = [outputs_of(function(s, z, tau.item())) for s, z, tau in zip(scores, sizes, taus, strict=True)]
        for x, parts in zip(got, zip(*want, strict=True), strict=True):
            assert_close(x, torch.stack(parts))
        gradient = torch.func.grad(loss_of(function), (0, 1))
        got = torch.vmap(gradient, (0, None, 0))(scores, sizes[0], taus)
        want = [gradient(s, sizes[0], tau.item()) for s, tau in zip(scores, taus, strict=True)]
        for x, parts in zip(got, zip(*want, strict=True), strict=True):
            assert_close(x, torch.stack(parts))
    with pytest.raises(ValueError, match="tau must be positive and finite"):
        torch.vmap(ops.relaxed_sort, (None, 0))(scores[0], torch.tensor([1.0, -1.0]))


def partition_of(s, z, tau, length):
    return ops.partition(s, z, tau, hard=False, lengths=length)


def products_of(s, z, tau, length):
    return ops.relaxed_sort_matmul(s, torch.outer(s.sin(), z), tau, lengths=length)


def draw_of(s, z, tau, length):
    return tuple(ops.random_partition(z, s, tau, seed=2, hard=False, lengths=length))[:2]


@pytest.mark.parametrize("function", [partition_of, products_of, draw_of])
def test_vmap_over_tau_with_lengths(function):
    """Values, gradients and, where there are some, hessians of each row with its own temperature and length."""
    scores, sizes = torch.randn(3, N, dtype=DTYPE), torch.rand(3, K, dtype=DTYPE)
    taus, lengths = torch.tensor([0.2, 1.0, 5.0]), torch.tensor([4, N, 1])
    transforms = [lambda f: f, lambda f: torch.func.grad(loss_of(f), (0, 1))]
    if function is not draw_of:
        transforms.append(lambda f: torch.func.hessian(loss_of(f)))
        transforms.append(lambda f: torch.func.jacrev(torch.func.grad(loss_of(f), 1)))
    for transform in transforms:
        for dims in ((0, 0, 0, 0), (0, None, 0, 0), (None, 0, 0, None)):
            inputs = (scores, sizes, taus, lengths)
            given = [x if d == 0 else x[0] for x, d in zip(inputs, dims, strict=True)]
            got = outputs_of(torch.vmap(transform(function), dims)(*given))
            want = []
            for i in range(3):
                s, z, tau, length = (x[i] if d == 0 else x for x, d in zip(given, dims, strict=True))
                want.append(outputs_of(transform(function)(s, z, tau.item(), int(length))))
            for x, parts in zip(got, zip(*want, strict=True), strict=True):
                assert_close(x, torch.stack(parts))


def test_double_backward_at_mapped_temperatures():
    """A temperature in a tensor under torch.func, differentiated twice: that of a float."""
    scores, tau = torch.randn(N, dtype=DTYPE), torch.tensor(0.6)
    for function in (ops.relaxed_sort, lambda s, tau: ops.relaxed_sort_matmul(s, s.unsqueeze(-1), tau)):

        def second(tau, function=function):
            return torch.func.hessian(lambda s: (function(s, tau) ** 3).sum())(scores)

        assert_close(torch.vmap(second)(tau.reshape(1))[0], second(tau.item()))


SMALL = Shape((), 4, 3)
OUTCOMES = torch.tensor([z for z in itertools.product(range(5), repeat=3) if sum(z) == 4])


def log_law(log_omega):  # of every outcome
    return reference.mvhg_log_prob(OUTCOMES, log_omega, 4, 4)


def log_normalizer(log_omega, *_):
    return reference.mvhg_log_normalizer(log_omega, 4, 4)


TWINS = {  # where the reference differentiates, itself, with what torch.func can not differentiate through
    "mvhg_mean": torch.func.grad(log_normalizer),
    "mvhg_covariance": torch.func.hessian(log_normalizer),
    "mvhg_entropy": lambda o, _: -(log_law(o).exp() * log_law(o)).sum(),
    "mvhg_kl": lambda o, p, _: (log_law(o).exp() * (log_law(o) - log_law(p))).sum(),
}


@samples(
    lambda sample: sample.second == EXACT and (sample.name in TWINS or (sample.twin and sample.op not in TWINS)),
    slow=("partition_marginals", "partition_marginals, capacities", "mvhg_kl"),
)
def test_jacobians_and_hessians_equal_the_references(sample):
    function, twin = sample.of(ops), TWINS.get(sample.name, sample.of(reference))
    inputs = list(sample.inputs(SMALL).values())
    which = floating(inputs)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        for got, want in zip(transform(function, which)(*inputs), transform(twin, which)(*inputs), strict=True):
            for x, y in zip(outputs_of(got), outputs_of(want), strict=True):
                assert_close(x, y)
    for hessian in (torch.func.hessian, lambda f, i: torch.func.jacrev(torch.func.jacrev(f, i), i)):
        got, want = (hessian(loss_of(f), which)(*inputs) for f in (function, twin))
        for row, expected in zip(got, want, strict=True):
            for x, y in zip(row, expected, strict=True):
                assert_close(x, y)


@samples(lambda sample: sample.second == EXACT)
def test_double_backward(sample):
    shape = Shape((1,), 3, 2) if sample.op == "partition_marginals" else Shape((2,), 4, 3)
    inputs = list(sample.inputs(shape).values())
    moving = floating(inputs)

    def function(*moved):
        given = [moved[moving.index(i)] if i in moving else x for i, x in enumerate(inputs)]
        outputs = outputs_of(sample.of(ops)(*given))
        return tuple(torch.where(torch.isinf(x), 0.0, x) for x in outputs)

    assert gradgradcheck(function, tuple(inputs[i].requires_grad_() for i in moving))


def test_third_derivatives_of_the_soft_partition():
    scores = torch.randn(1, 4, dtype=DTYPE, requires_grad=True)
    sizes = torch.tensor([[1.5, 0.8, 1.7]], dtype=DTYPE)

    def slope(s):
        (grad,) = torch.autograd.grad((ops.partition(s, sizes, hard=False) ** 3).sum(), s, create_graph=True)
        return grad

    assert gradcheck(slope, (scores,)) and gradgradcheck(slope, (scores,))


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_gradient_formula_of_partition_log_prob(spread):
    """The plain formula that is differentiated a second time, against the kernel's gradient."""
    for n, subsets in ((1, 1), (2, 5), (60, 4)):
        scores = (torch.randn(2, n, dtype=DTYPE) * spread).requires_grad_()
        labels = torch.randint(0, subsets, (2, n))
        (want,) = torch.autograd.grad(ops.partition_log_prob(labels, scores, subsets).sum(), scores)
        assert_close(partition_log_prob_gradient(scores.detach(), labels, subsets), want)
        matrix = (torch.randn(2, subsets, n, dtype=DTYPE) * spread).requires_grad_()
        (want,) = torch.autograd.grad(ops.assignment_log_prob(labels, matrix).sum(), matrix)
        assert_close(assignment_log_prob_gradient(matrix.detach(), labels), want)


def test_second_derivatives_at_float32_and_many_elements():
    """Without a matrix: n = 3000 in float32, against the same in float64."""
    scores = torch.randn(1, 3000)
    sizes = torch.tensor([[1000.0, 700.0, 1300.0]])
    weight = torch.randn(1, 3, 3000)

    def product(dtype):
        s = scores.to(dtype).requires_grad_()
        value = (ops.partition(s, sizes.to(dtype), 1.0, hard=False) ** 2 * weight.to(dtype)).sum()
        (grad,) = torch.autograd.grad(value, s, create_graph=True)
        return torch.autograd.grad((grad * torch.linspace(-1, 1, 3000, dtype=dtype)).sum(), s)[0].double()

    want = product(torch.float64)
    assert (product(torch.float32) - want).abs().max() < 1e-4 * want.abs().max()


@samples(lambda sample: sample.second == REFUSED)
def test_hessians_of_straight_through_values_are_refused(sample):
    inputs = list(sample.inputs(SMALL).values())
    parts = {"random_partition": "mvhg_sample|partition", "random_assignment": "mvhg_sample|random_assignment"}
    op = parts.get(sample.op, sample.op)
    with pytest.raises(RuntimeError, match=f"({op}).*first order only"):
        torch.func.hessian(loss_of(sample.of(ops)), floating(inputs))(*inputs)
