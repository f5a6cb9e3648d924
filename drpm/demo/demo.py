"""The demo: partition real handwritten digits without labels, and compare with what one would do without it.

Labels of the held-out digits are read in `evaluate` and in the pictures, after training; nothing before that sees
them. What is computed, and how to read the table: docs/demo.md.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from drpm.data import Digits, load_digits
from drpm.models import ClusteringConfig, PartitionClustering
from drpm.models.clustering import write_atomically
from drpm.models.clustering_trainer import ClusteringTrainer
from drpm.training.provenance import provenance, write_json

_FORMAT = "drpm.experiments.demo/1"
_PHASE_TITLES = {"pretrain": "1/3 autoencoder", "warm_start": "2/3 warm start ", "partition": "3/3 partition  "}
_NUM_SAMPLES = 100


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `demo` and its options to the command line."""
    defaults = ClusteringConfig()
    parser = commands.add_parser(
        "demo",
        help="cluster 1,797 real handwritten digits with a learned random partition",
        description="Train the DRPM clustering model on scikit-learn's handwritten digits without labels, print ARI, "
        "NMI and accuracy on held-out digits beside the baselines, and write pictures and metrics.json. "
        "Ctrl-C stops after the current epoch and keeps the work; --resume goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--seed", type=int, default=0, help="decides the split, the weights and all noise")
    option("--out", type=Path, default=Path("out/demo"), help="folder for pictures, metrics.json and the model")
    option("--epochs", type=_positive, default=defaults.epochs, help="epochs of partition training")
    option("--quick", action="store_true", help="a short run (under a minute) that shows that everything works")
    option("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    option("--threads", type=_positive, default=min(2, os.cpu_count() or 1), help="CPU threads of torch")
    option(
        "--conditionals",
        choices=("auto", "merged", "exact"),
        default="auto",
        help="of the size sampler; auto: exact for --kl exact, else merged",
    )
    option("--kl", choices=("bound", "exact"), default=defaults.kl, help="KL divergence between partition models")
    option("--results", type=Path, default=None, help="also write metrics.json to this file")
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {value}")
    return value


def configure(arguments: argparse.Namespace) -> ClusteringConfig:
    """Give the model's configuration for the command line's options."""
    conditionals = arguments.conditionals
    if conditionals == "auto":
        conditionals = "exact" if arguments.kl == "exact" else "merged"
    config = ClusteringConfig(seed=arguments.seed, epochs=arguments.epochs, conditionals=conditionals, kl=arguments.kl)
    if arguments.quick:
        config = dataclasses.replace(
            config, pretrain_epochs=40, warm_start_epochs=30, epochs=min(20, arguments.epochs), num_samples=1
        )
    return config


def run(arguments: argparse.Namespace) -> int:
    """Run the demo from the command line; 130 when interrupted."""
    missing = _missing_packages()
    if missing:
        print(f"demo: needs {', '.join(missing)}; install with: pip install 'drpm[demo]'", file=sys.stderr)
        return 1
    try:
        run_demo(
            configure(arguments),
            arguments.out,
            resume=arguments.resume,
            threads=arguments.threads,
            results=arguments.results,
        )
    except KeyboardInterrupt:
        print(f"\nInterrupted; the work up to here is in {arguments.out}. Go on with the same command and --resume.")
        return 130
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _missing_packages() -> list[str]:
    import importlib.util

    modules = {"sklearn": "scikit-learn", "scipy": "scipy", "matplotlib": "matplotlib", "tqdm": "tqdm"}
    return [package for module, package in modules.items() if importlib.util.find_spec(module) is None]


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
        checkpoint_seconds: time between checkpoints; phases and interruptions always write one.
        stop_after: interrupt after this many epochs of all phases, as Ctrl-C would.
    Raises: KeyboardInterrupt when interrupted, after the checkpoint is written.
            ValueError when the checkpoint belongs to another configuration.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    digits = load_digits(config.seed)
    training = _Training(config, digits, out, checkpoint_seconds, stop_after)
    if resume:
        training.resume()
    with _deferred_interrupt() as interrupted:
        training.train(interrupted)

    print(f"Evaluating on {len(digits.held_out_images)} held-out digits ...", flush=True)
    metrics = evaluate(training.model, digits, training.snapshots)
    record = {
        "experiment": "demo",
        "seed": config.seed,
        "config": dataclasses.asdict(config),
        **provenance(),
        "training_seconds": round(training.seconds, 1),
        **metrics,
    }
    from drpm.demo import figures as demo_figures

    demo_figures.draw_partition(training.model, digits.held_out_images, out / "partition.png")
    demo_figures.draw_sizes(metrics["sizes"], out / "sizes.png")
    demo_figures.draw_training(training.trainer.history, metrics, out / "training.png")
    training.model.save(out / "model.pt")
    for path in filter(None, (out / "metrics.json", results)):
        write_json(record, path)
    print(format_table(metrics))
    print(f"\n{training.seconds:.0f} s of training. Pictures, metrics.json and model.pt are in {out}/")
    return json.loads(json.dumps(record))


class _Training:
    """The trainer with progress bars, checkpoints, and predictions recorded on the way.

    `snapshots` holds, for some epochs of the partition phase (0 = the initialisation alone), the held-out digits'
    predicted labels. They are scored only after training.
    """

    def __init__(
        self, config: ClusteringConfig, digits: Digits, out: Path, checkpoint_seconds: float, stop_after: int | None
    ) -> None:
        self.config, self.digits, self.checkpoint_path = config, digits, out / "checkpoint.pt"
        self.checkpoint_seconds, self.stop_after = checkpoint_seconds, stop_after
        self.model = PartitionClustering(config)
        self.trainer = ClusteringTrainer(self.model, digits.train_images)
        self.snapshots: list[dict[str, Any]] = []
        self.seconds = 0.0

    def resume(self) -> None:
        if not self.checkpoint_path.exists():
            print(f"No checkpoint in {self.checkpoint_path.parent}; starting from the beginning.")
            return
        content = torch.load(self.checkpoint_path, weights_only=True)
        wanted = dataclasses.asdict(self.config)
        if content.get("format") != _FORMAT or content["config"] != wanted:
            found = content.get("config", {})
            changed = [f"{name}={found.get(name)!r}" for name in wanted if found.get(name) != wanted[name]]
            raise ValueError(
                "demo: --resume must continue a run with the same options, got a checkpoint with " + ", ".join(changed)
            )
        self.trainer.load_state_dict(content["trainer"])
        self.snapshots, self.seconds = content["snapshots"], content["seconds"]

    def train(self, interrupted: Callable[[], bool]) -> None:
        from tqdm import tqdm

        started, before, saved = time.monotonic(), self.seconds, time.monotonic()
        epochs_here = 0
        bar: Any = None

        def on_epoch(trainer: ClusteringTrainer) -> None:
            nonlocal bar, saved, epochs_here
            if bar is None or trainer.epoch == 0:
                if bar is not None:
                    bar.close()
                title = _PHASE_TITLES[trainer.phase]
                bar = tqdm(total=trainer.epochs, desc=title, unit="epoch", initial=trainer.epoch, dynamic_ncols=True)
            elif trainer.epoch > bar.n:
                name = "elbo" if trainer.phase == "partition" else "loss"
                bar.set_postfix_str(f"{name} {trainer.history[-1][name]:.3f}", refresh=False)
                bar.update(trainer.epoch - bar.n)
                epochs_here += 1
            if trainer.phase == "partition" and (trainer.epoch % 5 == 0 or trainer.epoch == trainer.epochs):
                self.snapshots.append(self._snapshot(trainer))
            self.seconds = before + time.monotonic() - started
            stopping = interrupted() or (self.stop_after is not None and epochs_here >= self.stop_after)
            if stopping or trainer.epoch in (0, trainer.epochs) or time.monotonic() - saved > self.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
            if stopping:
                raise KeyboardInterrupt

        try:
            self.trainer.run(on_epoch)
        finally:
            if bar is not None:
                bar.close()

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

    def _save(self) -> None:
        content = {
            "format": _FORMAT,
            "config": dataclasses.asdict(self.config),
            "trainer": self.trainer.state_dict(),
            "snapshots": self.snapshots,
            "seconds": self.seconds,
        }
        write_atomically(content, self.checkpoint_path)


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request to stop after the epoch; the second one stops at once."""
    requests: list[int] = []

    def handler(number: int, frame: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)
        print("\nStopping after this epoch (Ctrl-C again: at once) ...", file=sys.stderr)

    try:
        previous = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread: signals are somebody else's
        yield lambda: False
        return
    try:
        yield lambda: bool(requests)
    finally:
        signal.signal(signal.SIGINT, previous)


def evaluate(model: PartitionClustering, digits: Digits, snapshots: list[dict[str, Any]]) -> dict[str, Any]:
    """Score every method on the held-out digits. The only place, with the pictures, that reads their labels."""
    from drpm.models.cluster_scores import match_clusters, score_clusters

    clusters, truth = model.config.num_clusters, digits.held_out_labels.numpy()

    def score(labels: Any) -> dict[str, float]:
        return score_clusters(truth, labels, clusters)

    first, last = snapshots[0], snapshots[-1]
    generator = torch.Generator().manual_seed(model.config.seed)
    images = digits.held_out_images
    # The held-out digits form one batch: a boundary that is off by one costs one element whatever n is.
    plain = model.partition(images)
    drawn = model.partition(images, noise=True, num_samples=_NUM_SAMPLES, generator=generator)
    samples = [score(labels) for labels in drawn.labels]
    mean_of_samples = {name: sum(sample[name] for sample in samples) / len(samples) for name in samples[0]}
    pixels = _pixel_mixture(digits, clusters, model.config.seed)
    methods = {
        "gmm_pixels": {"title": "GMM on pixels", "gaussian": score(pixels)},
        "gmm_latent": {"title": "GMM on the latent space", "gaussian": score(first["mixture"])},
        "initialisation": {
            "title": "DRPM, initialisation alone",
            "partition": score(first["partition"]),
            "gaussian": score(first["gaussian"]),
        },
        "drpm": {
            "title": "DRPM, trained",
            "partition": score(last["partition"]),
            "gaussian": score(last["gaussian"]),
        },
        "drpm_sampled": {"title": f"DRPM, trained, mean of {_NUM_SAMPLES} samples", "partition": mean_of_samples},
    }
    curve = [
        {"epoch": s["epoch"], "partition": score(s["partition"])["ari"], "gaussian": score(s["gaussian"])["ari"]}
        for s in snapshots
    ]
    classes = match_clusters(truth, last["partition"], clusters)
    sizes = {
        "class_of_subset": classes.tolist(),
        "true": [int((truth == c).sum()) for c in classes],
        "noise_free": [int(v) for v in plain.sizes[0]],
        "sampled_mean": drawn.sizes.mean(0).tolist(),
        "sampled_sd": drawn.sizes.std(0).tolist(),
    }
    return {"methods": methods, "held_out_ari": curve, "sizes": sizes}


def _pixel_mixture(digits: Digits, clusters: int, seed: int) -> Any:
    from sklearn.mixture import GaussianMixture

    # Full covariances with this floor were the best of four variants on *training* labels: a strong baseline.
    mixture = GaussianMixture(clusters, covariance_type="full", reg_covar=1e-2, n_init=5, random_state=seed)
    mixture.fit(digits.train_images.double().numpy())
    return mixture.predict(digits.held_out_images.double().numpy())


def format_table(metrics: dict[str, Any]) -> str:
    """Lay out the scores: the partition itself, and each element by itself."""
    names = ("ari", "nmi", "acc")
    lines = [
        f"{'held-out digits':38}{'partition':^21}   {'responsibilities':^21}",
        f"{'':38}" + "   ".join("".join(f"{name.upper():>7}" for name in names) for _ in range(2)),
    ]
    for method in metrics["methods"].values():
        cells = []
        for column in ("partition", "gaussian"):
            scores = method.get(column)
            cells.append("".join(f"{scores[name]:7.3f}" if scores else f"{'–':>7}" for name in names))
        lines.append(f"{method['title']:38}" + "   ".join(cells))
    return "\n" + "\n".join(lines)
