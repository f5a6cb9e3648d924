"""Clustering MNIST and Fashion-MNIST as in thesis 5.3.1: GMM, latent GMM, VaDE and DRPM-VC on one network.

All methods of a data set and seed share network, pre-training, split and the mixture that initialises the priors:
phases draw their noise from (seed, phase), so a run that pre-trains by itself and one that reads `pretrained` from
another run of the same seed are the same, bit for bit; every result holds the digest of where its training started.
Training sees no labels; `results` reads those of the test set.
"""

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

import drpm.ops
from drpm.models import ClusteringConfig, VariationalPartitionClustering
from drpm.models.cluster_scores import score_clusters
from drpm.models.clustering import split_evenly
from drpm.models.clustering_config import annealed
from drpm.models.clustering_phases import (
    fit_gaussian_mixture,
    initialise_from_mixture,
    order_clusters,
    parameter_groups,
    partition_loss,
    pretrain_loss,
    warm_start_loss,
)
from drpm.models.contrastive import random_affine_views
from drpm.models.vade import VaDE
from drpm.ops._arguments import require
from drpm.training.batches import EpochBatches
from drpm.training.checkpoint import write_checkpoint
from drpm.training.step_size import half_cosine
from drpm.training.world import World
from experiments.clustering.data import NAMES, load_clustering_data
from experiments.runner.configuration import LOCATION
from experiments.runner.runner import Experiment

PHASES = ("pretrain", "warm_start", "train")
METHODS = ("kmeans", "gmm", "latent_gmm", "vade", "drpm")
_FORMAT = "drpm.experiments.clustering/1"
_FLOOR = 1e-2  # added to the variances of the mixture on features: most pixels near the border are constant
_FEATURE_STARTS = 1  # of the mixture on features, a matter of time at 784 columns


@dataclasses.dataclass(frozen=True)
class ClusteringRun(ClusteringConfig):
    """One row of Table 5.1 and one seed: the model's configuration, with other defaults, and what the run adds to it.

    `num_features` and `image_shape` follow from the data. docs/experiments/clustering.md says why the numbers are what
    they are.
    """

    title: str = ""
    data: str = "mnist"  # of clustering.data.NAMES
    root: str = dataclasses.field(default="data", metadata=LOCATION)  # folder of the data
    embedding: str | None = None  # pretrained.pt of the run whose network gives the columns of "mnist-views"
    train_limit: int | None = None  # first elements of the training set only (for trials)
    method: str = "drpm"  # of METHODS
    pretrained: str | None = None  # pretrained.pt of another run of the same data and seed, instead of the first phase
    partition_size: int | None = None  # elements of a partition in training; None: batch_size
    mixture_starts: int = 5
    # Other defaults than the model's.
    hidden: tuple[int, ...] = (500, 500, 500, 2000)
    precision: str = "bf16"
    pretrain_epochs: int = 20
    warm_start_epochs: int = 1
    epochs: int = 5
    learning_rate: float = 3e-4
    contrast_weight: float = 0.5
    contrast_temperature: float = 0.5
    contrast_views: int = 1
    cluster_weight: float = 1.0
    reconstruction_scale: float = 0.03
    conditionals: str = "exact"
    kl_samples: int = 16
    augment: bool = False
    beta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.method in METHODS, "clustering", "method", f"be one of {METHODS}", repr(self.method))
        require(self.data in NAMES, "clustering", "data", f"be one of {NAMES}", repr(self.data))
        for name in ("pretrain_epochs", "epochs"):
            require(getattr(self, name) >= 1, "clustering", name, "be >= 1", getattr(self, name))

    def model(self) -> ClusteringConfig:
        """Give the part that is the model's."""
        return ClusteringConfig(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(ClusteringConfig)}
        )


class Clustering(Experiment):
    name: ClassVar[str] = "clustering"
    Config: ClassVar[type] = ClusteringRun

    def __init__(self, config: ClusteringRun, world: World) -> None:
        self.world = world
        data = load_clustering_data(config.data, config.root, config.seed, config.embedding)
        self.train, self.test, self.test_labels = data.train[: config.train_limit], data.test, data.test_labels
        width = math.prod(self.train.shape[1:])
        config = self.config = dataclasses.replace(config, num_features=width, image_shape=data.image_shape)
        self.model = VariationalPartitionClustering(config.model()).to(world.device)
        self.vade: VaDE | None = None
        self.mixture_log_weights: Tensor | None = None
        self.start = ""  # digest of weights and mixture after pre-training
        self.optimizer: torch.optim.Optimizer | None = None
        self.generator = torch.Generator()
        self.snapshots: list[dict[str, Any]] = []
        self.phases: list[tuple[str, int, int]] = []  # name, first step, steps
        self.batches: dict[str, EpochBatches] = {}
        first = 0
        for name, epochs in self._lengths().items():
            wanted = config.partition_size if name == "train" else None
            size = min(wanted or config.batch_size, len(self.train))
            number = PHASES.index(name)
            self.batches[name] = EpochBatches(len(self.train), size, len(PHASES) * config.seed + number, world)
            steps = epochs * self.batches[name].steps_per_epoch
            self.phases.append((name, first, steps))
            first += steps
        self.steps = first

    def _lengths(self) -> dict[str, int]:
        """Epochs of the phases that this run goes through."""
        config = self.config
        if config.method in ("kmeans", "gmm"):
            return {}
        lengths = {} if config.pretrained else {"pretrain": config.pretrain_epochs}
        if config.method == "drpm":
            lengths["warm_start"] = config.warm_start_epochs
        if config.method in ("vade", "drpm"):
            lengths["train"] = config.epochs
        return lengths

    # The loop.

    def place(self, index: int) -> tuple[str, int, int]:
        """Give phase, step within it, and the phase's steps."""
        for name, first, steps in self.phases:
            if first <= index < first + steps:
                return name, index - first, steps
        raise IndexError(f"clustering: index must lie in [0, {self.steps}), got {index}")

    def phase(self, index: int) -> str:
        return self.place(index)[0]

    def step(self, index: int) -> dict[str, float]:
        name, step, steps = self.place(index)
        if step == 0:
            self._enter(name)
        assert self.optimizer is not None
        half_cosine(self.optimizer, step, steps)
        batch = self._pixels(self.train[self.batches[name](step)])
        loss, values = self._loss(name, batch, step, steps)
        self.optimizer.zero_grad()
        loss.backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.world.average_gradients(trained)
        self.optimizer.step()
        if step + 1 == steps:
            self._leave(name)
        steps_per_epoch = self.batches[name].steps_per_epoch
        if name == "train" and (step + 1) % steps_per_epoch == 0:
            self._snapshot((step + 1) // steps_per_epoch)
        return {"loss": float(loss.detach()), **values}

    def _loss(self, name: str, batch: Tensor, step: int, steps: int) -> tuple[Tensor, dict[str, float]]:
        if name == "pretrain":
            return pretrain_loss(self.model, batch, self.generator), {}
        if name == "warm_start":
            assert self.mixture_log_weights is not None
            return warm_start_loss(self.model, batch, self.mixture_log_weights), {}
        weights = annealed(self.model.config, step, steps)
        if self.vade is None:
            return partition_loss(self.model, batch, weights, self.generator)
        shape = self.model.config.image_shape
        if self.config.augment and shape is not None:
            batch = random_affine_views(batch, shape, noise=0.0, generator=self.generator).clamp(0.0, 1.0)
        bound = self.vade.bound(batch, weights.beta, self.generator)
        return -bound.elbo, {name: float(value.detach()) for name, value in bound._asdict().items()}

    def _enter(self, name: str) -> None:
        """Start a phase: its own noise, what it needs of the one before, a fresh optimiser."""
        number = PHASES.index(name)
        self.generator.manual_seed((self.config.seed * 1_000_003 + 7919 * (number + 1)) * 1021 + self.world.rank)
        if name != "pretrain" and self.mixture_log_weights is None:
            self._read_pretrained()
        if name == "train":
            assert self.mixture_log_weights is not None
            if self.config.method == "vade":
                self._make_vade()
            else:
                order = order_clusters(self.model, self._all(self.train))
                self.mixture_log_weights = self.mixture_log_weights[order]
            self._snapshot(0)
        self.optimizer = self._make_optimizer(name)

    def _leave(self, name: str) -> None:
        if name == "pretrain":
            self.mixture_log_weights = initialise_from_mixture(
                self.model, self._all(self.train), self.config.mixture_starts
            )
            self.start = self._digest()

    def _digest(self) -> str:
        """SHA-256 of what the methods of one data set and seed share."""
        assert self.mixture_log_weights is not None
        state = self.model.state_dict() | {"mixture": self.mixture_log_weights}
        digest = hashlib.sha256()
        for name in sorted(state):
            digest.update(name.encode() + state[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _make_vade(self) -> None:
        assert self.mixture_log_weights is not None
        self.vade = VaDE(self.model, self.mixture_log_weights).to(self.world.device)

    def _make_optimizer(self, name: str) -> torch.optim.Optimizer:
        if self.vade is not None:
            groups: list[dict[str, Any]] = [{"params": self.vade.trained_parameters(), "lr": self.config.learning_rate}]
        else:
            groups = parameter_groups(self.model, "partition" if name == "train" else name)
        return torch.optim.AdamW(groups, fused=True)

    # State.

    def generators(self) -> dict[str, torch.Generator]:
        return {"noise": self.generator}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "logits": None if self.vade is None else self.vade.logits.detach(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "mixture_log_weights": self.mixture_log_weights,
            "snapshots": self.snapshots,
            "start": self.start,
        }

    def load_state_dict(self, state: dict[str, Any], index: int) -> None:
        self.model.load_state_dict(state["model"])
        self.mixture_log_weights = _to(state["mixture_log_weights"], self.world.device)
        self.snapshots, self.start = list(state["snapshots"]), state["start"]
        if state["logits"] is not None:
            self._make_vade()
            assert self.vade is not None
            with torch.no_grad():
                self.vade.logits.copy_(state["logits"])
        if state["optimizer"] is not None:
            self.optimizer = self._make_optimizer(self.phase(index - 1))
            self.optimizer.load_state_dict(state["optimizer"])

    def _pretrained_identity(self) -> dict[str, Any]:
        """What two runs must share to share the first phase."""
        names = (
            "seed", "data", "train_limit", "hidden", "latent_dim", "num_clusters", "batch_size", "pretrain_epochs",
            "mixture_starts", "pretrain_learning_rate", "contrast_weight", "contrast_temperature", "contrast_views",
            "cluster_weight", "reconstruction_scale", "feature_deviation", "precision", "posterior_scale",
            "score_scale",
        )  # fmt: skip
        values = {name: getattr(self.config, name) for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def _read_pretrained(self) -> None:
        path = self.config.pretrained
        assert path is not None
        content = torch.load(path, map_location=self.world.device, weights_only=True)
        wanted = self._pretrained_identity()
        found = content.get("identity", {}) if content.get("format") == _FORMAT else {}
        differing = [f"{name}={found.get(name)!r}" for name in wanted if found.get(name) != wanted[name]]
        require(
            not differing, "clustering", "pretrained", f"come from a run with the same {', '.join(wanted)}", differing
        )
        self.model.load_state_dict(content["model"])
        self.mixture_log_weights = content["mixture_log_weights"]
        self.start = self._digest()

    # Data and scores.

    def _pixels(self, images: Tensor) -> Tensor:
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        return images.to(self.world.device).float().flatten(1) / scale

    def _all(self, images: Tensor) -> Tensor:
        return self._pixels(images)

    @torch.no_grad()
    def _snapshot(self, epoch: int) -> None:
        """Keep the test set's predicted labels, which `results` scores after training, and the learned sizes."""
        x = self._all(self.test)
        sizes: list[float] = []
        if self.vade is not None:
            kept = {"responsibilities": self.vade.predict(x)}
        else:
            code = self.model(x)
            # The test set as one partition: a boundary that is off by one costs one element whatever n is.
            kept = {"partition": self._labels(code.log_omega, code.log_scores)}
            batches = [split_evenly(values, self.config.batch_size) for values in (code.size_votes, code.log_scores)]
            parts = [self._labels(self.model.log_omega(votes), scores) for votes, scores in zip(*batches, strict=True)]
            kept["batches"] = torch.cat(parts)
            kept["responsibilities"] = self.model.gaussian_log_density(code.mean).argmax(-1)
            sizes = drpm.ops.mvhg_mean(code.log_omega, len(x), len(x)).tolist()
        labels = {name: values.to(torch.uint8).cpu() for name, values in kept.items()}
        self.snapshots.append({"epoch": epoch, "labels": labels, "mean_sizes": sizes})

    def _labels(self, log_omega: Tensor, log_scores: Tensor) -> Tensor:
        """The partition without noise."""
        config = self.model.config
        drawn = drpm.ops.random_partition(
            log_omega, log_scores, config.tau_final, noise=False, conditionals=config.conditionals
        )
        return drawn.labels

    def results(self) -> dict[str, Any]:
        method = self.config.method
        if method in ("kmeans", "gmm"):
            labels = self._mixture_on_features() if method == "gmm" else self._kmeans()
            return {"test": {"responsibilities": self._score(labels)}}
        if method == "latent_gmm":
            if self.mixture_log_weights is None:
                self._read_pretrained()
            assert self.mixture_log_weights is not None
            with torch.no_grad():
                density = self.model.gaussian_log_density(self.model.embed(self._all(self.test)))
            labels = (density + self.mixture_log_weights).argmax(-1)
            return {"start": self.start, "test": {"responsibilities": self._score(labels)}}
        curve = [
            {
                "epoch": snapshot["epoch"],
                **{name: self._score(labels) for name, labels in snapshot["labels"].items()},
                "sizes": {
                    name: torch.bincount(labels.long(), minlength=self.config.num_clusters).tolist()
                    for name, labels in snapshot["labels"].items()
                },
                "mean_sizes": snapshot["mean_sizes"],
            }
            for snapshot in self.snapshots
        ]

        def scores(point: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in point.items() if name not in ("epoch", "sizes", "mean_sizes")}

        return {
            "start": self.start,
            "test": scores(curve[-1]),
            "initialisation": scores(curve[0]),
            "curve": curve,
            "class_sizes": torch.bincount(self.test_labels).tolist(),
        }

    def _score(self, labels: Tensor) -> dict[str, float]:
        clusters = max(self.config.num_clusters, int(self.test_labels.max()) + 1)
        return score_clusters(self.test_labels.numpy(), labels.cpu().long().numpy(), clusters)

    def _mixture_on_features(self) -> Tensor:
        """Fit a diagonal mixture to the training features and give the test set's labels."""
        config = self.config
        train, test = self._all(self.train), self._all(self.test)
        fitted = fit_gaussian_mixture(train, config.num_clusters, config.seed, _FEATURE_STARTS, _FLOOR)
        log_weights, means, variances = fitted
        density = [
            log_weights[k] - 0.5 * ((test - means[k]).square() / variances[k] + variances[k].log()).sum(-1)
            for k in range(config.num_clusters)
        ]
        return torch.stack(density, -1).argmax(-1)

    def _kmeans(self) -> Tensor:
        from sklearn.cluster import KMeans

        fitted = KMeans(self.config.num_clusters, n_init=self.config.mixture_starts, random_state=self.config.seed)
        fitted.fit(self._all(self.train).numpy())
        return torch.from_numpy(fitted.predict(self._all(self.test).numpy()))

    def write_outputs(self, folder: Path) -> None:
        if self.config.method in ("kmeans", "gmm"):
            return
        if self.config.method == "latent_gmm":
            content = {
                "format": _FORMAT,
                "identity": self._pretrained_identity(),
                "config": dataclasses.asdict(self.model.config),
                "model": self.model.state_dict(),
                "mixture_log_weights": self.mixture_log_weights,
            }
            write_checkpoint(content, folder / "pretrained.pt")
        self.model.save(folder / "model.pt")
        if self.model.config.image_shape is None or self.config.method != "drpm":
            return
        from experiments.clustering.figures import draw_latent_space, draw_partition, picture_data

        kept = picture_data(self.model, self._all(self.test), self.test_labels)
        np.savez_compressed(folder / "pictures.npz", **kept)  # type: ignore[arg-type]
        draw_latent_space(kept, folder / "latent.png")
        draw_partition(kept, folder / "partition.png")
        draw_partition(kept, folder / "partition_without_noise.png", sampled=False)


def _to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
