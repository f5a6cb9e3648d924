"""`make mutate-cuda`: does the emulator notice broken kernels? Resumable: results are in results/cuda/mutants.json.

A mutant drops one barrier, moves one bound (either way) or one index by one, or lets every thread do what one thread
does, in a .cu file or in a header of row functions. All mutants are compiled into one set of drivers, each behind a
switch (an environment variable), so that a mutant costs the run of a driver and not a build. First every driver runs
unchanged and notes by which mutants it comes; then each mutant meets the drivers that come by it, the quickest first,
until one fails: thread orders up, random and down; those that are left AddressSanitizer, then ThreadSanitizer. Those
that pass survive. survivors.json says why: "same", no run can show a difference, or "choice", another right way, which
differs in rounding or in the work done (such mutants do not meet ThreadSanitizer); "open": a gap of the drivers.

Mutants come in the order of their hashes: a run that stops early (`--limit`, `--seconds`) has tried a random sample.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

sys.path.insert(0, str(Path(__file__).parent))
from check import FOLDER, ROOT, SUPPRESSIONS, build_drivers, commit, tsan_options

CSRC = ROOT / "csrc"
EMULATOR = CSRC / "tests" / "cuda_on_cpu"
OUT = ROOT / "build" / "mutate-cuda"
RESULTS = ROOT / "results" / "cuda" / "mutants.json"
# Code of the kernels that lies in headers. What they hold is in the namespace of the instruction set: the CPU kernels
# of the same program keep their own, unbroken copy.
HEADERS = (
    "device/cuda_launch.h",
    "mvhg/contour/contour_math.h",
    "mvhg/contour/contour_rows.h",
    "mvhg/contour/cumulant_math.h",
    "mvhg/contour/entropy_rows.h",
    "mvhg/tables/exact_rows.h",
    "mvhg/two_class/merged_rows.h",
    "mvhg/outcomes_cuda.h",
    "mvhg/tables/size_tables_cuda.h",
)
# Kernels that run in another driver than the one of their file's name.
DRIVER_OF = {
    "log_factorial": "test_hypergeometric_log_weights",
    "exact": "test_mvhg_exact",
    "draw": "test_mvhg_exact",
    "entropy": "test_mvhg_exact",
    "contour": "test_mvhg_contour",
    "merged": "test_mvhg_merged",
}
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
FLAGS = ["-std=gnu++17", "-DDRPM_ISA=isa_cuda", "-w", f"-I{EMULATOR}", f"-I{OUT / 'csrc'}"]
SANITIZERS = {
    "plain": ["-O2"],
    "address": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-O1", "-g", "-fsanitize=thread"],
}
# What a mutant meets, the quickest first.
STAGES = (
    ("plain", {"CUDA_ON_CPU_ORDER": "up"}),
    ("plain", {"CUDA_ON_CPU_ORDER": "random:1"}),
    ("plain", {"CUDA_ON_CPU_ORDER": "down"}),
    ("address", {}),
    ("thread", {"CUDA_ON_CPU_RACES": "block"}),
    ("thread", {"CUDA_ON_CPU_RACES": "grid"}),
)


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


def write_tree(mutants: list[Mutant]) -> None:
    """csrc with every mutant in it, behind its switch. Files that stay the same are not touched."""
    by_file: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_file.setdefault(mutant.file, []).append(mutant)
    for path in sorted(CSRC.glob("**/*")):
        file = str(path.relative_to(CSRC))
        if path.suffix not in (".h", ".cu") or file.startswith("tests/"):
            continue
        text = path.read_text()
        for mutant in sorted(by_file.get(file, []), key=lambda m: -m.start):
            text = text[: mutant.start] + mutant.code + text[mutant.end :]
        if file in by_file:
            text = '#include "mutant.h"\n' + text
        target = OUT / "csrc" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.read_text() != text:
            target.write_text(text)


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"mutate-cuda: {' '.join(command)}\n{result.stderr[-4000:]}")


def build_mutants(name: str, files: set[str]) -> Path:
    """The drivers with the mutants of these files, for one sanitizer. `make test-cuda`'s objects serve for everything
    that has none; a header with mutants is compiled into every .cu file."""
    flags, out = SANITIZERS[name], OUT / name
    objects = build_drivers("" if name == "plain" else name) / "CMakeFiles"
    out.mkdir(parents=True, exist_ok=True)
    run(["g++", "-O2", "-c", str(EMULATOR / "mutants.cpp"), "-o", str(out / "mutants.o")])
    headers = b"".join(path.read_bytes() for path in sorted((OUT / "csrc").glob("**/*.h")))
    linked, commands, stamps = [str(out / "mutants.o")], [], {}
    for source in sorted((OUT / "csrc").glob("**/*_cuda.cu")):
        if not files & {*HEADERS, str(source.relative_to(OUT / "csrc"))}:
            linked.append(str(next(objects.glob(f"emulated_kernels.dir/**/{source.name}.o"))))
            continue
        target = out / f"{source.stem}.o"
        linked.append(str(target))
        stamp, digest = target.with_suffix(".stamp"), hashlib.sha256(headers + source.read_bytes()).hexdigest()
        if not stamp.is_file() or stamp.read_text() != digest:
            stamps[stamp] = digest
            commands.append(["g++", *FLAGS, *flags, "-x", "c++", "-c", str(source), "-o", str(target)])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, commands))
    for stamp, digest in stamps.items():
        stamp.write_text(digest)
    linked += map(str, [*objects.glob("cuda_on_cpu.dir/**/*.o"), *objects.glob("sanitized_cpu_kernels.dir/**/*.o")])
    for driver in drivers_of(files):
        own = next(objects.glob(f"{driver}.dir/**/*.o"))
        run(["g++", *flags, str(own), *linked, "-lpthread", "-o", str(out / driver)])
    return out


def drivers_of(files: set[str]) -> list[str]:
    """The drivers of these .cu files; a header may be met in any."""
    if files & set(HEADERS):
        return driver_names()
    stems = {Path(file).stem.removesuffix("_cuda") for file in files}
    return sorted({DRIVER_OF.get(stem, f"test_{stem}") for stem in stems} & set(driver_names()))


def driver_names() -> list[str]:
    return [path.stem for path in sorted((ROOT / FOLDER).glob("test_*.cpp"))]


def environment(**variables: str) -> dict[str, str]:
    tsan = tsan_options(variables.get("CUDA_ON_CPU_RACES", ""), OUT / "suppressions.txt")
    return {"PATH": os.environ["PATH"], "TSAN_OPTIONS": tsan, "DRPM_FIRST_FAILURE": "1", **variables}


@dataclass(frozen=True)
class Driver:
    name: str
    seconds: float  # CPU, without a mutant
    reached: frozenset[int]  # numbers of the mutants it comes by


def coverage(files: set[str]) -> list[Driver]:
    """The drivers, the quickest first."""
    drivers = []
    for name in drivers_of(files):
        file = OUT / f"{name}.reached"
        before = os.times().children_user
        result = subprocess.run([OUT / "plain" / name], env=environment(DRPM_REACHED=str(file)), capture_output=True)
        if result.returncode != 0:
            sys.exit(f"mutate-cuda: {name} fails without a mutant\n{result.stdout.decode()[-2000:]}")
        seconds = os.times().children_user - before
        drivers.append(Driver(name, seconds, frozenset(map(int, file.read_text().split()))))
    return sorted(drivers, key=lambda driver: driver.seconds)


def noticed_by(mutant: Mutant, drivers: list[Driver], sanitizer: str) -> str:
    """The first check of the sanitizer's stages that fails on the mutant; empty where all pass."""
    for name, variables in STAGES:
        for driver in drivers if name == sanitizer else ():
            if mutant.number not in driver.reached:
                continue
            # CPU seconds, not wall time: a busy machine must not look like a mutant that never ends
            seconds = max(5, (60 if name == "thread" else 10) * driver.seconds)
            command = ["bash", "-c", f"ulimit -t {seconds:.0f}; exec '{OUT / name / driver.name}'"]
            env = environment(DRPM_MUTANT=str(mutant.number), **variables)
            try:
                result = subprocess.run(command, env=env, capture_output=True, timeout=60 * seconds)
            except subprocess.TimeoutExpired:
                return f"{driver.name}: asleep"
            if result.returncode != 0:
                endless = result.returncode in (-9, -24, 137, 152)
                return " ".join([f"{driver.name}:", "endless" if endless else name, *variables.values()])
    return ""


Tried = tuple[Mutant, dict[str, str]]


class Record:
    """What is known of each mutant, on disk: {"noticed": by what, or "", "passed": sanitizers, "where", ...}."""

    def __init__(self) -> None:
        self.reasons: dict[str, dict[str, str]] = json.loads((ROOT / FOLDER / "survivors.json").read_text())
        self.file = RESULTS
        self.lock = Lock()
        self.results: dict[str, dict[str, str]] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def of(self, mutant: Mutant) -> dict[str, str]:
        empty = {"rule": mutant.rule, "source": mutant.source, "noticed": "", "passed": ""}
        return self.results.setdefault(mutant.key(), empty)

    def reason(self, mutant: Mutant) -> dict[str, str]:
        """{"kind": "same", "choice" or "open", "why": ...}, or empty."""
        return self.reasons.get(mutant.place(), {})

    def breaks_nothing(self, mutant: Mutant) -> bool:
        return self.reason(mutant).get("kind") in ("same", "choice")

    def decided(self, mutant: Mutant) -> bool:
        result = self.results.get(mutant.key())
        if result is None:
            return False
        needed = ["plain", "address"] if self.breaks_nothing(mutant) else list(SANITIZERS)
        return bool(result["noticed"]) or set(needed) <= set(result["passed"].split())

    def forget(self, mutant: Mutant) -> None:
        """What has survived is tried again, but for what has a reason to."""
        result = self.results.get(mutant.key())
        if result is not None and not result["noticed"] and not (self.breaks_nothing(mutant) and self.decided(mutant)):
            del self.results[mutant.key()]

    def save(self) -> None:
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.results, indent=1) + "\n")
        temporary.replace(self.file)


def try_mutant(mutant: Mutant, drivers: list[Driver], sanitizer: str, record: Record, late: Callable[[], bool]) -> None:
    """The stages of one sanitizer."""
    if late():
        return
    noticed = noticed_by(mutant, drivers, sanitizer)
    with record.lock:
        result = record.of(mutant)
        result["noticed"] = noticed
        result["reached"] = " ".join(driver.name for driver in drivers if mutant.number in driver.reached)
        if not noticed:
            result["passed"] = " ".join([*result["passed"].split(), sanitizer])
        record.save()
        if record.decided(mutant):
            outcome = "noticed " if noticed else "SURVIVED" if result["reached"] else "UNREACHED"
            print(f"{outcome} {mutant.where()}: {mutant.rule}  {noticed}", flush=True)


def try_mutants(mutants: list[Mutant], record: Record, late: Callable[[], bool]) -> None:
    """All mutants against the plain drivers, then what is left against each sanitizer."""
    files = {mutant.file for mutant in mutants}
    build_mutants("plain", files)
    drivers = coverage(files)
    for sanitizer in SANITIZERS:
        left = [m for m in mutants if not record.decided(m) and sanitizer not in record.of(m)["passed"].split()]
        if not left or late():
            continue
        if sanitizer != "plain":
            build_mutants(sanitizer, files)
        attempt = partial(try_mutant, drivers=drivers, sanitizer=sanitizer, record=record, late=late)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(attempt, left))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="names of .cu files and headers; default: all")
    parser.add_argument("--limit", type=int, default=0, help="mutants to try at most, in a fixed random order")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no mutant later than this")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--report", action="store_true", help="print the results so far as Markdown and stop")
    parser.add_argument("--again", action="store_true", help="try the survivors again: the drivers have changed")
    arguments = parser.parse_args()
    mutants = all_mutants()
    chosen = [m for m in mutants if not arguments.files or Path(m.file).name in arguments.files]
    chosen = sorted(chosen, key=Mutant.key)[: arguments.limit or None]
    OUT.mkdir(parents=True, exist_ok=True)
    record = Record()
    for place in sorted(record.reasons.keys() - {mutant.place() for mutant in mutants}):
        print(f"survivors.json: there is no such mutant any more: {place}", file=sys.stderr)
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.where()}: {mutant.rule}: {mutant.source}")
        print(f"{len(chosen)} mutants")
        return
    if arguments.report:
        print_report(mutants, record)
        return
    if arguments.again:
        for mutant in chosen:
            record.forget(mutant)
    started = time.monotonic()
    write_tree(chosen)
    (OUT / "suppressions.txt").write_text(SUPPRESSIONS)
    try_mutants(chosen, record, lambda: time.monotonic() - started > arguments.seconds)
    known, survivors = split(chosen, record)
    unexplained = [(mutant, result) for mutant, result in survivors if not record.breaks_nothing(mutant)]
    noticed = len(known) - len(survivors)
    share = 100 * noticed / max(noticed + len(unexplained), 1)
    print(f"{len(known)} of {len(chosen)} mutants tried, {noticed} noticed, {len(survivors)} not", end="")
    print(f", {len(unexplained)} of them breaking something: {share:.1f} % of what breaks something is noticed")
    for mutant, result in unexplained:
        reach = "" if result["reached"] else " (no driver comes by)"
        print(f"  {mutant.where()}: {mutant.rule}: {mutant.source}{reach}")
    sys.exit(share < 95)


def split(mutants: list[Mutant], record: Record) -> tuple[list[Tried], list[Tried]]:
    """The mutants that were tried, and those of them that nothing has noticed so far."""
    known = [(mutant, record.of(mutant)) for mutant in mutants if mutant.key() in record.results]
    known = [(mutant, result) for mutant, result in known if result["noticed"] or result["passed"]]
    return known, [(mutant, result) for mutant, result in known if not result["noticed"]]


def print_counts(title: str, groups: dict[str, list[bool]]) -> None:
    print(f"| {title} | mutants | noticed | share |\n|---|---|---|---|")
    for name, noticed in sorted(groups.items()):
        print(f"| {name} | {len(noticed)} | {sum(noticed)} | {100 * sum(noticed) / len(noticed):.1f} % |")
    print()


HEAD = """# CUDA kernels: which faults the tests notice

Written by `make -s mutate-cuda ARGS=--report > docs/cuda_mutants.md` (commit {commit}) from what `make mutate-cuda` has
found. A mutant drops one barrier, moves one bound (either way) or one index by one, or lets every thread do what one
does. The C++ drivers of `make test-cuda` run with it on the CPU (docs/cuda.md), in three thread orders and under three
sanitizer settings, until a check fails.

**{noticed} of {known} mutants are noticed, {share}** ({all} exist). Of the {left} others, {same} cannot show in any
run, and {choice} are another right way to the same result: other rounding, other nodes, other work; judged one by one,
the reasons are below; these met the thread orders and AddressSanitizer. **Of the {broken} that break something
{of_broken} are noticed.**
"""


def print_report(mutants: list[Mutant], record: Record) -> None:
    """docs/cuda_mutants.md"""
    known, survivors = split(mutants, record)
    noticed = len(known) - len(survivors)
    kinds = [record.reason(mutant).get("kind", "") for mutant, _ in survivors]
    broken = noticed + sum(not record.breaks_nothing(mutant) for mutant, _ in survivors)
    counts = {"same": kinds.count("same"), "choice": kinds.count("choice"), "left": len(survivors), "broken": broken}
    share, of_broken = (f"{100 * noticed / max(total, 1):.1f} %" for total in (len(known), broken))
    shares = {"share": share, "of_broken": of_broken, "commit": commit()}
    print(HEAD.format(noticed=noticed, known=len(known), all=len(mutants), **shares, **counts))
    by_file: dict[str, list[bool]] = {}
    by_rule: dict[str, list[bool]] = {}
    stages: dict[str, int] = {}
    for mutant, result in known:
        by_file.setdefault(mutant.file, []).append(bool(result["noticed"]))
        by_rule.setdefault(mutant.rule, []).append(bool(result["noticed"]))
        stage = result["noticed"].partition(": ")[2] or "nothing"
        stages[stage] = stages.get(stage, 0) + 1
    print_counts("rule", by_rule)
    print_counts("file", by_file)
    print("| first noticed by | mutants |\n|---|---|")
    for stage, count in sorted(stages.items(), key=lambda pair: -pair[1]):
        print(f"| {stage} | {count} |")
    print("\n## Survivors\n\n| place | what is broken | why it is not noticed |\n|---|---|---|")
    for mutant, result in sorted(survivors, key=lambda found: (found[0].file, found[0].line)):
        reason = record.reason(mutant)
        why = f"{reason['kind']}: {reason['why']}" if reason else ""
        if not reason and not record.decided(mutant):
            why = "open: not tried under " + ", ".join(s for s in SANITIZERS if s not in result["passed"].split())
        why = why or ("no driver comes by" if not result["reached"] else "open")
        code = mutant.source.replace("|", "\\|")
        print(f"| {mutant.where()} | {mutant.rule}: `{code}` | {why} |")


if __name__ == "__main__":
    main()
