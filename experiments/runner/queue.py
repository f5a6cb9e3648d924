"""A list of runs, made one after the other: `python -m experiments queue`."""

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.runner.configuration import FOLDER, rows


class Run(NamedTuple):
    experiment: str
    row: str
    seed: int
    settings: tuple[str, ...] = ()  # NAME=VALUE, as `--set` takes them

    def place(self) -> Path:
        """Folder and name of its result below `results/`."""
        return Path(self.experiment) / self.row / f"seed{self.seed}.json"


def read_queue(path: Path = FOLDER / "queue.txt") -> list[Run]:
    """Read lines EXPERIMENT ROW SEED [SEED …] [NAME=VALUE …], most important first; `#` begins a comment.

    `{seed}` in a value is the run's seed.
    Raises: ValueError for a line of another form, a row that does not exist, or a run that is named twice.
    """
    found: list[Run] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        settings = [word for word in words[2:] if "=" in word]
        seeds = words[2 : len(words) - len(settings)]
        if not seeds or not all(word.isdecimal() for word in seeds):
            raise ValueError(
                f"queue: {path.name}:{number} must be EXPERIMENT ROW SEED [SEED …] [NAME=VALUE …], got {line!r}"
            )
        if words[1] not in rows(words[0]):
            raise ValueError(f"queue: {path.name}:{number} must name a row of {words[0]}, got {words[1]!r}")
        for seed in seeds:
            filled = (setting.replace("{seed}", seed) for setting in settings)
            found.append(Run(words[0], words[1], int(seed), tuple(filled)))
    places = [run.place() for run in found]
    twice = sorted({str(place) for place in places if places.count(place) > 1})
    if twice:
        raise ValueError(f"queue: {path.name} must name every run once, got {twice} again")
    return found


def make_runs(queue: Sequence[Run], results: Path, make: Callable[[Run], int]) -> int:
    """Make the runs whose result is not there; stop at the first exit status other than 0, and give it."""
    for run in queue:
        if not (results / run.place()).exists():
            print(f"{run.experiment} {run.row} seed {run.seed}", flush=True)
            status = make(run)
            if status:
                return status
    return 0


def in_process(words: Sequence[str]) -> int:
    """Run a command in a process of its own and give its exit status; SIGTERM is handed on, Ctrl-C reaches it too."""
    with subprocess.Popen(words) as child:
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            return child.wait()
        except KeyboardInterrupt:
            return child.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
