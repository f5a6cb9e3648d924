"""`make test-cuda`: every CUDA kernel, run thread by thread on the CPU. Ends with `N passed, N failed`.

drivers    csrc/tests/cuda/test_*.cpp, CUDA kernel against CPU kernel: thread orders up, down and random;
           AddressSanitizer + UBSan; ThreadSanitizer inside blocks and across the grid
python     the tests of every op with the emulated kernels in place of the CPU ones, by default in one random order
nvcc       where there is one: all supported architectures compile, and no kernel spills registers
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "_build"))
from programs import find_cmake, find_ninja  # noqa: E402

ORDERS = ("up", "down", "random:1", "random:2", "random:3")
MISUSES = (
    "divergent_barrier",
    "left_before_barrier",
    "barrier_in_half",
    "not_in_mask",
    "missing_lane",
    "inactive_source",
)
FOLDER = Path("csrc", "tests", "cuda")
LOGS = ROOT / "build" / "test-cuda"  # what each check printed
# Across the grid: static shared variables are reused by every block of the emulated grid; the kernels name them so.
SUPPRESSIONS = "race:block_shared_\n"


def tsan_options(races: str, suppressions: Path) -> str:
    return "halt_on_error=1" + (f":suppressions={suppressions}" if races == "grid" else "")


def commit() -> str:
    """Of this checkout, for the pages: writing one changes the tree, so changes are not told."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    return git.stdout.strip() or "?"


def torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("test-cuda: torch is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def build(name: str, **definitions: object) -> Path:
    """Configure and compile build/cuda-<name>; returns the folder of the executables."""
    cmake = find_cmake() or sys.exit("test-cuda: cmake is not installed")
    folder = ROOT / "build" / f"cuda-{name}"
    options = {
        "CMAKE_MAKE_PROGRAM": find_ninja() or sys.exit("test-cuda: ninja is not installed"),
        "DRPM_BUILD_EXTENSION": "OFF",
        "DRPM_CUDA": "0",
        **definitions,
    }
    flags = [f"-D{key}={value}" for key, value in options.items()]
    subprocess.check_call([cmake, "-G", "Ninja", "-S", ROOT, "-B", folder, *flags], stdout=subprocess.DEVNULL)
    subprocess.check_call([cmake, "--build", folder], stdout=subprocess.DEVNULL)
    return folder / FOLDER


def build_drivers(sanitizer: str) -> Path:
    definitions: dict[str, object] = {"DRPM_BUILD_CUDA_TESTS": "ON", "DRPM_SANITIZE": sanitizer}
    if not sanitizer:
        definitions["DRPM_TORCH"] = torch_folder()
    return build(sanitizer or "plain", **definitions)


def children_seconds() -> float:
    return os.times().children_user + os.times().children_system


class Checks:
    """Runs commands, two at a time, in the order given; counts them and the CPU seconds of each part."""

    def __init__(self) -> None:
        self.passed = self.failed = 0
        self.pool = ThreadPoolExecutor(2)
        self.lock = Lock()
        self.cpu: Counter[str] = Counter()

    def finish(self) -> None:
        self.pool.shutdown(wait=True)

    def build(self, sanitizer: str) -> Path:
        before = children_seconds()  # nothing else runs yet
        try:
            return build_drivers(sanitizer)
        finally:
            self.cpu["building"] += children_seconds() - before

    def start(self, part: str, label: str, command: list[object], *, fails: bool = False, **environment: str) -> None:
        """Counts whether the command succeeds (`fails`: dies with a message of the emulator)."""
        future = self.pool.submit(self.run, part, label, command, fails=fails, **environment)
        future.add_done_callback(self.report_crash)

    def report_crash(self, future: Future[None]) -> None:
        if error := future.exception():
            with self.lock:
                self.failed += 1
            print(f"FAIL {error}", flush=True)

    def run(self, part: str, label: str, command: list[object], *, fails: bool = False, **environment: str) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        with (LOGS / (re.sub(r"\W+", "-", label) + ".log")).open("w+") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = code = os.waitstatus_to_exitcode(status)
            output.seek(0)
            text = output.read()
        good = code != 0 and "cuda_on_cpu:" in text if fails else code == 0
        seconds = usage.ru_utime + usage.ru_stime
        with self.lock:
            self.passed += good
            self.failed += not good
            self.cpu[part] += seconds
        print(f"{'ok  ' if good else 'FAIL'} {label}  ({seconds:.1f} s)", flush=True)
        if not good:
            print("\n".join(text.splitlines()[-40:]), flush=True)


def check_drivers(checks: Checks, plain: Path, address: Path, thread: Path) -> None:
    checks.start("drivers", "emulator: intrinsics mean what CUDA says", [plain / "selftest"])
    for misuse in MISUSES:
        checks.start("drivers", f"emulator stops at {misuse}", [plain / "selftest", misuse], fails=True)
    suppressions = ROOT / "build" / "cuda-thread" / "suppressions.txt"
    suppressions.write_text(SUPPRESSIONS)
    for source in sorted((ROOT / FOLDER).glob("test_*.cpp")):
        name = source.stem
        for order in ORDERS:
            checks.start("drivers", f"{name}, thread order {order}", [plain / name], CUDA_ON_CPU_ORDER=order)
        checks.start("sanitizers", f"{name}, AddressSanitizer and UBSan", [address / name])
        for races in ("block", "grid"):
            variables = {"CUDA_ON_CPU_RACES": races, "TSAN_OPTIONS": tsan_options(races, suppressions)}
            checks.start("sanitizers", f"{name}, ThreadSanitizer, {races}", [thread / name], **variables)


# On the emulator these cost minutes each: large samples, long rows in wide bands, which the CPU interpolates and the
# CUDA kernels do not, tables for counts of ten million, which take a device's threads together. And the number of CPU
# threads means nothing there.
NOT_EMULATED = (
    "goodness_of_fit",
    "interpolated_block",
    "large_counts_takes_little_memory",
    "means_and_variances_at_large_counts",
    "threads_do_not_change_results",
)


def check_python(checks: Checks, orders: tuple[str, ...]) -> None:
    selected = " and ".join(f"not {name}" for name in NOT_EMULATED)
    options = ["--device", "emulated", "-k", selected, "--durations=20"]
    for order in orders:  # one process: importing torch takes as long as the tests of many a file
        command: list[object] = [sys.executable, "-m", "pytest", ROOT / "python_tests" / "ops", *options]
        label = f"python_tests/ops on the emulated device, order {order}"
        checks.start("python", label, command, CUDA_ON_CPU_ORDER=order, OMP_NUM_THREADS="1")


def check_nvcc(checks: Checks) -> None:
    if shutil.which("nvcc") is None:
        print("skip nvcc: not installed")
        return
    script = Path(__file__).parent / "compiled.py"
    checks.start("nvcc", "all supported architectures compile, no kernel spills registers", [sys.executable, script])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="drivers, python, nvcc; default: all of them")
    parser.add_argument("--orders", default="random:1", help="thread orders of the python part")
    arguments = parser.parse_args()
    parts = arguments.parts or ["drivers", "python", "nvcc"]
    start = time.perf_counter()
    checks = Checks()
    sanitizers = ("", "address", "thread") if "drivers" in parts else ("",) if "python" in parts else ()
    folders = [checks.build(sanitizer) for sanitizer in sanitizers]
    # The two longest first, one for each worker; the drivers fill what is left.
    if "nvcc" in parts:
        check_nvcc(checks)
    if "python" in parts:
        check_python(checks, tuple(arguments.orders.split(",")))
    if "drivers" in parts:
        check_drivers(checks, *folders)
    checks.finish()
    spent = ", ".join(f"{part} {seconds:.0f}" for part, seconds in checks.cpu.items())
    print(
        f"{checks.passed} passed, {checks.failed} failed  ({time.perf_counter() - start:.0f} s; CPU seconds: {spent})"
    )
    sys.exit(checks.failed > 0)


if __name__ == "__main__":
    main()
