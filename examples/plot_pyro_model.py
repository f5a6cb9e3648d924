"""
A Pyro model
============

How large are the groups that we see only one partition of? The classes of :py:mod:`drpm.distributions.pyro` stand in
`pyro.sample` like any other distribution; variational inference gives a posterior of the importances.
"""

# %%
# Observed: which of three growers made each of 178 wines, and how dark the wine is. Unknown: the importances ω of the
# growers and whether dark wines come first (a slope of the Plackett-Luce scores).
import matplotlib.pyplot as plt
import pyro
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal
from pyro.optim import Adam
from sklearn.datasets import load_wine

from drpm.distributions.pyro import RandomPartition

wine = load_wine()
labels = torch.tensor(wine.target)
colour = torch.tensor(wine.data[:, wine.feature_names.index("color_intensity")])
colour = (colour - colour.mean()) / colour.std()


def model():
    log_omega = pyro.sample("log_omega", dist.Normal(torch.zeros(3).double(), 2.0).to_event(1))
    slope = pyro.sample("slope", dist.Normal(torch.tensor(0.0).double(), 1.0))
    pyro.sample("labels", RandomPartition(log_omega, slope * colour), obs=labels)


# %%
# The likelihood of the partition is exact (:doc:`/math/partition_log_prob`), so this is ordinary variational inference.
pyro.set_rng_seed(0)
pyro.clear_param_store()
guide = AutoMultivariateNormal(model, init_scale=0.1)
inference = SVI(model, guide, Adam({"lr": 0.02}), Trace_ELBO(num_particles=4, vectorize_particles=False))
losses = [inference.step() for _ in range(400)]
with torch.no_grad():
    draws = [guide() for _ in range(2000)]
slope = torch.stack([draw["slope"] for draw in draws])
log_omega = torch.stack([draw["log_omega"] for draw in draws])
log_omega = log_omega - log_omega.mean(-1, keepdim=True)  # a common constant does not matter
print(f"slope {slope.mean():.2f} ± {slope.std():.2f}; log ω", [f"{x:.2f}" for x in log_omega.mean(0)])

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
left.plot(losses, lw=0.8)
left.set(xlabel="step", ylabel="− evidence lower bound")
for k, style in enumerate(("-", "--", ":")):
    right.hist(log_omega[:, k].numpy(), 50, density=True, histtype="step", lw=2, ls=style, label=f"grower {k}")
right.set(xlabel="log ω, centred", ylabel="posterior density")
right.legend(frameon=False)
figure.set_label(
    "Left: the negative evidence lower bound falls over 400 steps. Right: posterior densities of the three centred "
    "importances, which follow the sizes of the three growers."
)
