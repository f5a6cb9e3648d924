"""`make mutate-cuda`: does the emulator notice broken kernels? Resumable: results are kept in build/mutate-cuda.

A mutant drops one barrier, moves one bound or one index by one, or lets another thread do what one thread does, in a
.cu file or in a header of row functions. All mutants are compiled into one set of drivers, each behind a switch (an
environment variable), so that a mutant costs the run of a driver and not a build. First every driver runs unchanged
and notes by which mutants it comes; then each mutant meets the drivers that come by it, the quickest first, until one
fails: thread orders up, random and down, AddressSanitizer, ThreadSanitizer inside blocks and across the grid. Those
that pass everything survive; SURVIVORS says why that may be.

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from check import FOLDER, ROOT, SUPPRESSIONS, build_drivers

CSRC = ROOT / "csrc"
EMULATOR = CSRC / "tests" / "cuda_on_cpu"
OUT = ROOT / "build" / "mutate-cuda"
# Code of the kernels that lies in headers. What they hold is in the namespace of the instruction set: the CPU kernels
# of the same program keep their own, unbroken copy.
HEADERS = (
    "common/cuda_launch.h",
    "mvhg/mvhg_contour_math.h",
    "mvhg/mvhg_contour_rows.h",
    "mvhg/mvhg_cumulant_math.h",
    "mvhg/mvhg_entropy_rows.h",
    "mvhg/mvhg_exact_rows.h",
    "mvhg/mvhg_merged_rows.h",
    "mvhg/outcomes_cuda.h",
    "mvhg/size_tables_cuda.h",
)
INDEX = r"(?:[\w.>-]+(?: [-+*/%] [\w.>-]+)*)"  # what stands in brackets, without brackets of its own
RULES = (
    ("drop barrier", re.compile(r"__syncthreads\(\);|__syncwarp\(\);|team\.sync\(\);|Warp\(\)\.sync\(\);")),
    ("bound < moved by one", re.compile(r"(?<=[\w\])]) < (?=[\w(])")),
    ("bound <= moved by one", re.compile(r"(?<=[\w\])]) <= (?=[\w(])")),
    ("bound > moved by one", re.compile(r"(?<=[\w\])]) > (?=[\w(])")),
    ("bound >= moved by one", re.compile(r"(?<=[\w\])]) >= (?=[\w(])")),
    ("index moved by one", re.compile(rf"(?<=[\w\])])\[({INDEX})\]")),
    ("another thread", re.compile(r"threadIdx\.x == 0|lane == 0|(?<=return )rank\(\) == 0")),
)
SIGN = {"<": "+", "<=": "-", ">": "-", ">=": "+"}  # one more iteration, or one less
SKIPPED_LINE = re.compile(r"\s*(//|#|template|constexpr|static_assert|using|__shared__|double \w+\[|T \w+\[)|.*\[\]\(")
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

    def where(self) -> str:
        return f"csrc/{self.file}:{self.line}"


def switched(rule: str, match: re.Match[str], number: int) -> str:
    """The code that is the original while cuda_on_cpu_mutant(number) is 0."""
    switch = f"cuda_on_cpu_mutant({number})"
    if rule == "drop barrier":
        return f"if (!{switch}) {match.group(0)}"
    if rule == "index moved by one":
        return f"[{match.group(1)} + {switch}]"
    if rule == "another thread":
        return match.group(0)[:-1] + switch
    sign = match.group(0).strip()
    return f" {sign} {'-' if SIGN[sign] == '-' else ''}{switch} + "


def mutants_of(file: str, first: int) -> list[Mutant]:
    text = (CSRC / file).read_text()
    found: list[Mutant] = []
    for rule, pattern in RULES:
        for match in pattern.finditer(text):
            begin = text.rfind("\n", 0, match.start()) + 1
            line = text[begin : text.find("\n", match.start())]
            comment = line.find("//")
            if SKIPPED_LINE.match(line) or 0 <= comment < match.start() - begin:
                continue
            number = first + len(found)
            place = (match.start(), match.end(), text.count("\n", 0, match.start()) + 1)
            found.append(Mutant(number, file, *place, rule, switched(rule, match, number), line.strip()))
    return found


def all_mutants() -> list[Mutant]:
    files = [str(path.relative_to(CSRC)) for path in sorted(CSRC.glob("*/*_cuda.cu"))]
    mutants: list[Mutant] = []
    for file in [*files, *HEADERS]:
        mutants += mutants_of(file, len(mutants))
    return mutants


def write_tree(mutants: list[Mutant]) -> None:
    """csrc with every mutant in it, behind its switch. Files that stay the same are not touched."""
    by_file: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_file.setdefault(mutant.file, []).append(mutant)
    for path in sorted(CSRC.glob("*/*")):
        file = str(path.relative_to(CSRC))
        if path.suffix not in (".h", ".cu") or file.startswith("tests/"):
            continue
        text = path.read_text()
        for mutant in sorted(by_file.get(file, []), key=lambda m: -m.start):
            text = text[: mutant.start] + mutant.code + text[mutant.end :]
        if file in by_file:
            text = 'extern "C" int cuda_on_cpu_mutant(int id);\n' + text
        target = OUT / "csrc" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.read_text() != text:
            target.write_text(text)


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"mutate-cuda: {' '.join(command)}\n{result.stderr[-4000:]}")


def build_mutants(mutants: list[Mutant]) -> list[str]:
    """The drivers with all mutants, for every sanitizer; returns their names. `make test-cuda`'s objects serve for the
    CPU kernels, the drivers and the emulator."""
    write_tree(mutants)
    stamp = hashlib.sha256(b"".join(p.read_bytes() for p in sorted((OUT / "csrc").glob("*/*")))).hexdigest()
    drivers = [path.stem for path in sorted((ROOT / FOLDER).glob("test_*.cpp"))]
    for name, flags in SANITIZERS.items():
        objects = build_drivers("" if name == "plain" else name) / "CMakeFiles"
        out = OUT / name
        out.mkdir(parents=True, exist_ok=True)
        run(["g++", "-O2", "-c", str(EMULATOR / "mutants.cpp"), "-o", str(out / "mutants.o")])
        sources = sorted((OUT / "csrc").glob("*/*_cuda.cu"))
        if not (out / "stamp").is_file() or (out / "stamp").read_text() != stamp:
            commands = [
                ["g++", *FLAGS, *flags, "-x", "c++", "-c", str(source), "-o", str(out / f"{source.stem}.o")]
                for source in sources
            ]
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(run, commands))
        linked = [str(out / "mutants.o"), *(str(out / f"{source.stem}.o") for source in sources)]
        linked += map(str, [*objects.glob("cuda_on_cpu.dir/**/*.o"), *objects.glob("sanitized_cpu_kernels.dir/**/*.o")])
        for driver in drivers:
            own = next(objects.glob(f"{driver}.dir/**/*.o"))
            run(["g++", *flags, str(own), *linked, "-lpthread", "-o", str(out / driver)])
        (out / "stamp").write_text(stamp)
    return drivers


def environment(**variables: str) -> dict[str, str]:
    suppressions = OUT / "suppressions.txt"
    suppressions.write_text(SUPPRESSIONS)
    tsan = f"halt_on_error=1:suppressions={suppressions}"
    return {"PATH": os.environ["PATH"], "TSAN_OPTIONS": tsan, "DRPM_FIRST_FAILURE": "1", **variables}


def coverage(drivers: list[str]) -> dict[str, tuple[float, set[int]]]:
    """Each driver's seconds and the mutants that it comes by."""
    reached: dict[str, tuple[float, set[int]]] = {}
    for driver in drivers:
        file = OUT / f"{driver}.reached"
        start = time.process_time() + os.times().children_user
        result = subprocess.run([OUT / "plain" / driver], env=environment(DRPM_REACHED=str(file)), capture_output=True)
        if result.returncode != 0:
            sys.exit(f"mutate-cuda: {driver} fails without a mutant\n{result.stdout.decode()[-2000:]}")
        seconds = time.process_time() + os.times().children_user - start
        reached[driver] = seconds, set(map(int, file.read_text().split()))
    return reached


def noticed_by(mutant: Mutant, drivers: list[str], limit: dict[str, float]) -> str:
    """The first check that fails on the mutant; empty where all pass."""
    for name, variables in STAGES:
        for driver in drivers:
            seconds = max(20, (60 if name == "thread" else 10) * limit[driver])
            # CPU seconds, not wall time: a busy machine must not look like a mutant that never ends
            command = ["bash", "-c", f"ulimit -t {seconds:.0f}; exec '{OUT / name / driver}'"]
            env = environment(DRPM_MUTANT=str(mutant.number), **variables)
            try:
                result = subprocess.run(command, env=env, capture_output=True, timeout=60 * seconds)
            except subprocess.TimeoutExpired:
                return f"{driver}: asleep"
            if result.returncode != 0:
                endless = result.returncode in (-9, -24, 137, 152)
                return " ".join([f"{driver}:", "endless" if endless else name, *variables.values()])
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="names of .cu files and headers; default: all")
    parser.add_argument("--limit", type=int, default=0, help="new mutants to run at most")
    parser.add_argument("--seconds", type=float, default=0, help="start no mutant later than this")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--report", action="store_true", help="print the results so far as Markdown and stop")
    parser.add_argument("--again", action="store_true", help="forget the survivors, to run them again")
    arguments = parser.parse_args()
    mutants = all_mutants()
    chosen = [m for m in mutants if not arguments.files or Path(m.file).name in arguments.files]
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.where()}: {mutant.rule}: {mutant.source}")
        print(f"{len(chosen)} mutants")
        return
    started = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    record = OUT / "results.json"
    results: dict[str, dict[str, str]] = json.loads(record.read_text()) if record.is_file() else {}
    if arguments.report:
        print_report(mutants, results)
        return
    if arguments.again:
        results = {key: result for key, result in results.items() if result["noticed"]}
    reached = coverage(build_mutants(mutants))
    limit = {driver: seconds for driver, (seconds, _) in reached.items()}
    new = 0
    for mutant in sorted(chosen, key=Mutant.key):
        late = arguments.seconds and time.monotonic() - started > arguments.seconds
        if mutant.key() in results or late or (arguments.limit and new >= arguments.limit):
            continue
        new += 1
        drivers = sorted((d for d, (_, ids) in reached.items() if mutant.number in ids), key=limit.__getitem__)
        by = noticed_by(mutant, drivers, limit) if drivers else ""
        what = {"where": mutant.where(), "rule": mutant.rule, "source": mutant.source}
        results[mutant.key()] = {**what, "noticed": by, "drivers": " ".join(drivers)}
        temporary = record.with_suffix(".tmp")
        temporary.write_text(json.dumps(results, indent=1))
        temporary.replace(record)
        outcome = "noticed " if by else "SURVIVED" if drivers else "UNREACHED"
        print(f"{outcome} {mutant.where()}: {mutant.rule}  {by}", flush=True)
    report(chosen, results)


def report(chosen: list[Mutant], results: dict[str, dict[str, str]]) -> None:
    known = [(m, results[m.key()]) for m in chosen if m.key() in results]
    survivors = [(mutant, result) for mutant, result in known if not result["noticed"]]
    share = 100 * (1 - len(survivors) / len(known)) if known else 0.0
    print(f"{len(known)} of {len(chosen)} mutants run, {len(survivors)} survived: {share:.1f} % noticed")
    for mutant, result in survivors:
        reach = "" if result["drivers"] else " (no driver comes by)"
        print(f"  {mutant.where()}: {mutant.rule}: {mutant.source}{reach}")
    sys.exit(share < 95)


def print_counts(title: str, groups: dict[str, list[bool]]) -> None:
    print(f"| {title} | mutants | noticed | share |\n|---|---|---|---|")
    for name, noticed in sorted(groups.items()):
        print(f"| {name} | {len(noticed)} | {sum(noticed)} | {100 * sum(noticed) / len(noticed):.1f} % |")
    print()


HEAD = """# CUDA kernels: which faults the tests notice

Written by `make -s mutate-cuda ARGS=--report > docs/cuda_mutants.md` from what `make mutate-cuda` has found. A mutant
drops one barrier, moves one bound or one index by one, or lets another thread do what one does. The C++ drivers of
`make test-cuda` run with it on the CPU (docs/cuda.md), in three thread orders and under three sanitizer settings, until
a check fails.

**{noticed} of {known} mutants are noticed: {share}** ({all} exist; those that were not run are a random remainder).
"""


def print_report(mutants: list[Mutant], results: dict[str, dict[str, str]]) -> None:
    """docs/cuda_mutants.md"""
    known = [(mutant, results[mutant.key()]) for mutant in mutants if mutant.key() in results]
    survivors = [(mutant, result) for mutant, result in known if not result["noticed"]]
    reasons: dict[str, str] = json.loads((ROOT / FOLDER / "survivors.json").read_text())
    noticed = len(known) - len(survivors)
    share = f"{100 * noticed / len(known):.1f} %" if known else "none"
    print(HEAD.format(noticed=noticed, known=len(known), share=share, all=len(mutants)))
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
    for mutant, result in survivors:
        reason = reasons.get(f"{mutant.file}: {mutant.rule}: {mutant.source}", "")
        reason = reason or ("no driver comes by" if not result["drivers"] else "")
        code = mutant.source.replace("|", "\\|")
        print(f"| {mutant.where()} | {mutant.rule}: `{code}` | {reason} |")


if __name__ == "__main__":
    main()
