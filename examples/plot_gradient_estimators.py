"""
Three gradients of one expectation
==================================

A loss enters through E[f(Y)]. :py:obj:`drpm.estimators.expectation` gives its gradient in three ways: exactly, by
straight-through, and by a score function.
"""

# %%
# f: total cost when each of ten flowers goes to one of three species' means. It is linear in the assignment, so the
# exact gradient, here by the importances, is at hand to compare with.
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_iris

from drpm.estimators import expectation

flowers, species = (torch.tensor(x) for x in load_iris(return_X_y=True))
means = torch.stack([flowers[species == k].mean(0) for k in range(3)])
cost = torch.cdist(means, flowers[::15])  # (3, 10)
log_omega = torch.zeros(3, dtype=torch.float64)
log_scores = torch.linspace(1, -1, 10, dtype=torch.float64)


def gradient(method, **options):
    omega = log_omega.clone().requires_grad_()
    expectation(lambda y: (y * cost).sum((-2, -1)), omega, log_scores, method=method, **options).backward()
    return omega.grad


exact = gradient("marginals")
estimates = {
    "score function": ("score", {}),
    "straight-through, τ = 1": ("straight-through", {"tau": 1.0}),
    "straight-through, τ = 0.3": ("straight-through", {"tau": 0.3}),
}
counts = [2, 8, 32, 128, 512, 2048]
errors = {}
for name, (method, options) in estimates.items():
    repeated = [[gradient(method, samples=s, seed=r, **options) for r in range(12)] for s in counts]
    errors[name] = [torch.stack([(g - exact).norm() / exact.norm() for g in row]).mean().item() for row in repeated]
    print(f"{name}: relative error {errors[name][0]:.2f} with 2 draws, {errors[name][-1]:.3f} with 2048")

# %%
# The score function is unbiased: its error falls for ever. Straight-through starts lower and stops at its bias, which a
# lower temperature does not mend: boundaries between subsets become too sharp to feel the sizes.
figure, axis = plt.subplots(figsize=(6, 3.4))
for (name, curve), style in zip(errors.items(), ("o-", "s--", "^:"), strict=True):
    axis.loglog(counts, curve, style, label=name)
axis.set(xlabel="draws", ylabel="relative error of the gradient")
axis.legend(frameon=False)
figure.set_label(
    "Relative error of the gradient against the number of draws for three estimators: the score function falls on, "
    "the two straight-through curves level off at their bias."
)
