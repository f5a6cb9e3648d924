"""The kernels as nvcc compiles them for all supported architectures, through CMake as the product is built.

The build lies in build/cuda-all: `make test-cuda` looks there for spilled registers, `make cuda-report` for the rest.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "_build"))
from programs import find_cmake, find_ninja  # noqa: E402

FOLDER = ROOT / "build" / "cuda-all"
LOG = FOLDER / "ptxas.log"  # of every build; the latest lines of a source count
INTERMEDIATE = FOLDER / "intermediate"
BUILT = re.compile(r"^\[\d+/\d+\] Building CUDA object \S*?csrc/(\S+\.cu)\.o$", re.M)
ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for 'sm_(\d+)\w?'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.S,
)


@dataclass(frozen=True)
class Entry:
    """A kernel on one architecture, by what ptxas says of it."""

    source: str  # below csrc
    name: str  # mangled
    arch: int
    registers: int
    spilled: int  # bytes of stores and loads
    shared: int  # bytes, static


def compile_all(jobs: int) -> subprocess.CompletedProcess[str]:
    """Configures and compiles, `jobs` sources at a time; what is up to date stays."""
    cmake = find_cmake() or sys.exit("cmake is not installed")
    INTERMEDIATE.mkdir(parents=True, exist_ok=True)
    flags = {
        "CMAKE_MAKE_PROGRAM": find_ninja() or sys.exit("ninja is not installed"),
        "DRPM_BUILD_EXTENSION": "OFF",
        "DRPM_CUDA": "1",
        "DRPM_CUDA_ARCHS": "all",
        "CMAKE_CUDA_FLAGS": f"-Xptxas=-v -keep -keep-dir={INTERMEDIATE}",  # the cubins are kept for nvdisasm
    }
    options = [f"-D{key}={value}" for key, value in flags.items()]
    for command in (
        [cmake, "-G", "Ninja", "-S", ROOT, "-B", FOLDER, *options],
        [cmake, "--build", FOLDER, "--target", "drpm_cuda", "--parallel", jobs],
    ):
        result = subprocess.run(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if result.returncode != 0:
            break
    with LOG.open("a") as log:
        log.write(result.stdout)
    return result


def entries() -> list[Entry]:
    """All kernels on all architectures, of the last compile_all()."""
    pieces = BUILT.split(LOG.read_text())[1:]
    latest = dict(zip(pieces[::2], pieces[1::2], strict=True))
    missing = {str(path.relative_to(ROOT / "csrc")) for path in ROOT.glob("csrc/*/*_cuda.cu")} - latest.keys()
    if missing:
        sys.exit(f"{LOG} says nothing of {', '.join(sorted(missing))}: remove {FOLDER} and try again")
    found = []
    for source, text in latest.items():
        if not (ROOT / "csrc" / source).is_file():
            continue
        for name, arch, stores, loads, registers, rest in ENTRY.findall(text):
            shared = re.search(r"(\d+) bytes smem", rest)
            spilled = int(stores) + int(loads)
            found.append(Entry(source, name, int(arch), int(registers), spilled, int(shared.group(1)) if shared else 0))
    return found


def cubin(source: str, arch: int) -> Path:
    stem = Path(source).stem
    return next(path for path in INTERMEDIATE.glob(f"{stem}.*_{arch}.cubin"))


def demangled(name: str) -> str:
    return subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Part of `make test-cuda`: everything compiles, and no kernel spills registers."""
    result = compile_all(jobs=1)
    if result.returncode != 0:
        print("\n".join(result.stdout.splitlines()[-40:]))
        sys.exit(1)
    found = entries()
    spilling = [entry for entry in found if entry.spilled]
    for entry in spilling:
        print(f"{demangled(entry.name)} spills {entry.spilled} bytes on sm_{entry.arch}")
    architectures = sorted({entry.arch for entry in found})
    print(f"{len(found)} kernels on {architectures}, {len(spilling)} of them spill registers")
    sys.exit(bool(spilling) or not found)


if __name__ == "__main__":
    main()
