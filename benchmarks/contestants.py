"""The two columns of every op: the kernel through its public function, and its plain PyTorch twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import drpm.ops
from benchmarks.cases import KERNEL, REFERENCE
from benchmarks.problems import ARGUMENTS, NOISY, Problem
from benchmarks.registry import Call, Contestant, add
from drpm import reference


def _arguments(p: Problem) -> dict:
    """Keyword arguments that kernel and reference share."""
    if p.case.op in NOISY:
        return {"tau": p.tau, "conditionals": p.case.variant}
    if p.case.op == "mvhg_log_prob":
        return {"conditionals": p.case.variant}
    if p.case.op in ("partition", "relaxed_sort", "relaxed_sort_matmul"):
        return {"tau": p.tau, "hard": p.case.variant == "hard"}
    return {}


def _prepare(function: Callable, p: Problem, noise: Callable[[Problem], dict]) -> Call:
    keywords = _arguments(p)
    if p.case.op == "relaxed_sort_matmul":  # the scores themselves as values: softly sorted values
        scores = p["scores"]
        return lambda: function(scores, scores.unsqueeze(-1), **keywords).squeeze(-1)
    positional = [p[name] for name in ARGUMENTS[p.case.op]]
    if p.case.op in ("random_partition", "random_assignment"):
        return lambda: function(*positional, **keywords, **noise(p)).assignment
    return lambda: function(*positional, **keywords, **noise(p))


def _kernel_noise(p: Problem) -> dict:
    if p.case.op not in NOISY:
        return {}
    if not p.noise:
        return {"noise": False}
    return {} if p.seed is None else {"seed": p.seed}


def _reference_noise(p: Problem) -> dict:
    if p.case.op in ("random_partition", "random_assignment"):
        return {"size_gumbel": p.size_noise(), "score_gumbel": p.score_noise()}
    if p.case.op == "mvhg_sample":
        return {"gumbel": p.size_noise()}
    return {}


def prepare_kernel(p: Problem) -> Call:
    function = getattr(drpm.ops, p.case.op, None)
    if function is None:
        raise NotImplementedError(f"drpm.ops.{p.case.op} does not exist yet")
    return _prepare(function, p, _kernel_noise)


def prepare_reference(p: Problem, function: Callable | None = None) -> Call:
    return _prepare(function or getattr(reference, p.case.op), p, _reference_noise)


def _merged(p: Problem) -> Problem:
    """The same problem by the thesis' merged conditionals."""
    case = replace(p.case, variant="merged")
    return Problem(case, p.leaves, p.constants, p.seed, p.noise)


for _op in ARGUMENTS:
    add(_op, Contestant(KERNEL, prepare_kernel))
    add(_op, Contestant(REFERENCE, prepare_reference))

# Exact conditionals cost the reference O(K n^2); what one would write without them is the merged chain.
for _op, _relation in (("random_partition", "partition"), ("mvhg_sample", "sizes")):
    add(
        _op,
        Contestant("merged reference", lambda p: prepare_reference(_merged(p)), _relation, variants=("exact",)),
    )
