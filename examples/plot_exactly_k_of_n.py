"""
Exactly k of n, under two laws
==============================

Both laws choose exactly k elements, and heavier ones more often. They are not the same: *conditional Bernoulli* is
independent coins given their total, *Plackett-Luce* draws one after the other (Gumbel top k).
"""

# %%
# Weights: how many of the 1,797 digits have ink in each of twelve pixels of the fourth row and around it.
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

import drpm.ops

ink = torch.tensor((load_digits().data > 8).mean(0)).clamp(1e-3, 1 - 1e-3)
log_weights = torch.logit(ink[24:36])
n, k, draws = len(log_weights), 3, 20_000

# %%
# Marginals of the first law are exact in one call; those of the second come from a partition into two subsets of
# sizes k and n − k. Both are checked by counting.
exact = drpm.ops.k_subset_marginals(log_weights, k)
counted = drpm.ops.k_subset_sample(log_weights, k, sample_shape=(draws,), seed=0).mean(0)
noisy = log_weights + drpm.ops.gumbel_noise(
    1, (draws, 1, n), stream=drpm.ops.STREAM_ORDER, dtype=torch.float64
).squeeze(1)
gumbel = torch.zeros(draws, n).scatter_(-1, noisy.topk(k, -1).indices, 1.0).mean(0)
print("largest error of the counts", float((counted - exact).abs().max()))
print("both sum to", float(exact.sum()), float(gumbel.sum()))

# %%
figure, axis = plt.subplots(figsize=(7, 3.2))
place = torch.arange(n)
axis.bar(place - 0.2, exact, 0.4, label="conditional Bernoulli, exact")
axis.bar(place + 0.2, gumbel, 0.4, label="Plackett-Luce, counted", hatch="//")
axis.plot(place - 0.2, counted, "k.", label="conditional Bernoulli, counted")
axis.set(xlabel="element", ylabel="Pr[chosen]", xticks=place)
axis.legend(frameon=False, loc="upper center")
figure.set_label(
    "Probabilities that each of twelve elements is among the three chosen, under two laws; counts of draws lie on the "
    "exact bars of the conditional Bernoulli law; Plackett-Luce favours the heaviest elements more."
)

# %%
# The probability of a set is exact, too: all 220 sum to one.
subsets = torch.combinations(torch.arange(n), k)
masks = torch.zeros(len(subsets), n, dtype=torch.float64).scatter_(-1, subsets, 1.0)
print(len(subsets), "sets, total", float(drpm.ops.k_subset_log_prob(masks, log_weights, k).exp().sum()))
