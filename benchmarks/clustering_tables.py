"""`drpm.sklearn.PartitionClustering` beside KMeans and GaussianMixture on scikit-learn's tables and on made-up ones.

    python -m benchmarks.clustering_tables [--seeds 10] [--first-seed 0] [--output results/sklearn/clustering.json]

Every method gets the same table, the true number of clusters and 20 starts, and is run with each seed. Columns of the
real tables are standardised but for the digits, whose principal components keep their scale. The two of `FRESH` were
not looked at while the estimator's defaults were chosen; they need `make data ARGS=keel`. Scores compare with the known
classes: adjusted Rand index and normalised mutual information. Labels are read for scoring only, and for the row "true
sizes", which is told the number of rows of each class. The file is written after each seed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterable, Iterator
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
from drpm.data import load_keel
from drpm.sklearn import PartitionClustering
from drpm.training.provenance import write_json

STARTS = 20
FRESH = {"satimage": "satimage, 2000 rows", "penbased": "penbased, 2000 rows"}


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
    for name, title in FRESH.items():
        whole = load_keel(name)
        rows = np.random.default_rng(0).permutation(len(whole.labels))[:2000]
        x, y = whole.features.numpy().astype(np.float64)[rows], whole.labels.numpy()[rows]
        found[title] = (StandardScaler().fit_transform(x), y)
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


def measure(seeds: Iterable[int]) -> Iterator[list[dict[str, Any]]]:
    """The cases of all seeds so far, after each seed."""
    cases = []
    for name, (x, y) in tables().items():
        shape = {"rows": len(x), "columns": x.shape[1], "clusters": len(np.unique(y))}
        cases.append(({"table": name, **shape, "scores": {}}, x, y))
    for seed in seeds:
        for case, x, y in cases:
            for method, model in methods(case["clusters"], y, seed).items():
                started = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    labels = model.fit_predict(x)
                kept = case["scores"].setdefault(method, {"ari": [], "nmi": [], "seconds": []})
                kept["seconds"].append(round(time.perf_counter() - started, 3))
                kept["ari"].append(round(float(adjusted_rand_score(y, labels)), 4))
                kept["nmi"].append(round(float(normalized_mutual_info_score(y, labels)), 4))
            print(f"{case['table']}: seed {seed}", flush=True)
        yield [case for case, _, _ in cases]


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
    first = content.get("first seed", 0)
    seeds = f"seeds {first} to {first + content['seeds'] - 1}"
    head = f"Adjusted Rand index, mean ± standard deviation over {seeds}, {STARTS} starts each. "
    return "\n".join([*lines, "", f"{head}scikit-learn {content['scikit-learn']}; {machine.line(content)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/sklearn/clustering.json"))
    arguments = parser.parse_args()
    content: dict[str, Any] = {}
    first = arguments.first_seed
    for done, cases in enumerate(measure(range(first, first + arguments.seeds)), 1):
        content = {
            "machine": machine.describe(torch.get_num_threads()),
            **machine.commit(),
            "date": machine.now(),
            "scikit-learn": sklearn.__version__,
            "seeds": done,
            "first seed": first,
            "cases": cases,
        }
        write_json(content, arguments.output)
    print(table(content))


if __name__ == "__main__":
    main()
