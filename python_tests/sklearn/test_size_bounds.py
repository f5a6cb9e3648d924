"""PartitionClustering with bounds on sizes, weights of rows, and as k-means under sizes."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.datasets import load_wine, make_blobs
from sklearn.metrics import adjusted_rand_score

from drpm.sklearn import PartitionClustering

KINDS = ["full", "spherical", "kmeans"]


@pytest.fixture(scope="module")
def blobs():
    return make_blobs([120, 50, 20], centers=[[0, 0], [8, 0], [0, 8]], random_state=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [
        ({"size_min": 40}, [40] * 3, [190] * 3),
        ({"size_max": 0.4}, [0] * 3, [76] * 3),
        ({"size_min": 0.25, "size_max": [100, 70, 70]}, [47] * 3, [100, 70, 70]),
        ({"size_min": 1 / 3}, [63] * 3, [190] * 3),
        ({"size_min": [30, 60, 40], "size_max": [30, 80, 190]}, [30, 60, 40], [30, 80, 190]),
    ],
)
def test_bounds_hold_for_labels(blobs, kind, bounds, low, high):
    model = PartitionClustering(3, covariance_type=kind, n_init=4, random_state=0, **bounds).fit(blobs[0])
    assert (low <= model.sizes_).all() and (model.sizes_ <= high).all() and model.sizes_.sum() == 190
    assert (model.sizes_ == np.bincount(model.labels_, minlength=3)).all()
    assert np.isfinite(model.means_).all() and np.isfinite(model.score(blobs[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_that_do_not_bind_change_nothing(blobs, kind):
    x, y = blobs
    free = PartitionClustering(3, covariance_type=kind, random_state=0).fit(x)
    wide = PartitionClustering(3, covariance_type=kind, size_min=10, size_max=150, random_state=0).fit(x)
    np.testing.assert_array_equal(free.labels_, wide.labels_)
    np.testing.assert_allclose(free.means_, wide.means_, atol=1e-6)
    assert adjusted_rand_score(y, free.labels_) > 0.95
    np.testing.assert_array_equal(wide.predict(x), wide.labels_)


def test_predict_ignores_bounds(blobs):
    model = PartitionClustering(3, size_max=70, random_state=0).fit(blobs[0])
    assert model.sizes_.max() == 70
    one_place = np.repeat(model.means_[:1], 100, 0)
    assert np.bincount(model.predict(one_place)).max() == 100


def test_kmeans_without_sizes_is_kmeans(blobs):
    x, _ = blobs
    centres, _ = kmeans_plusplus(x, 3, random_state=0)
    ours = PartitionClustering(3, covariance_type="kmeans", standardize=False, init=centres, tol=0).fit(x)
    theirs = KMeans(3, init=centres, n_init=1, tol=0, algorithm="lloyd").fit(x)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.means_, theirs.cluster_centers_)
    np.testing.assert_allclose(-2 * ours.objective_ * len(x) * x.var(0).mean(), theirs.inertia_)


def test_squares_fall_to_a_partition_that_no_exchange_improves():
    """k-means with equal sizes: labels are the best of these sizes for the means, and means those of the labels."""
    x, _ = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    model = PartitionClustering(6, sizes="balanced", covariance_type="kmeans", n_init=5, tol=0, random_state=0).fit(x)
    assert sorted(model.sizes_) == [29, 29, 30, 30, 30, 30] and model.converged_
    means = np.stack([x[model.labels_ == k].mean(0) for k in range(6)])
    np.testing.assert_allclose(model.means_, means, atol=1e-9)
    squares = ((x[:, None] - means) ** 2).sum(-1)
    own = squares[np.arange(len(x)), model.labels_]
    loss = squares - own[:, None]  # of moving a row; any two rows of different clusters exchanged lose together
    pairs = loss[:, model.labels_] + loss[:, model.labels_].T
    assert pairs.min() > -1e-9


@pytest.mark.parametrize("kind", [*KINDS, "tied"])
def test_weights_act_as_repetitions_in_means_and_covariances(kind):
    x, y = make_blobs([40, 40], centers=[[0, 0], [9, 9]], random_state=0)
    weights = np.where(x[:, 0] > np.median(x[:, 0]), 3, 1)
    init = [[0.0, 0.0], [9.0, 9.0]]
    weighted = PartitionClustering(2, covariance_type=kind, init=init, tol=1e-12).fit(x, sample_weight=0.5 * weights)
    for k in range(2):
        own = y == k
        np.testing.assert_allclose(weighted.means_[k], np.average(x[own], axis=0, weights=weights[own]), atol=1e-6)
    repeated = np.repeat(x, weights, 0)
    again = PartitionClustering(2, covariance_type=kind, init=init, tol=1e-12, shrinkage=2.0).fit(repeated)
    if kind in ("full", "tied", "spherical"):  # shrinkage counts rows of mean weight
        again = PartitionClustering(2, covariance_type=kind, init=init, tol=1e-12, shrinkage=weights.mean()).fit(
            repeated
        )
    np.testing.assert_allclose(weighted.covariances_, again.covariances_, rtol=1e-5)
    assert weighted.sizes_.tolist() == [40, 40]  # of rows


def test_rows_without_weight_do_not_move_means(blobs):
    x, _ = blobs
    far = np.vstack([x, np.full((3, 2), 1e3)])
    weights = np.r_[np.ones(len(x)), np.zeros(3)]
    model = PartitionClustering(3, n_init=3, random_state=0).fit(far, sample_weight=weights)
    assert np.abs(model.means_).max() < 10 and len(model.labels_) == 193


def test_an_empty_cluster_is_possible(blobs):
    model = PartitionClustering(3, sizes=[0, 100, 90], random_state=0).fit(blobs[0])
    assert model.sizes_.tolist() == [0, 100, 90] and np.isfinite(model.score(blobs[0]))
    assert (model.predict(blobs[0]) > 0).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"size_min": 64}, "size_min must sum to at most the number of samples, 190, got 64"),
        ({"size_max": 0.3}, "size_max must sum to at least the number of samples, 190, got 0.3"),
        ({"size_min": 60, "size_max": 50}, "size_min must be at most size_max, 50, got 60"),
        ({"size_min": [10, 10]}, r"size_min must be one number >= 0 or 3 of them, got \[10, 10\]"),
        ({"size_min": -1}, "size_min must be one number >= 0"),
        ({"size_max": 1.5}, "size_max must hold ints, or fractions <= 1, got 1.5"),
        ({"size_max": "many"}, "size_max must be one number >= 0 or 3 of them, got 'many'"),
        ({"sizes": "balanced", "size_min": 3}, "size_min must be None where sizes are given, got 3"),
        ({"standardize": "yes"}, "standardize must be True or False, got 'yes'"),
        ({"init": [[0.0, 1.0]]}, r"init must hold means of shape \(3, 2\)"),
    ],
)
def test_bad_parameters(blobs, parameters, message):
    with pytest.raises(ValueError, match=f"^PartitionClustering: {message}"):
        PartitionClustering(3, **parameters).fit(blobs[0])


@pytest.mark.parametrize("weights", [np.zeros(190), -np.ones(190), np.ones(5), np.full(190, np.nan)])
def test_bad_weights(blobs, weights):
    with pytest.raises(ValueError, match=r"sample_weight|weights|NaN"):
        PartitionClustering(3).fit(blobs[0], sample_weight=weights)
