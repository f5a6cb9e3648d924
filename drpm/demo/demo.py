"""The demo: partition real handwritten digits without labels, and compare with what one would do without it.

What is computed, and how to read the table: docs/demo.md.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import torch

from drpm.data import Digits, load_digits
from drpm.demo.evaluation import evaluate, format_table
from drpm.models import ClusteringConfig, VariationalPartitionClustering
from drpm.models.clustering_trainer import ClusteringTrainer
from drpm.training.loop import Loop, Options, Trainable
from drpm.training.provenance import provenance, write_json
from drpm.training.world import World

_PHASE_TITLES = {"pretrain": "1/3 autoencoder", "warm_start": "2/3 warm start ", "partition": "3/3 partition  "}


def run_demo(
    config: ClusteringConfig,
    out: Path,
    *,
    resume: bool = False,
    threads: int | None = None,
    results: Path | None = None,
    checkpoint_seconds: float = 5.0,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Train, evaluate, write; give the content of metrics.json.

    Args:
        config: of the model.
        out: folder, created when missing. Gets partition.png, sizes.png, training.png, metrics.json, model.pt and,
            while training, checkpoint.pt.
        resume: go on from out/checkpoint.pt when it is there.
        threads: CPU threads of torch; None leaves them.
        results: a second place for metrics.json.
        checkpoint_seconds: time between checkpoints; the end and interruptions always write one.
        stop_after: interrupt after this many epochs of all phases, as Ctrl-C would.
    Raises: Interrupted after Ctrl-C, when the checkpoint is written.
            ValueError when the checkpoint belongs to another configuration.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    digits = load_digits(config.seed)
    training = DemoTraining(config, digits)
    options = Options(
        out=out, resume=resume, checkpoint_seconds=checkpoint_seconds, log_every=None, stop_after=stop_after
    )
    loop = Loop(training, json.loads(json.dumps(dataclasses.asdict(config))), options, World())
    loop.run()
    training.finish()

    print(f"Evaluating on {len(digits.held_out_images)} held-out digits ...", flush=True)
    metrics = evaluate(training.model, digits, training.snapshots)
    record = {
        "experiment": "demo",
        "seed": config.seed,
        "config": dataclasses.asdict(config),
        **provenance(),
        "training_seconds": round(loop.seconds, 1),
        **metrics,
    }
    from drpm.demo import figures

    figures.draw_partition(training.model, digits.held_out_images, out / "partition.png")
    figures.draw_sizes(metrics["sizes"], out / "sizes.png")
    figures.draw_training(training.trainer.history, metrics, out / "training.png")
    training.model.save(out / "model.pt")
    for path in filter(None, (out / "metrics.json", results)):
        write_json(record, path)
    print(format_table(metrics))
    print(f"\n{loop.seconds:.0f} s of training. Pictures, metrics.json and model.pt are in {out}/")
    return json.loads(json.dumps(record))


class DemoTraining(Trainable):
    """The fit of the model, epoch by epoch, with predictions recorded on the way.

    `snapshots` holds, for some epochs of the partition phase (0 = the initialisation alone), the held-out digits'
    predicted labels. They are scored only after training.
    """

    name: ClassVar[str] = "demo"
    unit: ClassVar[str] = "epoch"

    def __init__(self, config: ClusteringConfig, digits: Digits) -> None:
        self.digits = digits
        self.model = VariationalPartitionClustering(config)
        self.trainer = ClusteringTrainer(self.model, digits.train_images)
        self.steps = config.pretrain_epochs + config.warm_start_epochs + config.epochs
        self.snapshots: list[dict[str, Any]] = []

    def step(self, index: int) -> dict[str, float]:
        self.trainer.advance(self._on_epoch)
        return {name: value for name, value in self.trainer.history[-1].items() if name not in ("phase", "epoch")}

    def finish(self) -> None:
        """Go through the phases that have no epoch."""
        self.trainer.run(self._on_epoch)

    def phase(self, index: int) -> str:
        return _PHASE_TITLES[self.trainer.phase]

    def title(self) -> str:
        if not self.trainer.history:
            return ""
        last = self.trainer.history[-1]
        name = "elbo" if last["phase"] == "partition" else "loss"
        return f"{name} {last[name]:.3f}"

    def state_dict(self) -> dict[str, Any]:
        return {"trainer": self.trainer.state_dict(), "snapshots": self.snapshots}

    def load_state_dict(self, state: dict[str, Any], index: int) -> None:
        self.trainer.load_state_dict(state["trainer"])
        self.snapshots = list(state["snapshots"])

    def _on_epoch(self, trainer: ClusteringTrainer) -> None:
        if trainer.phase == "partition" and (trainer.epoch % 5 == 0 or trainer.epoch == trainer.epochs):
            self.snapshots.append(self._snapshot(trainer))

    def _snapshot(self, trainer: ClusteringTrainer) -> dict[str, Any]:
        images = self.digits.held_out_images
        snapshot: dict[str, Any] = {
            "epoch": trainer.epoch,
            "partition": self.model.predict(images, batch_size=len(images)),
            "gaussian": self.model.predict_gaussian(images),
        }
        if trainer.epoch == 0:
            assert trainer.mixture_log_weights is not None
            with torch.no_grad():
                density = self.model.gaussian_log_density(self.model.embed(images))
            snapshot["mixture"] = (density + trainer.mixture_log_weights).argmax(-1)
        return snapshot
