"""Two checkouts side by side: how much faster the calls of NEW are than those of OLD.

    python benchmarks/compare.py OLD NEW [--output results/benchmarks/compare.json]

Both are built in place (`python setup.py build_ext --inplace`). Every round starts a process of each, in turns, which
measures every case; the ratio of a round is that of two neighbours in time. Shown are the medians over the rounds and
the 95 % interval of the median ratio (order statistics). One thread, float32, `forward` without a graph; `forward +
backward` to all weights and scores. Beside a busy neighbour, a process that spins on the last core, the time of two
threads is compared with that of one thread without the neighbour.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BUSY = ((64, 10, 2), (8, 64, 10), (64, 256, 10))


class Case(NamedTuple):
    op: str
    shape: tuple[int, int, int]  # B, n, K
    forward: float | None = None  # how much faster it must be
    both: float | None = None

    @property
    def key(self) -> str:
        return f"{self.op} {self.shape}"


CASES = (
    Case("random_partition", (1, 16, 2), 3, 2.5),
    Case("random_partition", (64, 10, 2), 2, 2),
    Case("random_partition", (64, 50, 2), 2, 2),
    Case("random_partition", (64, 50, 10), 2, 2),
    Case("random_partition", (64, 256, 10), 2, 2),
    Case("random_partition", (1024, 256, 10), 2, 1.7),
    Case("random_partition", (1, 1_000_000, 10), 2.3, 1.6),
    Case("random_partition", (8, 64, 10)),
    Case("random_partition, relaxed", (64, 50, 2)),
    Case("random_partition, merged", (1, 16, 2), 3, 2.5),
    Case("mvhg_sample", (1024, 256, 10), 1.7, 2),
    Case("mvhg_sample", (1, 16, 2), 1.3, 1.2),
    Case("mvhg_sample, merged", (1, 16, 2), 1.3, 1.2),
    Case("mvhg_log_prob", (1, 16, 2), 1.3, 1.2),
    Case("mvhg_log_prob, merged", (1, 16, 2), 1.3, 1.2),
    Case("mvhg_mean", (1, 16, 2), 1.3, 1.2),
    Case("mvhg_kl", (1, 16, 2), 1.3, 1.2),
    Case("hypergeometric_log_weights", (1, 16, 2), 1.3, 1.2),
    Case("relaxed_sort_matmul", (1, 16, 2), 1.3, 1.2),
    Case("partition", (1, 16, 2)),
    Case("relaxed_sort", (1, 16, 2)),
    Case("plackett_luce_log_prob", (1, 16, 2)),
    Case("partition_log_prob", (1, 16, 2)),
    Case("partition", (1024, 256, 10)),
    Case("relaxed_sort", (64, 64, 2)),
)


# What a process of one checkout does; it knows of drpm no more than its public functions.


def prepared(case: Case) -> tuple[Callable[[], Any], list[Any]]:
    """The call, and what it is differentiated by."""
    import torch

    from drpm import ops

    rows, n, classes = case.shape
    torch.manual_seed(0)
    omega = (0.5 * torch.randn(rows, classes)).requires_grad_()
    other = (0.5 * torch.randn(rows, classes)).requires_grad_()
    scores = torch.randn(rows, n).requires_grad_()
    values = torch.randn(rows, n, 4).requires_grad_()
    sizes = torch.full((rows, classes), float(n // classes))
    sizes[:, 0] += n - sizes.sum(1)
    labels = torch.arange(n).remainder(classes).expand(rows, n).contiguous()
    order = torch.arange(n).expand(rows, n).contiguous()
    left, right = (x[:, 0].detach().clone().requires_grad_() for x in (omega, other))
    calls: dict[str, tuple[Callable[[], Any], list[Any]]] = {
        "random_partition": (lambda: ops.random_partition(omega, scores).assignment, [omega, scores]),
        "random_partition, relaxed": (
            lambda: ops.random_partition(omega, scores, hard=False).assignment,
            [omega, scores],
        ),
        "random_partition, merged": (
            lambda: ops.random_partition(omega, scores, conditionals="merged").assignment,
            [omega, scores],
        ),
        "mvhg_sample": (lambda: ops.mvhg_sample(omega, n, n), [omega]),
        "mvhg_sample, merged": (lambda: ops.mvhg_sample(omega, n, n, conditionals="merged"), [omega]),
        "mvhg_log_prob": (lambda: ops.mvhg_log_prob(sizes, omega, n, n), [omega]),
        "mvhg_log_prob, merged": (lambda: ops.mvhg_log_prob(sizes, omega, n, n, conditionals="merged"), [omega]),
        "mvhg_mean": (lambda: ops.mvhg_mean(omega, n, n), [omega]),
        "mvhg_kl": (lambda: ops.mvhg_kl(omega, other, n, n), [omega, other]),
        "hypergeometric_log_weights": (
            lambda: ops.hypergeometric_log_weights(left, right, n, n, n),
            [left, right],
        ),
        "partition": (lambda: ops.partition(scores, sizes), [scores]),
        "relaxed_sort": (lambda: ops.relaxed_sort(scores), [scores]),
        "relaxed_sort_matmul": (lambda: ops.relaxed_sort_matmul(scores, values), [scores, values]),
        "plackett_luce_log_prob": (lambda: ops.plackett_luce_log_prob(order, scores), [scores]),
        "partition_log_prob": (lambda: ops.partition_log_prob(labels, scores, classes), [scores]),
    }
    return calls[case.op]


def milliseconds(function: Callable[[], object], seconds: float) -> float:
    """The median of at least five means over calls that fill 2 ms."""
    function()
    start = time.perf_counter()
    function()
    once = time.perf_counter() - start
    calls = max(1, int(2e-3 / max(once, 1e-7)))
    for _ in range(min(calls, 200)):
        function()
    means: list[float] = []
    begin = time.perf_counter()
    while len(means) < 5 or (time.perf_counter() - begin < seconds and len(means) < 500):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        means.append((time.perf_counter() - start) / calls)
    return 1e3 * statistics.median(means)


def measure(names: list[str], threads: int, seconds: float, forward: bool) -> dict[str, Any]:
    import torch

    import drpm

    torch.set_num_threads(threads)
    found: dict[str, Any] = {}
    for case in CASES:
        if case.key not in names:
            continue
        call, leaves = prepared(case)
        cotangent = torch.randn_like(call())

        def without_graph(call: Callable[[], Any] = call) -> None:
            with torch.no_grad():
                call()

        def both(call: Callable[[], Any] = call, leaves: list[Any] = leaves, cotangent: Any = cotangent) -> None:
            torch.autograd.grad(call(), leaves, cotangent)

        found[case.key] = {"both": milliseconds(both, seconds)}
        if forward:
            found[case.key]["forward"] = milliseconds(without_graph, seconds)
    return {"build": drpm.build_info(), "from": str(Path(drpm.__file__).parents[1]), "ms": found}


# What starts them.


def run(checkout: Path, names: list[str], threads: int, seconds: float, forward: bool) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_WAIT_POLICY": "passive"}
    environment.pop("OMP_NUM_THREADS", None)
    request = json.dumps({"names": names, "threads": threads, "seconds": seconds, "forward": forward})
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", request]
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if Path(found["from"]).resolve() != checkout:
        raise RuntimeError(f"{checkout} must hold a built drpm, got the one in {found['from']}")
    return found


@contextmanager
def busy_neighbour() -> Iterator[None]:
    cores = sorted(os.sched_getaffinity(0))
    pin = f"import os; os.sched_setaffinity(0, [{cores[-1]}])\nwhile True: pass"
    neighbour = subprocess.Popen([sys.executable, "-c", pin])
    try:
        time.sleep(0.5)
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def interval(values: list[float]) -> tuple[float, float]:
    """Order statistics that hold the median with at least 95 %; all values where there are too few."""
    ordered, count = sorted(values), len(values)
    below, k = 0.0, 0
    while True:
        below += math.comb(count, k) / 2**count
        if 2 * below > 0.05:
            break
        k += 1
    k = max(k - 1, 0)
    return ordered[k], ordered[count - 1 - k]


def summary(old: list[float], new: list[float]) -> dict[str, float]:
    ratios = [a / b for a, b in zip(old, new, strict=True)]
    low, high = interval(ratios)
    return {
        "old": statistics.median(old),
        "new": statistics.median(new),
        "ratio": statistics.median(ratios),
        "low": low,
        "high": high,
    }


def compare(checkouts: dict[str, Path], names: list[str], rounds: int, seconds: float, busy: bool) -> dict[str, Any]:
    beside = [f"random_partition {shape}" for shape in BUSY] if busy else []
    alone = [*names, *(key for key in beside if key not in names)]
    times: dict[str, dict[tuple[str, str], list[float]]] = {}
    builds = {}

    def note(name: str, found: dict[str, Any], kind: str | None = None) -> None:
        builds[name] = found["build"]
        for key, parts in found["ms"].items():
            for direction, ms in parts.items():
                times.setdefault(key, {}).setdefault((name, kind or direction), []).append(ms)

    for turn in range(rounds):
        turns = list(checkouts) if turn % 2 == 0 else list(checkouts)[::-1]
        for name in turns:
            note(name, run(checkouts[name], alone, 1, seconds, True))
        if beside:
            with busy_neighbour():
                for name in turns:
                    note(name, run(checkouts[name], beside, 2, seconds, False), "busy")
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    cases = []
    for key, found in times.items():
        entry: dict[str, Any] = {"case": key}
        for direction in ("forward", "both"):
            entry[direction] = summary(found["old", direction], found["new", direction])
        if key in beside:
            entry["busy"] = {
                name: summary(found[name, "busy"], found[name, "both"]) for name in checkouts
            }  # ratio: two threads beside the neighbour to one thread alone
        cases.append(entry)
    return {"builds": builds, "cases": cases}


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file."""
    from benchmarks import machine

    wanted = {case.key: case for case in CASES}
    lines = [
        "| call (B, n, K) | forward, ms | faster | wanted | forward + backward, ms | faster | wanted |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in content["cases"]:
        case, cells = wanted.get(entry["case"], Case("random_partition", (0, 0, 0))), [f"`{entry['case']}`"]
        for direction, target in (("forward", case.forward), ("both", case.both)):
            x = entry[direction]
            cells += [
                f"{x['old']:.3g} → {x['new']:.3g}",
                f"{x['ratio']:.2f} ({x['low']:.2f}–{x['high']:.2f})",
                "–" if target is None else f"{target}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    busy = [entry for entry in content["cases"] if "busy" in entry]
    if busy:
        lines += [
            "",
            "Two threads beside a busy neighbour, forward + backward, in times of one thread alone (wanted: ≤ 1.5):",
            "",
            "| call (B, n, K) | old | new |",
            "|---|---|---|",
        ]
        for entry in busy:
            parts = [entry["busy"][name] for name in ("old", "new")]
            cells = [f"{x['ratio']:.2f} ({x['low']:.2f}–{x['high']:.2f})" for x in parts]
            lines.append(f"| `{entry['case']}` | " + " | ".join(cells) + " |")
    old, new = content["commits"]["old"], content["commits"]["new"]
    lines += ["", f"Old: {old}; new: {new}; {content['rounds']} rounds. {machine.line(content)}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.15, help="time per case and direction of a round")
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--no-neighbour", action="store_true", help="without the column beside a busy neighbour")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from benchmarks import machine
    from drpm.training.provenance import commit_of, write_json

    checkouts = {"old": arguments.old.resolve(), "new": arguments.new.resolve()}
    names = [case.key for case in CASES if arguments.only is None or arguments.only in case.key]
    found = compare(checkouts, names, arguments.rounds, arguments.seconds, not arguments.no_neighbour)
    content = {
        "machine": machine.describe(1),
        **machine.commit(),
        "date": machine.now(),
        "rounds": arguments.rounds,
        "commits": {name: commit_of(path)[:18] for name, path in checkouts.items()},
        **found,
    }
    if arguments.output:
        write_json(content, arguments.output)
    print(table(content))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        sys.path.pop(0)  # this folder
        print(json.dumps(measure(**json.loads(sys.argv[2]))))
    else:
        main()
