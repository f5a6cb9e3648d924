"""VAEs of several modalities, some of them missing, that share a latent space, subspaces of it, or learned parts.

Thesis chapters 3 (one joint space) and 4 (a shared and private subspaces), the objectives of peers
(`drpm.models.multimodal_objectives`), and chapter 5's partition of the latent dimensions
(`drpm.models.pattern_sharing`).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from drpm.data._reading import reading
from drpm.models.experts import GaussianMixture, Pooling
from drpm.models.likelihoods import Likelihood
from drpm.models.multimodal_objectives import OBJECTIVES, MultimodalBound
from drpm.models.multimodal_posterior import Experts, Posterior, SharingPosterior, SubspacePosterior
from drpm.models.pattern_sharing import BlockPooling, FixedSharing, SharingSelection
from drpm.ops._arguments import require
from drpm.training.checkpoint import write_checkpoint

_OP = "MultimodalVAE"
_FORMAT = "drpm.models.multimodal_vae/1"
_DECODED_AT_ONCE = 2048  # of the importance samples
_POOLING = {"mmJSD": "mixture", "MVTCAE": "product", "MMVAE+": "mixture", "MMVM": "mixture"}

Data = Mapping[str, Tensor]


class Modality(nn.Module):
    """How one modality is encoded and decoded.

    Args:
        encoder: data (N, *shape) to mean and log-variance, each (N, shared + private), the shared dimensions first.
        decoder: (N, shared + private) to what `likelihood` takes.
        likelihood: see `drpm.models.likelihoods`.
        shape: of a datum; its number of entries is |x_m| of Eq. 3.41.
        private: int >= 0, size of the modality's own subspace.
        weight: α_m > 0 of its log-likelihood (Eq. 3.40); None: by Eq. 3.41.
        beta: β_m >= 0 of its private divergence.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        shape: Sequence[int],
        *,
        private: int = 0,
        weight: float | None = None,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        require(private >= 0, "Modality", "private", "be >= 0", private)
        require(weight is None or weight > 0, "Modality", "weight", "be > 0", weight)
        require(beta >= 0, "Modality", "beta", "be >= 0", beta)
        require(all(size >= 1 for size in shape), "Modality", "shape", "have sizes >= 1", tuple(shape))
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.shape, self.private, self.weight, self.beta = tuple(shape), private, weight, beta

    @property
    def size(self) -> int:
        return torch.Size(self.shape).numel()


class MultimodalVAE(nn.Module):
    """One VAE over M named modalities.

        Σ_m α_m E_q log p(x_m | z, w_m) − β [KL(q(z | X) || p(z)) + β_MS Σ_m β_m KL(q(w_m | x_m) || p(w_m))]
                                                                                      (Eq. 3.40 and 4.3; priors N(0, I))

    Args:
        modalities: name -> `Modality`. Their order is that of columns of `observed`.
        shared: int >= 0, size of z; 0: unimodal VAEs side by side.
        objective: "elbo", "mmJSD", "MVTCAE", "MMVAE+" or "MMVM", see `drpm.models.multimodal_objectives`.
        pooling: q(z | X) of "elbo": `Pooling("product")` (PoE), "mixture" (MoE), "mixture of products" (MoPoE, default)
            and more. The other objectives have their own.
        kl: of "elbo": "bound" (Eq. 3.15, exact for a product) or "monte carlo" (`GaussianMixture.kl`).
        beta, beta_private: β and β_MS >= 0.
        sharing: `SharingSelection` or `FixedSharing` over z: each dimension is shared as its pattern says, blocks are
            pooled by `pooling.subsets`; "elbo" only.
        gamma: weight >= 0 of the partition's divergence.
        alpha: of MVTCAE, in [0, 1]; None: M / (M + 1).
        prior_share: π_0 in (0, 1) of mmJSD's prior; None: 1 / (observed + 1).
        precision: "float32" or "bf16": encoders and decoders compute in bfloat16 where torch.autocast lets them.

    Data are dicts name -> (B, *shape). What is missing is absent, or marked by `observed` (B, M) bool: such rows are
    neither encoded nor decoded nor read.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        shared: int,
        *,
        objective: str = "elbo",
        pooling: Pooling | None = None,
        kl: str = "bound",
        beta: float = 1.0,
        beta_private: float = 1.0,
        sharing: SharingSelection | FixedSharing | None = None,
        gamma: float = 1.0,
        alpha: float | None = None,
        prior_share: float | None = None,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        require(bool(modalities), _OP, "modalities", "name at least one", "none")
        require(shared >= 0, _OP, "shared", "be >= 0", shared)
        require(objective in OBJECTIVES, _OP, "objective", f"be one of {', '.join(OBJECTIVES)}", objective)
        plain = objective == "elbo"
        require(plain or pooling is None, _OP, "pooling", f"be None for {objective}", pooling)
        require(plain or sharing is None, _OP, "sharing", f"be None for {objective}", type(sharing).__name__)
        require(kl in ("bound", "monte carlo"), _OP, "kl", "be bound or monte carlo", kl)
        for name, value in (("beta", beta), ("beta_private", beta_private), ("gamma", gamma)):
            require(value >= 0, _OP, name, "be >= 0", value)
        require(alpha is None or 0 <= alpha <= 1, _OP, "alpha", "lie in [0, 1]", alpha)
        require(prior_share is None or 0 < prior_share < 1, _OP, "prior_share", "lie in (0, 1)", prior_share)
        require(precision in ("float32", "bf16"), _OP, "precision", "be float32 or bf16", precision)
        self.names = list(modalities)
        self.modalities = nn.ModuleDict(modalities)
        self.shared, self.objective, self.kl = shared, objective, kl
        self.beta, self.beta_private, self.gamma = beta, beta_private, gamma
        self.alpha = len(modalities) / (len(modalities) + 1) if alpha is None else alpha
        self.prior_share, self.precision = prior_share, precision
        self.pooling = pooling or Pooling(_POOLING.get(objective, "mixture of products"))
        largest = max(modality.size for modality in modalities.values())
        self.weights = [m.weight if m.weight is not None else largest / m.size for m in modalities.values()]
        self._add_sharing(sharing)
        if objective == "MMVAE+":
            sizes = {name: modality.private for name, modality in modalities.items()}
            self.auxiliary = nn.ParameterDict({name: torch.zeros(size) for name, size in sizes.items()})

    def _add_sharing(self, sharing: SharingSelection | FixedSharing | None) -> None:
        self.sharing = sharing
        self.blocks: BlockPooling | None = None
        if sharing is None:
            return
        require(sharing.latent == self.shared, _OP, "sharing", f"have {self.shared} dimensions", sharing.latent)
        modalities = sharing.patterns.modalities
        require(modalities == len(self.names), _OP, "sharing", f"have {len(self.names)} modalities", modalities)
        plain = isinstance(self.pooling.subsets, str) and self.pooling == Pooling(self.pooling.subsets)
        require(plain, _OP, "pooling", "be a plain product, mixture or mixture of products with sharing", self.pooling)
        self.blocks = BlockPooling(sharing.patterns, str(self.pooling.subsets))

    def each(self) -> Iterator[tuple[int, str, Modality]]:
        """Place, name and module of every modality."""
        for place, (name, modality) in enumerate(self.modalities.items()):
            assert isinstance(modality, Modality)
            yield place, name, modality

    # Data.

    def seen(self, x: Data, observed: Tensor | None = None, given: Sequence[str] | None = None) -> Tensor:
        """Which rows have which modality, (B, M) bool; with `given` only of these. Checks the data."""
        unknown = [name for name in [*x, *(given or ())] if name not in self.names]
        require(not unknown, _OP, "modalities", f"be some of {', '.join(self.names)}", ", ".join(map(str, unknown)))
        require(bool(x) and (given is None or bool(given)), _OP, "modalities", "be at least one", "none")
        distinct = given is None or len(set(given)) == len(given)
        require(distinct, _OP, "given", "not repeat a modality", given)
        rows = {len(x[name]) for name in x} if observed is None else {len(observed)}
        require(len(rows) == 1, _OP, "data", "have the same number of rows", sorted(rows))
        present = torch.zeros(rows.pop(), len(self.names), dtype=torch.bool)
        if observed is not None:
            shape = (len(present), len(self.names))
            fits = observed.dtype == torch.bool and tuple(observed.shape) == shape
            require(
                fits, _OP, "observed", f"be bool of shape (B, {shape[1]})", f"{observed.dtype} {tuple(observed.shape)}"
            )
        for place, name, modality in self.each():
            if name in x:
                present[:, place] = True if observed is None else observed[:, place].cpu()
            elif observed is not None:
                absent = not bool(observed[:, place].any())
                require(absent, _OP, "observed", f"be false for {name}, which is not in the data", True)
            if bool(present[:, place].any()):
                self._check(name, modality, x[name], present[:, place])
        if given is not None:
            present = present & torch.tensor([name in given for name in self.names])
        require(bool(present.any(-1).all()), _OP, "observed", "have something in every row", "a row with nothing")
        return present

    def _check(self, name: str, modality: Modality, x: Tensor, present: Tensor) -> None:
        shape = (len(present), *modality.shape)
        require(tuple(x.shape) == shape, _OP, name, f"have shape {shape}", tuple(x.shape))
        modality.likelihood.check(_OP, name, x if bool(present.all()) else x[present.to(x.device)])

    # Networks.

    @contextmanager
    def _networks(self, on: Tensor) -> Iterator[None]:
        with torch.autocast(on.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def encode(self, x: Data, observed: Tensor | None = None, given: Sequence[str] | None = None) -> Experts:
        """Experts of the modalities, each by itself; the standard normal where missing."""
        present = self.seen(x, observed, given)
        means, log_variances, private = [], [], []
        for place, name, modality in self.each():
            mean, log_variance = self._encoded(name, modality, x, present[:, place])
            means.append(mean)
            log_variances.append(log_variance)
        like = next(mean for mean in means if mean is not None)
        for place, (_, _, modality) in enumerate(self.each()):
            width = self.shared + modality.private
            for found in (means, log_variances):
                if found[place] is None:
                    found[place] = like.new_zeros(len(present), width)
            private.append((means[place][:, self.shared :], log_variances[place][:, self.shared :]))
        shared = [torch.stack([part[:, : self.shared] for part in parts], 1) for parts in (means, log_variances)]
        return Experts(shared[0], shared[1], private, present.to(like.device))

    def _encoded(self, name: str, modality: Modality, x: Data, present: Tensor) -> tuple[Any, Any]:
        rows = present.nonzero().flatten()
        if not len(rows):
            return None, None
        data, whole = x[name], len(rows) == len(present)
        with self._networks(data):
            found = modality.encoder(data if whole else data[rows.to(data.device)])
        width = self.shared + modality.private
        for part in found:
            fits = part.ndim == 2 and part.shape[1] == width
            require(fits, _OP, f"encoder of {name}", f"give (N, {width})", tuple(part.shape))
        parts = [_full_precision(part) for part in found]
        if not whole:
            parts = [part.new_zeros(len(present), width).index_copy(0, rows.to(part.device), part) for part in parts]
        return parts[0], parts[1]

    def decode(self, name: str, code: Tensor) -> Tensor:  # (N, shared + private)
        """What the decoder of a modality gives."""
        modality = self.modalities[name]
        assert isinstance(modality, Modality)
        with self._networks(code):
            return _full_precision(modality.decoder(code))

    def show(self, name: str, code: Tensor) -> Tensor:  # (N, shared + private)
        """A decoded modality in the form of its data."""
        modality = self.modalities[name]
        assert isinstance(modality, Modality)
        return modality.likelihood.mean(self.decode(name, code))

    def log_probs(self, x: Data, observed: Tensor, codes: Sequence[Tensor]) -> Tensor:
        """log p(x_m | code of m), 0 where missing.

        Args:
            observed: (B, M) bool.
            codes: M tensors (B, shared + private).
        Returns: (B, M).
        """
        found = []
        for place, name, modality in self.each():
            rows = observed[:, place].nonzero().flatten()
            code = codes[place]
            if len(rows) == len(observed):
                found.append(modality.likelihood.log_prob(self.decode(name, code), x[name]))
            elif len(rows):
                known = modality.likelihood.log_prob(self.decode(name, code[rows]), x[name][rows])
                found.append(known.new_zeros(len(observed)).index_copy(0, rows, known))
            else:
                found.append(code.new_zeros(len(observed)))
        return torch.stack(found, 1)

    # What the model does.

    def bound(
        self,
        x: Data,
        observed: Tensor | None = None,
        *,
        tau: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> MultimodalBound:
        """One-sample estimate of the objective, per row.

        Args:
            x: name -> (B, *shape).
            observed: (B, M) bool; None: all that is in `x`.
            tau: temperature of the relaxed partition, with `sharing`.
            generator: source of latent variables and of mixtures' draws; the partition's noise is torch's own.
        """
        return OBJECTIVES[self.objective](self, self.encode(x, observed), x, tau, generator)

    def posterior(self, x: Data, observed: Tensor | None = None, *, given: Sequence[str] | None = None) -> Posterior:
        """q(z, w | X_A) of the modalities in `given` (None: all that are observed), with a noise-free partition."""
        return self.posterior_of(self.encode(x, observed, given))

    def prior(self, rows: int) -> Posterior:
        """The posterior of nothing."""
        like = next(iter(self.parameters()))
        experts = Experts(
            like.new_zeros(rows, len(self.names), self.shared),
            like.new_zeros(rows, len(self.names), self.shared),
            [(like.new_zeros(rows, m.private), like.new_zeros(rows, m.private)) for _, _, m in self.each()],
            torch.zeros(rows, len(self.names), dtype=torch.bool, device=like.device),
        )
        return self.posterior_of(experts)

    def posterior_of(self, experts: Experts) -> Posterior:
        """`posterior`, of what `encode` gave."""
        if self.sharing is not None and self.blocks is not None:
            training = self.sharing.training
            self.sharing.eval()
            selection = self.sharing(experts.means, experts.log_variances, experts.observed)
            self.sharing.train(training)
            return SharingPosterior.of(experts, selection, self.blocks)
        nothing = not bool(experts.observed.any())
        if nothing:
            zeros = torch.zeros_like(experts.means[:, :1])
            return SubspacePosterior(experts, GaussianMixture(zeros, zeros, zeros.new_zeros(len(zeros), 1)))
        return SubspacePosterior(experts, self.pooling(experts.means, experts.log_variances, experts.observed))

    @torch.no_grad()
    def generate(
        self,
        x: Data | None = None,
        observed: Tensor | None = None,
        *,
        given: Sequence[str] | None = None,
        count: int = 1,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Decode every modality, from the posterior of what is given or from the prior.

        Args:
            x, observed: data to condition on; None: the prior.
            given: names to condition on; None: all that are in `x`; (): none.
            count: int >= 1, samples per row.
        Returns: name -> (count, B, …), without data (count, …): the decoders' means, symbols for text. Private parts of
            modalities that are not given come from their prior.
        """
        require(count >= 1, _OP, "count", "be >= 1", count)
        if not x or (given is not None and not given):
            codes, _ = self.prior(count).sample(1, generator)
            return {name: self.show(name, code[0]) for name, code in zip(self.names, codes, strict=True)}
        codes, _ = self.posterior(x, observed, given=given).sample(count, generator)
        shown = zip(self.names, codes, strict=True)
        return {name: self.show(name, code.flatten(0, 1)).unflatten(0, (count, -1)) for name, code in shown}

    @torch.no_grad()
    def log_likelihood(
        self,
        x: Data,
        observed: Tensor | None = None,
        *,
        given: Sequence[str] | None = None,
        samples: int = 12,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # -> (B,)
        """Importance-weighted estimate of log p(X) of all observed modalities, in nats.

            log 1/L Σ_l p(X | z_l, w_l) p(z_l, w_l) / q(z_l, w_l | X_A),  z, w ~ q(· | X_A)

        Private variables of modalities outside A come from their prior. A learned partition is taken without noise.

        Args:
            given: A; None: all.
            samples: int >= 1, L.
        Raises: ValueError for MMVM, whose prior depends on the data.
        """
        require(samples >= 1, _OP, "samples", "be >= 1", samples)
        require(self.objective != "MMVM", _OP, "objective", "have a prior for a likelihood", self.objective)
        present = self.seen(x, observed)
        x = {name: x[name] for place, name, _ in self.each() if bool(present[:, place].any())}
        found = []
        for rows in torch.arange(len(present)).split(max(1, _DECODED_AT_ONCE // samples)):
            part = {name: value[rows] for name, value in x.items()}
            posterior = self.posterior(part, present[rows], given=given)
            codes, drawn = posterior.sample(samples, generator)
            wide = {name: value.repeat(samples, *[1] * (value.ndim - 1)) for name, value in part.items()}
            log_probs = self.log_probs(wide, present[rows].repeat(samples, 1), [code.flatten(0, 1) for code in codes])
            weights = log_probs.sum(-1).unflatten(0, (samples, -1)) - posterior.log_ratio(drawn)
            found.append(weights.logsumexp(0) - torch.tensor(samples).log())
        return torch.cat(found)

    # Files.

    def _description(self) -> dict[str, Any]:
        return {
            "modalities": {name: [list(m.shape), m.private] for _, name, m in self.each()},
            "shared": self.shared,
            "objective": self.objective,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights to one file, atomically; the networks themselves are code."""
        write_checkpoint({"format": _FORMAT, "model": self._description(), "weights": self.state_dict()}, path)

    def load(self, path: str | os.PathLike[str]) -> "MultimodalVAE":
        """Take the weights that `save` wrote for a model built alike; give the model.

        Raises: ValueError when the file is damaged or comes from a model with other modalities or sizes.
        """
        op = f"{_OP}.load"
        with reading(op, path, "file of torch.save"):
            content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        require(found == _FORMAT, op, "file", f"have format {_FORMAT!r}", repr(found))
        same = content["model"] == self._description()
        require(same, op, "file", f"come from a model with {self._description()}", content["model"])
        self.load_state_dict(content["weights"])
        return self


def _full_precision(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 else x
