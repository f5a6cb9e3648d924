"""PartitionClustering for tables: scikit-learn's checks, the posterior against enumeration, sizes, quality, scale."""

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from scipy.special import gammaln
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris, load_wine, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from drpm.sklearn import PartitionClustering
from drpm.sklearn.gaussians import COVARIANCE_TYPES, Gaussians, Prior, fit_gaussians
from drpm.sklearn.size_rule import SizeRule
from drpm.sklearn.sizes import learned_log_weights, log_omega_of, responsibilities, size_prices

# An integer weight is not a repetition: sizes count rows, and the starts are drawn.
REFUSED = {"check_sample_weight_equivalence_on_dense_data": "sizes count rows, not weights"}


@parametrize_with_checks(
    [
        PartitionClustering(),
        PartitionClustering(sizes="balanced", covariance_type="diag"),
        PartitionClustering(size_min=1, covariance_type="kmeans", standardize=False),
    ],
    expected_failed_checks=lambda _: REFUSED,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def posterior_by_enumeration(u, log_prior_of_sizes):
    """Marginals of p(Y | X) over all K^n labellings."""
    n, clusters = u.shape
    labels = np.array(list(itertools.product(range(clusters), repeat=n)))
    one_hot = np.eye(clusters)[labels]
    weights = np.exp((one_hot * u).sum((1, 2)) + log_prior_of_sizes(one_hot.sum(1)))
    return (one_hot * weights[:, None, None]).sum(0) / weights.sum()


@pytest.mark.parametrize("log_omega", [[0.0, 0.0, 0.0], [1.5, 0.0, -1.0]])
def test_responsibilities_approach_the_exact_posterior(log_omega):
    """λ = log ω + ψ(n − N + 1) neglects the spread of the sizes: an error of order 1/n, shown at n = 9 and 5."""
    omega, errors = np.array(log_omega), []
    for n in (5, 9):
        u = 1.5 * np.random.default_rng(0).normal(size=(n, 3))

        def prior(counts, n=n):
            return (counts * omega + gammaln(n + 1) - gammaln(n - counts + 1)).sum(-1)

        exact = posterior_by_enumeration(u, prior)
        r = torch.full((n, 3), 1 / 3, dtype=torch.float64)
        for _ in range(100):
            weights = learned_log_weights(r.sum(0), torch.tensor(omega))
            r, _ = responsibilities(torch.from_numpy(u), weights)
        errors.append(np.abs(r.numpy() - exact).max())
    assert errors[1] < 0.04 and errors[1] < errors[0], errors


def chosen_given_the_count(probability, count):
    """Pr[y_i = 1 | Σ y = count] for independent y_i ~ Bernoulli(probability_i): the exact posterior of two clusters."""

    def law(p):
        out = np.ones(1)
        for q in p:
            out = np.append(out, 0) * (1 - q) + np.append(0, out) * q
        return out

    return (
        np.array([q * law(np.delete(probability, i))[count - 1] for i, q in enumerate(probability)])
        / law(probability)[count]
    )


def test_given_sizes_meet_the_condition_and_approach_the_exact_posterior():
    errors = []
    for n in (20, 160):
        u = 2 * np.random.default_rng(1).normal(size=(n, 2))
        sizes = np.array([n // 4, n - n // 4])
        prices = size_prices(torch.from_numpy(u), SizeRule(sizes, sizes))
        r, _ = responsibilities(torch.from_numpy(u), -prices)
        np.testing.assert_allclose(r.sum(0), sizes, atol=1e-9)
        exact = chosen_given_the_count(1 / (1 + np.exp(u[:, 1] - u[:, 0])), n // 4)
        errors.append(np.abs(r[:, 0].numpy() - exact).max())
    assert errors[1] < errors[0] / 6 and errors[1] < 0.01, errors  # of order 1/n


def test_multipliers_of_separated_rows_are_found():
    """Balanced sizes that split a far-away cluster: the multipliers are large and the dual nearly flat."""
    x = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 9.0, 9.1], dtype=torch.float64)
    u = -100 * (x[:, None] - torch.tensor([0.25, 9.05])).square()
    rule = SizeRule(np.array([4, 4]), np.array([4, 4]))
    r, _ = responsibilities(u, -size_prices(u, rule))
    np.testing.assert_allclose(r.sum(0), [4, 4], atol=1e-9)


def test_maximum_likelihood_importances_give_the_usual_weights():
    sizes = torch.tensor([700.5, 200.0, 99.5], dtype=torch.float64)
    weights = learned_log_weights(sizes, log_omega_of(sizes))
    np.testing.assert_allclose(weights.exp(), sizes / 1000, atol=2e-3)
    np.testing.assert_allclose(learned_log_weights(sizes).exp(), weights.exp(), atol=2e-3)


@pytest.mark.parametrize("kind", [kind for kind in COVARIANCE_TYPES if kind != "kmeans"])
def test_gaussians_are_those_of_scipy_and_the_estimate_is_the_maximum(kind):
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3)))
    r = torch.from_numpy(rng.dirichlet(np.ones(2), size=60))
    prior = Prior.of(x, 2, 5.0)
    fitted = fit_gaussians(x, r, kind, prior)
    full = {
        "full": lambda c: list(c),
        "tied": lambda c: [c, c],
        "diag": lambda c: [torch.diag(v) for v in c],
        "spherical": lambda c: [v * torch.eye(3, dtype=v.dtype) for v in c],
    }[kind](fitted.covariances)
    want = [multivariate_normal(fitted.means[k], full[k]).logpdf(x) for k in range(2)]
    np.testing.assert_allclose(fitted.log_density(x), np.stack(want, 1), rtol=1e-10, atol=1e-11)

    def objective(gaussians):
        return float((r * gaussians.log_density(x)).sum()) + gaussians.log_prior(prior)

    best = objective(fitted)
    for factor in (0.97, 1.03):
        assert objective(Gaussians(kind, fitted.means, fitted.covariances * factor)) < best
    assert objective(Gaussians(kind, fitted.means + 0.02, fitted.covariances)) < best


def test_three_lines_cluster_a_table():
    x, y = make_blobs([80, 50, 20], centers=[[0, 0], [6, 0], [0, 6]], random_state=1)
    model = PartitionClustering(n_clusters=3, random_state=0)
    labels = model.fit_predict(x)
    assert adjusted_rand_score(y, labels) > 0.98
    assert labels is model.labels_ and labels.dtype == np.int64
    assert sorted(model.sizes_) == sorted(np.bincount(labels))
    np.testing.assert_array_equal(model.predict(x), labels)
    probabilities = model.transform(x)
    assert probabilities.shape == (150, 3) and isinstance(probabilities, np.ndarray)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(probabilities.argmax(1), labels)
    # the importances: with m_k = n, maximum likelihood puts the expected sizes where they are
    assert np.argsort(model.log_omega_).tolist() == np.argsort(model.sizes_).tolist()


@pytest.mark.parametrize("sizes", ["balanced", [80, 50, 20], [0.2, 0.5, 0.3]])
def test_given_sizes_hold_exactly(sizes):
    x, _ = make_blobs([80, 50, 20], centers=[[0, 0], [2, 0], [0, 2]], random_state=1)
    model = PartitionClustering(3, sizes=sizes, random_state=0).fit(x)
    want = {"balanced": [50, 50, 50], 80: [80, 50, 20], 0.2: [30, 75, 45]}[
        sizes if isinstance(sizes, str) else sizes[0]
    ]
    assert np.bincount(model.labels_, minlength=3).tolist() == model.sizes_.tolist() == want
    assert model.log_omega_ is None


def test_score_is_the_mean_log_density_in_the_units_of_the_table():
    x, _ = load_iris(return_X_y=True)
    x = x * [1.0, 100.0, 1e-3, 1.0]
    ours = PartitionClustering(1, shrinkage=1e-6).fit(x)
    theirs = GaussianMixture(1, reg_covar=0.0).fit(x)
    assert ours.score(x) == pytest.approx(theirs.score(x), abs=1e-3)
    np.testing.assert_allclose(ours.means_, theirs.means_)
    np.testing.assert_allclose(ours.covariances_, theirs.covariances_, rtol=1e-3, atol=1e-12)
    assert ours.bic(x) == pytest.approx(theirs.bic(x), rel=1e-3)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_units_of_columns_do_not_matter_from_the_same_start(kind, monkeypatch):
    x, y = load_iris(return_X_y=True)
    y[::7] = 0
    monkeypatch.setattr(PartitionClustering, "_start", lambda *_: torch.eye(3)[y])
    one = PartitionClustering(3, covariance_type=kind, random_state=0).fit(x)
    other = PartitionClustering(3, covariance_type=kind, random_state=0).fit(x * [1, 1e4, 1e-4, 7] + 5)
    np.testing.assert_array_equal(one.labels_, other.labels_)
    np.testing.assert_allclose(one.transform(x), other.transform(x * [1, 1e4, 1e-4, 7] + 5), atol=1e-8)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("sizes", ["learned", "balanced"])
def test_units_that_are_powers_of_two_change_nothing(kind, sizes):
    x, _ = load_iris(return_X_y=True)
    one = PartitionClustering(3, sizes=sizes, covariance_type=kind, n_init=4, random_state=0).fit(x)
    for exponents in ([60, 0, 0, 0], [-60] * 4, [60, -60, 17, -3]):
        units = np.exp2(exponents)
        other = clone(one).fit(x * units)
        np.testing.assert_array_equal(other.labels_, one.labels_)
        np.testing.assert_array_equal(other.predict(x * units), one.predict(x))
        np.testing.assert_array_equal(other.transform(x * units), one.transform(x))
        np.testing.assert_array_equal(other.means_, one.means_ * units)
        scale = np.outer(units, units) if kind in ("full", "tied") else units**2
        np.testing.assert_array_equal(other.covariances_, one.covariances_ * scale)
        assert other.objective_ == one.objective_
        assert other.score(x * units) == pytest.approx(one.score(x) - np.log(units).sum(), rel=1e-12)


@pytest.mark.filterwarnings("ignore:overflow encountered in ldexp")  # covariances in units of 1e320
@pytest.mark.parametrize("unit", [1e-13, 1e-160, 1e160, 1e-305])
def test_columns_in_small_and_large_units(unit):
    x, y = make_blobs(150, random_state=0)
    model = PartitionClustering(3, n_init=4, random_state=0).fit(x * unit)
    plain = PartitionClustering(3, n_init=4, random_state=0).fit(x)
    assert adjusted_rand_score(model.labels_, plain.labels_) == 1.0  # the numbers of the clusters may differ
    assert model.sizes_.min() > 40 and adjusted_rand_score(y, model.labels_) > 0.6
    np.testing.assert_allclose(np.sort(model.means_, 0), np.sort(plain.means_, 0) * unit, rtol=1e-3)
    mixed = PartitionClustering(3, n_init=4, random_state=0).fit(x * [unit, 1e4])
    assert adjusted_rand_score(mixed.labels_, plain.labels_) == 1.0


def test_default_device_does_not_matter():
    x, _ = load_iris(return_X_y=True)
    for sizes in ("learned", "balanced"):
        want = PartitionClustering(3, sizes=sizes, n_init=2, random_state=0).fit(x)
        with torch.device("meta"):
            got = PartitionClustering(3, sizes=sizes, n_init=2, random_state=0).fit(x)
            np.testing.assert_array_equal(got.predict(x), want.predict(x))
            assert got.score(x) == want.score(x) and got.bic(x) == want.bic(x)
        np.testing.assert_array_equal(got.labels_, want.labels_)


def test_same_random_state_same_result_and_threads_do_not_matter():
    x, _ = load_wine(return_X_y=True)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        first = PartitionClustering(3, random_state=3).fit(x)
        torch.set_num_threads(1)
        second = clone(first).fit(x)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(first.labels_, second.labels_)
    np.testing.assert_allclose(first.means_, second.means_, rtol=1e-9)
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(again.predict(x), first.predict(x))


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_as_good_as_kmeans_and_mixtures_on_real_tables(load):
    """Adjusted Rand index, mean over five seeds; docs/sklearn.md has the full comparison."""
    x, y = load(return_X_y=True)
    x = StandardScaler().fit_transform(x)

    def mean_score(make):
        return np.mean([adjusted_rand_score(y, make(seed).fit_predict(x)) for seed in range(5)])

    ours = mean_score(lambda seed: PartitionClustering(3, random_state=seed))
    kmeans = mean_score(lambda seed: KMeans(3, n_init=10, random_state=seed))
    mixture = mean_score(lambda seed: GaussianMixture(3, n_init=10, random_state=seed))
    assert ours >= max(kmeans, mixture), (ours, kmeans, mixture)


def test_learned_sizes_find_unbalanced_clusters():
    x, y = make_blobs([900, 60, 40], centers=[[0, 0], [4, 0], [0, 4]], cluster_std=[1.2, 0.5, 0.5], random_state=0)
    labels = PartitionClustering(3, random_state=0).fit_predict(x)
    assert adjusted_rand_score(y, labels) > 0.9
    assert adjusted_rand_score(y, KMeans(3, n_init=10, random_state=0).fit_predict(x)) < 0.6


@pytest.mark.slow
def test_a_hundred_thousand_rows_in_linear_memory():
    """In a process of its own, which may use 400 MB more than before the fit: 100,000 rows squared would be 80 GB."""
    code = """
import resource, numpy as np
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from drpm.sklearn import PartitionClustering
x, y = make_blobs(100_000, centers=5, n_features=6, center_box=(-4, 4), random_state=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for sizes in ("learned", "balanced"):
    model = PartitionClustering(5, sizes=sizes, n_init=1, random_state=0).fit(x)
    print(adjusted_rand_score(y, model.labels_) > 0.9, model.sizes_.min(), end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    learned, _, balanced, smallest, megabytes = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert learned == balanced == "True" and smallest == "20000"
    assert int(megabytes) < 400


def test_progress_bar(capsys):
    x, _ = load_iris(return_X_y=True)
    PartitionClustering(3, verbose=1, random_state=0).fit(x)
    assert "PartitionClustering" in capsys.readouterr().err
    PartitionClustering(3, random_state=0).fit(x)
    assert capsys.readouterr().err == ""


def test_degenerate_tables():
    constant = np.ones((20, 2))
    assert PartitionClustering(2, random_state=0).fit(constant).labels_.shape == (20,)
    column = np.column_stack([np.repeat([0.0, 5.0], 10), np.ones(20)])
    labels = PartitionClustering(2, random_state=0).fit_predict(column)
    assert adjusted_rand_score(np.repeat([0, 1], 10), labels) == 1.0
    assert PartitionClustering(1).fit(column).sizes_.tolist() == [20]
    assert sorted(PartitionClustering(3, sizes="balanced", random_state=0).fit(column[:3]).sizes_) == [1, 1, 1]


def test_in_a_pipeline_with_names():
    model = make_pipeline(StandardScaler(), PartitionClustering(3, random_state=0))
    x, y = load_wine(return_X_y=True)
    assert adjusted_rand_score(y, model.fit_predict(x)) > 0.85
    assert model.get_feature_names_out().tolist() == [f"partitionclustering{k}" for k in range(3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 0}, "PartitionClustering: n_clusters must be >= 1, got 0"),
        ({"n_clusters": 11}, "PartitionClustering: n_clusters must be at most the number of samples, 10, got 11"),
        ({"sizes": "equal"}, "sizes must be 'learned', 'balanced' or numbers, got 'equal'"),
        ({"sizes": [5, 5, 5]}, "sizes must hold 2 numbers >= 0"),
        ({"sizes": [5, 6]}, "sizes must sum to the number of samples, 10, or to 1"),
        ({"covariance_type": "round"}, "covariance_type must be one of"),
        ({"shrinkage": 0.0}, "shrinkage must be positive and finite, got 0.0"),
        ({"n_init": 0}, "n_init must be >= 1, got 0"),
        ({"n_init": "auto"}, "PartitionClustering: n_init must be an int, got 'auto'"),
        ({"n_clusters": 2.0}, "n_clusters must be an int, got 2.0"),
        ({"max_iter": None}, "max_iter must be an int, got None"),
        ({"tol": "small"}, "tol must be a float, got 'small'"),
        ({"tol": np.nan}, "tol must be >= 0, got nan"),
        ({"sizes": ["a", "b"]}, "sizes must hold 2 numbers >= 0, got \\['a', 'b'\\]"),
        ({"covariance_type": ["full"]}, "covariance_type must be one of"),
        ({"max_iter": 0}, "max_iter must be >= 1, got 0"),
        ({"tol": -1.0}, "tol must be >= 0, got -1.0"),
    ],
)
def test_errors_say_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        PartitionClustering(**{"n_clusters": 2, **options}).fit(np.random.default_rng(0).normal(size=(10, 2)))
