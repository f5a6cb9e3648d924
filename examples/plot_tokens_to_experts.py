"""
Tokens to experts under capacities
==================================

A router sends each token to the expert it likes best, and one expert drowns while others idle. With capacities the
question becomes an assignment problem, which :py:obj:`drpm.ops.sized_assignment` solves exactly – and differentiably.
"""

# %%
# Tokens are 1,797 digits; the router is a linear map to eight experts that prefers the first ones.
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

import drpm.ops

torch.manual_seed(0)
tokens = torch.tensor(load_digits().data, dtype=torch.float32) / 16
affinity = (tokens - tokens.mean(0)) @ torch.randn(64, 8) + torch.tensor([2.0, 1.0, 0.5, 0, 0, 0, -0.5, -1.0])
scores = affinity.T  # (K, n)
n, capacity = len(tokens), 250

greedy = scores.argmax(0)
assigned = drpm.ops.sized_assignment(scores, max_sizes=capacity)
print("greedy  ", torch.bincount(greedy, minlength=8).tolist())
print("assigned", assigned.sizes.int().tolist())
kept = scores.gather(0, assigned.labels[None]).sum() / scores.gather(0, greedy[None]).sum()
moved = (assigned.labels != greedy).float().mean()
print(f"{moved:.0%} of the tokens go elsewhere, {kept:.1%} of the affinity is kept")

# %%
# The prices are the multipliers of the capacities: what a token would have to pay for a place.
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
left.bar(torch.arange(8) - 0.2, torch.bincount(greedy, minlength=8), 0.4, label="greedy", hatch="//")
left.bar(torch.arange(8) + 0.2, assigned.sizes, 0.4, label="with capacities")
left.axhline(capacity, color="0.3", lw=1, ls="--")
left.set(xlabel="expert", ylabel="tokens")
left.legend(frameon=False)
right.bar(torch.arange(8), assigned.prices, color="C0")
right.set(xlabel="expert", ylabel="price of a place")
figure.set_label(
    "Left: tokens of eight experts, far above the capacity of 250 for some under greedy routing, at most 250 with "
    "capacities. Right: prices of the experts, zero where the capacity is not used up."
)

# %%
# At a temperature the assignment is soft, keeps to the capacities, and has exact gradients.
scores.requires_grad_()
soft = drpm.ops.sized_assignment(scores, max_sizes=capacity, tau=1.0)
(soft.assignment * scores).sum().backward()
print("largest load", round(soft.sizes.max().item(), 3), " gradient", tuple(scores.grad.shape))
