"""What a multimodal VAE maximises: the ELBOs of thesis chapters 3 to 5, and objectives of peers.

Each is called with the model, its experts, the data, the temperature of a relaxed partition and a generator. M stands
for the number of *observed* modalities of a row, q_m for their experts, p = N(0, I). α_m weighs log-likelihoods
everywhere (Eq. 3.40); private divergences are added as in Eq. 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from drpm.models.experts import GaussianMixture, Pooling, gaussian_kl, gaussian_log_density, subset_products
from drpm.models.multimodal_posterior import Experts, block_noise, normal_noise, sample_private
from drpm.models.pattern_sharing import draw_blocks, read_codes, sharing_kl

if TYPE_CHECKING:
    from drpm.models.multimodal_vae import MultimodalVAE

Data = Mapping[str, Tensor]


class MultimodalBound(NamedTuple):
    """Of each row, in nats: `objective` (B,), higher is better; `log_probs` (B, M), 0 where missing; `kl` (B,) of what
    is shared and `private_kl` (B,), Σ_m β_m KL; `regulariser` (B,), the partition's, and its `sizes` (B, K)."""

    objective: Tensor
    log_probs: Tensor
    kl: Tensor
    private_kl: Tensor
    regulariser: Tensor
    sizes: Tensor | None = None


def _bound(
    model: MultimodalVAE,
    log_probs: Tensor,
    kl: Tensor,
    private_kl: Tensor,
    *,
    scale: Tensor | float = 1.0,
    regulariser: Tensor | None = None,
    sizes: Tensor | None = None,
) -> MultimodalBound:
    weighted = (log_probs * log_probs.new_tensor(model.weights)).sum(-1) * scale
    objective = weighted - model.beta * (kl + model.beta_private * private_kl)
    if regulariser is None:
        return MultimodalBound(objective, log_probs, kl, private_kl, torch.zeros_like(objective))
    return MultimodalBound(objective - model.gamma * regulariser, log_probs, kl, private_kl, regulariser, sizes)


def _private_kl(model: MultimodalVAE, experts: Experts) -> Tensor:  # -> (B,), zero where missing
    parts = [
        modality.beta * gaussian_kl(*experts.private[place], 0.0, 0.0).sum(-1) for place, _, modality in model.each()
    ]
    return torch.stack(parts).sum(0)


def elbo(
    model: MultimodalVAE, experts: Experts, x: Data, tau: float, generator: torch.Generator | None
) -> MultimodalBound:
    """Σ E_q log p(x_m | z, w_m) − β KL(q || p): Eq. 3.11, 3.16, 3.23, 3.27, 4.3, and 5.86 with a partition.

    Weights of a mixture that depend on the experts (power means) get the score-function gradient of the reconstruction,
    with the mean of the other rows as baseline.
    """
    if model.sharing is not None:
        return _sharing_elbo(model, experts, x, tau, generator)
    mixture = model.pooling(experts.means, experts.log_variances, experts.observed)
    index = mixture.draw(1, generator)
    mean, log_variance = mixture.component(index)
    z = mean + (0.5 * log_variance).exp() * normal_noise(1, mean[0], generator)
    private = [w[0] for w in sample_private(experts, 1, generator)]
    log_probs = model.log_probs(x, experts.observed, [torch.cat([z[0], w], -1) for w in private])
    found = _bound(model, log_probs, mixture.kl(model.kl, z), _private_kl(model, experts))
    if not mixture.log_weights.requires_grad or len(z[0]) < 2:
        return found
    signal = (log_probs.detach() * log_probs.new_tensor(model.weights)).sum(-1)
    if model.kl == "monte carlo":
        signal = signal - model.beta * found.kl.detach()
    others = (signal.sum() - signal) / (len(signal) - 1)
    chosen = mixture.log_weights.gather(1, index[0].unsqueeze(-1)).squeeze(-1)
    return found._replace(objective=found.objective + (signal - others) * (chosen - chosen.detach()))


def _sharing_elbo(
    model: MultimodalVAE, experts: Experts, x: Data, tau: float, generator: torch.Generator | None
) -> MultimodalBound:
    assert model.sharing is not None and model.blocks is not None
    selection = model.sharing(experts.means, experts.log_variances, experts.observed, tau)
    posterior = model.blocks(experts.means, experts.log_variances, experts.observed)
    blocks = draw_blocks(posterior, model.blocks, block_noise(1, experts, generator), generator)[0]
    private = [w[0] for w in sample_private(experts, 1, generator)]
    codes = read_codes(blocks, selection.masks, model.blocks.patterns)
    joined = [torch.cat(parts, -1) for parts in zip(codes, private, strict=True)]
    log_probs = model.log_probs(x, experts.observed, joined)
    kl = sharing_kl(posterior, selection.masks, model.blocks.patterns)
    extra = {"regulariser": selection.regulariser, "sizes": selection.sizes}
    return _bound(model, log_probs, kl, _private_kl(model, experts), **extra)


def mmjsd(
    model: MultimodalVAE, experts: Experts, x: Data, tau: float, generator: torch.Generator | None
) -> MultimodalBound:
    """E_q Σ log p(x_m | z) − β Σ_ν π_ν KL(q_ν || f), ν = 0 … M, q_0 = p, q = Σ π_ν q_ν and the dynamic prior
    f ∝ ∏ q_ν^{π_ν} (Sutter, Daunhawer and Vogt 2020)."""
    present = experts.observed.to(experts.means)
    share = (
        1 / (present.sum(-1) + 1) if model.prior_share is None else present.new_full((len(present),), model.prior_share)
    )
    share = share.unsqueeze(-1)
    shares = torch.cat([share, (1 - share) * present / present.sum(-1, keepdim=True)], 1)  # (B, M + 1)
    zeros = torch.zeros_like(experts.means[:, :1])
    means, log_variances = (torch.cat([zeros, part], 1) for part in (experts.means, experts.log_variances))
    dynamic = subset_products(means, log_variances, shares, shares.new_ones(1, shares.shape[1]))
    kl = (shares * gaussian_kl(means, log_variances, *dynamic).sum(-1)).sum(-1)
    z = GaussianMixture(means, log_variances, shares.log()).sample(1, generator)[0]
    private = [w[0] for w in sample_private(experts, 1, generator)]
    log_probs = model.log_probs(x, experts.observed, [torch.cat([z, w], -1) for w in private])
    return _bound(model, log_probs, kl, _private_kl(model, experts))


def mvtcae(
    model: MultimodalVAE, experts: Experts, x: Data, tau: float, generator: torch.Generator | None
) -> MultimodalBound:
    """(M−α)/M E_q Σ log p(x_m | z) − β [(1−α) KL(q || p) + α/M Σ KL(q || q_m)], q the product (Hwang et al. 2021)."""
    joint = Pooling("product")(experts.means, experts.log_variances, experts.observed)
    z = joint.sample(1, generator)[0]
    private = [w[0] for w in sample_private(experts, 1, generator)]
    log_probs = model.log_probs(x, experts.observed, [torch.cat([z, w], -1) for w in private])
    present, alpha = experts.observed.to(z), model.alpha
    number = present.sum(-1)
    apart = gaussian_kl(joint.means, joint.log_variances, experts.means, experts.log_variances).sum(-1)  # (B, M)
    kl = (1 - alpha) * joint.kl("closed") + alpha / number * (present * apart).sum(-1)
    return _bound(model, log_probs, kl, _private_kl(model, experts), scale=(number - alpha) / number)


def mmvm(
    model: MultimodalVAE, experts: Experts, x: Data, tau: float, generator: torch.Generator | None
) -> MultimodalBound:
    """Σ E_{q_m} log p(x_m | z_m) − β Σ KL(q_m || h), h = (1/M) Σ q_n, each bounded by (1/M) Σ_n KL(q_m || q_n)
    (mixture-of-experts prior; Sutter et al. 2024)."""
    noise = block_noise(1, experts, generator)[0]
    z = experts.means + (0.5 * experts.log_variances).exp() * noise  # (B, M, d)
    private = [w[0] for w in sample_private(experts, 1, generator)]
    codes = [torch.cat([z[:, place], w], -1) for place, w in enumerate(private)]
    log_probs = model.log_probs(x, experts.observed, codes)
    means, log_variances = experts.means, experts.log_variances
    pairs = gaussian_kl(means.unsqueeze(2), log_variances.unsqueeze(2), means.unsqueeze(1), log_variances.unsqueeze(1))
    present = experts.observed.to(z)
    both = present.unsqueeze(2) * present.unsqueeze(1)  # (B, M, M)
    kl = (both * pairs.sum(-1)).sum((1, 2)) / present.sum(-1)
    return _bound(model, log_probs, kl, _private_kl(model, experts))


def mmvae_plus(
    model: MultimodalVAE, experts: Experts, x: Data, tau: float, generator: torch.Generator | None
) -> MultimodalBound:
    """log p(X | u, w) + β [log p(u, w_m) − log q(u | X) − log q(w_m | x_m)], u, w_m from one observed modality m, drawn
    for each row; the others' w_n from the learned r_n = N(0, diag s_n²); q(u | X) the mixture (Palumbo et al. 2023)."""
    mixture = Pooling("mixture")(experts.means, experts.log_variances, experts.observed)
    index = mixture.draw(1, generator)
    mean, log_variance = mixture.component(index)
    u = mean + (0.5 * log_variance).exp() * normal_noise(1, mean[0], generator)
    codes, private_kl = [], mean.new_zeros(len(mean[0]))
    for place, name, modality in model.each():
        own_mean, own_log_variance = experts.private[place]
        own = (index[0] == place).unsqueeze(-1)
        spread = torch.where(own, (0.5 * own_log_variance).exp(), (0.5 * model.auxiliary[name]).exp())
        w = torch.where(own, own_mean, 0.0) + spread * normal_noise(1, own_mean, generator)[0]
        codes.append(torch.cat([u[0], w], -1))
        ratio = gaussian_log_density(w, own_mean, own_log_variance) - gaussian_log_density(w, 0.0, 0.0)
        private_kl = private_kl + modality.beta * (own * ratio).sum(-1)
    log_probs = model.log_probs(x, experts.observed, codes)
    return _bound(model, log_probs, mixture.kl("monte carlo", u), private_kl)


Objective = Callable[["MultimodalVAE", Experts, Data, float, "torch.Generator | None"], MultimodalBound]
OBJECTIVES: dict[str, Objective] = {
    "elbo": elbo,
    "mmJSD": mmjsd,
    "MVTCAE": mvtcae,
    "MMVAE+": mmvae_plus,
    "MMVM": mmvm,
}
