"""Variational clustering with a differentiable random partition model (DRPM-VC).

The dataset is not a set of independent draws from a mixture: each batch is *partitioned*. An encoder gives every
element a Gaussian posterior q(z | x), a score and a vote for the subset sizes; the DRPM turns scores and votes into a
random partition Y of the whole batch; z is explained by the Gaussian of its subset, and x by a decoder.
Method: Sutter et al. 2023, "Differentiable Random Partition Models"; thesis section 5.3.1 and appendix A.4.1.
Terms, and every place where this deviates from the printed text: docs/demo.md.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import drpm.ops
from drpm.data._reading import reading
from drpm.estimators import PartitionKL, expectation, partition_kl, partition_kl_bound
from drpm.models.clustering_config import BoundWeights, ClusteringConfig
from drpm.models.clustering_trainer import ClusteringTrainer
from drpm.ops._arguments import require
from drpm.training.checkpoint import write_checkpoint

_FORMAT = "drpm.models.clustering/1"


class Encoding(NamedTuple):
    """What the encoder says about a batch of n elements."""

    mean: Tensor  # (n, d) of q(z | x)
    log_variance: Tensor  # (n, d) of q(z | x)
    log_omega: Tensor  # (K,) log of the batch-averaged votes for the sizes
    log_scores: Tensor  # (n,) Plackett-Luce log-scores
    size_votes: Tensor  # (n, K) logits
    score_votes: Tensor  # (n, K) logits, softmax of which is r
    hidden: Tensor  # (n, hidden[-1]) features that the heads read


class Bound(NamedTuple):
    """The bound on log p(X) and its terms, each per element, before weighting; higher `elbo` is better."""

    elbo: Tensor
    reconstruction: Tensor  # E log p(x | z), Eq. 5.68
    latent_kl: Tensor  # E_Y KL(q(z | x) || p(z | Y)), Eq. 5.69, weight beta
    # kl="bound": E log(|Pi_Y| q(n; omega(X)) / p(n)), Eq. 5.70, and E log(max_pi q(pi; s(X)) / p(pi_Y)), Eq. 5.71.
    # kl="exact": KL(q(n; omega(X)) || p(n)) and E log(q(Y | n; s(X)) / p(Y | n)), whose sum is the KL.
    size_term: Tensor  # weight gamma
    order_term: Tensor  # weight delta
    amortisation: Tensor  # cross-entropy of both heads to the responsibilities; not part of the bound


class VariationalPartitionClustering(nn.Module):
    """Cluster elements by learning a random partition of each batch.

    >>> model = VariationalPartitionClustering(ClusteringConfig(num_clusters=10, seed=0))
    >>> model.fit(images)                     # (N, 64) values in [0, 1], no labels
    >>> model.predict(images)                 # (N,) labels of the noise-free partition of each batch

    Gradient: the bound is differentiable with respect to every parameter; both heads (sizes and scores) learn through
    the straight-through partition.
    Reference: Sutter et al. 2023; thesis section 5.3.1, A.4.1.
    """

    def __init__(self, config: ClusteringConfig) -> None:
        super().__init__()
        self.config = config
        clusters, latent, hidden = config.num_clusters, config.latent_dim, config.hidden
        # The weights are drawn from config.seed without moving the caller's generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise((config.num_features, *hidden)))
            self.mean_head = nn.Linear(hidden[-1], latent)
            self.log_variance_head = nn.Linear(hidden[-1], latent)
            self.size_head = nn.Linear(hidden[-1], clusters)
            self.score_head = nn.Linear(hidden[-1], clusters)
            backwards = (latent, *hidden[:0:-1])
            self.decoder = nn.Sequential()
            for a, b in itertools.pairwise(backwards):
                self.decoder.extend([nn.Linear(a, b), nn.ReLU()])
            self.decoder.append(nn.Linear(backwards[-1], config.num_features))
            self.prior_mean = nn.Parameter(torch.randn(clusters, latent))
            # Of the contrast between clusters in the pre-training alone.
            self.contrast_head = nn.Linear(latent, clusters) if config.cluster_weight > 0.0 else None
        self.prior_log_variance = nn.Parameter(torch.zeros(clusters, latent))
        self.log_score_scale = nn.Parameter(torch.tensor(math.log(config.score_scale)))

    def hidden(self, x: Tensor) -> Tensor:  # (n, num_features) -> (n, hidden[-1])
        with self._autocast(x):
            for layer in self.layers:
                x = F.relu(layer(x))
        return x.to(self.prior_mean.dtype)

    def decode(self, z: Tensor) -> Tensor:  # (n, latent_dim) -> (n, num_features)
        """Give the logits of the pixels."""
        with self._autocast(z):
            logits = self.decoder(z)
        return logits.to(self.prior_mean.dtype)

    def reconstruction_loss(self, z: Tensor, x: Tensor) -> Tensor:  # (n, latent_dim), (n, num_features) -> ()
        """Sum -log p(x | z) over a batch: Bernoulli, or with config.feature_deviation Gaussian up to a constant."""
        logits, deviation = self.decode(z), self.config.feature_deviation
        if deviation is None:
            return F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return 0.5 * ((logits.sigmoid() - x) / deviation).square().sum()

    def _autocast(self, x: Tensor) -> torch.autocast:
        """Let encoder and decoder multiply in bfloat16 where the configuration says so; everything else does not."""
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def embed(self, x: Tensor) -> Tensor:  # (n, num_features) -> (n, latent_dim)
        """Give the posterior means of z."""
        return self.mean_head(self.hidden(x))

    def forward(self, x: Tensor, vote_temperature: float | None = None) -> Encoding:  # (n, num_features)
        """Encode a batch; vote_temperature (default: the final one) divides the logits of both heads.

        log omega = log v, v = mean_i softmax(size head)_i;   log s_i = -lambda sum_k k r_ik,  r = softmax(score head).
        The scores of a batch do not depend on each other; the sizes do.
        """
        hidden = self.hidden(x)
        temperature = vote_temperature or self.config.vote_temperature_final
        size_votes, score_votes = self.size_head(hidden) / temperature, self.score_head(hidden) / temperature
        log_omega = self.log_omega(size_votes)
        # lambda > 0 with the minus sign: the order is decreasing in the score, so r_k = 1 belongs to subset k.
        ranks = torch.arange(1, self.config.num_clusters + 1, dtype=x.dtype, device=x.device)
        log_scores = -self.log_score_scale.exp() * (score_votes.softmax(-1) @ ranks)
        return Encoding(
            self.mean_head(hidden),
            self.log_variance_head(hidden),
            log_omega,
            log_scores,
            size_votes,
            score_votes,
            hidden,
        )

    def log_omega(self, size_votes: Tensor) -> Tensor:  # (n, K) logits -> (K,)
        """Turn votes into the importances of the subsets, as config.sizes says.

        "votes" is the thesis' log v. As a subset can hold all n elements, its mean sizes are closer to equal than the
        votes: log omega = log v - log(1 - v), "odds", is where they are n v (to O(1)).
        """
        count, clusters = size_votes.shape
        if self.config.sizes == "equal" or clusters == 1:
            return size_votes.new_zeros(clusters)
        # logsumexp instead of log(mean(softmax)): a subset without votes keeps a finite log omega.
        log_votes = size_votes.log_softmax(-1)
        log_mean = log_votes.logsumexp(0) - math.log(max(1, count))
        if self.config.sizes == "votes":
            return log_mean
        others = [torch.cat([log_mean[:k], log_mean[k + 1 :]]).logsumexp(0) for k in range(clusters)]
        return log_mean - torch.stack(others)

    def latent_kl(self, mean: Tensor, log_variance: Tensor) -> Tensor:  # (n, d), (n, d) -> (n, K)
        """Give KL(N(mean, variance) || prior of cluster k) for each element and each cluster, closed form."""
        gap = (mean[:, None] - self.prior_mean).square() + log_variance.exp()[:, None]
        log_ratio = self.prior_log_variance - log_variance[:, None]
        return 0.5 * (log_ratio + gap * (-self.prior_log_variance).exp() - 1.0).sum(-1)

    def bound(self, x: Tensor, weights: BoundWeights, generator: torch.Generator | None = None) -> Bound:
        """Estimate the weighted bound on log p(X) of one batch (thesis Eq. A.33), per element.

        Args:
            x: (n, num_features) float, n >= 1, values in [0, 1].
            weights: temperature and weights of the terms.
            generator: source of z and of the seeds of the partitions.
        Returns: scalars; `elbo` carries the gradient of every parameter.
        """
        config, n = self.config, len(x)
        code = self(x, weights.vote_temperature)
        noise = torch.randn(code.mean.shape, generator=generator).to(code.mean)
        z = code.mean + (0.5 * code.log_variance).exp() * noise
        reconstruction = -self.reconstruction_loss(z, x)

        costs = self.latent_kl(code.mean, code.log_variance).T
        if config.estimator == "straight-through":
            partition = drpm.ops.random_partition(
                code.log_omega,
                code.log_scores,
                weights.tau,
                noise=config.sample_noise,
                conditionals=config.conditionals,
                sample_shape=(config.num_samples if config.sample_noise else 1,),
                generator=generator if config.sample_noise else None,
            )
            latent_kl = (partition.assignment * costs).sum((-2, -1)).mean()
        else:
            latent_kl = expectation(
                lambda assignment: (assignment * costs).sum((-2, -1)),
                code.log_omega,
                code.log_scores,
                method=config.estimator,
                samples=config.num_samples,
                generator=generator,
            )

        if config.kl == "exact":
            size_term, order_term = self.exact_kl(code, generator)
        else:
            size_term, order_term = self.kl_bound(code, partition.sizes)
        elbo = reconstruction - weights.beta * latent_kl - weights.gamma * size_term - weights.delta * order_term

        # The gradient through the partition only reaches the elements next to a boundary, and there its noise moves
        # whole clusters (a sort cannot tell equal scores apart). This keeps the heads close to what the priors say
        # about single elements; encoder and priors do not see it.
        with torch.no_grad():
            target = self.gaussian_log_density(code.mean).softmax(-1)
        hidden, temperature = code.hidden.detach(), weights.vote_temperature
        votes = torch.cat([self.size_head(hidden), self.score_head(hidden)]) / temperature
        amortisation = F.cross_entropy(votes, target.repeat(2, 1), reduction="sum")
        terms = (elbo, reconstruction, latent_kl, size_term, order_term, amortisation)
        return Bound(*(term / n for term in terms))

    def kl_bound(self, code: Encoding, sizes: Tensor) -> PartitionKL:
        """Give the thesis' bound on KL(q(Y | X) || p(Y)): its size and its order term (Eq. 5.70, 5.71).

        Args:
            sizes: (S, K) of sampled partitions, through which the size term carries the relaxation's gradient.
        """
        bound = partition_kl_bound(sizes, code.log_omega, code.log_scores, conditionals=self.config.conditionals)
        return PartitionKL(bound.sizes.mean(), bound.order)

    def exact_kl(self, code: Encoding, generator: torch.Generator | None = None) -> PartitionKL:
        """Estimate KL(q(Y | X) || p(Y)), exact log-probabilities at config.kl_samples draws of q; unbiased gradients.

        The prior p has equal weights and equal scores.
        """
        with torch.no_grad():
            drawn = drpm.ops.random_partition(
                code.log_omega, code.log_scores, sample_shape=(self.config.kl_samples,), generator=generator
            )
        prior_omega, prior_scores = torch.zeros_like(code.log_omega), torch.zeros_like(code.log_scores)
        return partition_kl(drawn.labels, code.log_omega, prior_omega, code.log_scores, prior_scores)

    def fit(
        self, x: Tensor, *, on_epoch: "Callable[[ClusteringTrainer], None] | None" = None
    ) -> "VariationalPartitionClustering":
        """Fit to unlabelled elements: pre-train, initialise, then train the partition.

        Args:
            x: (N, num_features) float32/float64 in [0, 1], N >= num_clusters.
            on_epoch: called after each epoch, and once at the start of each phase, with the trainer, whose
                `state_dict()` resumes the fit exactly.
        Returns: self.
        Raises: ValueError when x has another shape, is not finite or leaves [0, 1].
        """
        ClusteringTrainer(self, x).run(on_epoch)
        return self

    @torch.no_grad()
    def partition(
        self, x: Tensor, *, noise: bool = False, num_samples: int = 1, generator: torch.Generator | None = None
    ) -> "drpm.ops.Partition":
        """Partition one batch: `num_samples` draws, or (noise=False) the partition without noise.

        Args:
            x: (n, num_features), the whole batch; which subset an element joins depends on the others.
        Returns: Partition with leading dimension num_samples.
        """
        self._check("partition", x)
        code = self(x)
        return drpm.ops.random_partition(
            code.log_omega,
            code.log_scores,
            self.config.tau_final,
            noise=noise,
            conditionals=self.config.conditionals,
            sample_shape=(num_samples,),
            generator=generator if noise else None,
        )

    def predict(
        self,
        x: Tensor,
        *,
        batch_size: int | None = None,
        noise: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # (N,) int64
        """Label each element with its subset in the partition of its batch.

        Args:
            x: (N, num_features); cut, in the given order, into batches of nearly equal size.
            batch_size: largest batch, default config.batch_size.
            noise: False: the partition without noise; True: one sample.
        """
        self._check("predict", x)
        batch_size = self.config.batch_size if batch_size is None else batch_size
        require(batch_size >= 1, "VariationalPartitionClustering.predict", "batch_size", "be >= 1", batch_size)
        batches = split_evenly(x, batch_size)
        parts = [self.partition(batch, noise=noise, generator=generator).labels[0] for batch in batches]
        return torch.cat(parts)

    @torch.no_grad()
    def predict_gaussian(self, x: Tensor) -> Tensor:  # (N, num_features) -> (N,) int64
        """Label each element by itself: the cluster prior with the highest density at its posterior mean."""
        self._check("predict_gaussian", x)
        return self.gaussian_log_density(self.embed(x)).argmax(-1)

    def gaussian_log_density(self, z: Tensor) -> Tensor:  # (n, d) -> (n, K)
        """Give log p(z | cluster) up to a constant."""
        gap = (z[:, None] - self.prior_mean).square() * (-self.prior_log_variance).exp()
        return -0.5 * (gap + self.prior_log_variance).sum(-1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write configuration and weights to one file, atomically."""
        content = {"format": _FORMAT, "config": dataclasses.asdict(self.config), "weights": self.state_dict()}
        write_checkpoint(content, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "VariationalPartitionClustering":
        """Read a model that `save` wrote.

        Raises: ValueError when the file is damaged or holds something else.
        """
        with reading("VariationalPartitionClustering.load", path, "file of torch.save"):
            content = torch.load(path, weights_only=True)
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        require(
            found == _FORMAT, "VariationalPartitionClustering.load", "file", f"have format {_FORMAT!r}", repr(found)
        )
        model = cls(ClusteringConfig(**content["config"])).to(content["weights"]["prior_mean"].dtype)
        model.load_state_dict(content["weights"])
        return model

    def _check(self, method: str, x: Tensor, min_elements: int = 1) -> None:
        op, width = f"VariationalPartitionClustering.{method}", self.config.num_features
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{op}: x must be a floating-point tensor, got {kind}")
        shape = tuple(x.shape)
        require(x.ndim == 2 and shape[1] == width, op, "x", f"have shape (n, {width})", shape)
        require(shape[0] >= min_elements, op, "x", f"hold at least {min_elements} elements", shape[0])
        low, high = float(x.min()), float(x.max())
        require(0.0 <= low <= high <= 1.0, op, "x", "lie in [0, 1]", (low, high))


def split_evenly(x: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Cut along the first dimension into batches of at most batch_size whose sizes differ by at most one."""
    return x.tensor_split(max(1, math.ceil(len(x) / batch_size)))
