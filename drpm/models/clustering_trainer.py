"""Training of VariationalPartitionClustering in three resumable phases: pretrain, warm_start, partition."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from drpm.models.clustering_config import annealed
from drpm.models.clustering_phases import (
    initialise_from_mixture,
    order_clusters,
    parameter_groups,
    partition_loss,
    pretrain_loss,
    warm_start_loss,
)
from drpm.training.step_size import half_cosine

if TYPE_CHECKING:
    from drpm.models.clustering import VariationalPartitionClustering

PHASES = ("pretrain", "warm_start", "partition")


class ClusteringTrainer:
    """One fit of a model to unlabelled data, in a state that can be saved after every epoch and resumed exactly.

    Args:
        model: VariationalPartitionClustering; trained in place.
        x: (N, num_features) in [0, 1], N >= num_clusters.

    `phase`, `epoch` (finished ones of this phase), `epochs` and `history` (one dict per finished epoch) tell where it
    stands. All randomness comes from one generator seeded by config.seed.
    """

    def __init__(self, model: VariationalPartitionClustering, x: Tensor) -> None:
        model._check("fit", x, min_elements=model.config.num_clusters)
        self.model, self.config = model, model.config
        self.x = x.detach().to(model.prior_mean)
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.phase_index = 0
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.mixture_log_weights: Tensor | None = None
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def finished(self) -> bool:
        return self.phase_index == len(PHASES)

    @property
    def phase(self) -> str:
        return "finished" if self.finished else PHASES[self.phase_index]

    @property
    def epochs(self) -> int:
        config = self.config
        return (config.pretrain_epochs, config.warm_start_epochs, config.epochs, 0)[self.phase_index]

    def run(self, on_epoch: Callable[[ClusteringTrainer], None] | None = None) -> None:
        """Train to the end, or until on_epoch raises; the state then stands at the last finished epoch."""
        while not self.finished:
            self.advance(on_epoch)

    def advance(self, on_epoch: Callable[[ClusteringTrainer], None] | None = None) -> None:
        """Train one epoch, in the next phase that has one; the last call finds none and finishes."""
        notify = on_epoch or (lambda trainer: None)
        while not self.finished:
            if self._optimizer is None:
                self._start_phase()
                notify(self)
            if self.epoch < self.epochs:
                self._train_epoch()
                notify(self)
                return
            self.phase_index, self.epoch, self._optimizer = self.phase_index + 1, 0, None

    def _start_phase(self) -> None:
        if self.phase == "warm_start":
            self.mixture_log_weights = initialise_from_mixture(self.model, self.x)
        if self.phase == "partition":
            order = order_clusters(self.model, self.x)
            if self.mixture_log_weights is not None:
                self.mixture_log_weights = self.mixture_log_weights[order]
        self._optimizer = self._make_optimizer()

    def _train_epoch(self) -> None:
        train_epoch = {"pretrain": self._pretrain, "warm_start": self._warm_start, "partition": self._partition}
        values = train_epoch[self.phase]()
        self.epoch += 1
        self.history.append({"phase": self.phase, "epoch": self.epoch, **values})
        if not all(math.isfinite(value) for value in values.values()):
            raise FloatingPointError(f"VariationalPartitionClustering.fit: training diverged, {self.history[-1]}")

    def state_dict(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": None if self._optimizer is None else self._optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "history": list(self.history),
            "mixture_log_weights": self.mixture_log_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.phase_index = (*PHASES, "finished").index(state["phase"])
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self.generator.set_state(state["generator"])
        self.history = list(state["history"])
        self.mixture_log_weights = state["mixture_log_weights"]
        self._optimizer = None
        if state["optimizer"] is not None:
            self._optimizer = self._make_optimizer()
            self._optimizer.load_state_dict(state["optimizer"])

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameter_groups(self.model, self.phase))

    def _batches(self) -> Iterator[Tensor]:
        """Shuffle and cut into batches of nearly equal size, about batch_size each.

        A small left-over batch would be a much noisier partition than the others.
        """
        count = max(1, round(len(self.x) / self.config.batch_size))
        order = torch.randperm(len(self.x), generator=self.generator)
        yield from order.tensor_split(count)

    def _decay(self) -> None:
        """Set the learning rate of this epoch."""
        assert self._optimizer is not None
        half_cosine(self._optimizer, self.epoch, self.epochs)

    def _step(self, loss: Tensor) -> None:
        assert self._optimizer is not None
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _pretrain(self) -> dict[str, float]:
        losses = []
        self._decay()
        for index in self._batches():
            loss = pretrain_loss(self.model, self.x[index], self.generator)
            self._step(loss)
            losses.append(float(loss.detach()))
        return {"loss": sum(losses) / len(losses)}

    def _warm_start(self) -> dict[str, float]:
        losses = []
        assert self.mixture_log_weights is not None
        self._decay()
        for index in self._batches():
            loss = warm_start_loss(self.model, self.x[index], self.mixture_log_weights)
            self._step(loss)
            losses.append(float(loss.detach()))
        return {"loss": sum(losses) / len(losses)}

    def _partition(self) -> dict[str, float]:
        """Maximise the bound; both heads learn through the partition."""
        self._decay()
        batches = list(self._batches())
        steps = self.epochs * len(batches)
        sums: dict[str, float] = {}
        for number, index in enumerate(batches):
            weights = annealed(self.config, self.epoch * len(batches) + number, steps)
            loss, terms = partition_loss(self.model, self.x[index], weights, self.generator)
            self._step(loss)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value / len(batches)
        # The bound with final weights, so that the curve does not show the annealing.
        final = annealed(self.config, 1, 1)
        sums["elbo"] = (
            sums["reconstruction"]
            - final.beta * sums["latent_kl"]
            - final.gamma * sums["size_term"]
            - final.delta * sums["order_term"]
        )
        return sums | {"score_scale": float(self.model.log_score_scale.detach().exp())}
