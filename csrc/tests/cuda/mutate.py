"""`make mutate-cuda`: does the emulator notice broken kernels? Resumable: results are kept in build/mutate-cuda.

Each mutant removes one __syncthreads()/__syncwarp(), or perturbs one comparison, bound or index of one .cu file or of
one of HEADERS. It is compiled for the CPU and run by the C++ driver of its kernels: thread orders up and random,
AddressSanitizer, ThreadSanitizer. A mutant that passes them all survives and is listed.

Mutants come in the order of their hashes, so that a run that stops early (`--limit`) has tried a fixed random sample.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
EMULATOR = ROOT / "csrc" / "tests" / "cuda_on_cpu"
DRIVERS = ROOT / "csrc" / "tests" / "cuda"
OUT = ROOT / "build" / "mutate-cuda"
# Sources whose kernels run in another driver than the one of their name.
DRIVER_OF = {"log_factorial": "test_hypergeometric"}
# Headers with barriers or lanes of their own, and the source that is compiled with the mutated header.
HEADERS = {
    "common/cuda_launch.h": "partition_marginals/partition_marginals_cuda.cu",
    "mvhg/mvhg_contour_rows.h": "mvhg/mvhg_contour_cuda.cu",
}
RULES = (
    ("drop barrier", re.compile(r"__sync(threads|warp)\(\);"), ";"),
    ("<= for <", re.compile(r"(?<=[\w\])]) < (?=[\w(])"), " <= "),
    ("< for <=", re.compile(r"(?<=[\w\])]) <= (?=[\w(])"), " < "),
    ("> for >=", re.compile(r"(?<=[\w\])]) >= (?=[\w(])"), " > "),
    ("off by one index", re.compile(r"\[(\w+)\](?= =|\)|;|,| [-+*])"), r"[\1 + 1]"),
    ("other lane", re.compile(r"threadIdx\.x == 0|lane == 0"), "threadIdx.x == 1"),
)
SANITIZERS = {
    "plain": ["-O1"],
    "address": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-O1", "-g", "-fsanitize=thread"],
}
FLAGS = ["-std=c++17", "-DDRPM_ISA=isa_cuda", f"-I{EMULATOR}", f"-I{ROOT / 'csrc'}", "-w"]


@dataclass(frozen=True)
class Mutant:
    source: Path  # what is compiled
    file: Path  # what is mutated: the source, or a header of it
    line: int
    rule: str
    text: str  # the mutated file

    def key(self) -> str:
        return hashlib.sha256(f"{self.file.name}\n{self.text}".encode()).hexdigest()[:16]


def mutants_of(source: Path, file: Path) -> list[Mutant]:
    text = file.read_text()
    found = []
    for rule, pattern, replacement in RULES:
        for match in pattern.finditer(text):
            start = text.rfind("\n", 0, match.start()) + 1
            line = text[start : text.find("\n", match.start())]
            if re.match(r"\s*(//|#|template|return launch|constexpr)", line):
                continue
            mutated = text[: match.start()] + match.expand(replacement) + text[match.end() :]
            found.append(Mutant(source, file, text.count("\n", 0, match.start()) + 1, rule, mutated))
    return found


def driver_of(source: Path) -> str:
    stem = source.stem.removesuffix("_cuda")
    return DRIVER_OF.get(stem, f"test_{stem}")


def objects_without(build: Path, source: Path) -> list[str]:
    """The driver's object files from `make test-cuda`, but the one of `source`."""
    folder = build / "csrc" / "tests" / "cuda" / "CMakeFiles"
    objects = [*folder.glob("emulated_kernels.dir/**/*.o"), *folder.glob("cuda_on_cpu.dir/**/*.o")]
    objects += folder.glob("sanitized_cpu_kernels.dir/**/*.o")
    return [str(path) for path in objects if path.name != f"{source.name}.o"]


def noticed_by(mutant: Mutant) -> str:
    """The first check that fails on the mutant; empty where all pass."""
    driver = driver_of(mutant.source)
    work = OUT / "work"
    shutil.rmtree(work, ignore_errors=True)
    mutated = work / mutant.file.relative_to(ROOT / "csrc")
    mutated.parent.mkdir(parents=True)
    mutated.write_text(mutant.text)
    compiled_file = mutated if mutant.file == mutant.source else mutant.source
    for name, flags in SANITIZERS.items():
        build = ROOT / "build" / f"cuda-{name}"
        driver_object = next(build.glob(f"csrc/tests/cuda/CMakeFiles/{driver}.dir/*.o"))
        program = work / "program"
        command = [
            "g++",
            f"-I{work}",
            *FLAGS,
            *flags,
            "-x",
            "c++",
            str(compiled_file),
            "-x",
            "none",
            str(driver_object),
        ]
        command += [*objects_without(build, mutant.source), "-lpthread", "-o", str(program)]
        compiled = subprocess.run(command, capture_output=True, text=True)
        if compiled.returncode != 0:
            return "compiler"
        runs = [{"CUDA_ON_CPU_ORDER": "up"}, {"CUDA_ON_CPU_ORDER": "random:1"}] if name == "plain" else [{}]
        for environment in runs:
            tsan = f"halt_on_error=1:suppressions={ROOT / 'build/cuda-thread/suppressions.txt'}"
            variables = {"PATH": "/usr/bin:/bin", "TSAN_OPTIONS": tsan, **environment}
            try:
                result = subprocess.run([str(program)], env=variables, capture_output=True, timeout=120)
            except subprocess.TimeoutExpired:
                return f"{name}, endless"
            if result.returncode != 0:
                return " ".join([name, *environment.values()])
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", help="names of .cu files and headers; default: all")
    parser.add_argument("--limit", type=int, default=0, help="new mutants to run at most")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    record = OUT / "results.json"
    results: dict[str, dict[str, object]] = json.loads(record.read_text()) if record.is_file() else {}
    sources = [path for path in sorted(ROOT.glob("csrc/*/*_cuda.cu")) if (DRIVERS / f"{driver_of(path)}.cpp").is_file()]
    pairs = [(path, path) for path in sources]
    pairs += [(ROOT / "csrc" / source, ROOT / "csrc" / header) for header, source in HEADERS.items()]
    names = arguments.sources or [file.name for _, file in pairs]
    mutants = [mutant for source, file in pairs if file.name in names for mutant in mutants_of(source, file)]
    new = 0
    for mutant in sorted(mutants, key=Mutant.key):
        if mutant.key() in results or (arguments.limit and new >= arguments.limit):
            continue
        new += 1
        where = f"{mutant.file.relative_to(ROOT)}:{mutant.line}"
        by = noticed_by(mutant)
        results[mutant.key()] = {"where": where, "rule": mutant.rule, "noticed": by}
        record.write_text(json.dumps(results, indent=1))
        print(f"{'noticed ' if by else 'SURVIVED'} {where}: {mutant.rule}  {by}", flush=True)
    known = [results[m.key()] for m in mutants if m.key() in results]
    survivors = [result for result in known if not result["noticed"]]
    share = 100 * (1 - len(survivors) / len(known)) if known else 0.0
    print(f"{len(known)} of {len(mutants)} mutants run, {len(survivors)} survived: {share:.1f} % noticed")
    for survivor in survivors:
        print(f"  {survivor['where']}: {survivor['rule']}")
    sys.exit(share < 95)


if __name__ == "__main__":
    main()
