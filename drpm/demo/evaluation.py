"""Scores of the demo. Labels of the held-out digits are read here and in the pictures alone, after training."""

from typing import Any

import torch

from drpm.data import Digits
from drpm.models import VariationalPartitionClustering
from drpm.models.cluster_scores import match_clusters, score_clusters

_NUM_SAMPLES = 100


def evaluate(model: VariationalPartitionClustering, digits: Digits, snapshots: list[dict[str, Any]]) -> dict[str, Any]:
    """Score every method on the held-out digits. The only place, with the pictures, that reads their labels."""
    clusters, truth = model.config.num_clusters, digits.held_out_labels.numpy()

    def score(labels: Any) -> dict[str, float]:
        return score_clusters(truth, labels, clusters)

    first, last = snapshots[0], snapshots[-1]
    generator = torch.Generator().manual_seed(model.config.seed)
    images = digits.held_out_images
    # The held-out digits form one batch: a boundary that is off by one costs one element whatever n is.
    plain = model.partition(images)
    drawn = model.partition(images, noise=True, num_samples=_NUM_SAMPLES, generator=generator)
    samples = [score(labels) for labels in drawn.labels]
    mean_of_samples = {name: sum(sample[name] for sample in samples) / len(samples) for name in samples[0]}
    pixels = pixel_mixture(digits, clusters, model.config.seed)
    methods = {
        "gmm_pixels": {"title": "GMM on pixels", "gaussian": score(pixels)},
        "gmm_latent": {"title": "GMM on the latent space", "gaussian": score(first["mixture"])},
        "initialisation": {
            "title": "DRPM, initialisation alone",
            "partition": score(first["partition"]),
            "gaussian": score(first["gaussian"]),
        },
        "drpm": {
            "title": "DRPM, trained",
            "partition": score(last["partition"]),
            "gaussian": score(last["gaussian"]),
        },
        "drpm_sampled": {"title": f"DRPM, trained, mean of {_NUM_SAMPLES} samples", "partition": mean_of_samples},
    }
    curve = [
        {"epoch": s["epoch"], "partition": score(s["partition"])["ari"], "gaussian": score(s["gaussian"])["ari"]}
        for s in snapshots
    ]
    classes = match_clusters(truth, last["partition"], clusters)
    sizes = {
        "class_of_subset": classes.tolist(),
        "true": [int((truth == c).sum()) for c in classes],
        "noise_free": [int(v) for v in plain.sizes[0]],
        "sampled_mean": drawn.sizes.mean(0).tolist(),
        "sampled_sd": drawn.sizes.std(0).tolist(),
    }
    return {"methods": methods, "held_out_ari": curve, "sizes": sizes}


def pixel_mixture(digits: Digits, clusters: int, seed: int) -> Any:
    """Give the held-out digits' labels from a Gaussian mixture on pixels."""
    from sklearn.mixture import GaussianMixture

    # Full covariances with this floor were the best of four variants on *training* labels: a strong baseline.
    mixture = GaussianMixture(clusters, covariance_type="full", reg_covar=1e-2, n_init=5, random_state=seed)
    mixture.fit(digits.train_images.double().numpy())
    return mixture.predict(digits.held_out_images.double().numpy())


def format_table(metrics: dict[str, Any]) -> str:
    """Lay out the scores: the partition itself, and each element by itself."""
    names = ("ari", "nmi", "acc")
    lines = [
        f"{'held-out digits':38}{'partition':^21}   {'responsibilities':^21}",
        f"{'':38}" + "   ".join("".join(f"{name.upper():>7}" for name in names) for _ in range(2)),
    ]
    for method in metrics["methods"].values():
        cells = []
        for column in ("partition", "gaussian"):
            scores = method.get(column)
            cells.append("".join(f"{scores[name]:7.3f}" if scores else f"{'–':>7}" for name in names))
        lines.append(f"{method['title']:38}" + "   ".join(cells))
    return "\n" + "\n".join(lines)
