"""What determines a fit of VariationalPartitionClustering, and the schedules that follow from it."""

import dataclasses
import math
from typing import NamedTuple

from drpm.nn.schedules import Exponential
from drpm.ops._arguments import require

_OP = "ClusteringConfig"


@dataclasses.dataclass(frozen=True)
class ClusteringConfig:
    """Everything that determines a fit, apart from the data.

    Weights and temperatures are those of thesis A.4.1, but for beta; sizes of the networks and lengths of the phases
    are set for a dataset of a few thousand small images on a CPU. docs/demo.md says why.
    """

    # The model.
    num_features: int = 64
    num_clusters: int = 10
    latent_dim: int = 10
    hidden: tuple[int, ...] = (256, 256, 256, 512)
    image_shape: tuple[int, int] | None = (8, 8)
    feature_deviation: float | None = None  # of Gaussian features; None: Bernoulli, as for pixels
    conditionals: str = "merged"  # of the size model: "merged" or "exact"
    kl: str = "bound"  # between partition models: the thesis' "bound" or "exact", which needs exact conditionals
    kl_samples: int = 32  # draws per step of the exact KL
    estimator: str = "straight-through"  # of E_Y in the latent KL: or "score", "marginals" (drpm.estimators)
    sizes: str = "votes"  # log omega = log mean votes; "odds": their log-odds; "equal": zero, nothing learned
    seed: int = 0
    batch_size: int = 256
    precision: str = "float32"  # of the matrix products of encoder and decoder: "float32" or "bf16" (autocast)
    # Phase 1, the autoencoder. Without an image_shape: reconstruction only.
    pretrain_epochs: int = 120
    pretrain_learning_rate: float = 1e-3
    contrast_weight: float = 0.8
    contrast_temperature: float = 1.0
    contrast_views: int = 2  # random views that are contrasted; 1: the image itself and one view
    cluster_weight: float = 0.0  # of the contrast between clusters, relative to contrast_weight
    reconstruction_scale: float = 0.1  # brings nats per image to the size of the contrastive loss
    # Phase 2, the warm start.
    warm_start_epochs: int = 60
    score_scale: float = 20.0  # first value of lambda
    posterior_scale: float = 0.3  # first standard deviation of q(z | x), relative to that of a cluster
    # Phase 3, the partition.
    epochs: int = 150
    learning_rate: float = 1e-4
    head_rate: float = 1.0  # learning rate of the heads, relative to learning_rate
    sample_noise: bool = False  # False: the partition without noise; True: num_samples draws per step
    num_samples: int = 8
    augment: bool = True  # train on random views, where there is an image_shape
    amortisation: float = 1.0  # weight of the cross-entropy of the heads to the responsibilities
    vote_temperature_init: float = 1.0
    vote_temperature_final: float = 0.25
    frozen_layers: int = 3
    anneal_fraction: float = 0.4
    tau_init: float = 1.0
    tau_final: float = 0.5
    beta: float = 1.0
    gamma: float = 1.0
    delta: float = 0.001

    def __post_init__(self) -> None:
        """Check every field once, so that a bad value fails here and not in the middle of a fit."""
        for name in ("num_features", "num_clusters", "latent_dim", "batch_size", "num_samples"):
            require(getattr(self, name) >= 1, _OP, name, "be >= 1", getattr(self, name))
        for name in ("pretrain_epochs", "warm_start_epochs", "epochs"):
            require(getattr(self, name) >= 0, _OP, name, "be >= 0", getattr(self, name))
        for name in (
            "tau_init",
            "tau_final",
            "contrast_temperature",
            "score_scale",
            "posterior_scale",
            "vote_temperature_init",
            "vote_temperature_final",
        ):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, _OP, name, "be positive and finite", value)
        for name in (
            "beta",
            "gamma",
            "delta",
            "learning_rate",
            "pretrain_learning_rate",
            "reconstruction_scale",
            "cluster_weight",
            "head_rate",
            "amortisation",
        ):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, _OP, name, "be >= 0 and finite", value)
        for name in ("contrast_weight", "anneal_fraction"):
            require(0.0 <= getattr(self, name) <= 1.0, _OP, name, "lie in [0, 1]", getattr(self, name))
        require(len(self.hidden) >= 1 and min(self.hidden) >= 1, _OP, "hidden", "hold positive widths", self.hidden)
        require(
            0 <= self.frozen_layers <= len(self.hidden),
            _OP,
            "frozen_layers",
            f"lie in [0, {len(self.hidden)}]",
            self.frozen_layers,
        )
        deviation = self.feature_deviation
        positive = deviation is None or (math.isfinite(deviation) and deviation > 0)
        require(positive, _OP, "feature_deviation", "be None or positive and finite", deviation)
        require(self.precision in ("float32", "bf16"), _OP, "precision", "be 'float32' or 'bf16'", repr(self.precision))
        require(self.contrast_views in (1, 2), _OP, "contrast_views", "be 1 or 2", self.contrast_views)
        known = self.conditionals in ("merged", "exact")
        require(known, _OP, "conditionals", "be 'merged' or 'exact'", repr(self.conditionals))
        require(self.kl in ("bound", "exact"), _OP, "kl", "be 'bound' or 'exact'", repr(self.kl))
        known = self.estimator in ("straight-through", "score", "marginals")
        require(known, _OP, "estimator", "be 'straight-through', 'score' or 'marginals'", repr(self.estimator))
        require(
            self.sizes in ("votes", "odds", "equal"), _OP, "sizes", "be 'votes', 'odds' or 'equal'", repr(self.sizes)
        )
        if self.estimator != "straight-through":
            # The thesis' bound needs sampled sizes with a gradient, which only the straight-through partition has.
            require(self.kl == "exact", _OP, "kl", f"be 'exact' for estimator={self.estimator!r}", repr(self.kl))
        if self.kl == "exact":
            # Merged conditionals draw from another law than the one whose exact log-probability is taken.
            require(
                self.conditionals == "exact", _OP, "conditionals", "be 'exact' for kl='exact'", repr(self.conditionals)
            )
            require(self.kl_samples >= 2, _OP, "kl_samples", "be >= 2 for kl='exact'", self.kl_samples)
        if self.image_shape is not None:
            require(
                math.prod(self.image_shape) == self.num_features,
                _OP,
                "image_shape",
                f"multiply to num_features = {self.num_features}",
                self.image_shape,
            )


class BoundWeights(NamedTuple):
    """Temperature and weights at one training step (thesis A.4.1)."""

    tau: float
    beta: float
    gamma: float
    delta: float
    vote_temperature: float


def annealed(config: ClusteringConfig, step: int, steps: int) -> BoundWeights:
    """Give temperatures and weights at `step` of `steps`: exponential between their first and last values.

    tau and the weights reach their last values after `anneal_fraction` of the steps, the votes at the end.
    """
    anneal_steps = int(config.anneal_fraction * steps)
    rising = Exponential(0.1, 1.0, anneal_steps)(step)
    return BoundWeights(
        Exponential(config.tau_init, config.tau_final, anneal_steps)(step),
        config.beta * rising,
        config.gamma * rising,
        config.delta * rising,
        Exponential(config.vote_temperature_init, config.vote_temperature_final, steps)(step),
    )
