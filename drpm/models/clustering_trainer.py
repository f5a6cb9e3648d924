"""Training of PartitionClustering in three resumable phases: pretrain, warm_start, partition."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from drpm.models.clustering import PartitionClustering
from drpm.models.clustering_config import annealed
from drpm.models.contrastive import contrastive_loss, random_affine_views

PHASES = ("pretrain", "warm_start", "partition")

# The heads read features of an autoencoder that never saw them: they need larger steps than the rest, whose
# structure the partition phase must not tear.
_WARM_START_LEARNING_RATE = 1e-2


class ClusteringTrainer:
    """One fit of a model to unlabelled data, in a state that can be saved after every epoch and resumed exactly.

    Args:
        model: PartitionClustering; trained in place.
        x: (N, num_features) in [0, 1], N >= num_clusters.

    `phase`, `epoch` (finished ones of this phase), `epochs` and `history` (one dict per finished epoch) tell where it
    stands. All randomness comes from one generator seeded by config.seed.
    """

    def __init__(self, model: PartitionClustering, x: Tensor) -> None:
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

    def run(self, on_epoch: Callable[["ClusteringTrainer"], None] | None = None) -> None:
        """Train to the end, or until on_epoch raises; the state then stands at the last finished epoch."""
        notify = on_epoch or (lambda trainer: None)
        train_epoch = {"pretrain": self._pretrain, "warm_start": self._warm_start, "partition": self._partition}
        while not self.finished:
            if self._optimizer is None:
                if self.phase == "warm_start":
                    self._initialise_from_mixture()
                if self.phase == "partition":
                    self._order_clusters()
                self._optimizer = self._make_optimizer()
                notify(self)
            while self.epoch < self.epochs:
                values = train_epoch[self.phase]()
                self.epoch += 1
                self.history.append({"phase": self.phase, "epoch": self.epoch, **values})
                if not all(math.isfinite(value) for value in values.values()):
                    raise FloatingPointError(f"PartitionClustering.fit: training diverged, {self.history[-1]}")
                notify(self)
            self.phase_index, self.epoch, self._optimizer = self.phase_index + 1, 0, None

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
        model, config = self.model, self.config
        heads = [*model.size_head.parameters(), *model.score_head.parameters()]
        groups: list[dict[str, Any]]
        if self.phase == "pretrain":
            parts = (model.layers, model.mean_head, model.decoder)
            groups = [{"params": [p for part in parts for p in part.parameters()], "lr": config.pretrain_learning_rate}]
        elif self.phase == "warm_start":
            groups = [{"params": heads, "lr": _WARM_START_LEARNING_RATE}]
        else:
            heads.append(model.log_score_scale)
            left_out = {id(p) for layer in model.layers[: config.frozen_layers] for p in layer.parameters()}
            left_out |= {id(p) for p in heads}
            rest = [p for p in model.parameters() if id(p) not in left_out]
            groups = [
                {"params": rest, "lr": config.learning_rate},
                {"params": heads, "lr": config.learning_rate * config.head_rate},
            ]
        for group in groups:
            group["first_lr"] = group["lr"]
        return torch.optim.AdamW(groups)

    def _batches(self) -> Iterator[Tensor]:
        """Shuffle and cut into batches of nearly equal size, about batch_size each.

        A small left-over batch would be a much noisier partition than the others.
        """
        count = max(1, round(len(self.x) / self.config.batch_size))
        order = torch.randperm(len(self.x), generator=self.generator)
        yield from order.tensor_split(count)

    def _decay(self) -> None:
        """Set the learning rate of this epoch: half a cosine from its first value to zero."""
        assert self._optimizer is not None
        for group in self._optimizer.param_groups:
            group["lr"] = group["first_lr"] * 0.5 * (1.0 + math.cos(math.pi * self.epoch / self.epochs))

    def _step(self, loss: Tensor) -> None:
        assert self._optimizer is not None
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _pretrain(self) -> dict[str, float]:
        """Train the autoencoder: reconstruction, and similar embeddings for two random views of an image."""
        model, config, losses = self.model, self.config, []
        contrast = config.contrast_weight if config.image_shape is not None else 0.0
        self._decay()
        for index in self._batches():
            batch = self.x[index]
            views = [batch]
            if config.image_shape is not None and contrast > 0.0:
                views += [random_affine_views(batch, config.image_shape, generator=self.generator) for _ in range(2)]
            embedded = model.embed(torch.cat(views)).chunk(len(views))
            decoded = model.decoder(embedded[0])
            reconstruction = F.binary_cross_entropy_with_logits(decoded, batch, reduction="sum") / len(batch)
            loss = (1.0 - contrast) * config.reconstruction_scale * reconstruction
            if len(views) == 3:
                loss = loss + contrast * contrastive_loss(embedded[1], embedded[2], config.contrast_temperature)
            self._step(loss)
            losses.append(float(loss.detach()))
        return {"loss": sum(losses) / len(losses)}

    @torch.no_grad()
    def _initialise_from_mixture(self) -> None:
        """Standardise the latent space, fit a Gaussian mixture in it and make its components the cluster priors."""
        model, config = self.model, self.config
        z = model.embed(self.x)
        centre = z.mean(0)
        spread = (z - centre).square().mean().sqrt()
        # The contrastive loss leaves the scale of z free (it came out near 0.05), but step sizes and the initial
        # posterior variance are absolute. Both linear maps around z absorb the change; the autoencoder stays the same.
        model.mean_head.bias.sub_(centre).div_(spread)
        model.mean_head.weight.div_(spread)
        first = model.decoder[0]
        assert isinstance(first, torch.nn.Linear)
        first.bias.add_(first.weight @ centre)
        first.weight.mul_(spread)

        z = model.embed(self.x)
        log_weights, means, variances = fit_gaussian_mixture(z, config.num_clusters, config.seed)
        model.prior_mean.copy_(means)
        model.prior_log_variance.copy_(variances.log())
        self.mixture_log_weights = log_weights.to(z)
        # Posteriors start narrower than their clusters, or sampling z would blur what pre-training separated.
        model.log_variance_head.weight.zero_()
        model.log_variance_head.bias.fill_(float(variances.mean().log()) + 2.0 * math.log(config.posterior_scale))

    def _warm_start(self) -> dict[str, float]:
        """Teach both heads the responsibilities of the mixture; the encoder stays as it is."""
        model, losses = self.model, []
        assert self.mixture_log_weights is not None
        self._decay()
        for index in self._batches():
            with torch.no_grad():
                hidden = model.hidden(self.x[index])
                density = model.gaussian_log_density(model.mean_head(hidden))
                target = (density + self.mixture_log_weights).softmax(-1)
            loss = F.cross_entropy(model.size_head(hidden), target) + F.cross_entropy(model.score_head(hidden), target)
            self._step(loss)
            losses.append(float(loss.detach()))
        return {"loss": sum(losses) / len(losses)}

    @torch.no_grad()
    def _order_clusters(self) -> None:
        """Renumber the clusters so that those which are confused with each other get neighbouring numbers.

        The score is one number: an element that hesitates between subsets 2 and 7 lands among those between them, and
        pushes every boundary on its way by one. Between neighbours it can only land in one of its two candidates.
        """
        model = self.model
        votes = model(self.x, self.config.vote_temperature_init).score_votes.softmax(-1)
        affinity = votes.T @ votes
        order = linear_arrangement(affinity.fill_diagonal_(0.0))
        for head in (model.size_head, model.score_head):
            head.weight.copy_(head.weight[order])
            head.bias.copy_(head.bias[order])
        model.prior_mean.copy_(model.prior_mean[order])
        model.prior_log_variance.copy_(model.prior_log_variance[order])
        if self.mixture_log_weights is not None:
            self.mixture_log_weights = self.mixture_log_weights[order]

    def _partition(self) -> dict[str, float]:
        """Maximise the bound; both heads learn through the partition."""
        self._decay()
        batches = list(self._batches())
        steps = self.epochs * len(batches)
        sums: dict[str, float] = {}
        for number, index in enumerate(batches):
            weights = annealed(self.config, self.epoch * len(batches) + number, steps)
            batch = self.x[index]
            if self.config.augment and self.config.image_shape is not None:
                batch = random_affine_views(batch, self.config.image_shape, noise=0.0, generator=self.generator)
                batch = batch.clamp(0.0, 1.0)
            bound = self.model.bound(batch, weights, self.generator)
            self._step(self.config.amortisation * bound.amortisation - bound.elbo)
            for name, value in bound._asdict().items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(batches)
        # The bound with final weights, so that the curve does not show the annealing.
        final = annealed(self.config, 1, 1)
        sums["elbo"] = (
            sums["reconstruction"]
            - final.beta * sums["latent_kl"]
            - final.gamma * sums["size_term"]
            - final.delta * sums["order_term"]
        )
        return sums | {"score_scale": float(self.model.log_score_scale.detach().exp())}


def fit_gaussian_mixture(z: Tensor, num_clusters: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a diagonal Gaussian mixture, the best of 20 starts.

    Args:
        z: (N, d).
    Returns: log weights (K,), means (K, d), variances (K, d).
    Raises: ModuleNotFoundError when scikit-learn is missing.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("PartitionClustering.fit: needs scikit-learn; pip install 'drpm[demo]'") from error
    mixture = GaussianMixture(
        num_clusters, covariance_type="diag", n_init=20, reg_covar=1e-4, max_iter=300, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(z.double().numpy())
    fields = (mixture.weights_, mixture.means_, mixture.covariances_)
    weights, means, variances = (torch.from_numpy(field).to(z) for field in fields)
    return weights.log(), means, variances


def linear_arrangement(affinity: Tensor) -> list[int]:  # (K, K) symmetric
    """Order K items so that strongly linked ones stand near each other.

    min over orders of sum_{k, l} affinity_kl |position_k - position_l|

    The cost is the sum, over every place where the order can be cut, of the affinity across the cut: exact dynamic
    programming over sets for K <= 12; beyond, the order of the second eigenvector of the Laplacian.
    """
    count = len(affinity)
    if count > 12:
        laplacian = torch.diag(affinity.sum(1)) - affinity
        return torch.linalg.eigh(laplacian).eigenvectors[:, 1].argsort().tolist()
    links = affinity.double().tolist()
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for chosen in range(1, 1 << count):
        inside = [k for k in range(count) if chosen >> k & 1]
        outside = [k for k in range(count) if not chosen >> k & 1]
        cut = sum(links[k][other] for k in inside for other in outside)
        cost, last = min((best[chosen & ~(1 << k)][0], k) for k in inside)
        best[chosen] = (cost + cut, [*best[chosen & ~(1 << last)][1], last])
    return best[(1 << count) - 1][1]
