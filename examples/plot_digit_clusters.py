"""
Clusters of real digits, with sizes that are learned
====================================================

1,797 handwritten digits, no labels: :py:obj:`drpm.sklearn.PartitionClustering` finds ten clusters and how large each
is.
"""

# %%
# The 64 pixels become 20 principal components; the clustering does the rest.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from drpm.sklearn import PartitionClustering

digits = load_digits()
table = PCA(20, random_state=0).fit_transform(digits.data)
model = PartitionClustering(n_clusters=10, n_init=4, random_state=0).fit(table)
print("adjusted Rand index", round(adjusted_rand_score(digits.target, model.labels_), 2))

# %%
# Each row is a cluster, from the largest to the smallest: its mean image, eleven members drawn at random, its size.
members = 11
order = np.argsort(-model.sizes_)
generator = np.random.default_rng(0)
figure, axes = plt.subplots(10, members + 1, figsize=(7, 6.2))
for row, cluster in zip(axes, order, strict=True):
    images = digits.images[model.labels_ == cluster]
    shown = [images.mean(0), *images[generator.choice(len(images), members, replace=False)]]
    for axis, image in zip(row, shown, strict=True):
        axis.imshow(image, cmap="gray_r")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    row[0].set_ylabel(f"{model.sizes_[cluster]}", rotation=0, ha="right", va="center")
figure.suptitle("Learned size, mean image, and eleven members of each cluster")
figure.set_label("Ten rows of handwritten digits, one a cluster, with its learned size: most rows show one digit only.")

# %%
# Are the sizes right? There are between 174 and 183 of each digit. Clusters that split or join digits stand out.
print("learned", sorted(model.sizes_.tolist(), reverse=True))
print("true   ", sorted(np.bincount(digits.target).tolist(), reverse=True))
