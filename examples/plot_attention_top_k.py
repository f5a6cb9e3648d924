"""
Attention to eight pixels
=========================

A network looks at an image, decides on eight of its 64 pixels, and a classifier sees these alone. The mask is hard –
exactly eight, always – and still trained by gradients.
"""

# %%
# The attention network gives a log-weight to every pixel; :py:obj:`drpm.ops.k_subset_sample` draws exactly k of them.
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import drpm.ops

digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
target = torch.tensor(digits.target)
torch.manual_seed(0)
shuffled = torch.randperm(len(images))
train, test = shuffled[:1400], shuffled[1400:]

k = 8
attend = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
classify = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def masks_of(x, noise):
    return drpm.ops.k_subset_sample(attend(x), k, noise=noise)


def logits_of(x, mask):  # which pixels are seen, and what they hold
    return classify(torch.cat([mask * x, mask], -1))


optimiser = torch.optim.Adam([*attend.parameters(), *classify.parameters()], lr=2e-3)
for _ in range(600):
    batch = train[torch.randint(len(train), (128,))]
    mask = masks_of(images[batch], noise=True)
    loss = nn.functional.cross_entropy(logits_of(images[batch], mask), target[batch])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

with torch.no_grad():
    mask = masks_of(images[test], noise=False)
    right = (logits_of(images[test], mask).argmax(-1) == target[test]).float().mean()
print(
    f"{right:.3f} of the held-out digits right, from {k} of 64 pixels; every mask has", set(mask.sum(-1).int().tolist())
)

# %%
# Where does it look? One digit of each class, with the pixels that were chosen outlined.
figure, axes = plt.subplots(2, 5, figsize=(7, 3.2))
for digit, axis in enumerate(axes.flat):
    index = int((target[test] == digit).nonzero()[0])
    axis.imshow(images[test][index].reshape(8, 8), cmap="gray_r")
    for place in mask[index].nonzero().flatten().tolist():
        axis.add_patch(plt.Rectangle((place % 8 - 0.5, place // 8 - 0.5), 1, 1, fill=False, ec="C1", lw=2))
    axis.set(xticks=[], yticks=[], title=str(digit))
figure.set_label(
    "Ten handwritten digits of 8 by 8 pixels; on each, the eight pixels that the network attends to are outlined."
)
