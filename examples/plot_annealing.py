"""
Annealing a temperature
=======================

A layer's temperature falls while it learns: high at first, so that gradients see far, low at the end, so that the
relaxation is close to what is used later. Here a layer sorts three groups of wines apart.
"""

# %%
# :py:obj:`drpm.nn.RandomPartition` holds the schedule and learns the importances; ``advance`` moves it.
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale
from torch import nn

import drpm

table, grower = load_wine(return_X_y=True)
table, grower = torch.tensor(scale(table), dtype=torch.float32), torch.tensor(grower)
truth = nn.functional.one_hot(grower, 3).T.float()

torch.manual_seed(0)
score = nn.Linear(13, 1)
steps = 300
layer = drpm.nn.RandomPartition(num_subsets=3, tau=drpm.nn.Exponential(2.0, 0.1, steps), hard=False)
optimiser = torch.optim.Adam([*score.parameters(), *layer.parameters()], lr=0.05)
history = []
for _ in range(steps):
    y = layer(score(table).squeeze(-1))
    loss = ((y.assignment - truth) ** 2).sum(0).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    history.append((float(layer.tau), loss.item(), *y.sizes.tolist()))
    layer.advance()

layer.eval()
found = layer(score(table).squeeze(-1)).labels
print(
    f"right: {(found == grower).float().mean():.2f}; "
    f"sizes {torch.bincount(found).tolist()} of {torch.bincount(grower).tolist()}"
)

# %%
tau, loss, *sizes = zip(*history, strict=True)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
left.semilogy(tau, label="temperature", ls="--")
left.semilogy(loss, label="squared error")
left.set(xlabel="step")
left.legend(frameon=False)
for k, size in enumerate(sizes):
    right.plot(size, lw=0.8, color=f"C{k}")
    right.axhline(int((grower == k).sum()), color=f"C{k}", ls=":", lw=1.5)
right.set(xlabel="step", ylabel="sizes drawn; dotted: true")
figure.set_label(
    "Left: the temperature falls from 2 to 0.1 while the squared error falls. Right: the drawn sizes of three subsets "
    "scatter around the true sizes 59, 71 and 48."
)
