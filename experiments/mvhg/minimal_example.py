"""The thesis' minimal example (5.1.5): learn the weights of an urn from 1000 draws, for 10 ground truths.

m = (200, 200, 200), n = 180, ω = (1, ω_2, 1), ω_2 = 1 … 10; 800 draws for training, 200 for validation. Three ways:
straight-through stochastic gradient descent on the squared difference of sampled and observed sizes, as the thesis
does, with merged and with exact conditionals; and exact maximum likelihood by Newton's method. The weights are
determined up to a common factor: log ω is shown relative to its mean.

    python -m experiments.mvhg.minimal_example --out out/mvhg
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drpm.distributions import MultivariateNoncentralHypergeometric
from drpm.ops import mvhg_sample
from drpm.training.figures import pyplot, save_figure
from drpm.training.provenance import provenance, write_json
from experiments.runner.records import origin_line

COUNT, DRAWN, WEIGHTS = 200, 180, tuple(range(1, 11))


def centred(log_omega: Tensor) -> Tensor:
    return log_omega - log_omega.mean(-1, keepdim=True)


def descend(
    train: Tensor,  # (S, K)
    validation: Tensor,  # (V, K)
    conditionals: str,
    epochs: int,
    rate: float,
    batch: int = 10,
) -> dict[str, list[Any]]:
    """Adam on log ω through straight-through samples; the losses and log ω after each epoch."""
    log_omega = torch.zeros(train.shape[-1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([log_omega], lr=rate)

    def loss(sizes: Tensor) -> Tensor:
        draws = mvhg_sample(log_omega, COUNT, DRAWN, 1.0, conditionals=conditionals, sample_shape=(len(sizes),))
        return (draws - sizes).square().mean()

    history: dict[str, list[Any]] = {"train": [], "validation": [], "log_omega": [centred(log_omega.detach()).tolist()]}
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * epoch / epochs)).item())
        total = 0.0
        for sizes in train[torch.randperm(len(train))].split(batch):
            value = loss(sizes)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item() * len(sizes)
        history["train"].append(total / len(train))
        with torch.no_grad():
            history["validation"].append(loss(validation).item())
        history["log_omega"].append(centred(log_omega.detach()).tolist())
    return history


def run(epochs: int, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    datasets = []
    for weight in WEIGHTS:
        truth = torch.tensor([1.0, weight, 1.0], dtype=torch.float64).log()
        sizes = MultivariateNoncentralHypergeometric(COUNT, DRAWN, truth).sample((1000,))
        train, validation = sizes[:800], sizes[800:]
        entry: dict[str, Any] = {"omega_2": weight, "truth": centred(truth).tolist()}
        for conditionals in ("merged", "exact"):
            entry[conditionals] = descend(train, validation, conditionals, epochs, rate=0.02)
        fitted = MultivariateNoncentralHypergeometric.fit(train, COUNT, DRAWN)
        covariance = torch.linalg.pinv(len(train) * fitted.covariance_matrix, hermitian=True)
        entry["maximum_likelihood"] = {
            "log_omega": centred(fitted.log_omega).tolist(),
            "standard_error": covariance.diagonal().sqrt().tolist(),
            "validation_log_likelihood": fitted.log_prob(validation).mean().item(),
        }
        datasets.append(entry)
    return {"m": COUNT, "n": DRAWN, "epochs": epochs, "seed": seed, **provenance(), "datasets": datasets}


def estimate(entry: dict[str, Any], method: str) -> list[float]:
    if method == "maximum_likelihood":
        return entry[method]["log_omega"]
    return entry[method]["log_omega"][-1]


METHODS = {"merged": "descent, merged conditionals", "exact": "descent, exact conditionals", "maximum_likelihood": "ML"}


def table(result: dict[str, Any]) -> str:
    lines = [
        "| ω_2 | " + " | ".join(f"{name}: error of log ω_2 / log ω_1 − log ω_3" for name in METHODS.values()) + " |",
        "|---|" + "---|" * len(METHODS),
    ]
    for entry in result["datasets"]:
        cells = []
        for method in METHODS:
            guess = estimate(entry, method)
            cells.append(f"{guess[1] - entry['truth'][1]:+.3f} / {guess[0] - guess[2]:+.3f}")
        lines.append(f"| {entry['omega_2']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", origin_line(result)])


def picture(result: dict[str, Any], path: Path) -> None:
    """Losses (thesis Fig. 5.5) and estimates over the epochs (Fig. 5.6), and the split of two equal weights."""
    figure, axes = pyplot().subplots(2, 3, figsize=(15, 8), constrained_layout=True)
    colors = pyplot().get_cmap("viridis")(torch.linspace(0, 0.95, len(WEIGHTS)).numpy())
    for color, entry in zip(colors, result["datasets"], strict=True):
        epochs = range(1, result["epochs"] + 1)
        label = f"$\\omega_2 = {entry['omega_2']}$"
        axes[0, 0].plot(epochs, entry["exact"]["train"], color=color, label=label)
        axes[0, 1].plot(epochs, entry["exact"]["validation"], color=color)
        for k in range(3):
            axis = axes[1, k]
            axis.plot([log_omega[k] for log_omega in entry["exact"]["log_omega"]], color=color)
            axis.axhline(entry["truth"][k], color=color, linewidth=0.7, linestyle=":")
    axes[0, 0].set(xlabel="epoch", ylabel="training loss", title="exact conditionals")
    axes[0, 1].set(xlabel="epoch", ylabel="validation loss", title="exact conditionals")
    axes[0, 0].legend(fontsize=7)
    for marker, (method, name) in zip("osx", METHODS.items(), strict=True):
        split = [estimate(entry, method)[0] - estimate(entry, method)[2] for entry in result["datasets"]]
        axes[0, 2].plot(WEIGHTS, split, marker + "-", label=name)
    axes[0, 2].axhline(0, color="grey", linewidth=0.7)
    axes[0, 2].set(xlabel="$\\omega_2$", title="$\\log\\omega_1 - \\log\\omega_3$ (truth: 0)")
    axes[0, 2].legend(fontsize=8)
    for k in range(3):
        axes[1, k].set(xlabel="epoch", ylabel=f"$\\log\\omega_{k + 1}$, centred", title="dotted: truth")
    save_figure(figure, path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/mvhg"), help="folder for minimal_example.{json,png}")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    result = run(options.epochs, options.seed)
    write_json(result, options.out / "minimal_example.json")
    picture(result, options.out / "minimal_example.png")
    print(table(result))


if __name__ == "__main__":
    main()
