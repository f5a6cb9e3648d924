"""
Balanced clusters of embeddings
===============================

k-means gives clusters of any size. Where work must be shared equally – shards, batches, annotators – sizes are a
constraint: here each of four clusters gets 44 or 45 of 178 wines, or between 40 and 50.
"""

# %%
# ``covariance_type="kmeans"`` is k-means under sizes or bounds: each iteration finds the best labels of all that keep
# to them (:doc:`/math/sized_assignment`), then the means.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from drpm.sklearn import PartitionClustering

embedding = PCA(2).fit_transform(scale(load_wine().data))
start = KMeans(4, n_init=10, random_state=0).fit(embedding)
settings = {"n_clusters": 4, "covariance_type": "kmeans", "standardize": False, "random_state": 0}
labels = {
    "k-means": start.labels_,
    "balanced": PartitionClustering(sizes="balanced", **settings).fit(embedding).labels_,
    "40 to 50 each": PartitionClustering(size_min=40, size_max=50, **settings).fit(embedding).labels_,
}

# %%
# Markers tell clusters apart, too.
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharex=True, sharey=True)
for axis, (title, found) in zip(axes, labels.items(), strict=True):
    for cluster, marker in enumerate("os^D"):
        axis.scatter(*embedding[found == cluster].T, marker=marker, s=14)
    squares = sum(((embedding[found == k] - embedding[found == k].mean(0)) ** 2).sum() for k in range(4))
    axis.set_title(f"{title}\nsizes {np.bincount(found).tolist()}\nsquares {squares:.0f}", fontsize=10)
axes[0].set(xlabel="first component", ylabel="second component")
figure.set_label(
    "Three scatter plots of 178 wines in four clusters: k-means with unequal sizes, balanced clusters of 44 or 45, "
    "and clusters of 40 to 50; the within-cluster squares grow a little with each constraint."
)
