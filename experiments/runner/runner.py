"""A run of an experiment: seeds, the training loop of `drpm.training`, a result file at the end.

What an experiment has to offer is `Experiment`; what a run writes and promises: docs/experiments/runner.md.
"""

import abc
import dataclasses
import json
import resource
from pathlib import Path
from typing import Any, ClassVar

import torch

from drpm.training.checkpoint import seed_everything
from drpm.training.loop import Loop, Options, Trainable
from drpm.training.provenance import provenance, write_json
from drpm.training.world import World
from experiments.runner.configuration import recorded


class Experiment(Trainable):
    """One run: what the runner steps, saves and scores.

    A subclass is built from its configuration (a dataclass with a `seed`) and the world of processes; building it draws
    its weights, after the runner has seeded torch, NumPy and Python.
    """

    name: ClassVar[str]
    Config: ClassVar[type]

    config: Any
    world: World
    row: str = ""

    @abc.abstractmethod
    def results(self) -> dict[str, Any]:
        """Score the finished run: what goes into the result file. The only place that may read labels to score."""

    def write_outputs(self, folder: Path) -> None:
        """Write models and pictures of the finished run, on the first process."""

    def title(self) -> str:
        return f"{self.row or self.name} seed {self.config.seed}"


def run(kind: type[Experiment], config: Any, options: Options, row: str = "") -> dict[str, Any]:
    """Train to the end, or from a checkpoint on; write and give the result.

    Raises: Interrupted after Ctrl-C; ValueError when the checkpoint belongs to another configuration;
        FloatingPointError when a logged value is not finite.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with World.join(options.device) as world:
        experiment = _build(kind, config, world)
        experiment.row, config = row, experiment.config  # which may know more: what follows from the data
        loop = Loop(experiment, json.loads(json.dumps(dataclasses.asdict(config))), options, world)
        loop.run()
        record = {
            "experiment": experiment.name,
            "row": row,
            "seed": config.seed,
            "config": recorded(config),
            "processes": world.size,
            "device": str(world.device),
            **provenance(),
            "steps": experiment.steps,
            "seconds": round(loop.seconds, 1),
            "processor_seconds": round(loop.processor_seconds, 1),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "metrics": experiment.results(),
        }
        if world.first:
            experiment.write_outputs(options.out)
            for path in filter(None, (options.out / "result.json", options.result)):
                write_json(record, path)
        world.wait()
        return json.loads(json.dumps(record))


def _build(kind: type[Experiment], config: Any, world: World) -> Experiment:
    """The same weights on every process; then each draws its own noise."""
    seed_everything(config.seed)
    experiment = kind(config, world)  # type: ignore[call-arg]
    if world.rank:
        seed_everything(config.seed + 1_000_003 * world.rank)
        for number, generator in enumerate(experiment.generators().values()):
            generator.manual_seed(config.seed + 1_000_003 * world.rank + 7919 * number)
    return experiment
