"""VariationalPartitionClustering: the bound and its gradients, fitting, prediction, files, bad input."""

import dataclasses
import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

pytest.importorskip("sklearn")

import drpm.ops
from drpm.distributions import RandomPartition
from drpm.models import ClusteringConfig, VariationalPartitionClustering
from drpm.models.cluster_scores import match_clusters, score_clusters
from drpm.models.clustering import Encoding, split_evenly
from drpm.models.clustering_config import annealed
from drpm.models.clustering_phases import fit_gaussian_mixture, linear_arrangement, parameter_groups
from drpm.models.clustering_trainer import ClusteringTrainer
from drpm.models.contrastive import cluster_contrastive_loss, contrastive_loss, random_affine_views

SMALL = ClusteringConfig(
    num_features=12,
    num_clusters=3,
    latent_dim=2,
    hidden=(24, 24),
    image_shape=None,
    batch_size=30,
    pretrain_epochs=20,
    warm_start_epochs=60,
    epochs=5,
    num_samples=3,
    frozen_layers=1,
)


def blobs(n: int = 90, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three clouds in [0, 1]^12, far apart: a third of the coordinates is bright in each."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(n) % 3)[torch.randperm(n, generator=generator)]
    bright = torch.nn.functional.one_hot(labels, 3).repeat_interleave(4, dim=1)
    noise = torch.randn(n, 12, generator=generator)
    return (0.15 + 0.7 * bright + 0.05 * noise).clamp(0.0, 1.0), labels


@pytest.fixture(scope="module")
def fitted() -> VariationalPartitionClustering:
    return VariationalPartitionClustering(SMALL).fit(blobs()[0])


def test_shapes() -> None:
    model, x = VariationalPartitionClustering(SMALL), blobs(17)[0]
    code = model(x)
    assert code.mean.shape == code.log_variance.shape == (17, 2)
    assert code.log_omega.shape == (3,)
    assert code.log_scores.shape == (17,)
    assert model.latent_kl(code.mean, code.log_variance).shape == (17, 3)
    part = model.partition(x, noise=True, num_samples=4, generator=torch.Generator().manual_seed(0))
    assert part.assignment.shape == (4, 3, 17)
    assert part.sizes.sum(-1).tolist() == [17.0] * 4
    assert model.predict(x).shape == model.predict_gaussian(x).shape == (17,)


def test_omega_is_the_log_of_the_batch_averaged_softmax() -> None:
    model, x = VariationalPartitionClustering(SMALL).double(), blobs(17)[0].double()
    code = model(x)
    torch.testing.assert_close(code.log_omega, code.size_votes.softmax(-1).mean(0).log())


def test_odds_of_the_votes_make_the_mean_sizes_their_shares_of_the_elements() -> None:
    x = blobs(60)[0].double()
    models = {
        sizes: VariationalPartitionClustering(dataclasses.replace(SMALL, sizes=sizes)).double()
        for sizes in ("votes", "odds", "equal")
    }
    mean = {}
    for sizes, model in models.items():
        with torch.no_grad():
            model.size_head.bias.copy_(torch.tensor([0.3, 0.0, -0.3]))
        code = model(x)
        mean[sizes] = drpm.ops.mvhg_mean(code.log_omega, 60, 60)
        votes = 60 * code.size_votes.softmax(-1).mean(0)
    torch.testing.assert_close(mean["odds"], votes, rtol=0.0, atol=0.5)
    assert (mean["equal"] - 20.0).abs().max() < 1e-9
    # The thesis' log of the votes stays closer to equal sizes.
    assert mean["votes"][0] < votes[0] - 3.0
    assert mean["votes"][2] > votes[2] + 1.0


@pytest.mark.parametrize("estimator", ["score", "marginals"])
def test_estimators_of_the_latent_kl_agree_with_the_marginals(estimator: str) -> None:
    config = dataclasses.replace(EXACT_KL, score_scale=1.0, estimator=estimator, num_samples=4000)
    model, x = VariationalPartitionClustering(config).double(), blobs(9)[0].double()
    weights = annealed(SMALL, 9, 10)
    code = model(x, weights.vote_temperature)
    marginals = drpm.ops.partition_marginals(code.log_omega, code.log_scores)
    expected = (marginals * model.latent_kl(code.mean, code.log_variance).T).sum() / 9
    wanted = torch.autograd.grad(expected, [model.size_head.weight, model.prior_mean])
    found = model.bound(x, weights, torch.Generator().manual_seed(0)).latent_kl
    got = torch.autograd.grad(found, [model.size_head.weight, model.prior_mean])
    exact = estimator == "marginals"
    torch.testing.assert_close(found, expected, rtol=1e-9 if exact else 0.02, atol=0.0)
    for a, b in zip(got, wanted, strict=True):
        assert (a - b).norm() <= (1e-9 if exact else 0.25) * b.norm()


def test_gaussian_features_have_the_gaussian_loss() -> None:
    model = VariationalPartitionClustering(dataclasses.replace(SMALL, feature_deviation=0.2)).double()
    x, z = blobs(5)[0].double(), torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normal = torch.distributions.Normal(model.decode(z).sigmoid(), 0.2)
    constant = x.numel() * (math.log(0.2) + 0.5 * math.log(2.0 * math.pi))
    torch.testing.assert_close(model.reconstruction_loss(z, x), -normal.log_prob(x).sum() - constant)


def test_bf16_rounds_the_networks_only() -> None:
    single = VariationalPartitionClustering(SMALL)
    half = VariationalPartitionClustering(dataclasses.replace(SMALL, precision="bf16"))
    half.load_state_dict(single.state_dict())
    x = blobs(40)[0]
    for name in ("mean", "log_scores", "log_omega"):
        a, b = getattr(single(x), name), getattr(half(x), name)
        assert b.dtype == torch.float32
        assert 0.0 < (a - b).abs().max() <= 0.02 * a.abs().max(), name
    bound = half.bound(x, annealed(SMALL, 3, 10), torch.Generator().manual_seed(0))
    bound.elbo.backward()
    assert all(value.dtype == torch.float32 for value in bound)
    assert half.prior_mean.grad is not None and half.prior_mean.grad.dtype == torch.float32


def test_frozen_layers_get_no_gradient() -> None:
    model = VariationalPartitionClustering(SMALL)
    parameter_groups(model, "partition")
    assert [p.requires_grad for layer in model.layers for p in layer.parameters()] == [False, False, True, True]


def test_cluster_contrast_prefers_matching_and_equally_large_clusters() -> None:
    sharp = torch.eye(4).repeat(5, 1) * 0.96 + 0.01
    matching = cluster_contrastive_loss(sharp, sharp, 1.0)
    assert matching < cluster_contrastive_loss(sharp, sharp.roll(1, 0), 1.0)
    lumped = torch.tensor([0.97, 0.01, 0.01, 0.01]).expand(20, 4)
    assert matching < cluster_contrastive_loss(lumped, lumped, 1.0)
    # Equally large clusters: nothing is added to the contrast.
    torch.testing.assert_close(matching, contrastive_loss(sharp.T, sharp.T, 1.0))


def test_scores_put_the_first_subset_first() -> None:
    model, x = VariationalPartitionClustering(SMALL).double(), blobs(17)[0].double()
    code = model(x)
    ranks = torch.arange(1, 4, dtype=torch.float64)
    expected = -SMALL.score_scale * (code.score_votes.softmax(-1) * ranks).sum(-1)
    torch.testing.assert_close(code.log_scores, expected)


def test_latent_kl_agrees_with_torch_distributions() -> None:
    model, x = VariationalPartitionClustering(SMALL).double(), blobs(5)[0].double()
    with torch.no_grad():
        model.prior_log_variance.uniform_(-1.0, 1.0)
    code = model(x)
    posterior = torch.distributions.Normal(code.mean[:, None], (0.5 * code.log_variance[:, None]).exp())
    prior = torch.distributions.Normal(model.prior_mean, (0.5 * model.prior_log_variance).exp())
    expected = torch.distributions.kl_divergence(posterior, prior).sum(-1)
    torch.testing.assert_close(model.latent_kl(code.mean, code.log_variance), expected)


EXACT_KL = dataclasses.replace(SMALL, conditionals="exact", kl="exact")


@pytest.mark.parametrize("kl", ["bound", "exact"])
@pytest.mark.parametrize("sample_noise", [False, True])
def test_gradients_reach_both_heads_and_are_finite(sample_noise: bool, kl: str) -> None:
    config = SMALL if kl == "bound" else EXACT_KL
    model = VariationalPartitionClustering(dataclasses.replace(config, sample_noise=sample_noise, score_scale=1.0))
    x = blobs()[0]
    bound = model.bound(x, annealed(SMALL, 3, 10), torch.Generator().manual_seed(0))
    (-bound.elbo).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0.0, name


@pytest.mark.parametrize("head", ["size_head", "score_head"])
def test_the_partition_itself_trains_each_head(head: str) -> None:
    # Only the latent KL depends on the assignment: with the other weights at zero, all of a head's gradient has come
    # through Y.
    model, x = VariationalPartitionClustering(dataclasses.replace(SMALL, score_scale=1.0)), blobs()[0]
    weights = annealed(SMALL, 3, 10)._replace(gamma=0.0, delta=0.0)
    (-model.bound(x, weights, torch.Generator().manual_seed(0)).elbo).backward()
    gradient = getattr(model, head).weight.grad
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0.0


@pytest.mark.parametrize("config", [SMALL, EXACT_KL], ids=["bound", "exact"])
def test_bound_is_the_weighted_sum_of_its_terms(config: ClusteringConfig) -> None:
    model, x, weights = VariationalPartitionClustering(config), blobs()[0], annealed(config, 3, 10)
    bound = model.bound(x, weights, torch.Generator().manual_seed(0))
    expected = (
        bound.reconstruction
        - weights.beta * bound.latent_kl
        - weights.gamma * bound.size_term
        - weights.delta * bound.order_term
    )
    torch.testing.assert_close(bound.elbo, expected)
    assert bound.latent_kl >= 0.0
    assert bound.order_term >= 0.0


def enumerated_kl_terms(code: Encoding) -> Tensor:
    """KL(q(n) || p(n)) and E log(q(Y | n) / p(Y | n)) by enumeration; p has equal weights and scores."""
    n, clusters = len(code.log_scores), len(code.log_omega)
    labels = RandomPartition(code.log_omega, code.log_scores).enumerate_support()
    sizes = torch.nn.functional.one_hot(labels, clusters).sum(-2)
    log_q = drpm.ops.random_partition_log_prob(labels, code.log_omega, code.log_scores)
    log_q_sizes = drpm.ops.mvhg_log_prob(sizes, code.log_omega, n, n)
    log_p_sizes = drpm.ops.mvhg_log_prob(sizes, torch.zeros_like(code.log_omega), n, n)
    log_p_given_sizes = torch.lgamma(sizes + 1.0).sum(-1) - math.lgamma(n + 1.0)
    ratios = torch.stack([log_q_sizes - log_p_sizes, log_q - log_q_sizes - log_p_given_sizes])
    return (log_q.exp() * ratios).sum(-1)


def test_exact_kl_is_unbiased_for_the_enumerated_kl_and_its_gradient() -> None:
    # n = 6, K = 3: 729 partitions. A correct estimator fails with probability FAILURE_RATE (normal approximation).
    failure_rate, replicates = 1e-4, 10000
    model = VariationalPartitionClustering(dataclasses.replace(EXACT_KL, score_scale=1.0, kl_samples=8)).double()
    code = model(blobs()[0][:6].double())
    code = code._replace(
        log_omega=torch.tensor([0.8, 0.0, -0.7], dtype=torch.float64, requires_grad=True),
        log_scores=(3.0 * code.log_scores.detach()).requires_grad_(),
    )
    want = enumerated_kl_terms(code)
    want_grads = [torch.autograd.grad(term, (code.log_omega, code.log_scores), retain_graph=True) for term in want]

    batch = code._replace(
        log_omega=code.log_omega.detach().expand(replicates, -1).clone().requires_grad_(),
        log_scores=code.log_scores.detach().expand(replicates, -1).clone().requires_grad_(),
    )
    inputs = (batch.log_omega, batch.log_scores)
    size_term, order_term = model.exact_kl(batch, torch.Generator().manual_seed(1))
    torch.testing.assert_close(size_term, want[0].expand_as(size_term))
    grads = torch.autograd.grad(size_term.sum(), inputs, allow_unused=True)
    torch.testing.assert_close(grads[0], want_grads[0][0].expand_as(grads[0]))
    assert grads[1] is None
    assert want_grads[0][1].abs().max() < 1e-12

    grads = torch.autograd.grad(order_term.sum(), inputs)
    checked = [(order_term[:, None], want[1]), *zip(grads, want_grads[1], strict=True)]
    limit = NormalDist().inv_cdf(1.0 - failure_rate / (2 * sum(got.shape[-1] for got, _ in checked)))
    for got, wanted in checked:
        z = (got.mean(0) - wanted.detach()) / (got.std(0) / math.sqrt(replicates))
        assert z.abs().max() < limit


def test_exact_kl_of_the_prior_itself_is_zero() -> None:
    model = VariationalPartitionClustering(EXACT_KL).double()
    code = model(blobs(20)[0].double())
    code = code._replace(log_omega=torch.full_like(code.log_omega, 0.3), log_scores=torch.ones_like(code.log_scores))
    for term in model.exact_kl(code):
        assert abs(float(term)) < 1e-10


def test_training_with_the_exact_kl_finds_separable_data() -> None:
    model = VariationalPartitionClustering(EXACT_KL).fit(blobs()[0])
    x, labels = blobs(60, seed=1)
    assert score_clusters(labels, model.predict(x), 3)["ari"] > 0.7


def test_amortisation_trains_the_heads_only() -> None:
    model, x = VariationalPartitionClustering(SMALL), blobs()[0]
    model.bound(x, annealed(SMALL, 3, 10), torch.Generator().manual_seed(0)).amortisation.backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {"size_head.weight", "size_head.bias", "score_head.weight", "score_head.bias"}


def test_schedules_run_between_their_ends() -> None:
    config = dataclasses.replace(SMALL, anneal_fraction=0.5)
    first, half, last = (annealed(config, step, 100) for step in (0, 50, 100))
    assert first.tau == config.tau_init
    assert half.tau == last.tau == config.tau_final
    for name in ("beta", "gamma", "delta"):
        assert getattr(first, name) == pytest.approx(0.1 * getattr(config, name))
        assert getattr(last, name) == getattr(config, name)
    assert first.vote_temperature == config.vote_temperature_init
    assert last.vote_temperature == pytest.approx(config.vote_temperature_final)


def test_separable_data_are_found(fitted: VariationalPartitionClustering) -> None:
    x, labels = blobs(60, seed=1)
    assert score_clusters(labels, fitted.predict(x), 3)["ari"] > 0.7
    assert score_clusters(labels, fitted.predict_gaussian(x), 3)["ari"] > 0.9


def test_same_seed_same_model(fitted: VariationalPartitionClustering) -> None:
    torch.manual_seed(123)
    again = VariationalPartitionClustering(SMALL).fit(blobs()[0])
    for name, value in fitted.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_fit_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    VariationalPartitionClustering(dataclasses.replace(SMALL, pretrain_epochs=1, warm_start_epochs=1, epochs=1)).fit(
        blobs()[0]
    )
    assert torch.equal(before, torch.get_rng_state())


def test_saved_model_predicts_the_same(fitted: VariationalPartitionClustering, tmp_path) -> None:
    x = blobs(60, seed=1)[0]
    fitted.save(tmp_path / "model.pt")
    loaded = VariationalPartitionClustering.load(tmp_path / "model.pt")
    assert loaded.config == fitted.config
    assert torch.equal(loaded.predict(x), fitted.predict(x))
    assert torch.equal(loaded.predict_gaussian(x), fitted.predict_gaussian(x))


def test_models_of_0_1_0_load(tmp_path) -> None:
    """`drpm.models.PartitionClustering` of 0.1.0 wrote these names; they are written out here on purpose."""
    widths = {"layers.0": (12, 6), "layers.1": (6, 5), "decoder.0": (2, 5), "decoder.2": (5, 12)}
    widths |= {"mean_head": (5, 2), "log_variance_head": (5, 2), "size_head": (5, 3), "score_head": (5, 3)}
    weights = {f"{name}.weight": torch.randn(out, into) for name, (into, out) in widths.items()}
    weights |= {f"{name}.bias": torch.randn(out) for name, (_, out) in widths.items()}
    weights |= {"prior_mean": torch.randn(3, 2), "prior_log_variance": torch.zeros(3, 2)}
    weights["log_score_scale"] = torch.tensor(3.0)
    config = {
        "num_features": 12, "num_clusters": 3, "latent_dim": 2, "hidden": (6, 5), "image_shape": None,
        "feature_deviation": None, "conditionals": "exact", "kl": "exact", "kl_samples": 32,
        "estimator": "straight-through", "sizes": "votes", "seed": 0, "batch_size": 7, "precision": "float32",
        "pretrain_epochs": 120, "pretrain_learning_rate": 1e-3, "contrast_weight": 0.8, "contrast_temperature": 1.0,
        "contrast_views": 2, "cluster_weight": 0.0, "reconstruction_scale": 0.1, "warm_start_epochs": 60,
        "score_scale": 20.0, "posterior_scale": 0.3, "epochs": 150, "learning_rate": 1e-4, "head_rate": 1.0,
        "sample_noise": False, "num_samples": 8, "augment": True, "amortisation": 1.0, "vote_temperature_init": 1.0,
        "vote_temperature_final": 0.25, "frozen_layers": 1, "anneal_fraction": 0.4, "tau_init": 1.0,
        "tau_final": 0.5, "beta": 1.0, "gamma": 1.0, "delta": 0.001,
    }  # fmt: skip
    torch.save({"format": "drpm.models.clustering/1", "config": config, "weights": weights}, tmp_path / "old.pt")
    model = VariationalPartitionClustering.load(tmp_path / "old.pt")
    assert dataclasses.asdict(model.config) == config
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.partition(blobs(9)[0]).labels.shape == (1, 9)


@pytest.mark.parametrize("stop", [3, 20, 21, 82])
def test_resumed_fit_equals_an_uninterrupted_one(fitted: VariationalPartitionClustering, stop: int) -> None:
    x = blobs()[0]

    def stop_after(trainer: ClusteringTrainer) -> None:
        if len(trainer.history) == stop and trainer.epoch > 0:
            raise KeyboardInterrupt

    first = ClusteringTrainer(VariationalPartitionClustering(SMALL), x)
    with pytest.raises(KeyboardInterrupt):
        first.run(stop_after)
    second = ClusteringTrainer(VariationalPartitionClustering(SMALL), x)
    second.load_state_dict(first.state_dict())
    second.run()
    assert len(second.history) == 85
    for name, value in fitted.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_one_cluster_and_float64(tmp_path) -> None:
    config = dataclasses.replace(SMALL, num_clusters=1, pretrain_epochs=1, warm_start_epochs=1, epochs=1)
    x = blobs(20)[0].double()
    model = VariationalPartitionClustering(config).double().fit(x)
    assert model.predict(x).tolist() == [0] * 20
    model.save(tmp_path / "model.pt")
    assert torch.equal(VariationalPartitionClustering.load(tmp_path / "model.pt").prior_mean, model.prior_mean)


def test_mixture_recovers_its_components() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    z = centres[torch.arange(300) % 3] + torch.randn(300, 2, generator=generator)
    log_weights, means, variances = fit_gaussian_mixture(z, 3, seed=0)
    assert torch.cdist(centres, means).min(1).values.max() < 0.4
    torch.testing.assert_close(log_weights.exp(), torch.full((3,), 1 / 3), atol=0.02, rtol=0.0)
    torch.testing.assert_close(variances, torch.ones(3, 2), atol=0.4, rtol=0.0)


@pytest.mark.parametrize("count", [5, 13])
def test_arrangement_follows_a_chain(count: int) -> None:
    chain = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    affinity = torch.zeros(count, count)
    affinity[chain[1:], chain[:-1]] = affinity[chain[:-1], chain[1:]] = 1.0
    assert linear_arrangement(affinity) in (chain, chain[::-1])


def test_views_keep_an_image_that_is_not_moved() -> None:
    images = torch.rand(4, 15, generator=torch.Generator().manual_seed(0))
    same = random_affine_views(images, (3, 5), rotation=0.0, scale=0.0, shear=0.0, shift=0.0, noise=0.0)
    torch.testing.assert_close(same, images)


def test_contrastive_loss_prefers_matching_views() -> None:
    z = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    assert contrastive_loss(z, z, 0.5) < contrastive_loss(z, z.roll(1, 0), 0.5)


def test_batches_differ_by_at_most_one_element() -> None:
    assert [len(part) for part in split_evenly(torch.zeros(10, 1), 4)] == [4, 3, 3]


def test_scores_of_a_relabelled_truth_are_perfect() -> None:
    truth, labels = [0, 0, 1, 2, 2], [2, 2, 0, 1, 1]
    assert match_clusters(truth, labels, 3).tolist() == [1, 2, 0]
    assert score_clusters(truth, labels, 3) == {"ari": 1.0, "nmi": 1.0, "acc": 1.0}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_clusters", 0, "ClusteringConfig: num_clusters must be >= 1, got 0"),
        ("tau_final", 0.0, "ClusteringConfig: tau_final must be positive and finite, got 0.0"),
        ("beta", math.nan, "ClusteringConfig: beta must be >= 0 and finite, got nan"),
        ("contrast_weight", 1.5, r"ClusteringConfig: contrast_weight must lie in \[0, 1\], got 1.5"),
        ("frozen_layers", 3, r"ClusteringConfig: frozen_layers must lie in \[0, 2\], got 3"),
        ("image_shape", (3, 5), r"ClusteringConfig: image_shape must multiply to num_features = 12, got \(3, 5\)"),
        ("conditionals", "other", "ClusteringConfig: conditionals must be 'merged' or 'exact', got 'other'"),
        ("kl", "other", "ClusteringConfig: kl must be 'bound' or 'exact', got 'other'"),
        ("precision", "half", "ClusteringConfig: precision must be 'float32' or 'bf16', got 'half'"),
        ("estimator", "score", "ClusteringConfig: kl must be 'exact' for estimator='score', got 'bound'"),
        (
            "estimator",
            "other",
            "ClusteringConfig: estimator must be 'straight-through', 'score' or 'marginals', got 'o",
        ),
        ("sizes", "other", "ClusteringConfig: sizes must be 'votes', 'odds' or 'equal', got 'other'"),
        ("contrast_views", 3, "ClusteringConfig: contrast_views must be 1 or 2, got 3"),
        ("feature_deviation", 0.0, "ClusteringConfig: feature_deviation must be None or positive and finite, got 0.0"),
        ("kl", "exact", "ClusteringConfig: conditionals must be 'exact' for kl='exact', got 'merged'"),
    ],
)
def test_bad_configurations_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **{field: value})


def test_bad_input_is_refused(fitted: VariationalPartitionClustering, tmp_path) -> None:
    x = blobs()[0]
    with pytest.raises(
        ValueError, match=r"VariationalPartitionClustering.predict: x must have shape \(n, 12\), got \(90, 11\)"
    ):
        fitted.predict(x[:, :11])
    with pytest.raises(
        TypeError, match=r"VariationalPartitionClustering.fit: x must be a floating-point tensor, got torch.int64"
    ):
        fitted.fit(x.long())
    with pytest.raises(ValueError, match=r"VariationalPartitionClustering.fit: x must hold at least 3 elements, got 2"):
        fitted.fit(x[:2])
    with pytest.raises(
        ValueError, match=r"VariationalPartitionClustering.predict_gaussian: x must lie in \[0, 1\], got"
    ):
        fitted.predict_gaussian(2.0 * x)
    with pytest.raises(
        ValueError, match=r"VariationalPartitionClustering.fit: x must lie in \[0, 1\], got \(nan, nan\)"
    ):
        fitted.fit(x * math.nan)
    with pytest.raises(ValueError, match=r"VariationalPartitionClustering.predict: batch_size must be >= 1, got 0"):
        fitted.predict(x, batch_size=0)
    torch.save({"format": "other"}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"VariationalPartitionClustering.load: file must have format"):
        VariationalPartitionClustering.load(tmp_path / "other.pt")
    whole = (tmp_path / "other.pt").read_bytes()
    for content in (whole[:-30], b"", b"text"):
        (tmp_path / "other.pt").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"VariationalPartitionClustering.load: path must be a whole .*other\.pt \("
        ):
            VariationalPartitionClustering.load(tmp_path / "other.pt")
