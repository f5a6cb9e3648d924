"""
A Spearman loss
===============

Ranks have no gradient. Soft ranks do, and so does the Spearman correlation made of them: a loss that asks for the right
order and does not care about outliers.
"""

# %%
# Row i of the relaxed permutation says who stands at place i; the expected place of an element is its soft rank.
import matplotlib.pyplot as plt
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_diabetes

import drpm.ops


def soft_rank(x, tau):  # (n,) -> (n,): 0 for the largest
    permutation = drpm.ops.relaxed_sort(x, tau)
    share = permutation / permutation.sum(-2, keepdim=True)
    return torch.arange(x.shape[-1], dtype=x.dtype) @ share


def spearman(x, ranks, tau=0.1):
    return torch.corrcoef(torch.stack([soft_rank(x / x.std(), tau), ranks]))[0, 1]


# %%
# Progression of diabetes from ten measurements of 442 patients; one reading in ten is spoilt by a factor of ten.
data, clean = load_diabetes(return_X_y=True)
torch.manual_seed(0)
x, clean = torch.tensor(data, dtype=torch.float32) * 20, torch.tensor(clean, dtype=torch.float32)
spoilt = torch.where(torch.rand(442) < 0.1, 10 * clean, clean)
train, test = torch.randperm(442).split([300, 142])
ranks = spoilt[train].argsort(descending=True).argsort().float()

curves = {}
for name in ("squares", "Spearman"):
    weight = torch.zeros(10).add_(0.01).requires_grad_()
    optimiser = torch.optim.Adam([weight], lr=0.05)
    curves[name] = []
    for _ in range(120):
        predicted = x[train] @ weight
        if name == "squares":
            loss = ((predicted - (spoilt[train] - spoilt[train].mean()) / spoilt[train].std()) ** 2).mean()
        else:
            loss = -spearman(predicted, ranks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curves[name].append(spearmanr((x[test] @ weight).detach(), clean[test]).statistic)
    print(f"{name}: Spearman correlation with the clean held-out values {curves[name][-1]:.3f}")

# %%
# Squares chase the spoilt readings; ranks can only be wrong by so many places.
figure, axis = plt.subplots(figsize=(6, 3.2))
axis.plot(curves["squares"], ls="--", label="squared errors")
axis.plot(curves["Spearman"], label="soft Spearman correlation")
axis.set(xlabel="step", ylabel="held-out Spearman correlation")
axis.legend(frameon=False)
figure.set_label(
    "Held-out Spearman correlation against training steps for two losses: that of the soft Spearman loss ends above "
    "that of squared errors."
)
