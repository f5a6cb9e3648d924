"""The thesis' Kolmogorov-Smirnov experiment (5.1.4), against its own reference and against the exact law.

m = (200, 200, 200), n = 180, ω = (1, ω_2, 1) with ω_2 = 1 … 10. For each class and each ω_2 a two-sample test of our
samples and as many samples of a reference law; 30 tests, corrected after Benjamini and Hochberg. The thesis' reference
draws class by class and merges the later classes, as the sampler it is compared with: the tests pass though neither
follows the distribution. Here both kinds of conditionals meet both references.

    python -m experiments.mvhg.ks_test --out out/mvhg
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drpm.ops import mvhg_sample
from drpm.training.figures import pyplot, save_figure
from drpm.training.provenance import provenance, write_json
from experiments.runner.records import origin_line

COUNTS, DRAWN, WEIGHTS = (200, 200, 200), 180, tuple(range(1, 11))
LEVEL = 0.05


def two_class_law(m_left: int, m_right: int, drawn: int, odds: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Outcomes and probabilities of Fisher's two-class distribution, by SciPy's log-factorials."""
    from scipy.special import gammaln, softmax

    x = np.arange(max(0, drawn - m_right), min(m_left, drawn) + 1)
    log_weight = x * np.log(odds) - (gammaln(x + 1) + gammaln(m_left - x + 1))
    log_weight -= gammaln(drawn - x + 1) + gammaln(m_right - drawn + x + 1)
    return x, softmax(log_weight)


def merged_marginals(omega: NDArray[np.float64]) -> NDArray[np.float64]:  # (K, n + 1)
    """Marginals of the thesis' reference: classes in natural order, later classes merged (thesis Eq. 5.2-5.5)."""
    remaining = np.zeros(DRAWN + 1)
    remaining[DRAWN] = 1
    marginals = np.zeros((len(COUNTS), DRAWN + 1))
    for k in range(len(COUNTS) - 1):
        m_right = sum(COUNTS[k + 1 :])
        omega_right = float(np.dot(COUNTS[k + 1 :], omega[k + 1 :])) / m_right
        left = np.zeros(DRAWN + 1)
        for r in np.flatnonzero(remaining > 1e-300):
            x, probability = two_class_law(COUNTS[k], m_right, int(r), omega[k] / omega_right)
            marginals[k, x] += remaining[r] * probability
            left[r - x] += remaining[r] * probability
        remaining = left
    marginals[-1] = remaining
    return marginals


def exact_marginals(omega: NDArray[np.float64]) -> NDArray[np.float64]:  # (K, n + 1)
    """Marginals of the MVHG, by polynomial products of the classes' weights."""
    from scipy.special import gammaln

    x = np.arange(DRAWN + 1)
    weights = []
    for count, w in zip(COUNTS, omega, strict=True):
        log_weight = gammaln(count + 1) - gammaln(x + 1) - gammaln(count - x + 1) + x * np.log(w)
        weights.append(np.exp(log_weight - log_weight.max()))
    marginals = []
    for k, own in enumerate(weights):
        others = np.ones(1)
        for j, weight in enumerate(weights):
            if j != k:
                others = np.convolve(others, weight)[: DRAWN + 1]
        law = own * others[::-1]
        marginals.append(law / law.sum())
    return np.array(marginals)


def run(samples: int, seed: int) -> dict[str, Any]:
    """KS distances and corrected p-values, by kind of conditionals and reference: arrays (ω_2, class)."""
    from scipy.stats import false_discovery_control, ks_2samp

    generator = np.random.default_rng(seed)
    references = {"merging reference": merged_marginals, "exact law": exact_marginals}
    draws: dict[str, list[NDArray[np.float64]]] = {"merged": [], "exact": []}
    comparisons: dict[str, Any] = {}
    laws: dict[str, list[NDArray[np.float64]]] = {name: [] for name in references}
    for index, weight in enumerate(WEIGHTS):
        log_omega = torch.tensor([1.0, weight, 1.0], dtype=torch.float64).log()
        for kind, kept in draws.items():
            torch_seed = seed * 1000 + index
            sizes = mvhg_sample(
                log_omega, list(COUNTS), DRAWN, conditionals=kind, sample_shape=(samples,), seed=torch_seed
            )
            kept.append(sizes.numpy())
        for name, marginals in references.items():
            laws[name].append(marginals(np.array([1.0, weight, 1.0])))
    for kind in draws:
        for name in references:
            distance = np.zeros((len(WEIGHTS), len(COUNTS)))
            p_value = np.zeros_like(distance)
            for i in range(len(WEIGHTS)):
                for k in range(len(COUNTS)):
                    law = laws[name][i][k]
                    reference = generator.choice(DRAWN + 1, size=samples, p=law / law.sum())
                    test = ks_2samp(draws[kind][i][:, k], reference, method="asymp")
                    distance[i, k], p_value[i, k] = test.statistic, test.pvalue
            corrected = false_discovery_control(p_value.ravel(), method="bh").reshape(p_value.shape)
            comparisons[f"{kind} conditionals vs {name}"] = {
                "passed": int((corrected > LEVEL).sum()),
                "of": corrected.size,
                "distance": distance.tolist(),
                "corrected_p_value": corrected.tolist(),
            }
    means = {kind: [sizes.mean(0).tolist() for sizes in kept] for kind, kept in draws.items()}
    exact_means = [(law @ np.arange(DRAWN + 1)).tolist() for law in laws["exact law"]]
    return {
        "m": COUNTS,
        "n": DRAWN,
        "omega_2": WEIGHTS,
        "samples": samples,
        "seed": seed,
        "level": LEVEL,
        **provenance(),
        "comparisons": comparisons,
        "sample_means": means,
        "exact_means": exact_means,
        "histograms": {
            kind: np.bincount(kept[-1][:, 1].astype(int), minlength=DRAWN + 1).tolist() for kind, kept in draws.items()
        },
        "laws_of_class_2": {name: law[-1][1].tolist() for name, law in laws.items()},
    }


def table(result: dict[str, Any]) -> str:
    lines = ["| comparison | tests passed | largest KS distance |", "|---|---|---|"]
    for name, comparison in result["comparisons"].items():
        largest = np.max(comparison["distance"])
        lines.append(f"| {name} | {comparison['passed']} of {comparison['of']} | {largest:.4f} |")
    return "\n".join([*lines, "", origin_line(result)])


def picture(result: dict[str, Any], path: Path) -> None:
    """Distances and p-values over ω_2 (thesis Fig. 5.4), and the histograms at the largest ω_2 (Fig. 5.3)."""
    figure, axes = pyplot().subplots(1, 3, figsize=(15, 4.2), constrained_layout=True)
    for style, (name, comparison) in zip(("o-", "s--", "^-", "d--"), result["comparisons"].items(), strict=True):
        axes[0].plot(result["omega_2"], np.max(comparison["distance"], axis=1), style, label=name)
        smallest = np.maximum(np.min(comparison["corrected_p_value"], axis=1), 1e-16)
        axes[1].plot(result["omega_2"], smallest, style, label=name)
    axes[0].set(xlabel="$\\omega_2$", ylabel="largest KS distance over the classes", yscale="log")
    axes[0].legend(fontsize=8)
    axes[1].axhline(result["level"], color="grey", linewidth=1)
    axes[1].set(xlabel="$\\omega_2$", ylabel="smallest corrected p-value (cut at 1e-16)", yscale="log")
    x = np.arange(result["n"] + 1)
    for kind, color in (("merged", "tab:orange"), ("exact", "tab:blue")):
        histogram = np.array(result["histograms"][kind]) / result["samples"]
        axes[2].bar(x, histogram, width=1.0, alpha=0.5, color=color, label=f"samples, {kind} conditionals")
    axes[2].plot(x, result["laws_of_class_2"]["exact law"], "k-", label="exact law")
    axes[2].plot(x, result["laws_of_class_2"]["merging reference"], "k:", label="merging reference")
    axes[2].set(xlim=(95, 160), xlabel=f"$n_2$ at $\\omega_2 = {result['omega_2'][-1]}$", ylabel="probability")
    axes[2].legend(fontsize=8)
    save_figure(figure, path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50000, help="per law and side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/mvhg"), help="folder for ks_test.json and ks_test.png")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    result = run(options.samples, options.seed)
    write_json(result, options.out / "ks_test.json")
    picture(result, options.out / "ks_test.png")
    print(table(result))


if __name__ == "__main__":
    main()
