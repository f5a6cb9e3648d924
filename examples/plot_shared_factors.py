"""
How many factors do two views share?
====================================

The left and the right half of a digit are two views of one thing. Which of their factors are shared? A random partition
of the factors into *shared* and *independent* ones learns the number and the choice together, and says how sure it is.
"""

# %%
# Canonical correlation analysis pairs directions of the two halves. On held-out digits each pair has a log-likelihood
# ratio: how much better is it described by one shared factor than by two independent ones?
import matplotlib.pyplot as plt
import torch
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import drpm
from drpm.estimators import partition_kl_bound

images = load_digits().images
left, right = (PCA(16, random_state=0).fit_transform(images[:, :, s].reshape(-1, 32)) for s in (slice(4), slice(4, 8)))
train, test = slice(0, 1200), slice(1200, None)
u, v = CCA(16, max_iter=2000).fit(left[train], right[train]).transform(left, right)
u, v = (torch.tensor(x) for x in (u, v))
u, v = ((x - x[train].mean(0)) / x[train].std(0) for x in (u, v))
rho = (u[train] * v[train]).mean(0).clamp(-0.99, 0.99)
a, b = u[test], v[test]
joint = -0.5 * torch.log1p(-(rho**2)) - (a**2 - 2 * rho * a * b + b**2) / (2 * (1 - rho**2))
ratio = (joint + (a**2 + b**2) / 2).mean(0) * 40  # evidence of 40 digits
n = len(ratio)

# %%
# The expected ratio is linear in the assignment, so its gradient is exact by marginals; the prior – every partition
# alike – enters through a bound on the divergence, weighted by 0.1 because the bound is wide.
log_omega = torch.zeros(2, dtype=torch.float64, requires_grad=True)
log_scores = torch.zeros(n, dtype=torch.float64, requires_grad=True)
optimiser = torch.optim.Adam([log_omega, log_scores], lr=0.05)
history = []
for _ in range(400):
    shared = drpm.ops.partition_marginals(log_omega, log_scores)[0]
    sizes = drpm.ops.mvhg_mean(log_omega, n, n)
    kl = partition_kl_bound(sizes, log_omega, log_scores)
    loss = -(shared * ratio).sum() + 0.1 * (kl.sizes + kl.order)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    history.append(sizes[0].item())
law = drpm.distributions.MultivariateNoncentralHypergeometric(n, n, log_omega.detach())
number = law.log_prob(torch.stack([torch.arange(n + 1), n - torch.arange(n + 1)], -1)).exp()
print(
    f"shared factors: {history[-1]:.1f} expected, {int(number.argmax())} most probable; "
    f"positive evidence: {(ratio > 0).sum()}"
)

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3))
axes[0].bar(range(n), ratio)
axes[0].set(xlabel="pair of factors", ylabel="evidence for shared, nats")
axes[1].bar(range(n), shared.detach(), color="C1")
axes[1].set(xlabel="pair of factors", ylabel="Pr[shared]", ylim=(0, 1))
axes[2].bar(range(n + 1), number, color="C3")
axes[2].set(xlabel="number of shared factors", ylabel="probability")
figure.set_label(
    "Left: evidence that each of 16 pairs of factors is shared, falling from the first to the last. Middle: learned "
    "probabilities of being shared. Right: the learned law of the number of shared factors."
)
