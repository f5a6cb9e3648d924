"""VaDE: its bound against the definition, gradients, prediction."""

import math

import torch

from drpm.models import ClusteringConfig, VariationalPartitionClustering
from drpm.models.vade import VaDE

SMALL = ClusteringConfig(
    num_features=6, num_clusters=3, latent_dim=2, hidden=(16, 16), image_shape=None, frozen_layers=1
)


def example() -> tuple[VaDE, torch.Tensor]:
    network = VariationalPartitionClustering(SMALL).double()
    with torch.no_grad():
        network.prior_log_variance.uniform_(-1.0, 1.0, generator=torch.Generator().manual_seed(0))
    x = torch.rand(7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return VaDE(network, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()), x


def test_responsibilities_are_bayes_rule() -> None:
    model, _ = example()
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    prior = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=model.logits),
        torch.distributions.Independent(
            torch.distributions.Normal(model.network.prior_mean, (0.5 * model.network.prior_log_variance).exp()), 1
        ),
    )
    joint = prior.component_distribution.log_prob(z[:, None]) + model.logits.log_softmax(-1)
    torch.testing.assert_close(model.responsibilities(z), (joint - prior.log_prob(z)[:, None]).exp())


def test_bound_is_the_sum_of_its_terms_and_its_divergences_are_not_negative() -> None:
    model, x = example()
    bound = model.bound(x, 0.7, torch.Generator().manual_seed(3))
    torch.testing.assert_close(bound.elbo, bound.reconstruction - 0.7 * (bound.latent_kl + bound.label_kl))
    assert bound.latent_kl >= 0.0
    assert bound.label_kl >= 0.0


def test_one_cluster_is_a_vae() -> None:
    # With one component of the mixture the bound is that of a Gaussian VAE with this component as prior.
    model, x = example()
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.0, -math.inf, -math.inf]))
    code = model.network(x)
    expected = model.network.latent_kl(code.mean, code.log_variance)[:, 0].mean()
    bound = model.bound(x, 1.0, torch.Generator().manual_seed(3))
    torch.testing.assert_close(bound.latent_kl, expected)


def test_everything_but_the_heads_is_trained() -> None:
    model, x = example()
    (-model.bound(x, 1.0, torch.Generator().manual_seed(3)).elbo).backward()
    trained = {id(p) for p in model.trained_parameters()}
    for name, parameter in model.named_parameters():
        heads = "size_head" in name or "score_head" in name or "log_score_scale" in name
        assert (id(parameter) in trained) == (not heads), name
        if not heads:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0.0, name


def test_prediction_is_the_most_probable_cluster() -> None:
    model, x = example()
    expected = model.responsibilities(model.network.embed(x)).argmax(-1)
    assert torch.equal(model.predict(x), expected)
