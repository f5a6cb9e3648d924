"""`make mutate-cuda`: does the emulator notice broken kernels? Resumable: results are in build/mutate-cuda.

A mutant drops one barrier, moves one bound (either way) or one index by one, or lets every thread do what one thread
does, in a .cu file or in a header of row functions. All mutants are compiled into one set of drivers, each behind a
switch (an environment variable), so that a mutant costs the run of a driver and not a build. First every driver runs
unchanged and notes by which mutants it comes; then each mutant meets the drivers that come by it, the quickest first,
until one fails: thread orders up, random and down; those that are left AddressSanitizer, then ThreadSanitizer. Those
that pass survive. survivors.json says why: "same", no run can show a difference, or "choice", another right way, which
differs in rounding or in the work done (such mutants do not meet ThreadSanitizer); "open": a gap of the drivers.

Mutants come in the order of their hashes: a run that stops early (`--limit`, `--seconds`) has tried a random sample.
`--summary` writes results/cuda/mutants.json, of which `--report` prints docs/cuda_mutants.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
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
from check import FOLDER, ROOT, SUPPRESSIONS, build_drivers, tsan_options
from mutants import CSRC, HEADERS, Mutant, all_mutants
from mutants_page import print_page, write_summary

EMULATOR = CSRC / "tests" / "cuda_on_cpu"
OUT = ROOT / "build" / "mutate-cuda"
RESULTS = OUT / "mutants.json"  # of every mutant tried, as long as its file stays what it is
REASONS = Path(__file__).parent / "survivors.json"
# Kernels that run in another driver than the one of their file's name.
DRIVER_OF = {
    "log_factorial": "test_hypergeometric_log_weights",
    "exact": "test_mvhg_exact",
    "draw": "test_mvhg_exact",
    "entropy": "test_mvhg_exact",
    "contour": "test_mvhg_contour",
    "merged": "test_mvhg_merged",
}
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
        self.reasons: dict[str, dict[str, str]] = json.loads(REASONS.read_text())
        self.file = RESULTS
        self.lock = Lock()
        self.results: dict[str, dict[str, str]] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def of(self, mutant: Mutant) -> dict[str, str]:
        empty = {"rule": mutant.rule, "source": mutant.source, "noticed": "", "passed": ""}
        return self.results.setdefault(mutant.key(), empty)

    def reason(self, mutant: Mutant) -> dict[str, str]:
        """{"kind": "same", "choice" or "open", "why": ...}, or empty."""
        return self.reasons.get(mutant.place(), {})

    def explained(self, mutant: Mutant) -> dict[str, str]:
        """Why it survives, as far as anybody has said; empty where it has been noticed."""
        result = self.of(mutant)
        if result["noticed"] or self.reason(mutant):
            return {} if result["noticed"] else self.reason(mutant)
        missing = [name for name in SANITIZERS if name not in result["passed"].split()]
        if missing:
            return {"kind": "open", "why": f"not tried under {', '.join(missing)}"}
        return {"kind": "open", "why": "not looked at" if result["reached"] else "no driver comes by"}

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
    parser.add_argument("--summary", action="store_true", help="write results/cuda/mutants.json and stop")
    parser.add_argument("--report", action="store_true", help="print results/cuda/mutants.json as Markdown and stop")
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
    if arguments.summary:
        known, _ = split(mutants, record)
        write_summary(len(mutants), [(mutant, result, record.explained(mutant)) for mutant, result in known])
        return
    if arguments.report:
        print_page()
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


if __name__ == "__main__":
    main()
