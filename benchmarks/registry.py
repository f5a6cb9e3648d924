"""Who is measured: the contestants of every op (`benchmarks.contestants`, `benchmarks.peers`, plugins).

A contestant is prepared once per case (set-up such as compiling is not timed) and gives a function without arguments
that returns the differentiable output. `relation` says what its output is, and with that how it is checked:

    same         the function of drpm.reference, on the same draw (float64 reference as the judge)
    partition    an assignment (B, K, n) by another relaxation or another noise
    sizes        subset sizes (B, K) by other noise or other conditionals
    permutation  a (relaxed) permutation matrix (B, n, n) by another relaxation
    values       softly sorted values (B, n), descending
    floor        a lower bound that computes nothing (not checked)
"""

from __future__ import annotations

import importlib
import importlib.util
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from benchmarks.cases import REFERENCE, Case
from benchmarks.problems import Problem

Call = Callable[[], Tensor]

ORIGINAL_VARIABLE = "DRPM_BENCH_ORIGINAL"  # tells child processes where the authors' checkouts are


@dataclass(frozen=True)
class Contestant:
    name: str
    prepare: Callable[[Problem], Call]
    relation: str = "same"
    requires: tuple[str, ...] = ()  # modules that must be installed
    variants: tuple[str, ...] = ()  # empty: all
    optional: bool = False  # only with --peers or named by --columns
    backward: bool = True

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        absent = [name for name in self.requires if importlib.util.find_spec(name) is None]
        return f"{', '.join(absent)} not installed" if absent else None


_CONTESTANTS: dict[str, list[Contestant]] = {}


@lru_cache(maxsize=1)
def _load_builtin() -> None:
    importlib.import_module("benchmarks.contestants")
    importlib.import_module("benchmarks.peers")


def add(op: str, contestant: Contestant) -> None:
    """Register a contestant; a later one of the same name replaces the earlier."""
    entries = _CONTESTANTS.setdefault(op, [])
    entries[:] = [entry for entry in entries if entry.name != contestant.name] + [contestant]


def contestants(case: Case) -> list[Contestant]:
    """Those who can compute this case, in column order."""
    _load_builtin()
    return [c for c in _CONTESTANTS.get(case.op, []) if not c.variants or case.variant in c.variants]


def oracle(case: Case) -> Contestant:
    """The reference, who judges the others."""
    _load_builtin()
    return next(c for c in _CONTESTANTS[case.op] if c.name == REFERENCE)


def load_plugin(path: str) -> None:
    """Run a Python file that adds contestants of its own with `benchmarks.registry.add`."""
    _load_builtin()
    runpy.run_path(str(Path(path).resolve()))
