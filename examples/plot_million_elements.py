"""
A million elements
==================

A relaxed sort that forms its n × n matrix ends at some ten thousand elements. Here only a band of each row is computed,
and nothing larger than K × n is stored: a million elements are an ordinary tensor.
"""

# %%
# The million scores come from a photograph that scikit-learn ships: the brightness of its pixels, with repetitions. The
# partition orders pixels by a noisy brightness and cuts them into subsets of learned sizes.
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_sample_image

import drpm.ops

photo = load_sample_image("flower.jpg").astype(np.float32) / 255  # (427, 640, 3)
brightness = torch.from_numpy(photo.mean(-1))
height, width = brightness.shape
log_scores = (4 * brightness).flatten().repeat(4)[:1_000_000].requires_grad_()
log_omega = torch.tensor([-1.0, 0.0, 0.5, 0.0], requires_grad=True)

rows = []
for n in (1_000, 10_000, 100_000, 1_000_000):
    start = time.perf_counter()
    y = drpm.ops.random_partition(log_omega, log_scores[:n], tau=0.5, seed=0)
    (y.assignment * torch.arange(4.0)[:, None]).sum().backward()
    rows.append((n, time.perf_counter() - start))
    print(f"n = {n:>9,}: forward and backward in {rows[-1][1]:.3f} s, sizes {y.sizes.int().tolist()}")

# %%
# The gradient reaches every element and every importance.
print("log ω:", log_omega.grad.tolist(), " elements with a gradient:", int((log_scores.grad != 0).sum()))

# %%
# The labels of the first copy of the photograph, as a picture of four subsets.
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 2.8))
left.imshow(photo)
left.set_title("photograph", fontsize=10)
middle.imshow(y.labels[: height * width].reshape(height, width), cmap="cividis")
middle.set_title("subset of each pixel", fontsize=10)
for axis in (left, middle):
    axis.set_axis_off()
right.loglog(*zip(*rows, strict=True), "o-", label="forward + backward")
right.loglog([1e3, 1e6], [rows[0][1], rows[0][1] * 1e3], ls="--", color="0.6", label="∝ n")
right.set(xlabel="elements", ylabel="seconds")
right.legend(frameon=False)
figure.set_label(
    "A photograph of a flower, the same picture with each pixel coloured by its subset, and seconds against the number "
    "of elements, which grow about in proportion up to a million."
)
