"""Data of the clustering experiment: images with their published split, tables as a whole, embeddings at scale."""

from typing import NamedTuple

import torch
from torch import Tensor

from drpm.data import load_digits, load_images, load_keel
from drpm.models import ClusteringConfig, VariationalPartitionClustering
from drpm.models.contrastive import random_affine_views
from drpm.ops._arguments import require

IMAGES = ("mnist", "fashion-mnist")
TABLES = ("penbased", "satimage")
VIEWS = "mnist-views"
NAMES = (*IMAGES, *TABLES, "digits", VIEWS)


class ClusteringData(NamedTuple):
    """`train` and `test` (N, d) uint8 or float in [0, 1]; `test_labels` (N,) int64. No training labels are kept."""

    train: Tensor
    test: Tensor
    test_labels: Tensor
    image_shape: tuple[int, int] | None


def load_clustering_data(name: str, root: str, seed: int, embedding: str | None = None) -> ClusteringData:
    """Load a data set of the experiment by name.

    Tables are clustered and scored whole, each column scaled to [0, 1]: there is no published split of these files.
    "mnist-views" is 140,000 elements: all images of MNIST and one random view of each, as the columns that the network
    in the file `embedding` (pretrained.pt of a run) gives them.
    """
    if name == "digits":
        digits = load_digits(seed)
        return ClusteringData(digits.train_images, digits.held_out_images, digits.held_out_labels, (8, 8))
    if name in TABLES:
        table = load_keel(name, root)
        columns = _scaled(table.features)
        return ClusteringData(columns, columns, table.labels, None)
    images = load_images("mnist" if name == VIEWS else name, root)
    train, test, labels = images.train_images, images.test_images, images.test_labels
    shape = (train.shape[1], train.shape[2])
    if name == VIEWS:
        require(embedding is not None, "clustering", "embedding", f"be a file for data={name!r}", embedding)
        assert embedding is not None
        columns = _scaled(_embedded_views(torch.cat([train, test]), embedding, seed))
        return ClusteringData(columns, columns, torch.cat([images.train_labels, labels]).repeat(2), None)
    return ClusteringData(train, test, labels, shape)


def _scaled(features: Tensor) -> Tensor:
    low, high = features.amin(0), features.amax(0)
    return (features - low) / (high - low).clamp_min(1e-12)


@torch.no_grad()
def _embedded_views(images: Tensor, path: str, seed: int) -> Tensor:  # (N, h, w) uint8 -> (2 N, latent_dim)
    content = torch.load(path, map_location="cpu", weights_only=True)
    network = VariationalPartitionClustering(ClusteringConfig(**content["config"]))
    network.load_state_dict(content["model"])
    generator = torch.Generator().manual_seed(seed)
    plain, viewed = [], []
    for part in images.split(8192):
        pixels = part.flatten(1).float() / 255.0
        views = random_affine_views(pixels, (part.shape[1], part.shape[2]), noise=0.0, generator=generator)
        plain.append(network.embed(pixels))
        viewed.append(network.embed(views))
    return torch.cat(plain + viewed)
