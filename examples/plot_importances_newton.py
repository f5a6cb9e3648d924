"""
Maximum likelihood of importances, by Newton's method
=====================================================

Fifty times somebody picks 30 of 178 wines, and we see how many came from each grower. How much is each preferred? The
log-likelihood of the MVHG is concave in log ω, its gradient and Hessian are exact: a handful of Newton steps ends at
machine precision.
"""

# %%
# The wine table says how many of 178 wines each of three growers made: 59, 71 and 48. We draw 30 wines at a time with
# importances that we pretend not to know.
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_wine

from drpm.distributions import MultivariateNoncentralHypergeometric as MVHG

m = torch.bincount(torch.tensor(load_wine().target))
truth = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
torch.manual_seed(0)
sizes = MVHG(m, 30, truth).sample((50,))
print("wines of each grower", m.tolist(), " mean of the draws", sizes.mean(0).tolist())


# %%
# A common constant of log ω changes nothing, so the first one is held at 0.
def negative_log_likelihood(free):
    log_omega = torch.cat([torch.zeros(1, dtype=free.dtype), free])
    return -MVHG(m, 30, log_omega, validate_args=False).log_prob(sizes).mean()


free, path = torch.zeros(2, dtype=torch.float64), []
for step in range(8):
    gradient = torch.func.grad(negative_log_likelihood)(free)
    hessian = torch.func.hessian(negative_log_likelihood)(free)
    path.append((free, gradient.norm().item()))
    print(step, [round(x, 6) for x in free.tolist()], f"{path[-1][1]:.1e}")
    if path[-1][1] < 1e-12:
        break
    free = free - torch.linalg.solve(hessian, gradient)

fitted = MVHG.fit(sizes, m, 30)  # the same in one line
print("truth ", (truth - truth.mean()).tolist())
print("fitted", fitted.log_omega.tolist())

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3))
grid = torch.linspace(-3, 0.6, 60, dtype=torch.float64)
points = torch.cartesian_prod(grid, grid)
surface = torch.vmap(negative_log_likelihood)(points).reshape(60, 60)
left.contourf(grid, grid, surface.T, 20, cmap="cividis_r")
left.plot(*torch.stack([point for point, _ in path]).T, "o-", color="white", ms=4)
left.plot(*(truth[1:] - truth[0]), "*", color="C1", ms=12)
left.set(xlabel="log ω₂ − log ω₁", ylabel="log ω₃ − log ω₁", title="path of Newton's method; star: truth")
right.semilogy([max(norm, 1e-17) for _, norm in path], "o-")
right.set(xlabel="step", ylabel="length of the gradient")
figure.set_label(
    "Left: contours of the negative log-likelihood with the path of Newton's method, which ends near the true "
    "importances. Right: the length of the gradient falls to machine precision within a few steps."
)
