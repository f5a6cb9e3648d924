"""Other people's solutions, as optional columns. None of their code is in this repository: they are installed packages
(`benchmarks/requirements-peers.txt`), or a checkout that `--original PATH` names. SoftSort is its two-line formula.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import registry
from benchmarks.contestants import prepare_reference
from benchmarks.problems import Problem
from drpm import reference
from drpm.reference.partition import subset_weights

Sorter = Callable[[Tensor], Tensor]  # (B, n) -> (B, n, n), row i the i-th largest


def softsort(scores: Tensor, tau: float) -> Tensor:
    """softmax(-|sort(s)_i - s_j| / tau) (Prillo and Eisenschlos 2020, Eq. 3)."""
    ordered = scores.sort(dim=-1, descending=True).values
    return torch.softmax(-(ordered.unsqueeze(-1) - scores.unsqueeze(-2)).abs() / tau, dim=-1)


def _softsort(p: Problem) -> Sorter:
    return lambda scores: softsort(scores, p.tau)


def _softtorch(method: str) -> Callable[[Problem], Sorter]:
    def make(p: Problem) -> Sorter:
        import softtorch

        return lambda scores: softtorch.argsort(
            scores, descending=True, softness=p.tau, method=method, standardize=False
        )

    return make


def _diffsort(p: Problem) -> Sorter:
    from diffsort import DiffSortNet

    network = DiffSortNet("bitonic", p.case["n"], steepness=1 / p.tau)
    # its matrix turns a row vector into ascending order: column j is the (j + 1)-th smallest
    return lambda scores: network(scores)[1].transpose(-1, -2).flip(-2)


def straight_through(relaxed: Tensor, scores: Tensor) -> Tensor:
    """The exact permutation with the gradient of the relaxed one."""
    order = scores.detach().sort(dim=-1, descending=True, stable=True).indices
    hard = torch.zeros_like(relaxed).scatter_(-1, order.unsqueeze(-1), 1.0)
    return hard + (relaxed - relaxed.detach())


def _as_permutation(sorter: Callable[[Problem], Sorter]) -> Callable[[Problem], registry.Call]:
    def prepare(p: Problem) -> registry.Call:
        sort, scores = sorter(p), p["scores"]
        if p.case.variant == "hard":
            return lambda: straight_through(sort(scores), scores)
        return lambda: sort(scores)

    return prepare


def _as_partition(sorter: Callable[[Problem], Sorter]) -> Callable[[Problem], registry.Call]:
    """What a user of that sorter would write: subset weights times the permutation matrix."""
    permutation = _as_permutation(sorter)

    def prepare(p: Problem) -> registry.Call:
        sort, n, hard = permutation(p), p.case["n"], p.case.variant == "hard"
        return lambda: subset_weights(p["sizes"], n, p.tau, hard=hard) @ sort()

    return prepare


def _as_values(sorter: Callable[[Problem], Sorter]) -> Callable[[Problem], registry.Call]:
    def prepare(p: Problem) -> registry.Call:
        sort, scores = sorter(p), p["scores"]
        return lambda: (sort(scores) @ scores.unsqueeze(-1)).squeeze(-1)

    return prepare


def _torchsort(p: Problem) -> registry.Call:
    import torchsort

    scores, strength = p["scores"], p.tau
    return lambda: torchsort.soft_sort(scores, regularization_strength=strength).flip(-1)


def _torchpsort(p: Problem) -> registry.Call:
    import torchpsort

    scores, tau = p["scores"], p.tau
    return lambda: torchpsort.soft_sort(scores, tau=tau).flip(-1)


def _compiled(p: Problem) -> registry.Call:
    function = getattr(reference, p.case.op)
    return prepare_reference(p, torch.compile(function, dynamic=False))


def _fill(p: Problem) -> registry.Call:
    shape, dtype = (p.case["B"], p.case["n"], p.case["n"]), p.dtype
    return lambda: torch.empty(shape, dtype=dtype).fill_(0.5)


@lru_cache(maxsize=1)
def _original() -> tuple[Any, Any, Any]:
    """RandPart, PL and MVHG of the authors' checkouts; ours, of the same name, is set aside meanwhile."""
    folder = os.environ.get(registry.ORIGINAL_VARIABLE)
    if not folder:
        raise NotImplementedError("--original PATH not given")
    roots = [str(Path(folder, name).resolve()) for name in ("drpm", "mvhg")]
    for root, module in zip(roots, ("drpm/pl.py", "mvhg/pt_fmvhg.py"), strict=True):
        if not Path(root, module).is_file():
            raise NotImplementedError(f"--original: {Path(root, module)} does not exist")
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "drpm"}
    sys.path[:0] = roots
    try:
        model = importlib.import_module("drpm.diff_rand_part_model")
        sort = importlib.import_module("drpm.pl")
        sizes = importlib.import_module("mvhg.pt_fmvhg")
    finally:
        del sys.path[: len(roots)]
        for name in [name for name in sys.modules if name.split(".")[0] == "drpm"]:
            del sys.modules[name]
        sys.modules.update(ours)
    return model.RandPart, sort.PL, sizes.MVHG


def _original_partition(p: Problem) -> registry.Call:
    rand_part, _, _ = _original()
    model = rand_part(p.case["K"], device="cpu")
    log_scores, log_omega, noise, tau = p["log_scores"], p["log_omega"], p.noise, p.tau
    return lambda: model(log_scores, log_omega, g_noise=noise, hard_n=True, hard_pi=True, temperature=tau)[0]


def _original_sizes(p: Problem) -> registry.Call:
    _, _, mvhg = _original()
    model = mvhg(device="cpu")
    log_omega, tau, noise = p["log_omega"], p.tau, p.noise
    m = torch.full((p.case["K"],), float(p.case["m"]))
    n = torch.full((p.case["B"], 1), float(p.case["n"]))
    return lambda: torch.cat(model(m, n, log_omega, tau, add_noise=noise)[1], dim=2).squeeze(1)


def _original_sort(p: Problem) -> registry.Call:
    _, plackett_luce, _ = _original()
    scores, tau, hard = p["scores"], p.tau, p.case.variant == "hard"
    # one sample keeps the batch's shape; their squeeze would drop it for a batch of one
    return lambda: plackett_luce(scores, tau, g_noise=False, hard=hard).rsample([1]).reshape(*scores.shape, -1)


def _register() -> None:
    add, contestant = registry.add, registry.Contestant
    for op in ("random_partition", "partition", "relaxed_sort", "mvhg_sample"):
        add(op, contestant("compiled reference", _compiled, optional=True))
    sorters = (
        ("softsort", _softsort, ()),
        ("softtorch neuralsort", _softtorch("neuralsort"), ("softtorch", "numba", "ot", "torchopt")),
        ("softtorch softsort", _softtorch("softsort"), ("softtorch", "numba", "ot", "torchopt")),
        ("diffsort bitonic", _diffsort, ("diffsort",)),
    )
    for name, sorter, modules in sorters:
        for op, adapt, relation in (
            ("relaxed_sort", _as_permutation, "permutation"),
            ("partition", _as_partition, "partition"),
            ("relaxed_sort_matmul", _as_values, "values"),
        ):
            add(op, contestant(name, adapt(sorter), relation, requires=modules, optional=True))
    for name, prepare in (("torchsort", _torchsort), ("torchpsort", _torchpsort)):
        add("relaxed_sort_matmul", contestant(name, prepare, "values", requires=(name,), optional=True))
    add("random_partition", contestant("original", _original_partition, "partition", optional=True))
    add("mvhg_sample", contestant("original", _original_sizes, "sizes", optional=True))
    add("relaxed_sort", contestant("original", _original_sort, "permutation", optional=True))
    add("relaxed_sort", contestant("fill", _fill, "floor", optional=True, backward=False))


_register()
