"""
Learning to rank with Plackett-Luce
===================================

Nobody says which digit an image shows. All we are given are lists of five images in the right order, largest digit
first. The Plackett-Luce log-likelihood of these orders trains a network that gives every image a score.
"""

# %%
# One call takes all lists of a batch: orders (B, 5), scores (B, 5).
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import drpm.ops

digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
target = torch.tensor(digits.target)
torch.manual_seed(0)
train, test = torch.randperm(len(images)).split([1400, 397])

score = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 1))
optimiser = torch.optim.Adam(score.parameters(), lr=2e-3)
losses = []
for _ in range(500):
    lists = train[torch.randint(len(train), (64, 5))]
    order = (target[lists] + 0.5 * torch.rand(64, 5)).argsort(-1, descending=True)  # equal digits: either order
    log_prob = drpm.ops.plackett_luce_log_prob(order, score(images[lists]).squeeze(-1))
    loss = -log_prob.mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())

# %%
# Sorted by their scores, images that were never in a list stand in the order of their digits.
with torch.no_grad():
    held_out = score(images[test]).squeeze(-1)
a, b = torch.randint(len(test), (2, 20_000))
differ = target[test][a] != target[test][b]
right = ((held_out[a] > held_out[b]) == (target[test][a] > target[test][b]))[differ].float().mean()
print(f"{right:.3f} of the held-out pairs in the right order")

figure, axes = plt.subplot_mosaic([["scores", "scores"], ["row", "row"]], figsize=(7, 4.2), height_ratios=(3, 1))
shown = torch.arange(0, 397, 33)[:12]
ranked = held_out.argsort(descending=True)
axes["scores"].violinplot([held_out[target[test] == d].numpy() for d in range(10)], range(10), showmedians=True)
axes["scores"].set(xlabel="digit", ylabel="learned score", xticks=range(10))
axes["row"].imshow(torch.cat([images[test][ranked[i]].reshape(8, 8) for i in shown], 1), cmap="gray_r")
axes["row"].set_axis_off()
axes["row"].set_title("every 33rd held-out image, by decreasing score", fontsize=10)
figure.set_label(
    "Above, the learned scores of held-out images for each digit, rising from 0 to 9. Below, twelve held-out images "
    "by decreasing score, from nines to zeros."
)
