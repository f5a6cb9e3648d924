"""Whether two checkouts compute the same, bit for bit: every op, forward and backward, on the corpus beside this file.

    python tools/same_results.py d001410 .                 every instruction set, 1 and 2 threads; a CUDA device if any
    python tools/same_results.py d001410 . --emulated      the CUDA kernels on the emulator as well
    python tools/same_results.py d001410 . --quick         one instruction set, one thread
    python tools/same_results.py d001410 . --oracle        where they differ: the error of both against float64, for
                                                           float64 against long double as far as there is an oracle

OLD and NEW are folders, built in place, or git revisions, built once in build/same_results/<commit>. The exit status
is 1 where something differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "_build"), str(ROOT / "tools")]
from programs import find_cmake, find_ninja  # noqa: E402
from result_corpus import same_bits  # noqa: E402

CORPUS = ROOT / "tools" / "result_corpus.py"
Results = dict[str, dict[str, "Tensor | str"]]  # case: part: value


@dataclass(frozen=True)
class Config:
    device: str
    simd: str
    threads: str

    def __str__(self) -> str:
        return f"{self.device if self.device != 'cpu' else self.simd} {self.threads}"


@dataclass(frozen=True)
class Difference:
    config: Config
    case: str
    part: str
    old: Tensor | str | None
    new: Tensor | str | None

    def largest(self) -> float:
        """max |new - old| / max(1, |old|); infinite where shapes, dtypes, NaN or messages differ."""
        return relative(self.new, self.old)


def relative(got: Tensor | str | None, want: Tensor | str | None, low: Tensor | str | None = None) -> float:
    """`low`: what the reference `want` has beyond float64."""
    if not isinstance(got, Tensor) or not isinstance(want, Tensor) or got.shape != want.shape:
        return float("inf")
    a, b = got.double(), want.double()
    same = (a == b) | (a.isnan() & b.isnan())
    rest = low.double() if isinstance(low, Tensor) else torch.zeros_like(b)
    gap = torch.where(same, rest.abs(), (a - b - rest).abs()).nan_to_num(nan=torch.inf).max().item()
    return gap / max([1.0, *b[b.isfinite()].abs().flatten().tolist()])


def output_of(command: list[object], cwd: Path) -> str:
    result = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} in {cwd}:\n{(result.stdout + result.stderr)[-4000:]}")
    return result.stdout


def checkout(name: str) -> Path:
    """The folder of that name, or the revision in a folder of its own."""
    if Path(name).is_dir():
        return Path(name).resolve()
    commit = output_of(["git", "rev-parse", "--short=12", f"{name}^{{commit}}"], ROOT).strip()
    folder = ROOT / "build" / "same_results" / commit
    if not (folder / "setup.py").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            output_of(["git", "archive", "--output", archive.name, commit], ROOT)
            shutil.unpack_archive(archive.name, folder, "tar")
    return folder


def build(root: Path, emulated: bool) -> None:
    """What is up to date is left as it is."""
    output_of([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], root)
    if not emulated:
        return
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.submodule_search_locations
    folder = root / "build" / "cuda-plain"  # where the checkout's own drpm.testing looks for it
    definitions = {
        "CMAKE_MAKE_PROGRAM": find_ninja(),
        "DRPM_BUILD_EXTENSION": "OFF",
        "DRPM_CUDA": "0",
        "DRPM_BUILD_CUDA_TESTS": "ON",
        "DRPM_SANITIZE": "",
        "DRPM_TORCH": next(iter(spec.submodule_search_locations)),
    }
    cmake = find_cmake() or sys.exit("cmake is not installed")
    output_of([cmake, "-G", "Ninja", "-S", root, "-B", folder, *(f"-D{k}={v}" for k, v in definitions.items())], root)
    output_of([cmake, "--build", folder, "--target", "drpm_emulated"], root)


def child(root: Path, output: Path, *options: object, simd: str = "") -> None:
    """Runs the corpus in a process of its own, which imports the drpm of that checkout."""
    command = [sys.executable, CORPUS, output, "--root", root, *options]
    environment = {**os.environ, "PYTHONPATH": str(root), **({"DRPM_SIMD": simd} if simd else {})}
    environment.setdefault("CUDA_ON_CPU_ORDER", "random:1")
    words = [str(word) for word in command]
    result = subprocess.run(
        words, env=environment, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode != 0:
        sys.exit(f"{root} on {simd or options}:\n{result.stdout[-4000:]}")


def build_info(root: Path) -> dict[str, object]:
    program = "import json, drpm; print(json.dumps(drpm.build_info()))"
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("DRPM_SIMD", None)
    return json.loads(subprocess.run(command, env=environment, cwd=root, capture_output=True, check=True).stdout)


def runs(arguments: argparse.Namespace, roots: tuple[Path, Path]) -> list[tuple[str, str, str]]:
    """Device, instruction set and numbers of threads of every pair of processes."""
    infos = [build_info(root) for root in roots]
    levels = ["baseline", "avx2", "avx512"]
    best = levels.index(str(infos[0]["simd"]))
    compiled = [level for level in levels[: best + 1] if all(level in info["simd_compiled"] for info in infos)]
    cpu = [("cpu", level, "1,2") for level in reversed(compiled)]
    if arguments.quick:
        cpu = [("cpu", compiled[-1], "1")]
    emulated = [("emulated", "baseline", "1")] if arguments.emulated else []
    on_device = torch.cuda.is_available() and all(info["cuda_architectures"] for info in infos)
    return [*emulated, *cpu, *([("cuda", compiled[-1], "1")] if on_device else [])]


def compare(config: Config, old: Results, new: Results) -> list[Difference]:
    found = []
    for case in old.keys() | new.keys():
        parts, others = old.get(case, {}), new.get(case, {})
        for part in parts.keys() | others.keys():
            a, b = parts.get(part), others.get(part)
            if a is None or b is None or not same_bits(a, b):
                found.append(Difference(config, case, part, a, b))
    return found


def table(configs: list[Config], counts: Counter[tuple[str, Config]], found: list[Difference]) -> None:
    """op × config: the number of compared tensors where all are equal, else how many differ and by how much."""
    worst: dict[tuple[str, Config], list[Difference]] = defaultdict(list)
    for difference in found:
        worst[difference.case.split()[0], difference.config].append(difference)
    ops = sorted({op for op, _ in counts})
    rows = [["", *map(str, configs)]]
    for op in ops:
        row = [op]
        for config in configs:
            number, apart = counts[op, config], worst[op, config]
            say = f"{len(apart)} of {number} differ: {max(d.largest() for d in apart):.1e}" if apart else f"= {number}"
            row.append(say if number else "–")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def references(root: Path, cases: set[str], folder: Path) -> Results:
    """The differing cases in a wider dtype: float64 by NEW, long double by an oracle."""
    keys = folder / "keys.json"
    keys.write_text(json.dumps(sorted(cases)))
    child(root, folder / "reference.pt", "--reference", keys)
    results: Results = torch.load(folder / "reference.pt", weights_only=True)["1"]
    return results


def errors_of(d: Difference, wanted: Results) -> tuple[float, float] | None:
    """Before and after; None where there is no reference."""
    reference, part = wanted.get(d.case, {}), d.part.replace("output", "value")
    if part not in reference:
        return None
    want, low = reference[part], reference.get(f"{part} low")
    return relative(d.old, want, low), relative(d.new, want, low)


def tell(found: list[Difference], wanted: Results | None, limit: int) -> None:
    """The largest differences, each with the errors of both where there is a reference."""
    for d in sorted(found, key=Difference.largest, reverse=True)[:limit]:
        line = f"{d.config}  {d.case}  {d.part}: {d.largest():.2e}"
        if isinstance(d.old, str) or isinstance(d.new, str) or d.old is None or d.new is None:
            line += f"  {d.old!r:.200} | {d.new!r:.200}"
        elif wanted is not None:
            errors = errors_of(d, wanted)
            line += f"  error {errors[0]:.2e} before, {errors[1]:.2e} after" if errors else "  no reference"
        print(line)
    if len(found) > limit:
        print(f"… and {len(found) - limit} more (--details)")


def tell_errors(found: list[Difference], wanted: Results) -> None:
    """Per op, dtype and kind of part: the errors of what differs, mean and largest, before and after."""
    groups: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for d in found:
        pair = errors_of(d, wanted)
        if pair is not None and isinstance(d.new, Tensor):
            kind = d.part.split()[0].replace("output", "value")
            groups[d.case.split()[0], str(d.new.dtype).removeprefix("torch."), kind].append(pair)
    print(f"{'errors of what differs':52}{'results':>8}{'mean before, after':>22}{'largest before, after':>24}")
    for (op, dtype, kind), errors in sorted(groups.items()):
        old, new = [before for before, _ in errors], [after for _, after in errors]
        means, largest = [f"{sum(x) / len(x):.2e}" for x in (old, new)], [f"{max(x):.2e}" for x in (old, new)]
        print(f"{op:28}{dtype:12}{kind:12}{len(errors):8}{', '.join(means):>22}{', '.join(largest):>24}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--quick", action="store_true", help="one instruction set, one thread")
    parser.add_argument("--emulated", action="store_true", help="the CUDA kernels on the CPU as well")
    parser.add_argument("--oracle", action="store_true", help="errors of what differs")
    parser.add_argument("--ops", default="", help="only these, separated by commas")
    parser.add_argument("--details", type=int, default=20, help="how many differences are listed")
    arguments = parser.parse_args()
    roots = checkout(arguments.old), checkout(arguments.new)
    for root in dict.fromkeys(roots):
        build(root, arguments.emulated)
    configs: list[Config] = []
    counts: Counter[tuple[str, Config]] = Counter()
    found: list[Difference] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for device, simd, threads in runs(arguments, roots):
            outputs = [folder / "old.pt", folder / "new.pt"]
            options = ("--device", device, "--threads", threads, "--ops", arguments.ops)
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda pair: child(*pair, *options, simd=simd), zip(roots, outputs, strict=True)))  # noqa: B023
            old, new = (torch.load(output, weights_only=True) for output in outputs)
            for count in old:
                config = Config(device, simd, count)
                configs.append(config)
                found += compare(config, old[count], new[count])
                for case, parts in old[count].items():
                    counts[case.split()[0], config] += len(parts)
        table(configs, counts, found)
        differing = {d.case for d in found}
        wanted = references(roots[1], differing, folder) if arguments.oracle and found else None
        tell(found, wanted, arguments.details)
        if wanted is not None:
            tell_errors(found, wanted)
    total = counts.total()
    print(f"{arguments.old} and {arguments.new}: {len(found)} of {total} results differ")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
