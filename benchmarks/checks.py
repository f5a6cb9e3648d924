"""Is a contestant's answer right? Speed is reported only behind a passed check.

The same function as the reference: values and gradients against the reference in float64, on the same draw, by the
accuracy rule of `drpm.testing`. Another relaxation or another noise: what its output must be whatever the method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.cases import MVHG_OPS, REFERENCE, Case
from benchmarks.problems import NOISY, Problem, cotangent, make_problem
from benchmarks.registry import Call, Contestant, oracle
from drpm.testing import TOLERANCE, relative_error

# Elements that the float64 reference may hold at a time (several temporaries each): 64 MB apiece.
ORACLE_ELEMENTS = 8_000_000
SORTING = ("random_partition", "random_assignment", "partition", "relaxed_sort", "relaxed_sort_matmul")
SMALL_BATCH_ROWS = 8  # so many rows of noisy ops are checked at least, over several seeds


@dataclass
class Check:
    passed: bool
    detail: str
    size: str = ""  # where the check ran at another size than the case

    def to_json(self) -> dict:
        return {"passed": self.passed, "detail": self.detail, **({"size": self.size} if self.size else {})}


def _elements_per_row(case: Case) -> int:
    """Size of the largest tensor of the reference, per row."""
    n = case["n"]
    if case.op == "hypergeometric_log_weights":
        return n + 1
    if case.op == "plackett_luce_log_prob":
        return n
    if case.op in ("partition_log_prob", "assignment_log_prob"):
        return case["K"] * n * 160  # quadrature nodes
    if case.op in MVHG_OPS:
        return case["K"] * (n * case["m"] if case.variant == "exact" else case["m"])
    if case.op in ("random_partition", "random_assignment") and case.variant == "exact":
        return case["K"] * n * n
    return n * n


def checkable(case: Case) -> tuple[Case, str]:
    """The case at which the float64 reference fits, and what was changed.

    Fewer rows, then a shorter n. Where elements are sorted, tau is raised by the same factor: the bands of the relaxed
    sort, of width ~ sqrt(tau n), stay as wide, so the same code paths are checked.
    """
    rows = min(case["B"], max(1, ORACLE_ELEMENTS // _elements_per_row(case)))
    smaller = case.resized(B=rows)
    while _elements_per_row(smaller) > ORACLE_ELEMENTS:
        dims = {name: max(1, value // 2) for name, value in smaller.dims if name in ("n", "m")}
        smaller = smaller.resized(tau=smaller.tau * (2 if case.op in SORTING else 1), **dims)
    if smaller == case:
        return case, ""
    rescaled = "" if smaller.tau == case.tau else f", tau={smaller.tau:g}"
    return smaller, f"checked at {smaller.size_text}{rescaled}"


@dataclass
class Answer:
    """Output, hard rows and gradients of one computation."""

    value: Tensor
    gradients: list[Tensor]


def answer(call: Call, problem: Problem, backward: bool = True) -> Answer:
    out = call()
    if not backward:
        return Answer(out.detach(), [])
    gradients = torch.autograd.grad(out, list(problem.leaves.values()), cotangent(out), allow_unused=True)
    leaves = problem.leaves.values()
    filled = [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, leaves, strict=True)]
    return Answer(out.detach(), filled)


class Judge:
    """The reference's answers in float64 and in the dtype of the case, computed once for all contestants."""

    def __init__(self, case: Case) -> None:
        self.case, self.size = checkable(case)
        seeds: list[int | None] = [None]
        if case.op in NOISY:
            seeds = list(range(1, 1 + max(1, math.ceil(SMALL_BATCH_ROWS / self.case["B"]))))
            if _elements_per_row(self.case) * len(seeds) > ORACLE_ELEMENTS:
                seeds = seeds[:1]
        self.problems = [make_problem(self.case, seed) for seed in seeds]
        reference = oracle(case)
        self.exact = [self._ask(reference, p.to(torch.float64)) for p in self.problems]
        self.working = self.exact
        if self.case.torch_dtype != torch.float64:
            self.working = [self._ask(reference, p) for p in self.problems]

    @staticmethod
    def _ask(contestant: Contestant, problem: Problem) -> Answer:
        return answer(contestant.prepare(problem), problem, contestant.backward)

    def check(self, contestant: Contestant) -> Check:
        if contestant.name == REFERENCE:
            return Check(True, f"the reference; {self._own_error()}", self.size)
        if contestant.relation == "floor":
            return Check(True, "computes nothing")
        if contestant.relation == "same":
            return self._same(contestant)
        return _plausible(contestant, self.case, self.size)

    def _own_error(self) -> str:
        if self.working is self.exact:
            return "float64"
        value, gradient, _, _ = self._errors(self.working, [self.exact])
        return f"its own error {value:.1e}, gradient {gradient:.1e}"

    def _same(self, contestant: Contestant) -> Check:
        if contestant.name.startswith("compiled"):  # draws no noise from seeds inside the graph; compile once
            answers = [self._ask(contestant, p) for p in self.problems[:1]]
        else:
            answers = [self._ask(contestant, p) for p in self.problems]
        for got, want in zip(answers, self.exact, strict=False):
            if got.value.shape != want.value.shape:
                shapes = f"{tuple(got.value.shape)}, not {tuple(want.value.shape)}"
                return Check(False, f"shape {shapes}", self.size)
        value, gradient, differing, rows = self._errors(answers, [self.exact, self.working])
        own_value, own_gradient, _, _ = self._errors(self.working, [self.exact, answers])
        table = TOLERANCE[torch.float64 if self.case.torch_dtype == torch.float64 else torch.float32]
        single = self.case.torch_dtype != torch.float64
        allowed_value = max(table.value, 2 * own_value if single else 0.0)
        allowed_gradient = max(table.gradient, 2 * own_gradient if single else 0.0)
        allowed_rows = 0 if rows < SMALL_BATCH_ROWS else max(1, rows // 100)
        detail = f"error {value:.1e} (allowed {allowed_value:.1e}), gradient {gradient:.1e} ({allowed_gradient:.1e})"
        if differing:
            detail += f"; {differing} of {rows} rows draw another outcome (ties within rounding)"
        passed = value <= allowed_value and gradient <= allowed_gradient and differing <= allowed_rows
        return Check(passed, detail, self.size)

    def _errors(self, answers: list[Answer], others: list[list[Answer]]) -> tuple[float, float, int, int]:
        """Largest error of value and gradient against others[0], over the rows where the discrete outcome is the same
        everywhere; how many rows differ from others[0], and how many there are."""
        value = gradient = 0.0
        differing = rows = 0
        for index, got in enumerate(answers):
            want = others[0][index]
            same = torch.ones(got.value.shape[0], dtype=torch.bool)
            if self.case.op in NOISY:
                for other in others:
                    if index < len(other):
                        agrees = ((got.value.double() - other[index].value.double()).abs() < 0.5).flatten(1).all(-1)
                        same &= agrees
                        differing += int((~agrees).sum()) if other is others[0] else 0
            rows += len(same)
            value = _worst(value, relative_error(got.value[same], want.value[same]))
            for mine, theirs in zip(got.gradients, want.gradients, strict=False):  # none where forward only
                gradient = _worst(gradient, relative_error(mine[same], theirs[same]))
        return value, gradient, differing, rows


def _worst(a: float, b: float) -> float:
    return b if math.isnan(b) else max(a, b)


# ---- other relaxations


def _plausible(contestant: Contestant, case: Case, size: str) -> Check:
    """Properties that any right answer has. Shares below one allow for the known defects of a peer, which the detail
    then states."""
    problem = make_problem(case)
    problem.noise = False
    got = answer(contestant.prepare(problem), problem, contestant.backward)
    checks = {
        "partition": _check_partition,
        "permutation": _check_permutation,
        "values": _check_values,
        "sizes": _check_sizes,
    }
    found = checks[contestant.relation](got.value, problem)
    finite = all(bool(torch.isfinite(g).all()) for g in got.gradients)
    return Check(found.passed, found.detail + ("" if finite else "; gradient not finite"), size)


def _shape_error(value: Tensor, *expected: int) -> Check | None:
    if tuple(value.shape) == expected and bool(torch.isfinite(value).all()):
        return None
    return Check(False, f"must be finite of shape {expected}, got {tuple(value.shape)}")


def _check_partition(value: Tensor, problem: Problem) -> Check:
    case = problem.case
    wrong = _shape_error(value, case["B"], case["K"], case["n"])
    if wrong:
        return wrong
    if case.variant == "soft":
        off = float((value.sum(1).mean(-1) - 1).abs().max())
        return Check(off < 1e-3, f"mean column sum off by {off:.1e}")
    scores = problem["log_scores"] if case.op == "random_partition" else problem["scores"]
    order = scores.detach().argsort(-1, descending=True)
    labels = value.argmax(1).gather(-1, order)
    one_hot = ((value.sum(1) - 1).abs() < 1e-3).all(-1)
    filled_in_order = one_hot & (labels.diff(dim=-1) >= 0).all(-1)
    share = float(filled_in_order.float().mean())
    return Check(share >= 0.8, f"{share:.0%} of the rows are partitions that follow the order of the scores")


def _check_permutation(value: Tensor, problem: Problem) -> Check:
    scores = problem["scores"].detach()
    wrong = _shape_error(value, *scores.shape, scores.shape[-1])
    if wrong:
        return wrong
    off = float((value.sum(-1) - 1).abs().max())
    right = value.argmax(-1) == scores.argsort(-1, descending=True)
    share = float(right.float().mean())
    # a relaxed sorting network spreads its rows: the descending trend of P s is all that it promises
    sorted_values = (value @ scores.unsqueeze(-1)).squeeze(-1)
    descending = bool((sorted_values.diff(dim=-1) <= 1e-4 * scores.abs().max()).all())
    detail = f"row sums off by {off:.1e}, {share:.0%} of the rows peak at the right element, P s descends: {descending}"
    return Check(off < 1e-3 and (share > 0.99 or descending), detail)


def _check_values(value: Tensor, problem: Problem) -> Check:
    scores = problem["scores"].detach()
    wrong = _shape_error(value, *scores.shape)
    if wrong:
        return wrong
    descending = bool((value.diff(dim=-1) <= 1e-4 * scores.abs().max()).all())
    return Check(descending, f"values descend: {descending}")


def _check_sizes(value: Tensor, problem: Problem) -> Check:
    case = problem.case
    wrong = _shape_error(value, case["B"], case["K"])
    if wrong:
        return wrong
    whole = ((value - value.round()).abs() < 1e-3).all(-1)
    inside = ((value > -1e-3) & (value < case["m"] + 1e-3)).all(-1)
    total = (value.sum(-1) - case["n"]).abs() < 0.5
    share = float((whole & inside & total).float().mean())
    return Check(share >= 0.8, f"{share:.1%} of the rows are whole, within [0, m] and sum to n")
