"""The parent: one child process per case, under a memory limit and a time cap, results kept as they come."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks import machine, registry
from benchmarks.cases import DIRECTIONS, Case
from benchmarks.results import Results

START_SECONDS = 120.0


@dataclass
class Settings:
    threads: int = 2
    memory_limit: int = 4 * 2**30
    cap: float = 60.0  # seconds that one call may take
    check_cap: float = 300.0  # seconds for a check (the float64 reference) or a compilation
    seconds: float = 1.0  # time to spend on one contestant in one direction
    rounds: int = 15
    columns: tuple[str, ...] | None = None  # None: the default ones
    peers: bool = False
    original: str | None = None
    plugins: tuple[str, ...] = ()
    infer: bool = True

    def to_json(self) -> dict:
        keys = ("threads", "memory_limit", "cap", "check_cap", "seconds", "rounds")
        return {key: getattr(self, key) for key in keys}


def choose_columns(case: Case, settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The contestants to run, and why the others that were asked for are absent."""
    chosen, absent = [], {}
    for contestant in registry.contestants(case):
        if settings.columns is not None:
            wanted = contestant.name in settings.columns
        else:
            wanted = not contestant.optional or settings.peers
        if settings.original and contestant.name == "original":
            wanted = True
        if not wanted:
            continue
        reason = contestant.missing()
        if contestant.name == "original" and not settings.original:
            reason = "--original PATH not given"
        if reason:
            absent[contestant.name] = reason
        else:
            chosen.append(contestant.name)
    return chosen, absent


class Child:
    """A child process and the events it sends."""

    def __init__(self, job: dict, settings: Settings) -> None:
        environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        for library in ("OMP", "MKL", "NUMBA"):
            environment[f"{library}_NUM_THREADS"] = str(settings.threads)
        if settings.original:
            environment[registry.ORIGINAL_VARIABLE] = str(Path(settings.original).resolve())
        self.log: IO[str] = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
            cwd=Path(__file__).resolve().parent.parent,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job))
        self.process.stdin.close()
        self.events: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.put(json.loads(line))
        self.events.put(None)

    def next_event(self, timeout: float) -> dict | None:
        """The next event; None at the end. Raises queue.Empty after `timeout` seconds."""
        return self.events.get(timeout=timeout)

    def end(self) -> tuple[int | None, str]:
        """Stop it if it runs; its exit status and last words."""
        if self.process.poll() is None:
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.seek(0)
        words = self.log.read().strip().splitlines()
        self.log.close()
        return self.process.returncode, words[-1][:300] if words else ""


def _patience(phase: str, contestant: str, settings: Settings) -> float:
    if phase in ("check", "prepare"):
        return settings.check_cap
    if contestant.startswith("compiled"):  # its first call compiles
        return settings.check_cap + settings.cap
    # a timing block never takes much longer than one slow call; memory is measured in two calls
    return 1.5 * settings.cap if phase in DIRECTIONS else 4 * settings.cap + 30


def run_case(case: Case, settings: Settings, results: Results) -> dict:
    """Measure one case; a child that dies or must be stopped is started again without the one who was at work."""
    names, absent = choose_columns(case, settings)
    outcome: dict[str, dict] = {name: {"status": "absent", "detail": reason} for name, reason in absent.items()}
    skip: list[list[str]] = []
    for name in names:
        outcome[name] = {}
        for direction in DIRECTIONS:
            known = results.inferred(case, name, direction) if settings.infer else None
            if known:
                outcome[name][direction] = {"status": known[0], "inferred": f"from {known[1]}"}
                skip.append([name, direction])
    started = time.perf_counter()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    fatal = ""
    while any([name, "forward"] not in skip for name in names):
        if not _run_child(case, names, skip, outcome, settings):
            break
    fatal = outcome.pop("oracle", {}).get("detail", "")
    return {
        "key": case.key,
        "case": case.to_json(),
        **machine.commit(),
        "time": machine.now(),
        "load": load,
        "elapsed": round(time.perf_counter() - started, 1),
        **({"fatal": fatal} if fatal else {}),
        "contestants": outcome,
    }


def _run_child(case: Case, names: list[str], skip: list, outcome: dict, settings: Settings) -> bool:
    """One child. True: run another with the grown `skip`."""
    job = {
        "case": case.to_json(),
        "contestants": names,
        "skip": skip,
        "plugins": list(settings.plugins),
        **settings.to_json(),
    }
    child = Child(job, settings)
    at_work: tuple[str, str] | None = None
    verdict = ""
    while True:
        patience = _patience(*reversed(at_work), settings) if at_work else START_SECONDS
        try:
            event = child.next_event(patience)
        except queue.Empty:
            verdict = "too slow"
            child.process.kill()
            break
        if event is None:
            verdict = "died"
            break
        kind = event.pop("event")
        if kind == "finished":
            child.end()
            return False
        if kind == "start":
            at_work = (event["contestant"], event["phase"])
        elif kind == "end":
            at_work = None
        elif kind == "fatal":
            outcome["oracle"] = event
            child.end()
            return False
        else:
            _record(kind, event, outcome)
    status, words = child.end()
    if at_work is None or at_work[0] == "oracle":
        outcome["oracle"] = {"detail": f"the child {verdict} (exit status {status}): {words}"}
        return False
    name, phase = at_work
    if verdict == "died":
        # killed by the kernel, or an allocation failure that no exception carried
        starved = status in (-9, 137) or "bad_alloc" in words or "allocate" in words
        verdict = "does not fit" if starved else "crashed"
    found = {"status": verdict, "detail": f"in {phase}"}
    if verdict == "crashed":
        found["detail"] += f"; exit status {status}{'; ' if words else ''}{words}"
    if phase in ("check", "prepare", "forward", "memory of forward"):
        outcome[name] = {**outcome[name], **(found if phase in ("check", "prepare") else {"forward": found})}
        skip += [[name, direction] for direction in DIRECTIONS]
    else:
        outcome[name]["forward+backward"] = found
        skip.append([name, "forward+backward"])
    return True


def _record(kind: str, event: dict, outcome: dict) -> None:
    found = outcome[event.pop("contestant")]
    if kind == "contestant":
        found.update(event)
    elif kind == "result":
        direction = event.pop("direction")
        found[direction] = {**found.get(direction, {}), **event}
    elif kind == "note":
        found.setdefault(event.pop("direction"), {}).update(event)


def run_cases(cases: Iterable[Case], settings: Settings, results: Results, progress=None) -> None:
    """Measure those cases that the results do not have yet."""
    for path in settings.plugins:
        registry.load_plugin(path)
    for case in cases:
        if case.key not in results.cases:
            if progress is not None:
                progress.set_postfix_str(case.key)
            results.cases[case.key] = run_case(case, settings, results)
            results.save()
        if progress is not None:
            progress.update()
