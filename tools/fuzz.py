"""Property tests of the table of ops on new cases, for a given time.

    python tools/fuzz.py --minutes 20                 a random seed, which is printed and written down
    python tools/fuzz.py --replay                     the cases that failed, kept in build/fuzz/failures

A process of its own runs the cases; one that dies or does not come back is a finding too, and another one goes on. The
exit status is 1 where something was found. Seed, counts, machine, versions and commit go to results/fuzz.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "fuzz"
RUNNING, COUNTS, FAILURES = FOLDER / "running.json", FOLDER / "counts.json", FOLDER / "failures"
EXAMPLES = 8  # of one check of one row, before the next one has its turn
LARGEST = {"elements": 20, "classes": 6}


def keep(case: dict[str, Any], error: str) -> None:
    FAILURES.mkdir(parents=True, exist_ok=True)
    name = "".join(x if x.isalnum() else "_" for x in f"{case['check']} {case['sample']}")
    (FAILURES / f"{name}.json").write_text(json.dumps({"case": case, "error": error}, indent=1) + "\n")
    print(f"FOUND {case}: {error}", flush=True)


def work(seed: int, seconds: float) -> None:
    """Runs cases until the time is over, each pair of check and row in turn; what fails is shrunk and kept."""
    import hypothesis
    import torch

    from drpm.testing.properties import Case, cases, pairs

    torch.set_num_threads(1)
    end, counts, order = time.monotonic() + seconds, Counter[str](), pairs()
    choices, failed = random.Random(seed), set[tuple[str, str]]()
    once = hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
    )
    last: dict[str, Any] = {}
    scratch = RUNNING.with_suffix(".part")

    def run(case: Case) -> None:
        last.update(case.as_json())
        scratch.write_text(json.dumps(last))  # renamed: whoever looks sees all of it
        scratch.replace(RUNNING)
        counts[case.check] += 1
        case.run()

    while time.monotonic() < end:
        choices.shuffle(order)
        for check, sample in order:
            if time.monotonic() >= end:
                break
            if (check, sample) in failed:  # once is enough
                continue
            chosen = hypothesis.seed(choices.getrandbits(64))
            try:
                chosen(once(hypothesis.given(cases(check, sample, **LARGEST))(run)))()
            except Exception as error:  # whatever a check raises: an op that refuses good input is a finding as well
                failed.add((check, sample))  # the last case that ran is the smallest one
                keep(last, f"{type(error).__name__}: {str(error).splitlines()[0]}")
            COUNTS.write_text(json.dumps(counts))


def fuzz(seed: int, minutes: float, hang: float) -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in (*FAILURES.glob("*.json"), RUNNING, COUNTS):
        path.unlink(missing_ok=True)
    start = time.monotonic()
    end, total, worker = start + 60 * minutes, Counter[str](), 0
    while (left := end - time.monotonic()) > 1:
        command = [sys.executable, __file__, "--work", str(left), "--seed", str(seed + worker)]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        began = time.time()
        while process.poll() is None:
            time.sleep(1)
            if time.time() - (RUNNING.stat().st_mtime if RUNNING.exists() else began) > hang:
                process.kill()
                process.wait()
                keep(json.loads(RUNNING.read_text()), f"did not come back in {hang:g} s")
                break
        else:
            if process.returncode:
                if not RUNNING.exists():
                    return process.returncode
                keep(json.loads(RUNNING.read_text()), f"the process ended with {process.returncode}")
        with suppress(FileNotFoundError):
            total.update(json.loads(COUNTS.read_text()))
            COUNTS.unlink()
        RUNNING.unlink(missing_ok=True)
        worker += 1
    return report(seed, round((time.monotonic() - start) / 60, 2), total)


def report(seed: int, minutes: float, counts: Counter[str]) -> int:
    import hypothesis

    from drpm.training.provenance import provenance, write_json

    findings = [json.loads(path.read_text()) for path in sorted(FAILURES.glob("*.json"))]
    result = {"seed": seed, "minutes": minutes, "cases": sum(counts.values()), "by_check": dict(sorted(counts.items())),
              "findings": findings, **provenance()}  # fmt: skip
    result["versions"]["hypothesis"] = hypothesis.__version__
    result["machine"]["threads"] = 1
    write_json(result, ROOT / "results" / "fuzz" / "run.json")
    print(f"seed {seed}: {result['cases']} cases in {minutes} min, {len(findings)} findings")
    return int(bool(findings))


def replay() -> int:
    from drpm.testing.properties import Case

    failing = 0
    for path in sorted(FAILURES.glob("*.json")):
        case = Case.from_json(json.loads(path.read_text())["case"])
        try:
            case.run()
            print(f"holds: {case}")
        except Exception as error:
            failing += 1
            print(f"fails: {case}\n    {type(error).__name__}: {error}")
    return int(failing > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="a number to repeat a run by; default: a new one")
    parser.add_argument("--hang", type=float, default=120.0, help="seconds after which a case does not come back")
    parser.add_argument("--replay", action="store_true", help="only what failed the last time")
    parser.add_argument("--work", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.replay:
        return replay()
    seed = secrets.randbelow(2**31) if args.seed is None else args.seed
    if args.work is not None:
        work(seed, args.work)
        return 0
    return fuzz(seed, args.minutes, args.hang)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
