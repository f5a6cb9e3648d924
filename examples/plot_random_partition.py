"""
A random partition, hard and relaxed
====================================

Twenty-four elements go to three subsets. The importances decide how many each subset gets, the scores who comes first.
The value of a draw is a partition; the temperature decides what its gradient sees.
"""

# %%
# One seed, three temperatures. The hard partition is the same at each; the relaxed one approaches it.
import matplotlib.pyplot as plt
import torch

import drpm.ops

log_omega = torch.tensor([1.0, 0.0, -1.0])  # K = 3 subsets: large, middling, small
log_scores = torch.linspace(2, -2, 24)  # n = 24 elements: the first ones tend to come first

hard = drpm.ops.random_partition(log_omega, log_scores, seed=3)
print("sizes ", hard.sizes.int().tolist())
print("labels", hard.labels.tolist())

temperatures = (2.0, 0.5, 0.05)
relaxed = [drpm.ops.random_partition(log_omega, log_scores, tau, hard=False, seed=3) for tau in temperatures]

# %%
# Rows are subsets, columns elements. At τ = 2 everything is a little of everything, at τ = 0.05 next to nothing is.
figure, axes = plt.subplots(4, 1, figsize=(7, 5), sharex=True)
titles = [f"relaxed, τ = {tau:g}" for tau in temperatures] + ["hard, any τ"]
for axis, title, assignment in zip(axes, titles, [y.assignment for y in relaxed] + [hard.assignment], strict=True):
    picture = axis.imshow(assignment, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axis.set(title=title, yticks=range(3), ylabel="subset")
axes[-1].set_xlabel("element, by decreasing score")
figure.colorbar(picture, ax=axes, label="share of the element")
figure.set_label(
    "Four heat maps of 3 subsets by 24 elements: blurred at temperature 2, sharper at 0.5, and at 0.05 almost the same "
    "as the hard partition, where each element belongs to one subset."
)
