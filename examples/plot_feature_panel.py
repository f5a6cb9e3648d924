"""
A panel of five measurements
============================

Thirty measurements of a biopsy predict whether a tumour is malignant. Which five are enough? A
:py:obj:`drpm.nn.SubsetSelector` learns the panel together with the classifier.
"""

# %%
# ``law="conditional-bernoulli"`` draws exactly five features and passes on the gradient of the exact probabilities that
# each is chosen (:doc:`/math/k_subset`).
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale
from torch import nn

import drpm

data = load_breast_cancer()
split = train_test_split(scale(data.data), data.target, test_size=0.3, random_state=0, stratify=data.target)
train_x, test_x, train_y, test_y = (torch.tensor(part, dtype=torch.float32) for part in split)

torch.manual_seed(0)
select = drpm.nn.SubsetSelector(num_elements=30, k=5, law="conditional-bernoulli")
classify = nn.Linear(30, 1)
parameters = [{"params": select.parameters(), "lr": 0.1}, {"params": classify.parameters(), "lr": 0.03}]
optimiser = torch.optim.Adam(parameters)

history = []
for _ in range(400):
    masks = select(sample_shape=(16,)).mask  # sixteen panels a step
    logits = classify(train_x * masks.unsqueeze(-2)).squeeze(-1)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, train_y.expand_as(logits))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    history.append(drpm.ops.k_subset_marginals(select.log_scores.detach(), 5))

# %%
# In evaluation the selector draws nothing and takes the five most probable features.
select.eval()
panel = select().mask.detach()
accuracy = ((classify(test_x * panel).squeeze(-1) > 0) == test_y.bool()).float().mean()
names = [data.feature_names[i] for i in panel.nonzero().flatten()]
print(f"{accuracy:.3f} of the held-out biopsies right, with", ", ".join(names))

figure, axis = plt.subplots(figsize=(7, 3.6))
history = torch.stack(history)
for feature in range(30):
    chosen = bool(panel[feature])
    axis.plot(history[:, feature], lw=2 if chosen else 0.8, color=None if chosen else "0.8", zorder=2 if chosen else 1)
    if chosen:
        axis.annotate(data.feature_names[feature], (len(history), history[-1, feature]), va="center", fontsize=8)
axis.set(xlabel="step", ylabel="Pr[in the panel]", xlim=(0, 520))
figure.set_label(
    "Probabilities of 30 measurements to be in the panel against training steps: all start at one sixth, five of them "
    "rise, the others fall."
)
