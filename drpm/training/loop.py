"""The one training loop of demo and experiments: steps, logs, checkpoints that resume bit for bit.

What it steps is a `Trainable`; what a run writes and promises: docs/experiments/runner.md.
"""

import abc
import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import torch

from drpm.training.checkpoint import random_state, set_random_state, write_checkpoint
from drpm.training.interrupt import Interrupted, deferred_interrupt
from drpm.training.log import Log
from drpm.training.world import World

_FORMAT = "drpm.training.loop/1"


class Trainable(abc.ABC):
    """What the loop steps and saves.

    Everything that a step changes must be in `state_dict`, in `generators`, in the global generators, or follow from
    the number of the step: then a resumed run equals an uninterrupted one.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "step"  # what the progress bar and messages call one
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

    def generators(self) -> dict[str, torch.Generator]:
        """Give its own random generators; each process has its own, the loop saves them."""
        return {}

    def phase(self, index: int) -> str:
        """Name the part of the run that a step belongs to, for log and progress bar."""
        return "training"

    def title(self) -> str:
        """What the progress bar shows at its end."""
        return self.name


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is made; nothing here changes its numbers, but for `device` and `threads`.

    checkpoint_seconds: longest time between checkpoints; 0: after every step.
    log_every: steps per line of log.jsonl, each the mean of those steps; None: no log.
    stop_after: stop as Ctrl-C would after this many steps (for tests).
    """

    out: Path
    result: Path | None = None
    resume: bool = False
    checkpoint_seconds: float = 60.0
    log_every: int | None = 10
    tensorboard: bool = True
    progress: bool = True
    device: str = "cpu"
    threads: int | None = None
    stop_after: int | None = None


class Loop:
    """Steps from the beginning, or from the checkpoint in `options.out` on, to the end.

    Args:
        trained: what is stepped; where processes are several, each has its own.
        config: plain values that a checkpoint must share with the run that continues it.
        options: of the run.
        world: the processes.

    `seconds` and `processor_seconds` count the steps, over all sittings.
    Raises: ValueError when the checkpoint belongs to another configuration.
    """

    def __init__(self, trained: Trainable, config: dict[str, Any], options: Options, world: World) -> None:
        self.trained, self.options, self.world = trained, options, world
        self.identity = {"experiment": trained.name, "config": config, "processes": world.size}
        self.checkpoint = options.out / "checkpoint.pt"
        if world.first:
            options.out.mkdir(parents=True, exist_ok=True)
        world.wait()
        self.index = 0
        self.seconds = self.processor_seconds = 0.0
        self.log = Log(trained, options.out, options.log_every, options.tensorboard)
        if options.resume:
            self._load()

    def run(self) -> None:
        """Make the steps that are left.

        Raises: Interrupted after Ctrl-C; FloatingPointError when a logged value is not finite.
        """
        trained, options, world = self.trained, self.options, self.world
        started, before, saved = time.monotonic(), self.seconds, time.monotonic()
        processor_started, processor_before = time.process_time(), self.processor_seconds
        first_index = self.index
        with contextlib.ExitStack() as stack:
            interrupted = stack.enter_context(deferred_interrupt(trained.unit))
            log = stack.enter_context(self.log.opened(self.index, enabled=world.first))
            bar = stack.enter_context(self._bar(enabled=world.first and options.progress))
            while self.index < trained.steps:
                values = world.average(trained.step(self.index))
                bar.set_description(trained.phase(self.index), refresh=False)
                bar.set_postfix_str(trained.title(), refresh=False)
                self.index += 1
                bar.update(1)
                log.add(self.index, values)
                self.seconds = before + time.monotonic() - started
                self.processor_seconds = processor_before + time.process_time() - processor_started
                stop = interrupted() or (
                    options.stop_after is not None and self.index - first_index >= options.stop_after
                )
                due = time.monotonic() - saved >= options.checkpoint_seconds or self.index == trained.steps
                stop, due = world.agree(stop), world.agree(due)
                if stop or due:
                    log.flush()
                    self._save()
                    saved = time.monotonic()
                if stop and self.index < trained.steps:
                    raise Interrupted

    def _bar(self, enabled: bool) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=self.trained.steps, initial=self.index, unit=self.trained.unit, postfix=self.trained.title(),
            dynamic_ncols=True, disable=None if enabled else True,
        )  # fmt: skip

    def _save(self) -> None:
        """Write the checkpoint atomically: at any moment the file is whole, the old one or the new one."""
        local = {"global": random_state(self.world.device)} | {
            name: generator.get_state() for name, generator in self.trained.generators().items()
        }
        states = self.world.gather(local)
        if self.world.first:
            content = {
                "format": _FORMAT,
                "identity": self.identity,
                "index": self.index,
                "seconds": self.seconds,
                "processor_seconds": self.processor_seconds,
                "experiment": self.trained.state_dict(),
                "random": states,
                "pending": self.log.pending,
                "log_size": self.log.size,
            }
            write_checkpoint(content, self.checkpoint)

    def _load(self) -> None:
        if not self.checkpoint.exists():
            if self.world.first:
                print(f"No checkpoint in {self.options.out}; starting from the beginning.", file=sys.stderr)
            return
        content = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        found, wanted = content.get("identity"), self.identity
        if content.get("format") != _FORMAT or found != wanted:
            raise ValueError(
                f"{self.trained.name}: --resume must continue a run with the same options, "
                f"got {_difference(found, wanted)}"
            )
        self.index, self.seconds = content["index"], content["seconds"]
        self.processor_seconds = content["processor_seconds"]
        self.log.pending, self.log.size = content["pending"], content["log_size"]
        self.trained.load_state_dict(content["experiment"], self.index)
        local = content["random"][self.world.rank]
        for name, generator in self.trained.generators().items():
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
