"""The one training loop of all experiments: steps, logs, checkpoints that resume bit for bit, a result file at the end.

What an experiment has to offer is `Experiment`; what a run writes and promises: docs/experiments/runner.md.
"""

import abc
import contextlib
import dataclasses
import io
import json
import math
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from drpm.training.provenance import provenance, write_json
from drpm.training.world import World
from experiments.runner.configuration import recorded

_FORMAT = "drpm.experiments.runner/1"


class Experiment(abc.ABC):
    """One run: what the runner steps, saves and scores.

    A subclass is built from its configuration (a dataclass with a `seed`) and the world of processes; building it draws
    its weights, after the runner has seeded torch, NumPy and Python. Everything that a step changes must be in
    `state_dict`, in `generators`, or follow from the number of the step: then a resumed run equals an uninterrupted
    one.
    """

    name: ClassVar[str]
    Config: ClassVar[type]

    config: Any
    world: World
    steps: int  # of the whole run, all phases

    @abc.abstractmethod
    def step(self, index: int) -> dict[str, float]:
        """Make step number `index` (0-based) and give values to log; called once for each index, in order."""

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Give what has to be saved, equal on every process: modules, optimisers, anything learned or recorded."""

    @abc.abstractmethod
    def load_state_dict(self, state: dict[str, Any], index: int) -> None:
        """Restore it; `index` is the number of the next step."""

    @abc.abstractmethod
    def results(self) -> dict[str, Any]:
        """Score the finished run: what goes into the result file. The only place that may read labels to score."""

    def generators(self) -> dict[str, torch.Generator]:
        """Give the experiment's own random generators; each process has its own, the runner saves them."""
        return {}

    def phase(self, index: int) -> str:
        """Name the part of the run that a step belongs to, for the progress bar."""
        return "training"

    def write_outputs(self, folder: Path) -> None:  # noqa: B027 (nothing to write is a choice)
        """Write models and pictures of the finished run, on the first process."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is made; nothing here changes its numbers, but for `device` and `threads`.

    checkpoint_seconds: longest time between checkpoints; 0: after every step.
    log_every: steps per line of log.jsonl, each the mean of those steps.
    stop_after: stop as Ctrl-C would after this many steps (for tests).
    """

    out: Path
    result: Path | None = None
    resume: bool = False
    checkpoint_seconds: float = 60.0
    log_every: int = 10
    tensorboard: bool = True
    progress: bool = True
    device: str = "cpu"
    threads: int | None = None
    stop_after: int | None = None


class Interrupted(Exception):
    """The run was stopped and its checkpoint is written."""


def run(kind: type[Experiment], config: Any, options: Options, row: str = "") -> dict[str, Any]:
    """Train to the end, or from a checkpoint on; write and give the result.

    Raises: Interrupted after Ctrl-C; ValueError when the checkpoint belongs to another configuration;
        FloatingPointError when a logged value is not finite.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with World.join(options.device) as world:
        return _Run(kind, config, options, row, world).go()


class _Run:
    def __init__(self, kind: type[Experiment], config: Any, options: Options, row: str, world: World) -> None:
        self.options, self.world, self.row = options, world, row
        self.checkpoint, self.log_path = options.out / "checkpoint.pt", options.out / "log.jsonl"
        if world.first:
            options.out.mkdir(parents=True, exist_ok=True)
        world.wait()
        # The same weights on every process; then each draws its own noise.
        seed_everything(config.seed)
        self.experiment = kind(config, world)  # type: ignore[call-arg]
        if world.rank:
            seed_everything(config.seed + 1_000_003 * world.rank)
            for number, generator in enumerate(self.experiment.generators().values()):
                generator.manual_seed(config.seed + 1_000_003 * world.rank + 7919 * number)
        self.index = 0
        self.seconds = self.processor_seconds = 0.0  # of the steps, over all sittings
        self.pending: list[dict[str, float]] = []
        self.log_size = 0
        if options.resume:
            self._load()

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that continues it."""
        config = json.loads(json.dumps(dataclasses.asdict(self.experiment.config)))
        return {"experiment": self.experiment.name, "config": config, "processes": self.world.size}

    def go(self) -> dict[str, Any]:
        experiment, options, world = self.experiment, self.options, self.world
        started, before, saved = time.monotonic(), self.seconds, time.monotonic()
        processor_started, processor_before = time.process_time(), self.processor_seconds
        first_index = self.index
        with contextlib.ExitStack() as stack:
            interrupted = stack.enter_context(_deferred_interrupt())
            log = stack.enter_context(_Log(self, enabled=world.first))
            bar = stack.enter_context(_bar(self, enabled=world.first and options.progress))
            while self.index < experiment.steps:
                values = world.average(experiment.step(self.index))
                bar.set_description(experiment.phase(self.index), refresh=False)
                self.index += 1
                bar.update(1)
                log.add(self.index, values)
                self.seconds = before + time.monotonic() - started
                self.processor_seconds = processor_before + time.process_time() - processor_started
                stop = interrupted() or (
                    options.stop_after is not None and self.index - first_index >= options.stop_after
                )
                due = time.monotonic() - saved >= options.checkpoint_seconds or self.index == experiment.steps
                stop, due = world.agree(stop), world.agree(due)
                if stop or due:
                    log.flush()
                    self._save()
                    saved = time.monotonic()
                if stop and self.index < experiment.steps:
                    raise Interrupted
        record = {
            "experiment": experiment.name,
            "row": self.row,
            "seed": experiment.config.seed,
            "config": recorded(experiment.config),
            "processes": world.size,
            "device": str(world.device),
            **provenance(),
            "steps": experiment.steps,
            "seconds": round(self.seconds, 1),
            "processor_seconds": round(self.processor_seconds, 1),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "metrics": experiment.results(),
        }
        if world.first:
            experiment.write_outputs(options.out)
            for path in filter(None, (options.out / "result.json", options.result)):
                write_json(record, path)
        world.wait()
        return json.loads(json.dumps(record))

    def _save(self) -> None:
        """Write the checkpoint atomically: at any moment the file is whole, the old one or the new one."""
        local = {"global": random_state(self.world.device)} | {
            name: generator.get_state() for name, generator in self.experiment.generators().items()
        }
        states = self.world.gather(local)
        if self.world.first:
            content = {
                "format": _FORMAT,
                "identity": self.identity(),
                "index": self.index,
                "seconds": self.seconds,
                "processor_seconds": self.processor_seconds,
                "experiment": self.experiment.state_dict(),
                "random": states,
                "pending": self.pending,
                "log_size": self.log_size,
            }
            write_checkpoint(content, self.checkpoint)

    def _load(self) -> None:
        if not self.checkpoint.exists():
            if self.world.first:
                print(f"No checkpoint in {self.options.out}; starting from the beginning.", file=sys.stderr)
            return
        content = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        found, wanted = content.get("identity"), self.identity()
        if content.get("format") != _FORMAT or found != wanted:
            raise ValueError(f"--resume must continue a run with the same options, got {_difference(found, wanted)}")
        self.index, self.seconds = content["index"], content["seconds"]
        self.processor_seconds = content["processor_seconds"]
        self.pending, self.log_size = content["pending"], content["log_size"]
        self.experiment.load_state_dict(content["experiment"], self.index)
        local = content["random"][self.world.rank]
        for name, generator in self.experiment.generators().items():
            generator.set_state(local[name])
        set_random_state(local["global"], self.world.device)


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    if not isinstance(found, dict) or found.get("experiment") != wanted["experiment"]:
        return f"a checkpoint of {found.get('experiment') if isinstance(found, dict) else 'something else'}"
    changed = {**found["config"], "processes": found["processes"]}
    now = {**wanted["config"], "processes": wanted["processes"]}
    return "a checkpoint with " + ", ".join(
        f"{name}={changed.get(name)!r}" for name in now if changed.get(name) != now[name]
    )


class _Log:
    """log.jsonl, one line for every `log_every` steps, and TensorBoard; a resumed run continues both.

    A line depends on the steps alone, so an interrupted and resumed run ends with the same file, byte for byte.
    """

    def __init__(self, owner: _Run, enabled: bool) -> None:
        self.owner, self.enabled = owner, enabled
        self.file: io.TextIOWrapper | None = None
        self.board: Any = None

    def __enter__(self) -> "_Log":
        owner = self.owner
        if self.enabled:
            owner.log_path.touch()
            os.truncate(owner.log_path, owner.log_size)  # lines after the checkpoint are made again
            self.file = owner.log_path.open("a", encoding="utf-8")
            if owner.options.tensorboard:
                with contextlib.suppress(ImportError):
                    from torch.utils.tensorboard import SummaryWriter

                    self.board = SummaryWriter(str(owner.options.out / "tensorboard"), purge_step=owner.index + 1)
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()

    def add(self, index: int, values: dict[str, float]) -> None:
        if not all(math.isfinite(value) for value in values.values()):
            raise FloatingPointError(f"{self.owner.experiment.name}: diverged at step {index}, {values}")
        pending = self.owner.pending
        if pending and pending[0].keys() != values.keys():  # another phase
            self._write(index - 1)
        pending.append({name: float(value) for name, value in values.items()})
        if index % self.owner.options.log_every == 0 or index == self.owner.experiment.steps:
            self._write(index)

    def _write(self, index: int) -> None:
        pending = self.owner.pending
        line = {name: sum(values[name] for values in pending) / len(pending) for name in pending[0]}
        pending.clear()
        phase = self.owner.experiment.phase(index - 1)
        if self.file is not None:
            self.file.write(json.dumps({"step": index, "phase": phase, **line}) + "\n")
        if self.board is not None:
            for name, value in line.items():
                self.board.add_scalar(f"{phase}/{name}", value, index)

    def flush(self) -> None:
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.owner.log_size = self.owner.log_path.stat().st_size
        if self.board is not None:
            self.board.flush()


@contextlib.contextmanager
def _bar(owner: _Run, enabled: bool) -> Iterator[Any]:
    from tqdm import tqdm

    title = f"{owner.row or owner.experiment.name} seed {owner.experiment.config.seed}"
    with tqdm(
        total=owner.experiment.steps, initial=owner.index, unit="step", postfix=title, dynamic_ncols=True,
        disable=None if enabled else True,
    ) as bar:  # fmt: skip
        yield bar


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop after the step; the second stops at once."""
    requests: list[int] = []

    def handler(number: int, frame: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)
        print("\nStopping after this step (Ctrl-C again: at once) ...", file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        previous = [signal.signal(number, handler) for number in numbers]
    except ValueError:  # not the main thread: signals are somebody else's
        yield lambda: False
        return
    try:
        yield lambda: bool(requests)
    finally:
        for number, old in zip(numbers, previous, strict=True):
            signal.signal(number, old)


def seed_everything(seed: int) -> None:
    """Seed torch (all devices), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """Every global random state, as tensors and plain numbers."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": random.getstate(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Save beside the target, flush to disk and rename: kill -9 leaves the old file or the new one."""
    scratch = path.with_name(path.name + ".part")
    with scratch.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


class EpochBatches:
    """Batches of shuffled indices: those of a step follow from seed and step alone, so there is nothing to save.

    Args:
        count: int, number of elements; the last, incomplete batch of an epoch is left out.
        batch_size: int, over all processes; each gets its share of it.
    """

    def __init__(self, count: int, batch_size: int, seed: int, world: World) -> None:
        if not 1 <= batch_size <= count:
            raise ValueError(f"EpochBatches: batch_size must lie in [1, {count}], got {batch_size}")
        self.count, self.batch_size, self.seed, self.world = count, batch_size, seed, world
        self.steps_per_epoch = count // batch_size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Tensor:  # -> (about batch_size / processes,) int64
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.count, generator=generator)
        batch = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        return batch.tensor_split(self.world.size)[self.world.rank]
