"""The mutants of the CUDA kernels: the places, the rules by which each is broken, and their names."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from check import ROOT

CSRC = ROOT / "csrc"
# Code of the kernels that lies in headers. What they hold is in the namespace of the instruction set: the CPU kernels
# of the same program keep their own, unbroken copy.
HEADERS = (
    "device/cuda_launch.h",
    "mvhg/chain.h",
    "mvhg/contour/contour_math.h",
    "mvhg/contour/contour_rows.h",
    "mvhg/contour/cumulant_math.h",
    "mvhg/contour/entropy_rows.h",
    "mvhg/tables/exact_rows.h",
    "mvhg/two_class/merged_rows.h",
    "mvhg/outcomes_cuda.h",
    "mvhg/tables/size_tables_cuda.h",
)
INDEX = r"(?:[\w.>-]+(?: [-+*/%] [\w.>-]+)*)"  # what stands in brackets, without brackets of its own
COMPARED = r"(?<=[\w\])]) {} (?=[\w(])"
# Each rule: the places, and the code there; {s} is 1 in the mutant and 0 else.
RULES = (
    ("drop barrier", r"__syncthreads\(\);|__syncwarp\(\);|team\.sync\(\);|Warp\(\)\.sync\(\);", "if (!{s}) {0}"),
    ("bound < moved by one", COMPARED.format("<"), " < {s} + "),
    ("bound < moved back by one", COMPARED.format("<"), " < -{s} + "),
    ("bound <= moved by one", COMPARED.format("<="), " <= -{s} + "),
    ("bound <= moved back by one", COMPARED.format("<="), " <= {s} + "),
    ("bound > moved by one", COMPARED.format(">"), " > -{s} + "),
    ("bound > moved back by one", COMPARED.format(">"), " > {s} + "),
    ("bound >= moved by one", COMPARED.format(">="), " >= {s} + "),
    ("bound >= moved back by one", COMPARED.format(">="), " >= -{s} + "),
    ("last of the doubling steps dropped", r" < (?=kWarpSize; \w+ \*= 2\))", " < -{s} * kWarpSize / 2 + "),
    ("index moved by one", rf"(?<=[\w\])])\[({INDEX})\]", "[{1} + {s}]"),
    ("every thread", r"(?:threadIdx\.x|lane) == 0|(?<=return )rank\(\) == 0", "({0} || {s})"),
)
SKIPPED_LINE = re.compile(r"\s*(//|#|template|constexpr|static_assert|using|__shared__)|.*\[\]\(")
ARRAY = re.compile(r"\s*(?!return\b|else\b)(const )?[\w:]+(<[^>]*>)?[*&]? (\w+\[\w+\], )*\w+$")  # ... and its length
MINIMUM = re.compile(r"\s*(?P<b>[^?:;{}&|]+?) \? (?P<c>[^?:;{}]+?) : (static_cast<\w+>\()?(?P<d>[^;,:{}]*)")


@dataclass(frozen=True)
class Mutant:
    number: int
    file: str  # below csrc
    start: int
    end: int
    line: int
    rule: str
    code: str  # what takes the place of text[start:end]
    source: str  # the line, for people

    def key(self) -> str:
        """Of what is broken and where, not of line numbers: results stand as long as the file's code around does."""
        return hashlib.sha256(f"{self.file}\n{self.rule}\n{self.source}\n{self.start}".encode()).hexdigest()[:16]

    def place(self) -> str:
        """Its name in survivors.json; the same for several on one line."""
        return f"{self.file}: {self.rule}: {self.source}"

    def where(self) -> str:
        return f"csrc/{self.file}:{self.line}"


def changes_nothing(text: str, match: re.Match[str], rule: str) -> bool:
    """Whether the comparison of whole numbers gives the same either way: a < b ? a : b and a > 0 ? a : 0, moved by one
    towards equality; steps that double and miss one more; thresholds of formulas, which are no bounds."""
    before, after = text[max(0, match.start() - 160) : match.start()], text[match.end() : match.end() + 160]
    if re.match(r"\w+; \w+ \*= 2\)|1e-", after):
        return True
    found = MINIMUM.match(after)
    if found is None or "back" in rule:
        return False
    b, c, d = found["b"], found["c"], found["d"].rstrip(" )")
    if ">" in rule and b != "0":
        return False
    if re.search(rf"\b(double|T|float) [^;()]*\b{re.escape(b)} =", text):
        return False
    return before.endswith(c) and d == b.rstrip(")")


def mutants_of(file: str, first: int) -> list[Mutant]:
    text = (CSRC / file).read_text()
    found: list[Mutant] = []
    for rule, pattern, code in RULES:
        for match in re.finditer(pattern, text):
            begin = text.rfind("\n", 0, match.start()) + 1
            line = text[begin : text.find("\n", match.start())]
            comment = line.find("//")
            if SKIPPED_LINE.match(line) or 0 <= comment < match.start() - begin:
                continue
            if rule.startswith("bound") and changes_nothing(text, match, rule):
                continue
            if rule.startswith("index") and ARRAY.match(text[begin : match.start()]):
                continue
            number = first + len(found)
            place = (match.start(), match.end(), text.count("\n", 0, match.start()) + 1)
            groups = [match.group(0), *match.groups()]
            mutant = code.format(*groups, s=f"cuda_on_cpu_mutant({number})")
            found.append(Mutant(number, file, *place, rule, mutant, line.strip()))
    return found


def all_mutants() -> list[Mutant]:
    files = [str(path.relative_to(CSRC)) for path in sorted(CSRC.glob("**/*_cuda.cu"))]
    mutants: list[Mutant] = []
    for file in [*files, *HEADERS]:
        mutants += mutants_of(file, len(mutants))
    return mutants
