"""The kernels as nvcc compiles them, through CMake as the product is built; `make test-cuda` compiles for all supported
architectures and looks for spilled registers, `make cuda-report` reads the rest.

    compiled.py [80,90]    default: all
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "_build"))
from programs import find_cmake, find_ninja  # noqa: E402

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


class Compiled:
    """A build of the kernels alone, in build/cuda-<architectures>; what is up to date stays."""

    def __init__(self, architectures: str = "all") -> None:
        self.architectures = architectures.replace(",", ";")
        self.folder = ROOT / "build" / f"cuda-{architectures.replace(',', '-')}"
        self.log = self.folder / "ptxas.log"  # of every build; the latest lines of a source count
        self.intermediate = self.folder / "intermediate"

    def build(self, jobs: int) -> subprocess.CompletedProcess[str]:
        """Compiles `jobs` sources at a time."""
        cmake = find_cmake() or sys.exit("cmake is not installed")
        self.intermediate.mkdir(parents=True, exist_ok=True)
        flags = {
            "CMAKE_MAKE_PROGRAM": find_ninja() or sys.exit("ninja is not installed"),
            "DRPM_BUILD_EXTENSION": "OFF",
            "DRPM_CUDA": "1",
            "DRPM_CUDA_ARCHS": self.architectures,
            # the cubins are kept for nvdisasm
            "CMAKE_CUDA_FLAGS": f"-Xptxas=-v -keep -keep-dir={self.intermediate}",
        }
        options = [f"-D{key}={value}" for key, value in flags.items()]
        for command in (
            [cmake, "-G", "Ninja", "-S", ROOT, "-B", self.folder, *options],
            [cmake, "--build", self.folder, "--target", "drpm_cuda", "--parallel", jobs],
        ):
            words = [str(word) for word in command]
            result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            with self.log.open("a") as log:
                log.write(result.stdout)
            if result.returncode != 0:
                break
        return result

    def entries(self) -> list[Entry]:
        """All kernels on all architectures, of the last build()."""
        pieces = BUILT.split(self.log.read_text())[1:]
        latest = dict(zip(pieces[::2], pieces[1::2], strict=True))
        sources = {str(path.relative_to(ROOT / "csrc")) for path in ROOT.glob("csrc/**/*_cuda.cu")}
        if missing := sources - latest.keys():
            sys.exit(f"{self.log} says nothing of {', '.join(sorted(missing))}: remove {self.folder} and try again")
        found = []
        for source in sorted(sources):
            for name, arch, stores, loads, registers, rest in ENTRY.findall(latest[source]):
                shared = re.search(r"(\d+) bytes smem", rest)
                static = int(shared.group(1)) if shared else 0
                found.append(Entry(source, name, int(arch), int(registers), int(stores) + int(loads), static))
        return found

    def cubin(self, source: str, arch: int) -> Path:
        return next(self.intermediate.glob(f"{Path(source).stem}.*_{arch}.cubin"))


def demangled(name: str) -> str:
    return subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Part of `make test-cuda`: everything compiles, and no kernel spills registers."""
    compiled = Compiled(*sys.argv[1:])
    result = compiled.build(jobs=1)
    if result.returncode != 0:
        print("\n".join(result.stdout.splitlines()[-40:]))
        sys.exit(1)
    found = compiled.entries()
    spilling = [entry for entry in found if entry.spilled]
    for entry in spilling:
        print(f"{demangled(entry.name)} spills {entry.spilled} bytes on sm_{entry.arch}")
    architectures = sorted({entry.arch for entry in found})
    print(f"{len(found)} kernels on {architectures}, {len(spilling)} of them spill registers")
    sys.exit(bool(spilling) or not found)


if __name__ == "__main__":
    main()
