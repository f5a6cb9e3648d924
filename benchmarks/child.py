"""One case in one process: check, time and measure its contestants side by side.

Reads a job as JSON from standard input and writes one JSON event per line to standard output, so that the parent knows
what was under way should this process be killed.
"""

from __future__ import annotations

import gc
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

BLOCK_SECONDS = 0.004  # quick calls are timed in blocks of this length
ROUNDS = 15
MANY_SECONDS = 5.0  # a call that takes longer is measured once

_OUT = sys.stdout
_THREADS = 1


class WrongResult(Exception):
    """Seen at the full size, where there may be no reference to compare with."""


def emit(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), file=_OUT, flush=True)


def attempt(contestant: str, phase: str, work: Callable[[], Any]) -> tuple[str, Any]:
    """Run a step that may fail; what failed is a result, not an error of the benchmark."""
    import torch

    from drpm.testing.memory import is_out_of_memory

    if torch.get_num_threads() != _THREADS:  # a package may have changed it for everyone (numba does)
        torch.set_num_threads(_THREADS)
    emit("start", contestant=contestant, phase=phase)
    try:
        result = work()
    except NotImplementedError as error:
        emit("end")
        return "absent", str(error)
    except WrongResult as error:
        emit("end")
        return "wrong", str(error)
    except Exception as error:
        emit("end")
        if is_out_of_memory(error):
            return "does not fit", ""
        words = re.sub(r"\S*/site-packages/", "", f"{type(error).__name__}: {error}".split("\n")[0])
        return "failed", words[:300]
    emit("end")
    return "ok", result


def measure(job: dict) -> None:
    global _THREADS
    import torch

    _THREADS = job["threads"]
    for path in job["plugins"]:
        from benchmarks.registry import load_plugin

        load_plugin(path)

    from benchmarks.cases import Case
    from benchmarks.checks import Judge
    from benchmarks.problems import make_problem
    from benchmarks.registry import contestants
    from drpm.testing.memory import limit_memory

    case = Case.from_json(job["case"])
    entries = [c for c in contestants(case) if c.name in job["contestants"]]
    skipped = {(name, direction) for name, direction in job["skip"]}
    limit_memory(job["memory_limit"])

    torch.manual_seed(0)
    status, judge = attempt("oracle", "check", lambda: Judge(case))
    if status != "ok":
        emit("fatal", detail=f"the float64 reference: {status} {judge}")
        return
    problem = make_problem(case)
    calls = {}
    for entry in entries:
        if (entry.name, "forward") in skipped:
            continue
        status, check = attempt(entry.name, "check", lambda entry=entry: judge.check(entry))
        if status != "ok":
            emit("contestant", contestant=entry.name, status=status, detail=check)
            continue
        emit("contestant", contestant=entry.name, check=check.to_json(), status="ok" if check.passed else "wrong")
        if not check.passed:
            continue
        status, call = attempt(entry.name, "prepare", lambda entry=entry: entry.prepare(problem))
        if status == "ok":
            calls[entry.name] = (entry, call)
        else:
            emit("contestant", contestant=entry.name, status=status, detail=call)
    judge = None  # its answers are large
    gc.collect()

    runnable = set(calls)
    for direction in ("forward", "forward+backward"):
        works = {}
        for name, (entry, call) in calls.items():
            if name not in runnable or (name, direction) in skipped:
                continue
            if direction == "forward":
                works[name] = _forward(call)
            elif entry.backward:
                works[name] = _forward_backward(call, list(problem.leaves.values()))
        failed = _time(direction, works, job)
        if direction == "forward":
            runnable -= failed
    emit("finished")


def _forward(call: Callable) -> Callable[[], Any]:
    import torch

    def run() -> Any:
        with torch.no_grad():
            return call()

    return run


def _forward_backward(call: Callable, leaves: list) -> Callable[[], Any]:
    import torch

    from benchmarks.problems import cotangent

    gradient: list = []

    def run() -> Any:
        out = call()
        if not gradient:
            gradient.append(cotangent(out))
        return torch.autograd.grad(out, leaves, gradient[0], allow_unused=True)

    return run


def _seconds(work: Callable[[], Any], calls: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls


def _first_call(work: Callable[[], Any]) -> float:
    """Seconds of a call whose results are looked at: no NaN."""
    start = time.perf_counter()
    out = work()
    seconds = time.perf_counter() - start
    for x in out if isinstance(out, tuple) else (out,):
        if x is not None and bool(x.detach().sum().isnan()):
            raise WrongResult("NaN in the result")
    return seconds


def _time(direction: str, works: dict[str, Callable], job: dict) -> set[str]:
    """Warm up, time in turns, then measure memory. Returns those who failed."""
    from drpm.testing.memory import peak_memory

    failed = set()
    blocks: dict[str, int] = {}
    rounds: dict[str, int] = {}
    for name, work in works.items():
        status, first = attempt(name, direction, lambda work=work: _first_call(work))
        if status == "ok" and first > job["cap"]:
            status, first = "too slow", f"{first:.0f} s"
        elif status == "ok":
            again = first
            if first < MANY_SECONDS or name.startswith("compiled"):
                status, again = attempt(name, direction, lambda work=work: _seconds(work))
        if status != "ok":
            emit("result", contestant=name, direction=direction, status=status, detail=first)
            failed.add(name)
            continue
        blocks[name] = max(1, int(BLOCK_SECONDS / max(again, 1e-7)))
        fitting = int(job["seconds"] / max(again * blocks[name], 1e-7))
        rounds[name] = 1 if again > MANY_SECONDS else min(job["rounds"], max(3, fitting))
        emit("note", contestant=name, direction=direction, first_call=first)

    times: dict[str, list[float]] = {name: [] for name in blocks}
    gc.collect()
    gc.disable()
    for turn in range(max(rounds.values(), default=0)):
        for name in list(blocks):  # A B C A B C …: drifts of the machine hit everyone
            if turn >= rounds[name]:
                continue
            status, seconds = attempt(name, direction, lambda name=name: _seconds(works[name], blocks[name]))
            if status == "ok":
                times[name].append(seconds)
            else:
                emit("result", contestant=name, direction=direction, status=status, detail=seconds)
                failed.add(name)
                del blocks[name]
    gc.enable()
    for name in blocks:
        status, peak = attempt(name, f"memory of {direction}", lambda name=name: peak_memory(works[name]))
        quartiles = statistics.quantiles(times[name], n=4) if len(times[name]) > 1 else times[name] * 3
        emit(
            "result",
            contestant=name,
            direction=direction,
            status="ok",
            seconds=statistics.median(times[name]),
            quartiles=[quartiles[0], quartiles[2]],
            repetitions=len(times[name]),
            calls_per_repetition=blocks[name],
            peak_bytes=peak if status == "ok" else None,
        )
    return failed


def main() -> None:
    global _OUT
    job = json.load(sys.stdin)
    _OUT = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a contestant prints goes to stderr
    measure(job)


if __name__ == "__main__":
    main()
