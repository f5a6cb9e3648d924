"""`make cuda-report`: what can be known of the CUDA kernels without a device, as a Markdown page on standard output.

    registers, spills, shared memory   nvcc -Xptxas -v, per architecture
    occupancy                          <cuda_occupancy.h>, NVIDIA's calculator, for one device of each architecture
    sectors per access, bank conflicts the emulator's access report (csrc/tests/cuda_on_cpu/access_report.cpp)

No number here is a measured GPU time.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from check import FOLDER, ROOT, build_drivers

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
    types = re.findall(r"\b(float|double|true|false)\b", match.group(2))
    return f"{match.group(1)}<{', '.join(types)}>"


def compile_source(nvcc: str, source: Path, arch: int) -> str:
    command = [nvcc, "-std=c++17", "-O3", f"-I{ROOT / 'csrc'}", "-DDRPM_ISA=isa_cuda", "-diag-suppress=1675"]
    command += [f"-arch=sm_{arch}", "-Xptxas", "-v", "-cubin", "-o", os.devnull, str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def collect(nvcc: str, architectures: list[int]) -> dict[str, Kernel]:
    kernels: dict[str, Kernel] = {}
    jobs = [(source, arch) for source in sorted(ROOT.glob("csrc/*/*_cuda.cu")) for arch in architectures]
    with ThreadPoolExecutor(2) as pool:
        logs = list(pool.map(lambda job: compile_source(nvcc, *job), jobs))
    pattern = re.compile(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers([^\n]*)",
        re.S,
    )
    for (source, arch), log in zip(jobs, logs, strict=True):
        for mangled, stores, loads, registers, rest in pattern.findall(log):
            signature = subprocess.run(["c++filt", mangled], capture_output=True, text=True).stdout.strip()
            kernel = kernels.setdefault(f"{source.stem.removesuffix('_cuda')}: {short_name(signature)}", Kernel())
            kernel.registers[arch] = int(registers)
            kernel.spills[arch] = int(stores) + int(loads)
            shared = re.search(r"(\d+) bytes smem", rest)
            kernel.shared = int(shared.group(1)) if shared else 0
            kernel.threads = 128 if source.stem in ("band_cuda", "mvhg_merged_cuda") else 256
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
    print("the launcher takes (band and MVHG: 128 threads, else 256).\n")
    print("| kernel | shared, bytes |", " | ".join(f"sm_{arch}" for arch in architectures), "|")
    print("|---|---|" + "---|" * len(architectures))
    for name, kernel in sorted(kernels.items()):
        cells = [f"{kernel.registers[arch]}, {occupancy(program, arch, kernel)} %" for arch in architectures]
        print(f"| {name} | {kernel.shared} |", " | ".join(cells), "|")
    spilled = {name: kernel.spills for name, kernel in kernels.items() if any(kernel.spills.values())}
    print(f"\nSpills: {spilled or 'none, in any kernel on any of these architectures'}.\n")


def print_accesses() -> None:
    folder = build_drivers("trace")
    print("## Memory accesses per source line\n")
    print("From the C++ drivers' small cases: short rows leave sectors partly used. Sectors moved over the fewest that")
    print("the same bytes need (global), bank-conflict ways (shared); lines of at least 100 requests above 2.\n")
    print("| line | kind | requests | sectors / least | bank ways |\n|---|---|---|---|---|")
    for source in sorted((ROOT / FOLDER).glob("test_*.cpp")):
        program = folder / source.stem
        output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in output.splitlines() if line.startswith("access ")]
        addresses = [hex(int(row[1], 16) + 0x400000) for row in rows]
        command = ["addr2line", "-e", str(program), *addresses]
        places = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        for place, (_, _, space, kind, requests, _, sectors, ways) in zip(places, rows, strict=False):
            line = re.sub(r" \(.*", "", place).rsplit("/", 1)[-1]
            poor = float(sectors) > 2 if space == "global" else float(ways) > 2
            if ".cu:" in line and int(requests) >= 100 and poor:
                shown = (sectors, "") if space == "global" else ("", ways)
                print(f"| {line} | {space} {kind} | {requests} | {shown[0]} | {shown[1]} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archs", default=",".join(map(str, DEVICES)))
    parser.add_argument("--no-accesses", action="store_true", help="leave out the emulator's part")
    arguments = parser.parse_args()
    nvcc = shutil.which("nvcc") or sys.exit("cuda-report: nvcc is not installed")
    architectures = [int(arch) for arch in arguments.archs.split(",")]
    version = re.search(r"release ([\d.]+)", subprocess.check_output([nvcc, "--version"], text=True))
    print("# CUDA kernels: what is known without a device\n")
    print(f"Written by `make cuda-report` (nvcc {version.group(1) if version else '?'}). No number on this page is a")
    print("measured GPU time: registers and spills are the compiler's, occupancy is NVIDIA's calculator, accesses are")
    print("counted while the kernels run thread by thread on the CPU.\n")
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "occupancy.cpp"), Path(folder, "occupancy")
        source.write_text(OCCUPANCY)
        subprocess.check_call(["g++", "-w", f"-I{toolkit_include(nvcc)}", str(source), "-o", str(program)])
        print_resources(collect(nvcc, architectures), architectures, program)
    if not arguments.no_accesses:
        print_accesses()


if __name__ == "__main__":
    main()
