"""Agreement of a clustering with true classes: ARI, NMI and matched accuracy. For evaluation only."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def match_clusters(truth: ArrayLike, labels: ArrayLike, num_clusters: int) -> NDArray[np.int64]:
    """Match each cluster with one class so that most elements agree (Hungarian algorithm).

    Args:
        truth, labels: (N,) integers in [0, num_clusters).
    Returns: (num_clusters,) the class of each cluster; a permutation.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((num_clusters, num_clusters), dtype=np.int64)
    np.add.at(counts, (np.asarray(labels), np.asarray(truth)), 1)
    return linear_sum_assignment(counts, maximize=True)[1]


def score_clusters(truth: ArrayLike, labels: ArrayLike, num_clusters: int) -> dict[str, float]:
    """Give ARI, NMI (arithmetic mean of the entropies) and the accuracy under the best matching.

    Args:
        truth, labels: (N,) integers in [0, num_clusters).
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    truth, labels = np.asarray(truth), np.asarray(labels)
    matched = match_clusters(truth, labels, num_clusters)[labels]
    return {
        "ari": float(adjusted_rand_score(truth, labels)),
        "nmi": float(normalized_mutual_info_score(truth, labels)),
        "acc": float(np.mean(matched == truth)),
    }
