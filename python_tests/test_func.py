"""torch.func of every op: vmap over any argument, grad, jacobians, hessians; double backward."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from drpm import ops, reference
from drpm.ops._partition_gradient import partition_gradient

DTYPE = torch.float64
SIZE, K, N = 3, 3, 6  # of the mapped dimension, classes, elements


def arguments():
    """Every argument of every op with a leading dimension to map over."""
    return {
        "log_omega": torch.randn(SIZE, K, dtype=DTYPE),
        "log_omega_p": torch.randn(SIZE, K, dtype=DTYPE),
        "m": torch.randint(4, 9, (SIZE, K)),
        "capacity": torch.randint(N, 9, (SIZE, K)),
        "n": torch.randint(1, 9, (SIZE,)),
        "scores": torch.randn(SIZE, N, dtype=DTYPE),
        "values": torch.randn(SIZE, N, 2, dtype=DTYPE),
        "sizes": torch.tensor([[1, 2, 3], [2, 2, 2], [0, 5, 1]]),
        "soft_sizes": torch.rand(SIZE, K, dtype=DTYPE) * 3,
        "labels": torch.randint(0, K, (SIZE, N)),
        "order": torch.stack([torch.randperm(N) for _ in range(SIZE)]),
        "class_order": torch.stack([torch.randperm(K) for _ in range(SIZE)]),
        "matrix": torch.rand(SIZE, N, N, dtype=DTYPE),
        "left": torch.randn(SIZE, dtype=DTYPE),
        "right": torch.randn(SIZE, dtype=DTYPE),
        "seed": torch.arange(SIZE).reshape(SIZE, 1),
    }


CASES = {
    "hypergeometric_log_weights": (
        lambda left, right, n: ops.hypergeometric_log_weights(left, right, 4, 5, n),
        ("left", "right", "n"),
    ),
    "mvhg_sample": (lambda o, seed: ops.mvhg_sample(o, N, N, seed=seed, sample_shape=(2,)), ("log_omega", "seed")),
    "mvhg_sample without noise": (
        lambda o, m, n: ops.mvhg_sample(o, m, n, noise=False, hard=False),
        ("log_omega", "m", "n"),
    ),
    "mvhg_sample of each row's order": (
        lambda o, seed, order: ops.mvhg_sample(o, N, N, seed=seed, class_order=order, sample_shape=(2,), hard=False),
        ("log_omega", "seed", "class_order"),
    ),
    "mvhg_sample merged": (
        lambda o, seed: ops.mvhg_sample(o, N, N, seed=seed, conditionals="merged", class_order="random"),
        ("log_omega", "seed"),
    ),
    "mvhg_sample merged several samples": (
        lambda o, seed: ops.mvhg_sample(o, N, N, seed=seed, conditionals="merged", sample_shape=(3,), hard=False),
        ("log_omega", "seed"),
    ),
    "mvhg_log_prob": (lambda z, o, m: ops.mvhg_log_prob(z, o, m, N), ("sizes", "log_omega", "m")),
    "mvhg_log_prob merged": (
        lambda z, o, m: ops.mvhg_log_prob(z, o, m, N, conditionals="merged"),
        ("sizes", "log_omega", "m"),
    ),
    "mvhg_log_normalizer": (ops.mvhg_log_normalizer, ("log_omega", "m", "n")),
    "mvhg_mean": (ops.mvhg_mean, ("log_omega", "m", "n")),
    "mvhg_covariance": (ops.mvhg_covariance, ("log_omega", "m", "n")),
    "mvhg_entropy": (ops.mvhg_entropy, ("log_omega", "m", "n")),
    "mvhg_kl": (ops.mvhg_kl, ("log_omega", "log_omega_p", "m", "n")),
    "mvhg_draw": (lambda o, m, seed: ops.mvhg_draw(o, m, N, seed=seed), ("log_omega", "m", "seed")),
    "mvhg_draw several samples": (
        lambda o, seed: ops.mvhg_draw(o, N, N, seed=seed, sample_shape=(3,)),
        ("log_omega", "seed"),
    ),
    "relaxed_sort": (ops.relaxed_sort, ("scores",)),
    "relaxed_sort hard": (lambda s: ops.relaxed_sort(s, hard=True), ("scores",)),
    "relaxed_sort_matmul": (ops.relaxed_sort_matmul, ("scores", "values")),
    "partition": (ops.partition, ("scores", "sizes")),
    "partition soft": (lambda s, z: ops.partition(s, z, hard=False), ("scores", "soft_sizes")),
    "random_partition": (
        lambda o, s, seed: tuple(ops.random_partition(o, s, seed=seed)),
        ("log_omega", "scores", "seed"),
    ),
    "random_partition soft": (
        lambda o, s, m: tuple(ops.random_partition(o, s, m=m, noise=False, hard=False)),
        ("log_omega", "scores", "capacity"),
    ),
    "plackett_luce_log_prob": (ops.plackett_luce_log_prob, ("order", "scores")),
    "plackett_luce_log_prob of a matrix": (ops.plackett_luce_log_prob, ("matrix", "scores")),
    "partition_log_prob": (lambda y, s: ops.partition_log_prob(y, s, K), ("labels", "scores")),
    "random_partition_log_prob": (ops.random_partition_log_prob, ("labels", "log_omega", "scores")),
    "partition_log_prob_bounds": (ops.partition_log_prob_bounds, ("labels", "log_omega", "scores")),
    "partition_marginals": (
        lambda o, s, m: ops.partition_marginals(o, s, m=m),
        ("log_omega", "scores", "capacity"),
    ),
    "partition_mode": (ops.partition_mode, ("log_omega", "scores")),
    "gumbel_noise": (lambda seed: ops.gumbel_noise(seed, (2, 1, 4), stream=1, dtype=DTYPE), ("seed",)),
}


def tuple_of(out):
    return out if isinstance(out, tuple) else (out,)


def loss_of(function):
    def loss(*inputs):
        outputs = [x for x in tuple_of(function(*inputs)) if x.is_floating_point()]
        return sum((torch.where(x == -torch.inf, 0.0, x) ** 2).sum() for x in outputs)

    return loss


FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}


def assert_close(got, want, rtol=1e-9, atol=1e-10):
    torch.testing.assert_close(got, want, rtol=rtol, atol=atol)


def test_every_op_has_a_case():
    named = {name.split()[0] for name in CASES}
    functions = {name for name in ops.__all__ if name.islower()}
    assert functions == named


@pytest.mark.parametrize("name", CASES)
def test_vmap_over_any_argument(name):
    function, names = CASES[name]
    every = arguments()
    for mapped in itertools.product((True, False), repeat=len(names)):
        if not any(mapped):
            continue
        inputs = [every[a] if is_mapped else every[a][0] for a, is_mapped in zip(names, mapped, strict=True)]
        dims = tuple(0 if is_mapped else None for is_mapped in mapped)

        def at(index, inputs=inputs, mapped=mapped):
            return [x[index] if is_mapped else x for x, is_mapped in zip(inputs, mapped, strict=True)]

        got = tuple_of(torch.vmap(function, dims)(*inputs))
        want = [tuple_of(function(*at(index))) for index in range(SIZE)]
        for x, parts in zip(got, zip(*want, strict=True), strict=True):
            assert_close(x, torch.stack(parts))

        floating = tuple(i for i, x in enumerate(inputs) if x.is_floating_point())
        if not floating or name.startswith(("mvhg_draw", "partition_mode")):
            continue
        gradient = torch.func.grad(loss_of(function), floating)
        of_each = torch.vmap(gradient, dims)(*inputs)
        want = [gradient(*at(index)) for index in range(SIZE)]
        for x, parts in zip(of_each, zip(*want, strict=True), strict=True):
            assert_close(x, torch.stack(parts))

        def total(*inputs, dims=dims):
            return torch.vmap(loss_of(function), dims)(*inputs).sum()

        of_all = torch.func.grad(total, floating)(*inputs)
        for i, x, each in zip(floating, of_all, of_each, strict=True):
            assert_close(x, each if mapped[i] else each.sum(0))


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


@pytest.mark.parametrize("name", CASES)
def test_vmap_folds_instead_of_looping(name):
    """As many kernels are called for all indices together as for one of them."""
    function, names = CASES[name]
    inputs = [arguments()[a] for a in names]
    with CountKernels() as of_one:
        function(*(x[0] for x in inputs))
    with CountKernels() as of_all:
        torch.vmap(function)(*inputs)
    assert of_all.called == of_one.called != []


SEEDED = [name for name, (_, names) in CASES.items() if "seed" in names]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SEEDED)
def test_vmap_of_draws_is_bitwise_that_of_a_call_each(name, dtype):
    """Each index draws with its own seed, or all with the one that is not mapped; the gradients are the same, too."""
    function, names = CASES[name]
    every = {a: x.to(dtype) if x.is_floating_point() else x for a, x in arguments().items()}
    for mapped in itertools.product((True, False), repeat=len(names)):
        if not any(mapped):
            continue
        inputs = [every[a] if is_mapped else every[a][0] for a, is_mapped in zip(names, mapped, strict=True)]
        dims = tuple(0 if is_mapped else None for is_mapped in mapped)

        def both(*inputs):
            values = tuple_of(function(*inputs))
            if name.startswith(("mvhg_draw", "gumbel_noise")):
                return values
            return *values, torch.func.grad(loss_of(function))(*inputs)

        got = torch.vmap(both, dims)(*inputs)
        for index in range(SIZE):
            want = both(*(x[index] if is_mapped else x for x, is_mapped in zip(inputs, mapped, strict=True)))
            for x, y in zip(got, want, strict=True):
                # samples with an order of classes each go back through tables of their own: sums in another order
                if "class_order" in names and x is got[-1]:
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
        got = tuple_of(torch.vmap(function)(scores, sizes, taus))
        want = [tuple_of(function(s, z, tau.item())) for s, z, tau in zip(scores, sizes, taus, strict=True)]
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
            got = tuple_of(torch.vmap(transform(function), dims)(*given))
            want = []
            for i in range(3):
                s, z, tau, length = (x[i] if d == 0 else x for x, d in zip(given, dims, strict=True))
                want.append(tuple_of(transform(function)(s, z, tau.item(), int(length))))
            for x, parts in zip(got, zip(*want, strict=True), strict=True):
                assert_close(x, torch.stack(parts))


def test_double_backward_at_mapped_temperatures():
    """A temperature in a tensor under torch.func, differentiated twice: that of a float."""
    scores, tau = torch.randn(N, dtype=DTYPE), torch.tensor(0.6)
    for function in (ops.relaxed_sort, lambda s, tau: ops.relaxed_sort_matmul(s, s.unsqueeze(-1), tau)):

        def second(tau, function=function):
            return torch.func.hessian(lambda s: (function(s, tau) ** 3).sum())(scores)

        assert_close(torch.vmap(second)(tau.reshape(1))[0], second(tau.item()))


ORDER = torch.tensor([2, 0, 1, 3])
OMEGA = torch.tensor([0.4, -0.2, 0.1], dtype=DTYPE)
LABELS = torch.tensor([0, 2, 0, 2])
OUTCOMES = torch.tensor([z for z in itertools.product(range(4), repeat=4) if sum(z) == 5])


def log_normalizer(log_omega):
    return reference.mvhg_log_normalizer(log_omega, 3, 5)


def log_law(log_omega):  # of every outcome
    return reference.mvhg_log_prob(OUTCOMES, log_omega, 3, 5)


SECOND = {  # functions of (scores (4), further inputs), their reference, and the further inputs
    "relaxed_sort": (
        lambda s: ops.relaxed_sort(s, 0.7),
        lambda s: reference.relaxed_sort(s, 0.7),
        (),
    ),
    "relaxed_sort_matmul": (
        lambda s, v: ops.relaxed_sort_matmul(s, v, 0.7),
        lambda s, v: reference.relaxed_sort_matmul(s, v, 0.7),
        (torch.tensor([[1.0], [0.3], [-2.0], [0.5]], dtype=DTYPE),),
    ),
    "partition": (
        lambda s, z: ops.partition(s, z, 0.7, hard=False),
        lambda s, z: reference.partition(s, z, 0.7, hard=False),
        (torch.tensor([1.2, 0.4, 2.4], dtype=DTYPE),),
    ),
    "partition normalized": (
        lambda s, z: ops.partition(s, z, 0.7, hard=False, normalize=True),
        lambda s, z: reference.partition(s, z, 0.7, hard=False, normalize=True),
        (torch.tensor([1.2, 0.4, 2.4], dtype=DTYPE),),
    ),
    "plackett_luce_log_prob": (
        lambda s: ops.plackett_luce_log_prob(ORDER, s),
        lambda s: reference.plackett_luce_log_prob(ORDER, s),
        (),
    ),
    "partition_log_prob": (
        lambda s: ops.partition_log_prob(LABELS, s, 3),
        lambda s: reference.partition_log_prob(LABELS, s, 3),
        (),
    ),
    "random_partition_log_prob": (
        lambda s, o: ops.random_partition_log_prob(LABELS, o, s),
        lambda s, o: reference.random_partition_log_prob(LABELS, o, s),
        (OMEGA,),
    ),
    "partition_log_prob_bounds": (
        lambda s, o: torch.stack(ops.partition_log_prob_bounds(LABELS, o, s)),
        lambda s, o: torch.stack(reference.partition_log_prob_bounds(LABELS, o, s)),
        (OMEGA,),
    ),
    "partition_marginals": (
        lambda s, o: ops.partition_marginals(o, s),
        lambda s, o: reference.partition_marginals(o, s),
        (OMEGA,),
    ),
    "mvhg_log_normalizer": (lambda s: ops.mvhg_log_normalizer(s, 3, 5), log_normalizer, ()),
    "mvhg_mean": (lambda s: ops.mvhg_mean(s, 3, 5), torch.func.grad(log_normalizer), ()),
    "mvhg_covariance": (lambda s: ops.mvhg_covariance(s, 3, 5), torch.func.hessian(log_normalizer), ()),
    "mvhg_entropy": (lambda s: ops.mvhg_entropy(s, 3, 5), lambda s: -(log_law(s).exp() * log_law(s)).sum(), ()),
    "mvhg_kl": (
        lambda s, p: ops.mvhg_kl(s, p, 3, 5),
        lambda s, p: (log_law(s).exp() * (log_law(s) - log_law(p))).sum(),
        (torch.tensor([0.1, 0.5, -0.3, 0.0], dtype=DTYPE),),
    ),
    "mvhg_log_prob": (
        lambda s: ops.mvhg_log_prob(torch.tensor([1, 0, 3, 1]), s, 3, 5),
        lambda s: reference.mvhg_log_prob(torch.tensor([1, 0, 3, 1]), s, 3, 5),
        (),
    ),
}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("partition_marginals", "mvhg_kl")]


@pytest.mark.parametrize("name", [*(name for name in SECOND if name not in ("partition_marginals", "mvhg_kl")), *SLOW])
def test_jacobians_and_hessians_equal_the_references(name):
    function, twin, others = SECOND[name]
    inputs = (torch.tensor([0.3, -1.1, 0.9, 0.2], dtype=DTYPE), *others)
    which = tuple(range(len(inputs)))
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        for got, want in zip(transform(function, which)(*inputs), transform(twin, which)(*inputs), strict=True):
            assert_close(got, want)
    for hessian in (torch.func.hessian, lambda f, i: torch.func.jacrev(torch.func.jacrev(f, i), i)):
        got, want = (hessian(loss_of(f), which)(*inputs) for f in (function, twin))
        for row, expected in zip(got, want, strict=True):
            for x, y in zip(row, expected, strict=True):
                assert_close(x, y)


def test_double_backward():
    scores = torch.randn(2, 5, dtype=DTYPE, requires_grad=True)
    values = torch.randn(2, 5, 2, dtype=DTYPE, requires_grad=True)
    sizes = (torch.rand(2, 3, dtype=DTYPE) * 3).requires_grad_()
    matrix = torch.rand(2, 5, 5, dtype=DTYPE, requires_grad=True)
    log_omega = torch.randn(2, 3, dtype=DTYPE, requires_grad=True)
    labels = torch.randint(0, 3, (2, 5))
    left = torch.randn(2, dtype=DTYPE, requires_grad=True)
    assert gradgradcheck(lambda s: ops.relaxed_sort(s, 0.7), (scores,))
    assert gradgradcheck(lambda s, v: ops.relaxed_sort_matmul(s, v, 0.7), (scores, values))
    assert gradgradcheck(lambda s, z: ops.partition(s, z, 0.7, hard=False), (scores, sizes))
    assert gradgradcheck(lambda p, s: ops.plackett_luce_log_prob(p, s), (matrix, scores))
    assert gradgradcheck(lambda s: ops.partition_log_prob(labels, s, 3), (scores,))
    assert gradgradcheck(lambda o, s: ops.random_partition_log_prob(labels, o, s), (log_omega, scores))
    row = (log_omega.detach()[:1, :2].requires_grad_(), scores.detach()[:1, :3].requires_grad_())
    assert gradgradcheck(ops.partition_marginals, row)
    for exact in (ops.mvhg_log_normalizer, ops.mvhg_mean, ops.mvhg_covariance, ops.mvhg_entropy):
        assert gradgradcheck(lambda o, exact=exact: exact(o, 3, 5), (log_omega,))
    assert gradgradcheck(lambda o, p: ops.mvhg_kl(o, p, 3, 5), (log_omega, scores.detach()[:, :3].requires_grad_()))
    assert gradgradcheck(lambda x: ops.hypergeometric_log_weights(x, -x, 4, 4, 4).tanh(), (left,))


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
        assert_close(partition_gradient(scores.detach(), labels, subsets), want)


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


@pytest.mark.parametrize("name", ["relaxed_sort", "relaxed_sort_matmul", "partition", "mvhg_sample"])
def test_hessians_of_straight_through_values_are_refused(name):
    scores, values = torch.randn(4, dtype=DTYPE), torch.randn(4, 2, dtype=DTYPE)
    functions = {
        "relaxed_sort": lambda s: ops.relaxed_sort(s, hard=True),
        "relaxed_sort_matmul": lambda s: ops.relaxed_sort_matmul(s, values, hard=True),
        "partition": lambda s: ops.partition(s, torch.tensor([1, 3])),
        "mvhg_sample": lambda s: ops.mvhg_sample(s, 5, 5, seed=1),
    }
    with pytest.raises(RuntimeError, match=f"{name}.*first order only"):
        torch.func.hessian(loss_of(functions[name]))(scores)
