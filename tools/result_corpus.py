"""The seeded corpus of `tools/same_results.py`, and the child that runs it on one build.

Only `drpm.ops` is used, so that it runs on checkouts in which names below it differ. A case is drawn from a seed of its
own label: adding one changes no other.

    result_corpus.py OUTPUT --root CHECKOUT --device cpu --threads 1,2 [--ops name,…] [--reference keys.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
FULL = (torch.float32, torch.float64)
DTYPES = (*HALF, *FULL)


@dataclass(frozen=True)
class Case:
    """A call of one op: floating `inputs` get gradients, the others are passed along."""

    op: str
    label: str
    call: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    dtype: torch.dtype
    emulated: bool  # cheap enough for kernels that run thread by thread on the CPU
    second: bool  # whether second derivatives (or the refusal of them) are part of it
    noisy: bool  # float32 and float64 draw different noise: no reference in another dtype

    @property
    def key(self) -> str:
        return f"{self.op} {str(self.dtype)[6:]} {self.label}"


@dataclass(frozen=True)
class Rest:
    """What the cases of one problem share."""

    dtype: torch.dtype
    emulated: bool = True
    second: bool = False
    noisy: bool = False

    def case(self, op: str, label: str, call: Callable[..., Any], *inputs: Tensor) -> Case:
        return Case(op, label, call, inputs, **vars(self))


def generator_of(*words: object) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(" ".join(map(str, words)).encode()))


def scores_of(kind: str, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    changed = {
        "normal": lambda: x,
        "ties": lambda: (2 * x).round() / 2,
        "equal": lambda: torch.full_like(x, 0.25),
        "close": lambda: 1 + 1e-4 * x,
        "wide": lambda: 30 * x,
        "offset": lambda: x + 1000,
        "sorted": lambda: x.sort(-1, descending=True).values,
        "strided": lambda: x.mT.contiguous().mT if x.dim() > 1 else x,
    }[kind]()
    return changed.to(dtype)


KINDS = ("normal", "ties", "equal", "close", "wide", "offset", "sorted")
LENGTHS = (0, 1, 2, 3, 5, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129, 200, 257)


def sort_shapes() -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Kind of scores, shape and whether the emulator takes it: every length, a few batches, every kind."""
    for n in LENGTHS:
        yield "normal", (2, n), n <= 129
    for kind in KINDS:
        yield kind, (3, 20), True
        yield kind, (2, 70), kind in ("ties", "wide")
        yield kind, (1, 260), False
    for shape in ((7,), (0, 5), (2, 3, 6), (1, 1, 1), (37, 4)):
        yield "normal", shape, True
    yield "strided", (4, 9), True
    yield "normal", (1, 1200), False
    yield "close", (1, 2500), False


def sort_options() -> Iterator[tuple[float, bool]]:
    yield from itertools.product((0.02, 1.0, 40.0), (False, True))


def lengths_of(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    lengths = torch.randint(0, shape[-1] + 1, shape[:-1], generator=generator)
    return lengths if lengths.numel() < 2 else lengths.index_fill(0, torch.tensor([1]), shape[-1])


def sort_cases(ops: Any) -> Iterator[Case]:
    for (kind, shape, emulated), (tau, hard), dtype in itertools.product(sort_shapes(), sort_options(), DTYPES):
        n = shape[-1]
        if (dtype in HALF and n not in (0, 1, 17, 20, 64)) or (n > 500 and (tau < 1 or dtype in HALF)):
            continue
        label = f"{kind} {shape} tau {tau} {'hard' if hard else 'soft'}"
        g = generator_of(label)
        picked = zlib.crc32(label.encode())
        rest = Rest(dtype, emulated and dtype in FULL, second=dtype in FULL and n == 17 and tau == 1)
        options = {"tau": tau, "hard": hard}
        x = scores_of(kind, shape, dtype, g)
        if n <= 257:
            yield rest.case("relaxed_sort", label, partial(ops.relaxed_sort, **options), x)
        width, classes = (1, 3, 8, 20, 33)[picked % 5], (1, 2, 3, 5, 9, 17)[picked % 6]
        values = torch.randn((*shape, width), generator=g).to(dtype)
        yield rest.case(
            "relaxed_sort_matmul", f"{label} d {width}", partial(ops.relaxed_sort_matmul, **options), x, values
        )
        sizes = torch.rand((*shape[:-1], classes), generator=g, dtype=torch.float64) + 0.05
        sizes = sizes * n / sizes.sum(-1, keepdim=True)
        sizes = (sizes.round() if hard else sizes).to(dtype)
        part = partial(ops.partition, **options, normalize=not hard and n % 2 == 1)
        yield rest.case("partition", f"{label} K {classes}", part, x, sizes)
        if kind == "normal" and n in (5, 17, 33, 65) and dtype in FULL:
            options["lengths"] = lengths = lengths_of(shape, g)
            product = partial(ops.relaxed_sort_matmul, **options)
            yield rest.case("relaxed_sort_matmul", f"{label} d {width} lengths", product, x, values)
            own = (lengths / classes).unsqueeze(-1).expand_as(sizes).to(dtype)
            yield rest.case("partition", f"{label} K {classes} lengths", partial(ops.partition, **options), x, own)


def order_cases(ops: Any) -> Iterator[Case]:
    """Plackett-Luce and the exact likelihoods, marginals and modes of partitions."""
    shapes = [((2, n), n <= 65) for n in LENGTHS] + [((0, 4), True), ((2, 3, 6), True), ((9,), True), ((1, 700), False)]
    kinds = ("normal", "ties", "wide", "offset")
    for (shape, cheap), kind, dtype in itertools.product(shapes, kinds, DTYPES):
        n = shape[-1]
        if (dtype in HALF and n not in (0, 2, 17, 64)) or (kind != "normal" and n not in (3, 17, 33, 64, 200)):
            continue
        label = f"{kind} {shape}"
        g = generator_of(label)
        rest = Rest(dtype, cheap and dtype in FULL, second=dtype in FULL and n in (6, 17))
        classes = (1, 2, 3, 5, 8)[zlib.crc32(label.encode()) % 5]
        x = scores_of(kind, shape, dtype, g)
        omega = torch.randn((*shape[:-1], classes), generator=g).to(dtype)
        order = torch.rand(shape, generator=g).argsort(-1)
        labels = torch.randint(0, classes, shape, generator=g)
        yield rest.case("plackett_luce_log_prob", label, ops.plackett_luce_log_prob, order, x)
        if 0 < n <= 33:
            relaxed = torch.rand((*shape, n), generator=g).softmax(-1).to(dtype)
            yield rest.case("plackett_luce_log_prob", f"{label} relaxed", ops.plackett_luce_log_prob, relaxed, x)
        whole = f"{label} K {classes}"
        yield rest.case("partition_log_prob", whole, partial(ops.partition_log_prob, num_subsets=classes), labels, x)
        for op in ("random_partition_log_prob", "partition_log_prob_bounds"):
            yield rest.case(op, whole, getattr(ops, op), labels, omega, x)
        yield from marginal_cases(ops, whole, rest, omega, x, g)
        if n in (5, 17, 33) and dtype in FULL:
            t = lengths_of(shape, g)
            beyond = torch.arange(n) >= t.unsqueeze(-1)
            first = torch.rand(shape, generator=g).masked_fill(beyond, 2).argsort(-1)
            padded = f"{whole} lengths"
            yield rest.case("plackett_luce_log_prob", padded, partial(ops.plackett_luce_log_prob, lengths=t), first, x)
            exact = partial(ops.partition_log_prob, num_subsets=classes, lengths=t)
            yield rest.case("partition_log_prob", padded, exact, labels, x)
            both = partial(ops.random_partition_log_prob, lengths=t)
            yield rest.case("random_partition_log_prob", padded, both, labels, omega, x)


def marginal_cases(ops: Any, label: str, rest: Rest, omega: Tensor, x: Tensor, g: torch.Generator) -> Iterator[Case]:
    classes, n = omega.shape[-1], x.shape[-1]
    capacity = torch.randint(0, n + 1, (classes,), generator=g)
    capacity[0] += max(n - int(capacity.sum()), 0)
    for name, options in ((label, {}), (f"{label} m", {"m": capacity})):
        yield rest.case("partition_mode", name, partial(ops.partition_mode, **options), omega, x)
        if n <= 129:
            small = replace(rest, emulated=rest.emulated and n <= 17)
            yield small.case("partition_marginals", name, partial(ops.partition_marginals, **options), omega, x)


def counts(classes: int, scale: int, shape: tuple[int, ...], g: torch.Generator) -> tuple[Tensor, Tensor]:
    """m with zero classes among it, and n somewhere between nothing and everything."""
    m = torch.randint(0, scale + 1, (*shape, classes), generator=g)
    m[..., 0] = torch.where(m.sum(-1) == 0, scale, m[..., 0])
    share = torch.rand(shape, generator=g, dtype=torch.float64)
    share = torch.where(share < 0.1, 0.0, torch.where(share > 0.9, 1.0, share))
    return m, (share * m.sum(-1)).long()


def some_sizes(m: Tensor, n: Tensor) -> Tensor:
    """Sizes in the support, without an op: the classes' shares of n rounded down, then the rest from the left."""
    sizes = m * n.unsqueeze(-1) // m.sum(-1, keepdim=True)
    room = (m - sizes).cumsum(-1)
    filled = torch.minimum(room, (n - sizes.sum(-1)).unsqueeze(-1))
    return sizes + filled.diff(dim=-1, prepend=torch.zeros_like(filled[..., :1]))


def mvhg_problems() -> Iterator[tuple[int, int, float, tuple[int, ...], bool]]:
    for classes, scale, spread in itertools.product((1, 2, 3, 4, 7, 10), (1, 4, 13, 40), (0.5, 6.0)):
        yield classes, scale, spread, (3,), scale <= 13
    for spread in (0.0, 40.0):
        yield 3, 6, spread, (2, 2), True
    yield 3, 6, 1.0, (), True
    yield 3, 6, 1.0, (0,), True
    yield 33, 5, 1.0, (2,), True
    yield 5, 300, 1.0, (2,), False
    yield 10, 3000, 0.5, (1,), False
    yield 3, 100_000, 0.5, (1,), False


def mvhg_cases(ops: Any) -> Iterator[Case]:
    for (classes, scale, spread, shape, cheap), dtype in itertools.product(mvhg_problems(), DTYPES):
        if dtype in HALF and scale not in (6, 13):
            continue
        label = f"K {classes} m {scale} spread {spread} {shape}"
        g = generator_of(label)
        m, n = counts(classes, scale, shape, g)
        w, other = ((spread * torch.randn((*shape, classes), generator=g)).clamp(-80, 80).to(dtype) for _ in range(2))
        rest = Rest(dtype, cheap and dtype in FULL, second=dtype in FULL and scale in (4, 13, 300))
        for op in ("mvhg_log_normalizer", "mvhg_mean", "mvhg_covariance", "mvhg_entropy"):
            yield rest.case(op, label, partial(getattr(ops, op), m=m, n=n), w)
        yield rest.case("mvhg_kl", label, partial(ops.mvhg_kl, m=m, n=n), w, other)
        sizes = some_sizes(m, n).to(dtype if dtype in FULL else torch.float32)
        for which in ("exact", "merged"):
            prob = partial(ops.mvhg_log_prob, m=m, n=n, conditionals=which)
            yield rest.case("mvhg_log_prob", f"{label} {which}", prob, sizes, w)
        yield from draw_cases(ops, label, replace(rest, second=False), w, m, n, torch.randperm(classes, generator=g))
        if classes == 2 and dtype in FULL and shape and scale <= 3000:
            two = partial(ops.hypergeometric_log_weights, m_left=m[..., 0], m_right=m[..., 1], n=n)
            yield rest.case("hypergeometric_log_weights", label, two, w[..., 0], w[..., 1])


def draw_cases(ops: Any, label: str, rest: Rest, w: Tensor, m: Tensor, n: Tensor, permuted: Tensor) -> Iterator[Case]:
    noisy = replace(rest, noisy=True)
    for which in ("exact", "merged"):
        sample = partial(ops.mvhg_sample, m=m, n=n, conditionals=which)
        yield noisy.case("mvhg_sample", f"{label} {which} hard", partial(sample, tau=0.1, seed=11), w)
        yield noisy.case("mvhg_sample", f"{label} {which} soft", partial(sample, tau=1.0, seed=11, hard=False), w)
        plain = partial(sample, tau=8.0, noise=False, hard=False)
        yield rest.case("mvhg_sample", f"{label} {which} soft, no noise", plain, w)
        for name, order in (("random", "random"), ("given", permuted)):
            ordered = partial(sample, tau=0.5, seed=3, class_order=order, sample_shape=(2,), hard=False)
            yield noisy.case("mvhg_sample", f"{label} {which} {name} order", ordered, w)
    for table in (1 << 20, 2):
        draw = partial(ops.mvhg_draw, m=m, n=n, sample_shape=(3,), seed=2, largest_table=table)
        yield noisy.case("mvhg_draw", f"{label} table {table}", draw, w)


def random_partition_cases(ops: Any) -> Iterator[Case]:
    shapes = ((2, 1), (2, 5), (3, 17), (2, 2, 9), (1, 64), (2, 130), (1, 300), (0, 4))
    kinds = ((True, "exact", True), (False, "exact", True), (False, "merged", True), (True, "merged", False))
    for shape, classes, dtype, (hard, which, noise) in itertools.product(shapes, (1, 3, 8), DTYPES, kinds):
        n = shape[-1]
        label = f"{shape} K {classes} {which} {'hard' if hard else 'soft'}{'' if noise else ' no noise'}"
        g = generator_of(label)
        omega = torch.randn((*shape[:-1], classes), generator=g).to(dtype)
        x = torch.randn(shape, generator=g).to(dtype)
        rest = Rest(dtype, n <= 17 and dtype in FULL, noisy=noise)
        options = {"tau": 0.5, "hard": hard, "conditionals": which, "noise": noise, "seed": 7 if noise else None}
        draw = partial(ops.random_partition, **options)
        yield rest.case("random_partition", label, draw, omega, x)
        if n in (5, 17) and dtype in FULL:
            padded = partial(draw, lengths=lengths_of(shape, g), sample_shape=(2,))
            yield rest.case("random_partition", f"{label} lengths", padded, omega, x)


def noise_cases(ops: Any) -> Iterator[Case]:
    shapes = ((1, 1, 1), (3, 2, 5), (2, 1, 257), (0, 2, 2), (7, 3, 33), (1, 64, 64))
    for shape, stream, dtype, seed in itertools.product(shapes, (0, 1), FULL, (123456789, -(2**40) - 17)):
        draw = partial(ops.gumbel_noise, shape=shape, stream=stream, dtype=dtype)
        yield Rest(dtype, noisy=True).case(
            "gumbel_noise", f"{shape} stream {stream} {seed}", draw, torch.tensor([seed])
        )


def cases(ops: Any) -> Iterator[Case]:
    for family in (noise_cases, sort_cases, order_cases, mvhg_cases, random_partition_cases):
        yield from family(ops)


def as_parts(name: str, output: Any) -> dict[str, Tensor]:
    outputs = output if isinstance(output, tuple) else (output,)
    return {f"{name} {i}": x.detach().cpu().clone() for i, x in enumerate(outputs) if isinstance(x, Tensor)}


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


def same_bits(a: Tensor | str, b: Tensor | str) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b
    return a.shape == b.shape and a.dtype == b.dtype and (a.numel() == 0 or torch.equal(bits(a), bits(b)))


def weights_of(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Weights that every dtype holds exactly, so that they are the same in a reference of another one."""
    return torch.randint(-16, 17, shape, generator=generator).double() / 8


def weighted(outputs: Any, generator: torch.Generator) -> Tensor | None:
    """Sum of everything differentiable and finite, with seeded weights."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    terms = []
    for x in outputs:
        if isinstance(x, Tensor) and x.requires_grad:
            weight = weights_of(x.shape, generator).to(x)
            terms.append((torch.where(torch.isfinite(x), x, 0) * weight).sum())
    return torch.stack([t.double() for t in terms]).sum() if terms else None


def run(case: Case, device: str, dtype: torch.dtype | None = None) -> dict[str, Tensor | str]:
    """Values without and with gradients, gradients, and second derivatives where the case wants them; an error is a
    result, too. `dtype`: with the inputs in another one."""
    parts: dict[str, Tensor | str] = {}
    inputs = [x.to(device) if dtype is None or not x.is_floating_point() else x.to(device, dtype) for x in case.inputs]
    try:
        with torch.no_grad():
            parts.update(as_parts("value", case.call(*inputs)))
        leaves = [x.detach().requires_grad_() for x in inputs if x.is_floating_point()]
        if not leaves:
            return parts
        moving = iter(leaves)
        out = case.call(*(next(moving) if x.is_floating_point() else x for x in inputs))
        parts.update({k: x for k, x in as_parts("output", out).items() if not same_bits(x, parts[f"value{k[6:]}"])})
        generator = generator_of(case.key, "weights")
        loss = weighted(out, generator)
        if loss is None:
            return parts
        grads = torch.autograd.grad(loss, leaves, create_graph=case.second, allow_unused=True)
        parts.update({f"gradient {i}": g.detach().cpu().clone() for i, g in enumerate(grads) if g is not None})
        if case.second:
            total = weighted(tuple(g for g in grads if g is not None), generator)
            if total is not None:
                again = torch.autograd.grad(total, leaves, allow_unused=True)
                parts.update({f"second {i}": g.detach().cpu().clone() for i, g in enumerate(again) if g is not None})
    except (RuntimeError, ValueError, TypeError) as error:
        parts["error"] = f"{type(error).__name__}: {error}"
    return parts


def wider(case: Case) -> dict[str, Tensor | str]:
    """References: narrower dtypes in float64, float64 in long double ("… low": what float64 does not hold of it)."""
    if case.noisy:
        return {}
    if case.dtype != torch.float64:
        return run(case, "cpu", torch.float64)
    from long_double import reference

    value = run(case, "cpu").get("value 0")
    if not isinstance(value, Tensor):
        return {}
    parts: dict[str, Tensor | str] = {}
    for name, (high, low) in reference(case, value.shape).items():
        parts[name], parts[f"{name} low"] = high, low
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--ops", default="")
    parser.add_argument("--reference", type=Path, help="keys of cases to compute in a wider dtype instead")
    arguments = parser.parse_args()
    import drpm
    from drpm import ops
    from drpm.testing import use_device

    if not Path(drpm.__file__).resolve().is_relative_to(arguments.root.resolve()):
        sys.exit(f"drpm comes from {drpm.__file__}, not from {arguments.root}")
    wanted = set(arguments.ops.split(",")) - {""}
    keys = set(json.loads(arguments.reference.read_text())) if arguments.reference else None
    results: dict[str, dict[str, dict[str, Tensor | str]]] = {}
    device = "cpu" if arguments.device == "emulated" else arguments.device
    chosen = [case for case in cases(ops) if not wanted or case.op in wanted]
    assert len({case.key for case in chosen}) == len(chosen), "two cases of one key"
    with use_device("emulated" if arguments.device == "emulated" else "cpu"):
        for threads in map(int, arguments.threads.split(",")):
            torch.set_num_threads(threads)
            of_all: dict[str, dict[str, Tensor | str]] = results.setdefault(str(threads), {})
            for case in chosen:
                if keys is not None:
                    if case.key in keys:
                        of_all[case.key] = wider(case)
                elif arguments.device != "emulated" or case.emulated:
                    of_all[case.key] = run(case, device)
    torch.save(results, arguments.output)


if __name__ == "__main__":
    main()
