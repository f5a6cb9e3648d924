"""`make cuda-report`: what can be known of the CUDA kernels without a device, as a Markdown page on standard output.

    registers, spills, shared memory   ptxas -v, per architecture (compiled.py)
    occupancy                          <cuda_occupancy.h>, NVIDIA's calculator, for one device of each architecture
    instruction mix                    nvdisasm (on the PATH, of the package nvidia-cuda-nvdisasm, or --nvdisasm)
    sectors per access, bank conflicts the emulator's access report (csrc/tests/cuda_on_cpu/access_report.cpp)
    roofline                           bytes and operations of roofline.py over published peaks

No number here is a measured GPU time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from check import FOLDER, ROOT, build_drivers, commit
from compiled import Compiled, demangled
from mutants import HEADERS
from roofline import print_roofline

# Multiprocessors, shared memory of one and of a block (opt-in), registers and threads of one: published tables.
DEVICES = {
    75: ("T4", 7, 5, 40, 65536, 65536, 1024),
    80: ("A100", 8, 0, 108, 167936, 166912, 2048),
    86: ("RTX 3090", 8, 6, 82, 102400, 101376, 1536),
    89: ("RTX 4090", 8, 9, 128, 102400, 101376, 1536),
    90: ("H100", 9, 0, 132, 233472, 232448, 2048),
    100: ("B200", 10, 0, 148, 233472, 232448, 2048),
    120: ("RTX 5090", 12, 0, 170, 102400, 101376, 1536),
}
MIX_ARCHITECTURE = 90
OCCUPANCY = """
#include <cuda_occupancy.h>
#include <cstdio>
#include <cstdlib>
int main(int, char** v) {  // major minor sms shared_sm shared_block threads_sm registers shared block
  const auto a = [v](int i) { return std::atoi(v[i]); };
  cudaOccDeviceProp p{};
  p.computeMajor = a(1); p.computeMinor = a(2); p.numSms = a(3); p.sharedMemPerMultiprocessor = a(4);
  p.sharedMemPerBlockOptin = a(5); p.maxThreadsPerMultiprocessor = a(6); p.maxThreadsPerBlock = 1024;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536; p.warpSize = 32; p.sharedMemPerBlock = 49152;
  p.reservedSharedMemPerBlock = a(1) >= 8 ? 1024 : 0;
  cudaOccFuncAttributes f{};
  f.maxThreadsPerBlock = 1024; f.numRegs = a(7); f.sharedSizeBytes = a(8);
  f.partitionedGCConfig = PARTITIONED_GC_OFF; f.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
  f.maxDynamicSharedSizeBytes = 227 * 1024;
  cudaOccDeviceState s{};
  s.cacheConfig = CACHE_PREFER_NONE; s.carveoutConfig = SHAREDMEM_CARVEOUT_DEFAULT;
  cudaOccResult r;
  if (cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &f, &s, a(9), 0)) return 1;
  std::printf("%d", 100 * r.activeBlocksPerMultiprocessor * a(9) / a(6));
}
"""


@dataclass
class Kernel:
    registers: dict[int, int] = field(default_factory=dict)
    spills: dict[int, int] = field(default_factory=dict)
    shared: int = 0
    threads: int = 0
    mix: Counter[str] = field(default_factory=Counter)


# Instructions of the SASS by what executes them.
UNITS = (
    ("FP64", r"D(ADD|MUL|FMA|SETP|MNMX)"),
    ("FP32", r"F(ADD|MUL|FMA|SETP|MNMX|SEL|CHK)|FSWZADD"),
    ("special", r"MUFU|[FID]2[FID]|FRND"),
    ("global", r"LDG|STG|LD\b|ST\b|ATOM|RED"),
    ("shared", r"LDS|STS"),
    ("constant", r"LDC|ULDC|LDCU"),
    ("local", r"LDL|STL"),
    ("shuffle", r"SHFL|VOTE|REDUX"),
    ("barrier", r"BAR|WARPSYNC|BSYNC|BSSY|NANOSLEEP|YIELD"),
    ("control", r"BRA|BRX|CALL|RET|EXIT|JMP|BREAK|PLOP3|RPCMOV"),
    ("integer", r"I[A-Z]|U[A-Z]|LOP|LEA|SHF|SEL|MOV|POPC|FLO|PRMT|S2R|CS2R|S2UR|R2UR|P2R|R2P|BMSK|SGXT|VI|VOTEU|B2R"),
)


def toolkit_include(nvcc: str) -> Path:
    """The toolkit's headers; nvcc may be a wrapper script, so it is asked where it lives."""
    answer = subprocess.run(
        [nvcc, "--dryrun", "-x", "cu", os.devnull, "-c", "-o", os.devnull], capture_output=True, text=True
    )
    match = re.search(r"#\$ TOP=(\S+)", answer.stderr)
    return Path(match.group(1) if match else "/usr/local/cuda", "include")


def short_name(signature: str) -> str:
    match = re.search(r"(\w+)<(.*)>\(", signature)
    if match is None:
        return re.sub(r".*?(\w+)\(.*", r"\1", signature)
    types = re.findall(r"\b(\w+Terms<(?:float|double)>|float|double|true|false)", match.group(2).replace("::", " "))
    return f"{match.group(1)}<{', '.join(types)}>"


def find_nvdisasm(given: str | None) -> str | None:
    """The program given, on the PATH, or the one that the package nvidia-cuda-nvdisasm installs."""
    if given or shutil.which("nvdisasm"):
        return given or shutil.which("nvdisasm")
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec is not None and spec.submodule_search_locations else []
    return next((str(path) for folder in folders for path in Path(folder).glob("*/bin/nvdisasm")), None)


def launch_bounds(source: Path) -> dict[str, int]:
    """Threads of the largest block of each kernel, from its __launch_bounds__."""
    text = source.read_text()
    constants = {"kMaxThreads": 256, **{k: int(v) for k, v in re.findall(r"constexpr \w+ (\w+) = (\d+);", text)}}
    for header in re.findall(r'#include "(\w+/\w+\.h)"', text):
        lines = (ROOT / "csrc" / header).read_text()
        constants.update({k: int(v) for k, v in re.findall(r"constexpr \w+ (k\w*Threads) = (\d+);", lines)})
    found = re.findall(r"__launch_bounds__\((\w+)[^)]*\)\s+(\w+)\(", text)
    if "DRPM_CONTOUR_KERNEL" in text:
        found += [("kContourThreads", name) for name in re.findall(r"DRPM_CONTOUR_KERNEL\(\w+, (\w+),", text)]
    return {kernel: constants.get(bound, 256) for bound, kernel in found}


def instruction_mix(nvdisasm: str, cubin: Path) -> dict[str, Counter[str]]:
    """Instructions by unit, of every kernel of a cubin, by mangled name."""
    listing = subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout
    mixes: dict[str, Counter[str]] = {}
    mix: Counter[str] = Counter()
    for line in listing.splitlines():
        if function := re.match(r"\.text\.(\w+):", line):
            mix = mixes.setdefault(function.group(1), Counter())
        if not (instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_]*)", line)):
            continue
        opcode = instruction.group(1)
        if opcode != "NOP":
            mix[next((unit for unit, names in UNITS if re.match(names, opcode)), "other")] += 1
    return mixes


def collect(architectures: str, nvdisasm: str | None) -> dict[str, Kernel]:
    compiled = Compiled(architectures)
    result = compiled.build(jobs=2)
    if result.returncode != 0:
        sys.exit(f"cuda-report: nvcc failed\n{result.stdout[-4000:]}")
    kernels: dict[str, Kernel] = {}
    sources: dict[str, tuple[dict[str, int], dict[str, Counter[str]]]] = {}
    for entry in compiled.entries():
        if entry.source not in sources:
            cubin = compiled.cubin(entry.source, MIX_ARCHITECTURE)
            mixes = instruction_mix(nvdisasm, cubin) if nvdisasm else {}
            sources[entry.source] = launch_bounds(ROOT / "csrc" / entry.source), mixes
        bounds, mixes = sources[entry.source]
        name = short_name(demangled(entry.name))
        kernel = kernels.setdefault(f"{Path(entry.source).stem.removesuffix('_cuda')}: {name}", Kernel())
        kernel.registers[entry.arch] = entry.registers
        kernel.spills[entry.arch] = entry.spilled
        kernel.shared = entry.shared
        kernel.threads = bounds.get(name.split("<")[0], 256)
        if entry.arch == MIX_ARCHITECTURE:
            kernel.mix = mixes.get(entry.name, kernel.mix)
    return kernels


def occupancy(program: Path, arch: int, kernel: Kernel) -> str:
    _, major, minor, sms, shared_sm, shared_block, threads = DEVICES[arch]
    numbers = (
        major,
        minor,
        sms,
        shared_sm,
        shared_block,
        threads,
        kernel.registers[arch],
        kernel.shared,
        kernel.threads,
    )
    return subprocess.run([program, *map(str, numbers)], capture_output=True, text=True, check=True).stdout


def print_resources(kernels: dict[str, Kernel], architectures: list[int], program: Path) -> None:
    print("## Registers, shared memory, occupancy\n")
    print("Registers a thread, and the share of a multiprocessor's threads that run at once, at the largest block that")
    print(
        "the launcher takes. Shared memory given at launch (partition_mode's intervals: 32 bytes a node) is left out.\n"
    )
    print("| kernel | threads | shared, bytes |", " | ".join(f"sm_{arch}" for arch in architectures), "|")
    print("|---|---|---|" + "---|" * len(architectures))
    for name, kernel in sorted(kernels.items()):
        cells = [f"{kernel.registers[arch]}, {occupancy(program, arch, kernel)} %" for arch in architectures]
        print(f"| {name} | {kernel.threads} | {kernel.shared} |", " | ".join(cells), "|")
    spilled = {name: kernel.spills for name, kernel in kernels.items() if any(kernel.spills.values())}
    print(f"\nSpills: {spilled or 'none, in any kernel on any of these architectures'}.\n")


def print_mix(kernels: dict[str, Kernel]) -> None:
    units = [unit for unit, _ in UNITS] + ["other"]
    print(f"## Instructions (sm_{MIX_ARCHITECTURE})\n")
    print("Of the SASS as it stands, each instruction once: loops are not weighted by how often they run.")
    print("Local memory holds arrays, and arguments of functions that are called.\n")
    print("| kernel | all |", " | ".join(units), "|")
    print("|---|---|" + "---|" * len(units))
    for name, kernel in sorted(kernels.items()):
        print(f"| {name} | {kernel.mix.total()} |", " | ".join(str(kernel.mix[unit] or "") for unit in units), "|")
    print()


# Where the lines of the report lie: kernels, and the headers of row functions that they call.
KERNEL_FILES = {path.name: path for path in (*ROOT.glob("csrc/**/*_cuda.cu"), *(ROOT / "csrc" / h for h in HEADERS))}


def source_frames(program: Path, addresses: list[str]) -> list[list[str]]:
    """For each address the lines it comes from, innermost inlined call first, as "file:line"."""
    command = ["addr2line", "-i", "-a", "-e", str(program), *addresses]
    frames: list[list[str]] = []
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        if line.startswith("0x"):
            frames.append([])
        else:
            frames[-1].append(re.sub(r" \(.*", "", line).rsplit("/", 1)[-1])
    return frames


ACCESSES = """## Memory accesses per source line

From the C++ drivers' small cases. Sectors moved over the fewest that the same bytes need (global), ways of bank
conflicts (shared; 1: none); lines of at least 100 requests. Short rows leave sectors partly used, and what is gathered
or scattered in the order of the scores (`order[...]`, `element`, `grouped`, `seen`) touches a sector for each element.
Where noise is drawn (`c.at(x)`, `here[-x]`), a lane takes the two or four neighbours that one Philox block serves.
"""


def print_accesses() -> None:
    folder = build_drivers("trace")
    print(ACCESSES)
    print("| line | code | memory | requests | sectors / least | ways |\n|---|---|---|---|---|---|")
    lines: dict[tuple[str, int, str], list[float]] = {}
    for source in sorted((ROOT / FOLDER).glob("test_*.cpp")):
        program = folder / source.stem
        output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in output.splitlines() if line.startswith("access ")]
        addresses = [hex(int(row[1], 16) + 0x400000) for row in rows]
        for frames, (_, _, space, kind, requests, _, sectors, ways) in zip(
            source_frames(program, addresses), rows, strict=True
        ):
            line = next((frame for frame in frames if frame.split(":")[0] in KERNEL_FILES), None)
            if line is None:
                continue
            name, _, number = line.partition(":")
            total = lines.setdefault((name, int(number), f"{space} {kind}"), [0, 0, 0])
            for i, value in enumerate((1, float(sectors), float(ways))):
                total[i] += value * int(requests)
    sources = {name: path.read_text().splitlines() for name, path in KERNEL_FILES.items()}
    for (name, number, memory), (requests, sectors, ways) in sorted(lines.items()):
        if requests >= 100:
            shown = (f"{sectors / requests:.2f}", "") if "global" in memory else ("", f"{ways / requests:.2f}")
            code = sources[name][number - 1].strip().partition("  //")[0].replace("|", "\\|")
            print(f"| {name}:{number} | `{code}` | {memory} | {requests:.0f} | {shown[0]} | {shown[1]} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archs", default="all", help="80,90 or all")
    parser.add_argument("--no-accesses", action="store_true", help="leave out the emulator's part")
    parser.add_argument("--nvdisasm", help="the program; default: on the PATH, or of nvidia-cuda-nvdisasm")
    arguments = parser.parse_args()
    nvcc = shutil.which("nvcc") or sys.exit("cuda-report: nvcc is not installed")
    version = re.search(r"release ([\d.]+)", subprocess.check_output([nvcc, "--version"], text=True))
    print("# CUDA kernels: what is known without a device\n")
    given = f" ARGS='{' '.join(sys.argv[1:])}'" if sys.argv[1:] else ""
    release = version.group(1) if version else "?"
    versions = f"nvcc {release}, commit {commit()}"
    print(f"Written by `make -s cuda-report{given} > docs/cuda_report.md` ({versions}).")
    print("**No number on this page is a measured GPU time**: registers and spills are the compiler's, occupancy is")
    print(
        "NVIDIA's calculator, accesses are counted while the kernels run thread by thread on the CPU, rooflines are\n"
        "arithmetic.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "occupancy.cpp"), Path(folder, "occupancy")
        source.write_text(OCCUPANCY)
        subprocess.check_call(["g++", "-w", f"-I{toolkit_include(nvcc)}", str(source), "-o", str(program)])
        nvdisasm = find_nvdisasm(arguments.nvdisasm)
        kernels = collect(arguments.archs, nvdisasm)
        architectures = (
            list(DEVICES) if arguments.archs == "all" else [int(arch) for arch in arguments.archs.split(",")]
        )
        print_resources(kernels, architectures, program)
        if nvdisasm:
            print_mix(kernels)
        else:
            print("No instruction mix: nvdisasm is not installed.\n")
        print_roofline()
    if not arguments.no_accesses:
        print_accesses()


if __name__ == "__main__":
    main()
