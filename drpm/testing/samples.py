"""One table of the ops: how each public function is called, on what, and what holds of it.

A row is one way of calling an op. The parameters of its `call` name its inputs (INPUTS), the first one stands for the
function: that of `drpm.ops`, or its twin in `drpm.reference`. The rows feed the tests of registration, torch.func,
torch.compile and CUDA, `drpm check`, and the benchmarks on a device; the inputs are those of all benchmarks. An op
without a row fails a test.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

Inputs = dict[str, Any]
"""Tensors and, for counts that all rows share, ints, by name."""


class Shape(NamedTuple):
    """Sizes of the inputs of a sample."""

    batch: tuple[int, ...] = (2,)
    elements: int = 7
    classes: int = 3


SHAPES = {
    "a batch": Shape(),
    "one row": Shape((), 5, 3),
    "two dimensions": Shape((2, 1), 4, 2),
    "no rows": Shape((0,), 4, 3),
    "one element": Shape((2,), 1, 3),
    "one class": Shape((2,), 5, 1),
    "no elements": Shape((2,), 0, 3),
}


class Draw:
    """Inputs of a shape, each from a generator of its own: float64 on the CPU, the same for every dtype and device.

    `spread` multiplies the normal ones; `tied` rounds them to halves.
    """

    def __init__(self, shape: Shape, seed: int = 0, spread: float = 1.0, tied: bool = False) -> None:
        self.batch, self.elements, self.classes = shape
        self._seed, self._spread, self._tied = seed, spread, tied

    def __call__(self, name: str) -> Any:
        self._generator = torch.Generator().manual_seed(zlib.crc32(f"{self._seed} {name}".encode()))
        return INPUTS[name](self)

    def normal(self, *event: int) -> Tensor:
        x = self._spread * torch.randn((*self.batch, *event), generator=self._generator, dtype=torch.float64)
        return (2 * x).round() / 2 if self._tied else x

    def uniform(self, *event: int) -> Tensor:
        return torch.rand((*self.batch, *event), generator=self._generator, dtype=torch.float64)

    def integers(self, low: int, high: int, *event: int) -> Tensor:  # high excluded
        return torch.randint(low, max(high, low + 1), (*self.batch, *event), generator=self._generator)


def _sizes(draw: Draw) -> Tensor:
    one_hot: Tensor = torch.nn.functional.one_hot(draw("labels"), draw.classes)
    return one_hot.sum(-2)


def _relaxed_sizes(draw: Draw) -> Tensor:  # sixteenths: they sum to n exactly, and none of few elements is a half
    sizes: Tensor = draw("sizes").double()
    return sizes + 0.0625 * (sizes.roll(1, -1) - sizes)


INPUTS: dict[str, Callable[[Draw], Any]] = {
    "elements": lambda d: d.elements,  # n, as m and n of an MVHG too
    "classes": lambda d: d.classes,
    "log_omega": lambda d: 0.5 * d.normal(d.classes),
    "log_omega_p": lambda d: 0.5 * d.normal(d.classes),
    "scores": lambda d: d.normal(d.elements),
    "affinities": lambda d: d.normal(d.classes, d.elements),
    "values": lambda d: d.normal(d.elements, 5),
    "labels": lambda d: d.integers(0, d.classes, d.elements),
    "order": lambda d: d.uniform(d.elements).argsort(-1),
    "permutation": lambda d: d.uniform(d.elements, d.elements),  # relaxed
    "sizes": _sizes,  # of the labels
    "relaxed_sizes": _relaxed_sizes,
    "capacity": lambda d: d.integers(d.elements, d.elements + 3, d.classes),  # m that every n fits in
    "m": lambda d: d.integers(d.elements // 2 + 1, d.elements + 3, d.classes),
    "n": lambda d: (d.uniform() * (d("m").sum(-1) + 1)).long(),
    "k": lambda d: d.elements // 2,
    "each_k": lambda d: d.integers(0, d.elements + 1),
    "mask": lambda d: d.uniform(d.elements).argsort(-1).argsort(-1) < d.elements // 2,
    "each_mask": lambda d: d.uniform(d.elements).argsort(-1).argsort(-1) < d("each_k").unsqueeze(-1),
    "lengths": lambda d: d.integers(0, d.elements + 1),
    "class_order": lambda d: d.uniform(d.classes).argsort(-1),
    "left": lambda d: 0.5 * d.normal(),
    "right": lambda d: 0.5 * d.normal(),
    "few": lambda d: d.integers(0, 10),
    "seed": lambda d: torch.tensor([5]),
}

# What a gradient is: the derivative of the value; that of a relaxation of it; or there is none.
DERIVATIVE, STRAIGHT_THROUGH, NO_GRADIENT = "derivative", "straight-through", "none"
# What differentiating it again gives: the second derivative; an error that says so; or nothing is promised.
EXACT, REFUSED, UNSTATED = "exact", "refused", "unstated"


@dataclass(frozen=True)
class Sample:
    """One way of calling an op.

    Args:
        op: name of the public function.
        variant: what is special about this call; "" for the plain one.
        call: (function, *inputs) -> a tensor or a tuple of some. Parameters with a default are no inputs: invariants
            change them.
        gradient: w.r.t. the floating inputs.
        second: likewise.
        twin: whether the function of `drpm.reference` takes the same call and gives the same.
        invariants: names in `drpm.testing.invariants`.
        quadratic: whether memory grows as n².
    """

    op: str
    variant: str
    call: Callable[..., Any]
    gradient: str = DERIVATIVE
    second: str = EXACT
    twin: bool = True
    invariants: tuple[str, ...] = ()
    quadratic: bool = False

    @property
    def name(self) -> str:
        return f"{self.op}, {self.variant}" if self.variant else self.op

    @property
    def arguments(self) -> tuple[str, ...]:
        parameters = tuple(inspect.signature(self.call).parameters.values())[1:]
        return tuple(x.name for x in parameters if x.default is x.empty)

    @property
    def seeded(self) -> bool:
        return "seed" in self.arguments

    def of(self, module: Any) -> Callable[..., Any]:
        """The call of this module's function: `drpm.ops` or `drpm.reference`."""
        return lambda *inputs, **options: self.call(getattr(module, self.op), *inputs, **options)

    def inputs(
        self,
        shape: Shape = SHAPES["a batch"],
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        seed: int = 0,
        **values: Any,  # spread, tied
    ) -> Inputs:
        return draw_inputs(self.arguments, shape, dtype, device, seed, **values)

    def leaves(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the inputs that have a gradient."""
        if self.gradient == NO_GRADIENT:
            return ()
        return tuple(name for name, x in inputs.items() if isinstance(x, Tensor) and x.is_floating_point())


def draw_inputs(
    names: Iterable[str],
    shape: Shape,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    seed: int = 0,
    **values: Any,  # spread, tied
) -> Inputs:
    """Inputs by name; floating ones of the given dtype."""
    draw = Draw(shape, seed, **values)

    def place(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return x.to(device=device, dtype=dtype if x.is_floating_point() else None)

    return {name: place(draw(name)) for name in names}


def outputs_of(result: Any) -> tuple[Tensor, ...]:
    """The tensors that an op gave, one or several, as a tuple."""
    return tuple(result) if isinstance(result, tuple) else (result,)


def value_and_gradients(
    function: Callable[..., Any], inputs: Mapping[str, Any], leaves: Iterable[str]
) -> tuple[list[Tensor], list[Tensor]]:
    """All outputs and, w.r.t. the leaves, the gradients of the floating ones' product with fixed weights. −inf is a
    value without a gradient."""
    given = {name: x.detach().requires_grad_() if name in leaves else x for name, x in inputs.items()}
    values = outputs_of(function(*given.values()))
    loss = None
    for index, x in enumerate(values):
        if x.requires_grad:
            weight = torch.linspace(-1, 1 + index, x.numel(), dtype=torch.float64).cos().to(x).reshape(x.shape)
            term = (torch.where(torch.isinf(x), 0.0, x) * weight).sum()
            loss = term if loss is None else loss + term
    moving = [x for name, x in given.items() if name in leaves]
    grads = (None,) * len(moving) if loss is None else torch.autograd.grad(loss, moving, allow_unused=True)
    gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(moving, grads, strict=True)]
    return [x.detach() for x in values], gradients


def first_never(log_omega: Tensor) -> Tensor:
    """The first of several classes has weight zero."""
    first = torch.arange(log_omega.shape[-1], device=log_omega.device) == 0
    return log_omega + torch.where(first, -torch.inf, 0.0).to(log_omega) if log_omega.shape[-1] > 1 else log_omega


def first_left_out(sizes: Tensor) -> Tensor:
    """What the first of several classes had, the second one has."""
    if sizes.shape[-1] == 1:
        return sizes
    first, second, rest = sizes[..., :1], sizes[..., 1:2], sizes[..., 2:]
    return torch.cat([torch.zeros_like(first), first + second, rest], -1)


LAW = ("log_omega is shifted", "classes are permuted")
COUNTED = (*LAW, "an empty class is added")  # rows that take m by class
ORDER = ("scores are shifted", "elements are permuted")
PARTITION_LAW = ("log_omega is shifted", *ORDER)
SORT = ("scores are shifted", "scores and tau are scaled")
ASSIGNED = ("elements are permuted", "subsets are permuted", "affinities are shifted", "columns sum to one")
DISCRETE: dict[str, Any] = {"gradient": STRAIGHT_THROUGH, "second": REFUSED}
DRAWN: dict[str, Any] = {**DISCRETE, "twin": False}
SCORED: dict[str, Any] = {"gradient": STRAIGHT_THROUGH, "second": UNSTATED, "twin": False}
WITHOUT: dict[str, Any] = {"gradient": NO_GRADIENT, "second": UNSTATED}
UNDIFFERENTIATED: dict[str, Any] = {**WITHOUT, "twin": False}

# fmt: off
SAMPLES = (
    Sample("hypergeometric_log_weights", "", lambda f, left, right, few: f(left, right, 4, 5, few)),

    Sample("mvhg_sample", "exact", lambda f, log_omega, elements, seed: f(log_omega, elements, elements, seed=seed),
           **DRAWN, invariants=("sizes sum to n",)),
    Sample("mvhg_sample", "merged", lambda f, log_omega, elements, seed:
           f(log_omega, elements, elements, seed=seed, conditionals="merged"), **DRAWN, invariants=("sizes sum to n",)),
    Sample("mvhg_sample", "exact, several samples", lambda f, log_omega, elements, seed:
           f(log_omega, elements, elements, seed=seed, sample_shape=(2,)), **DRAWN),
    Sample("mvhg_sample", "merged, several samples", lambda f, log_omega, elements, seed:
           f(log_omega, elements, elements, seed=seed, conditionals="merged", sample_shape=(3,), hard=False), **DRAWN),
    Sample("mvhg_sample", "merged, random order", lambda f, log_omega, elements, seed:
           f(log_omega, elements, elements, seed=seed, conditionals="merged", class_order="random"), **DRAWN),
    Sample("mvhg_sample", "each row's order", lambda f, log_omega, elements, seed, class_order:
           f(log_omega, elements, elements, 0.5, seed=seed, class_order=class_order, sample_shape=(2,), hard=False),
           **DRAWN),
    Sample("mvhg_sample", "relaxed, each row's counts", lambda f, log_omega, m, n:
           f(log_omega, m, n, 0.5, noise=False, hard=False), **DRAWN),
    Sample("mvhg_sample", "relaxed, a class of weight zero", lambda f, log_omega, elements:
           f(first_never(log_omega), elements, elements, 0.5, noise=False, hard=False), **DRAWN,
           invariants=("log_omega is shifted", "sizes sum to n")),
    Sample("mvhg_draw", "", lambda f, log_omega, elements, seed: f(log_omega, elements, elements, seed=seed),
           **UNDIFFERENTIATED, invariants=("sizes sum to n",)),
    Sample("mvhg_draw", "each row's counts", lambda f, log_omega, m, n, seed: f(log_omega, m, n, seed=seed),
           **UNDIFFERENTIATED),
    Sample("mvhg_draw", "several samples", lambda f, log_omega, elements, seed:
           f(log_omega, elements, elements, seed=seed, sample_shape=(3,)), **UNDIFFERENTIATED),

    Sample("mvhg_log_prob", "", lambda f, sizes, log_omega, elements: f(sizes, log_omega, elements, elements),
           invariants=(*LAW, "probabilities sum to one")),
    Sample("mvhg_log_prob", "each row's counts", lambda f, sizes, log_omega, capacity, elements:
           f(sizes, log_omega, capacity, elements),
           invariants=(*COUNTED, "probabilities sum to one", "a class is split, sizes too",
                       "the complement is as probable")),
    Sample("mvhg_log_prob", "relaxed sizes", lambda f, relaxed_sizes, log_omega, elements:
           f(relaxed_sizes, log_omega, elements, elements), second=UNSTATED),
    Sample("mvhg_log_prob", "merged", lambda f, relaxed_sizes, log_omega, capacity, elements:
           f(relaxed_sizes, log_omega, capacity, elements, conditionals="merged"), second=UNSTATED,
           invariants=(*LAW[:1], "probabilities sum to one")),
    Sample("mvhg_log_prob", "a class of weight zero", lambda f, sizes, log_omega, elements:
           f(first_left_out(sizes), first_never(log_omega), elements, elements),
           invariants=("log_omega is shifted",)),
    Sample("mvhg_log_normalizer", "", lambda f, log_omega, elements: f(log_omega, elements, elements),
           invariants=("log_omega is shifted, n times", "classes are permuted")),
    Sample("mvhg_log_normalizer", "each row's counts", lambda f, log_omega, m, n: f(log_omega, m, n),
           invariants=("log_omega is shifted, n times", *COUNTED[1:], "a class is split",
                       "the complement has its normalizer")),
    Sample("mvhg_mean", "", lambda f, log_omega, elements: f(log_omega, elements, elements),
           invariants=(*LAW, "sizes sum to n")),
    Sample("mvhg_mean", "each row's counts", lambda f, log_omega, m, n: f(log_omega, m, n),
           invariants=(*COUNTED, "sizes sum to each n", "a class is split, values add",
                       "the complement has the others")),
    Sample("mvhg_mean", "a class of weight zero", lambda f, log_omega, elements:
           f(first_never(log_omega), elements, elements), invariants=("log_omega is shifted", "sizes sum to n")),
    Sample("mvhg_covariance", "", lambda f, log_omega, elements: f(log_omega, elements, elements),
           invariants=(*LAW, "rows sum to zero")),
    Sample("mvhg_covariance", "each row's counts", lambda f, log_omega, m, n: f(log_omega, m, n),
           invariants=(*COUNTED, "rows sum to zero", "a class is split, values add", "the complement is as probable")),
    Sample("mvhg_entropy", "", lambda f, log_omega, elements: f(log_omega, elements, elements), invariants=LAW),
    Sample("mvhg_entropy", "each row's counts", lambda f, log_omega, m, n: f(log_omega, m, n),
           invariants=(*COUNTED, "the complement is as probable")),
    Sample("mvhg_kl", "", lambda f, log_omega, log_omega_p, elements: f(log_omega, log_omega_p, elements, elements),
           invariants=(*LAW, "zero of equal laws")),
    Sample("mvhg_kl", "each row's counts", lambda f, log_omega, log_omega_p, m, n: f(log_omega, log_omega_p, m, n),
           invariants=(*COUNTED, "zero of equal laws", "a class is split", "the complement is as probable")),

    Sample("k_subset_sample", "", lambda f, scores, k, seed: f(scores, k, seed=seed), **SCORED),
    Sample("k_subset_sample", "several samples", lambda f, scores, k, seed:
           f(scores, k, seed=seed, sample_shape=(2,)), **SCORED),
    Sample("k_subset_sample", "each row's k", lambda f, scores, each_k: f(scores, each_k, noise=False), **SCORED),
    Sample("k_subset_log_prob", "", lambda f, mask, scores, k: f(mask, scores, k),
           invariants=(*ORDER, "probabilities sum to one")),
    Sample("k_subset_log_prob", "each row's k", lambda f, each_mask, scores, each_k: f(each_mask, scores, each_k),
           twin=False, invariants=(*ORDER, "probabilities sum to one", "the complement is as probable")),
    Sample("k_subset_marginals", "", lambda f, scores, k: f(scores, k),
           invariants=(*ORDER, "rows sum to k")),
    Sample("k_subset_marginals", "each row's k", lambda f, scores, each_k: f(scores, each_k), twin=False,
           invariants=(*ORDER, "rows sum to each k", "the complement has the others")),
    Sample("k_subset_entropy", "", lambda f, scores, k: f(scores, k),
           invariants=ORDER),
    Sample("k_subset_entropy", "each row's k", lambda f, scores, each_k: f(scores, each_k), twin=False,
           invariants=(*ORDER, "the complement is as probable")),

    Sample("relaxed_sort", "", lambda f, scores, tau=0.7: f(scores, tau), quadratic=True,
           invariants=(*SORT, "elements are permuted", "rows sum to one")),
    Sample("relaxed_sort", "hard", lambda f, scores, tau=0.7: f(scores, tau, hard=True), quadratic=True, **DISCRETE,
           invariants=(*SORT, "elements are permuted", "rows sum to one")),
    Sample("relaxed_sort_matmul", "", lambda f, scores, values, tau=0.7: f(scores, values, tau),
           invariants=(*SORT, "elements are permuted, sorted again", "linear in values")),
    Sample("relaxed_sort_matmul", "hard", lambda f, scores, values, tau=0.7: f(scores, values, tau, hard=True),
           **DISCRETE, invariants=(*SORT, "elements are permuted, sorted again", "linear in values")),
    Sample("relaxed_sort_matmul", "each row's length", lambda f, scores, values, lengths:
           f(scores, values, 0.7, lengths=lengths)),
    Sample("partition", "relaxed", lambda f, scores, relaxed_sizes: f(scores, relaxed_sizes, 0.7, hard=False),
           invariants=(*ORDER, "a class is split, values add")),
    Sample("partition", "normalized", lambda f, scores, relaxed_sizes:
           f(scores, relaxed_sizes, 0.7, hard=False, normalize=True),
           invariants=(*ORDER, "a class is split, values add", "columns sum to one")),
    Sample("partition", "hard", lambda f, scores, relaxed_sizes: f(scores, relaxed_sizes, 0.7), **DISCRETE,
           invariants=(*ORDER, "scores are scaled", "a class is split, values add", "columns sum to one")),
    Sample("partition", "whole sizes", lambda f, scores, sizes: f(scores, sizes, 0.7), **DISCRETE,
           invariants=(*ORDER, "scores are scaled", "a class is split, values add", "columns sum to one",
                       "rows sum to the sizes")),
    Sample("partition", "each row's length", lambda f, scores, relaxed_sizes, lengths:
           f(scores, relaxed_sizes, 0.7, lengths=lengths), **DISCRETE),
    Sample("random_partition", "", lambda f, log_omega, scores, seed: f(log_omega, scores, seed=seed), **DRAWN,
           invariants=PARTITION_LAW[:2]),
    Sample("random_partition", "merged, relaxed", lambda f, log_omega, scores, seed:
           f(log_omega, scores, 0.7, hard=False, seed=seed, conditionals="merged"), **DRAWN,
           invariants=PARTITION_LAW[:2]),
    Sample("random_partition", "relaxed, capacities", lambda f, log_omega, scores, capacity:
           f(log_omega, scores, m=capacity, noise=False, hard=False), **DRAWN,
           invariants=PARTITION_LAW[:2]),
    Sample("random_partition", "relaxed, several samples", lambda f, log_omega, scores, seed:
           f(log_omega, scores, 0.7, hard=False, seed=seed, sample_shape=(3,)), **DRAWN),
    Sample("random_partition", "each row's length", lambda f, log_omega, scores, seed, lengths:
           f(log_omega, scores, seed=seed, sample_shape=2, lengths=lengths), **DRAWN),

    Sample("plackett_luce_log_prob", "", lambda f, order, scores: f(order, scores),
           invariants=(*ORDER, "probabilities sum to one")),
    Sample("plackett_luce_log_prob", "relaxed permutation", lambda f, permutation, scores: f(permutation, scores),
           quadratic=True, invariants=ORDER[1:]),
    Sample("partition_log_prob", "", lambda f, labels, scores, classes: f(labels, scores, classes),
           invariants=(*ORDER, "probabilities sum to one", "merged subsets add up")),
    Sample("random_partition_log_prob", "", lambda f, labels, log_omega, scores: f(labels, log_omega, scores),
           invariants=(*PARTITION_LAW, "probabilities sum to one")),
    Sample("partition_log_prob_bounds", "", lambda f, labels, log_omega, scores: f(labels, log_omega, scores),
           invariants=(*PARTITION_LAW, "bounds hold")),
    Sample("partition_marginals", "", lambda f, log_omega, scores: f(log_omega, scores),
           invariants=(*PARTITION_LAW, "columns sum to one", "rows sum to the mean")),
    Sample("partition_marginals", "capacities", lambda f, log_omega, scores, capacity:
           f(log_omega, scores, m=capacity),
           invariants=(*PARTITION_LAW, "an empty class is added", "columns sum to one", "rows sum to the mean",
                       "a class is split, values add")),
    Sample("partition_mode", "", lambda f, log_omega, scores: f(log_omega, scores), **WITHOUT, quadratic=True,
           invariants=PARTITION_LAW),
    Sample("random_assignment", "", lambda f, log_omega, affinities, seed: f(log_omega, affinities, seed=seed), **DRAWN,
           invariants=("log_omega is shifted", "affinities are shifted by rows")),
    Sample("random_assignment", "relaxed", lambda f, log_omega, affinities, seed:
           f(log_omega, affinities, 0.7, hard=False, seed=seed).assignment, **DRAWN,
           invariants=("log_omega is shifted", "affinities are shifted by rows", "columns sum to one")),
    Sample("random_assignment", "capacities, several samples", lambda f, log_omega, affinities, capacity, seed:
           f(log_omega, affinities, m=capacity, seed=seed, sample_shape=(2,)).assignment, **DRAWN,
           invariants=("columns sum to one",)),
    Sample("random_assignment", "each row's length", lambda f, log_omega, affinities, lengths:
           f(log_omega, affinities, noise=False, conditionals="merged", lengths=lengths), **DRAWN),
    Sample("assignment_log_prob", "", lambda f, labels, affinities: f(labels, affinities),
           invariants=("affinities are shifted by rows", "elements are permuted", "probabilities sum to one")),
    Sample("random_assignment_log_prob", "", lambda f, labels, log_omega, affinities: f(labels, log_omega, affinities),
           invariants=("log_omega is shifted", "affinities are shifted by rows", "elements are permuted",
                       "probabilities sum to one")),
    # bounds off the grid of the sizes: of equal scores none is met without being held, where the gradient is not unique
    Sample("sized_assignment", "relaxed", lambda f, affinities, relaxed_sizes, tau=0.7:
           f(affinities, max_sizes=relaxed_sizes + 0.739, tau=tau).assignment, second=REFUSED,
           invariants=(*ASSIGNED, "affinities and tau are scaled")),
    Sample("sized_assignment", "relaxed, exact sizes", lambda f, affinities, sizes:
           f(affinities, 0.5 * (sizes + sizes.double().mean(-1, keepdim=True)), tau=0.7)[:2], second=REFUSED,
           invariants=ASSIGNED[:1]),
    Sample("sized_assignment", "each row's length", lambda f, affinities, lengths, elements:
           f(affinities, max_sizes=elements, tau=0.7, lengths=lengths).assignment, second=REFUSED, twin=False),
    Sample("sized_assignment", "hard", lambda f, affinities, sizes: f(affinities, max_sizes=sizes + 1)[:2], **WITHOUT,
           invariants=("elements are permuted", "affinities are scaled")),

    Sample("gumbel_noise", "", lambda f, seed: f(seed, (2, 1, 4), stream=1), **UNDIFFERENTIATED),
)
# fmt: on

BY_NAME = {sample.name: sample for sample in SAMPLES}


def missing(ops: Iterable[str]) -> set[str]:
    """Which of these public functions have no row."""
    return set(ops) - {sample.op for sample in SAMPLES}
