"""`drpm.sklearn.PartitionClustering` beside KMeans and GaussianMixture on scikit-learn's tables and on made-up ones.

    python -m benchmarks.clustering_tables [--seeds 10] [--output results/sklearn/clustering.json]

Every method gets the same table, the true number of clusters and 20 starts, and is run with each seed. Columns of the
real tables are standardised but for the digits, whose principal components keep their scale. Scores compare with the
known classes: adjusted Rand index and normalised mutual information. Labels are read for scoring only, and for the row
"true sizes", which is told the number of rows of each class.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_blobs
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from benchmarks import machine
from drpm.experiments.records import write_json
from drpm.sklearn import PartitionClustering

STARTS = 20


def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for name, load in (("iris", load_iris), ("wine", load_wine), ("breast cancer", load_breast_cancer)):
        x, y = load(return_X_y=True)
        found[name] = (StandardScaler().fit_transform(x), y)
    x, y = load_digits(return_X_y=True)
    found["digits, 20 components"] = (PCA(20, random_state=0).fit_transform(x), y)
    centres = np.array([[0, 0], [4, 0], [0, 4], [4, 4]])
    spread = [1.2, 0.6, 0.5, 0.4]
    found["blobs of 600, 200, 60, 40"] = make_blobs(
        [600, 200, 60, 40], centers=centres, cluster_std=spread, random_state=0
    )
    found["blobs of 250, overlapping"] = make_blobs([250] * 4, centers=0.7 * centres, cluster_std=1.0, random_state=0)
    x, y = make_blobs(600, centers=3, random_state=170)
    found["stretched blobs"] = (x @ [[0.6, -0.6], [-0.4, 0.8]], y)
    return found


def methods(clusters: int, y: np.ndarray, seed: int) -> dict[str, Any]:
    return {
        "KMeans": KMeans(clusters, n_init=STARTS, random_state=seed),
        "GaussianMixture, full": GaussianMixture(clusters, n_init=STARTS, random_state=seed),
        "GaussianMixture, diag": GaussianMixture(clusters, covariance_type="diag", n_init=STARTS, random_state=seed),
        "PartitionClustering": PartitionClustering(clusters, n_init=STARTS, random_state=seed),
        "PartitionClustering, diag": PartitionClustering(
            clusters, covariance_type="diag", n_init=STARTS, random_state=seed
        ),
        "PartitionClustering, balanced": PartitionClustering(
            clusters, sizes="balanced", n_init=STARTS, random_state=seed
        ),
        "PartitionClustering, true sizes": PartitionClustering(
            clusters, sizes=np.bincount(y), n_init=STARTS, random_state=seed
        ),
    }


def measure(seeds: int, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    cases = []
    for name, (x, y) in tables().items():
        clusters = len(np.unique(y))
        scores: dict[str, dict[str, list[float]]] = {}
        for seed in range(seeds):
            for method, model in methods(clusters, y, seed).items():
                started = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    labels = model.fit_predict(x)
                kept = scores.setdefault(method, {"ari": [], "nmi": [], "seconds": []})
                kept["seconds"].append(round(time.perf_counter() - started, 3))
                kept["ari"].append(round(float(adjusted_rand_score(y, labels)), 4))
                kept["nmi"].append(round(float(normalized_mutual_info_score(y, labels)), 4))
            progress(f"{name}: seed {seed}")
        cases.append({"table": name, "rows": len(x), "columns": x.shape[1], "clusters": clusters, "scores": scores})
    return cases


def table(content: dict[str, Any]) -> str:
    """Markdown of a result file."""
    names = list(content["cases"][0]["scores"])
    lines = ["| table (rows, columns, K) | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for case in content["cases"]:
        cells = []
        for name in names:
            values = case["scores"][name]["ari"]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            cells.append(f"{np.mean(values):.3f}" + (f" ± {spread:.3f}" if spread >= 5e-4 else ""))
        head = f"{case['table']} ({case['rows']}, {case['columns']}, {case['clusters']})"
        lines.append(f"| {head} | " + " | ".join(cells) + " |")
    head = f"Adjusted Rand index, mean ± standard deviation over {content['seeds']} seeds, {STARTS} starts each. "
    return "\n".join([*lines, "", f"{head}scikit-learn {content['scikit-learn']}; {machine.line(content)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("results/sklearn/clustering.json"))
    arguments = parser.parse_args()
    cases = measure(arguments.seeds, lambda line: print(line, flush=True))
    content = {
        "machine": machine.describe(torch.get_num_threads()),
        **machine.commit(),
        "date": machine.now(),
        "scikit-learn": sklearn.__version__,
        "seeds": arguments.seeds,
        "cases": cases,
    }
    write_json(content, arguments.output)
    print(table(content))


if __name__ == "__main__":
    main()
