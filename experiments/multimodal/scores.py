"""Scores of a trained multimodal VAE: representations, coherence, likelihood, fidelity, and what patterns hold."""

import dataclasses
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drpm.models.multimodal_posterior import Experts, SharingPosterior
from drpm.models.multimodal_vae import MultimodalVAE
from drpm.models.pattern_sharing import draw_blocks
from experiments.multimodal.data import ModalityData, Tuples
from experiments.multimodal.fidelity import average_precision, density_coverage, frechet_distance
from experiments.multimodal.networks import Classifier

_CHUNK = 1000
PROBES = (500, 10_000)  # representations that a linear classifier sees


@dataclasses.dataclass(frozen=True)
class ScoreSizes:
    """How much is scored; 0: not at all."""

    train: int = 10_000  # tuples whose representations classifiers see
    test: int = 5_000  # tuples on which they are scored
    coherence: int = 2_000
    likelihood: int = 1_000  # tuples with `samples`, for every subset
    samples: int = 12
    precise: int = 1_000  # tuples with `precise_samples`, for the full set and single modalities
    precise_samples: int = 512
    released: int = 0  # tuples whose likelihood is also estimated with the released code's defects
    fidelity: int = 5_000


def subsets_of(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Non-empty subsets, by size."""
    return [s for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)]


def spread_indices(tuples: Tuples, count: int) -> Tensor:
    """Indices spread over the tuples, so that those of one handwritten digit are far apart."""
    stride = max(1, len(tuples) // max(count, 1))
    return torch.arange(0, len(tuples), stride)[:count]


class Scorer:
    """Scores of one model on one data set; classifiers by modality.

    Everything is drawn from a generator that is seeded here, so that scores follow from the model alone.
    """

    def __init__(
        self, model: MultimodalVAE, data: ModalityData, classifiers: Mapping[str, Classifier], sizes: ScoreSizes
    ) -> None:
        self.model, self.data, self.classifiers, self.sizes = model.eval(), data, classifiers, sizes
        self.names = data.names
        self.subsets = subsets_of(self.names)
        self.generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def scores(self) -> dict[str, Any]:
        found: dict[str, Any] = {"bound": self.bound()}
        train, train_factors = self._experts(self.data.train, self.sizes.train)
        test, test_factors = self._experts(self.data.test, self.sizes.test)
        found["accuracy"] = self.accuracy(train, train_factors, test, test_factors)
        found["parts"] = self.part_accuracy(train, train_factors, test, test_factors)
        found["coherence"] = self.coherence(test, test_factors)
        found["random_coherence"] = self.random_coherence()
        if self.model.objective != "MMVM":
            found |= self.log_likelihoods()
        if self.sizes.fidelity:
            found["fidelity"] = self.fidelity()
        if self.model.sharing is not None:
            found["patterns"] = self.patterns(test)
        return found

    def _experts(self, tuples: Tuples, count: int) -> tuple[Experts, dict[str, Tensor]]:
        indices = spread_indices(tuples, count)
        parts = [self.model.encode(tuples.batch(part)) for part in indices.split(_CHUNK)]
        private = [
            (torch.cat([part.private[m][0] for part in parts]), torch.cat([part.private[m][1] for part in parts]))
            for m in range(len(self.names))
        ]
        joined = [
            torch.cat([getattr(part, field) for part in parts]) for field in ("means", "log_variances", "observed")
        ]
        return Experts(joined[0], joined[1], private, joined[2]), tuples.factors(indices)

    def _places(self, subset: Sequence[str]) -> list[int]:
        return [self.names.index(name) for name in subset]

    # What representations hold.

    def bound(self) -> dict[str, float]:
        """Means of the objective and its parts on test tuples."""
        parts = []
        for some in spread_indices(self.data.test, self.sizes.test).split(_CHUNK):
            found = self.model.bound(self.data.test.batch(some), generator=self.generator)
            log_probs = found.log_probs.sum(-1)
            parts.append(torch.stack([found.objective, log_probs, found.kl, found.private_kl, found.regulariser]))
        means = torch.cat(parts, 1).mean(1).tolist()
        names = ("objective", "log_probs", "kl", "private_kl", "regulariser")
        return dict(zip(names, means, strict=True))

    def accuracy(
        self, train: Experts, train_factors: dict[str, Tensor], test: Experts, test_factors: dict[str, Tensor]
    ) -> dict[str, Any]:
        """Subset -> factor -> accuracy of a linear classifier on 500 and on 10,000 representations."""
        found: dict[str, Any] = {}
        for subset in self.subsets:
            places = self._places(subset)
            x, y = (
                self.model.posterior_of(of.only(places)).representation(self.generator).numpy() for of in (train, test)
            )
            found[",".join(subset)] = {
                factor: [
                    probe(x[:count], train_factors[factor][:count], y, test_factors[factor])
                    for count in PROBES
                    if count <= max(len(x), min(PROBES))
                ]
                for factor in self.data.classes
            }
        return found

    def part_accuracy(
        self, train: Experts, train_factors: dict[str, Tensor], test: Experts, test_factors: dict[str, Tensor]
    ) -> dict[str, Any]:
        """Accuracies of all factors in each part of the latent variables: shared and private, or every pattern."""
        parts = [self._parts(of) for of in (train, test)]
        return {
            name: {
                factor: probe(x.numpy(), train_factors[factor], parts[1][name].numpy(), test_factors[factor])
                for factor in self.data.classes
            }
            for name, x in parts[0].items()
            if x.shape[1]
        }

    def _parts(self, experts: Experts) -> dict[str, Tensor]:
        posterior = self.model.posterior_of(experts)
        if isinstance(posterior, SharingPosterior):
            held = pattern_means(posterior)
            return {pattern_name(p): held[k] for k, p in enumerate(posterior.patterns.patterns)}
        found = {"shared": posterior.representation(self.generator)} if self.model.shared else {}
        for name, (mean, _) in zip(self.names, experts.private, strict=True):
            found[f"private {name}"] = mean
        return found

    def patterns(self, experts: Experts) -> dict[str, float]:
        """Mean size of every pattern."""
        posterior = self.model.posterior_of(experts)
        assert isinstance(posterior, SharingPosterior)
        sizes = posterior.selection.masks.sum(-1).mean(0).tolist()
        return {pattern_name(p): size for p, size in zip(posterior.patterns.patterns, sizes, strict=True)}

    # What is generated.

    def _decoded(self, experts: Experts, wanted: Sequence[str]) -> dict[str, Tensor]:
        """One sample for each row."""
        posterior = self.model.posterior_of(experts)
        codes, _ = posterior.sample(1, self.generator)
        return {name: self.model.show(name, codes[self.names.index(name)][0]) for name in wanted}

    def coherence(self, test: Experts, factors: dict[str, Tensor]) -> dict[str, Any]:
        """Subset -> generated modality -> factor -> share of samples that show the tuple's (Table 3.3)."""
        count, found = self.sizes.coherence, {}
        for subset in self.subsets[:-1]:
            wanted = [name for name in self.names if name not in subset]
            hits = {name: dict.fromkeys(self.classifiers[name].heads, 0.0) for name in wanted}
            total = min(count, len(test.means))
            for start in range(0, total, _CHUNK):
                rows = slice(start, min(start + _CHUNK, total))
                for name, made in self._decoded(test.rows(rows).only(self._places(subset)), wanted).items():
                    for factor, value in self.classifiers[name].predicted(made).items():
                        hits[name][factor] += float((value == factors[factor][rows]).sum()) / total
            found[",".join(subset)] = hits
        return found

    def random_coherence(self) -> dict[str, float]:
        """Factor -> share of samples from the prior on which all classifiers agree (Table 3.5)."""
        agree = dict.fromkeys(self.data.classes, 0.0)
        total = self.sizes.coherence
        for start in range(0, total, _CHUNK):
            rows = min(_CHUNK, total - start)
            made = self.model.generate(count=rows, generator=self.generator)
            predicted = {name: self.classifiers[name].predicted(x) for name, x in made.items()}
            for factor in agree:
                votes = torch.stack([found[factor] for found in predicted.values() if factor in found])
                agree[factor] += float((votes == votes[0]).all(0).sum()) / total
        return agree

    def log_likelihoods(self) -> dict[str, Any]:
        sizes = self.sizes
        found: dict[str, Any] = {}
        few = [subset for subset in self.subsets if len(subset) in (1, len(self.names))]
        if sizes.likelihood:
            found["log_likelihood"] = self.log_likelihood(sizes.likelihood, sizes.samples, self.subsets)
        if sizes.precise:
            found["precise_log_likelihood"] = self.log_likelihood(sizes.precise, sizes.precise_samples, few)
        if sizes.released:
            found["released_log_likelihood"] = self.released_log_likelihood(sizes.released, sizes.samples)
        return found

    def released_log_likelihood(self, count: int, samples: int) -> dict[str, float]:
        """`log_likelihood` with the defects of the released code: the log-mean-exp runs over `samples` *tuples*, and
        every modality is decoded with the private variable of the subset's last one. No likelihood of anything; kept to
        see whether the thesis' numbers come from there."""
        found = {}
        x = self.data.test.batch(spread_indices(self.data.test, count // samples * samples))
        everything = self.model.seen(x)
        for subset in self.subsets:
            posterior = self.model.posterior(x, given=subset)
            codes, drawn = posterior.sample(samples, self.generator)
            weights = -posterior.log_ratio(drawn)  # (L, B)
            last = drawn.private[self.names.index(subset[-1])]
            codes = [torch.cat([code[..., : self.model.shared], last], -1) for code in codes]
            for place, ratio in enumerate(weights):
                weights[place] = ratio + self.model.log_probs(x, everything, [code[place] for code in codes]).sum(-1)
            grouped = weights.flatten().view(-1, samples)  # laid out by samples, grouped as if by tuples
            found[",".join(subset)] = float((grouped.logsumexp(-1) - np.log(samples)).mean())
        return found

    def log_likelihood(self, count: int, samples: int, subsets: Sequence[Sequence[str]]) -> dict[str, list[float]]:
        """Subset -> mean and standard error over tuples of the importance-weighted log p(X) (Table 3.6)."""
        found = {}
        indices = spread_indices(self.data.test, count)
        for subset in subsets:
            values = torch.cat([
                self.model.log_likelihood(
                    self.data.test.batch(some), given=subset, samples=samples, generator=self.generator
                )
                for some in indices.split(_CHUNK)
            ])  # fmt: skip
            error = float(values.std()) / len(values) ** 0.5
            found[",".join(subset)] = [float(values.mean()), error]
        return found

    def fidelity(self) -> dict[str, Any]:
        """Condition -> image modality -> average precision, density, coverage, Fréchet distance (Table 3.8)."""
        count = self.sizes.fidelity
        images = [name for name in self.names if self.data.kinds[name].is_image]
        both = spread_indices(self.data.test, 2 * count)
        halves = [both[::2], both[1::2]]
        real = [self._features(self.data.test, half, images) for half in halves]
        found: dict[str, Any] = {"real": {name: fidelity_scores(real[0][name], real[1][name]) for name in images}}
        conditions: list[tuple[str, ...]] = [(), *((name,) for name in self.names), tuple(self.names)]
        for condition in conditions:
            made: dict[str, list[Tensor]] = {name: [] for name in images}
            for some in halves[0].split(_CHUNK):
                if condition:
                    experts = self.model.encode(self.data.test.batch(some, condition))
                    decoded = self._decoded(experts, images)
                else:
                    decoded = self.model.generate(count=len(some), generator=self.generator)
                for name in images:
                    made[name].append(self.classifiers[name].features(decoded[name]))
            found[",".join(condition) or "prior"] = {
                name: fidelity_scores(real[0][name], torch.cat(parts)) for name, parts in made.items()
            }
        return found

    def _features(self, tuples: Tuples, indices: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        for some in indices.split(_CHUNK):
            for name, x in tuples.batch(some, names).items():
                parts[name].append(self.classifiers[name].features(x))
        return {name: torch.cat(part) for name, part in parts.items()}


def fidelity_scores(real: Tensor, generated: Tensor) -> dict[str, float]:
    density, coverage = density_coverage(real, generated)
    return {
        "average_precision": average_precision(real, generated),
        "density": density,
        "coverage": coverage,
        "frechet": frechet_distance(real, generated),
    }


def pattern_name(pattern: Sequence[Sequence[int]]) -> str:
    """ "01|2" """
    return "|".join("".join(str(m) for m in block) for block in sorted(map(tuple, pattern)))


def pattern_means(posterior: SharingPosterior) -> list[Tensor]:
    """For each pattern the means of its blocks' variables, 0 in dimensions of other patterns: (B, blocks · d)."""
    zeros = torch.zeros_like(posterior.experts.means).unsqueeze(0)
    means = draw_blocks(posterior.blocks, posterior.pooling, zeros, torch.Generator().manual_seed(0))[0]
    masks, patterns = posterior.selection.masks, posterior.patterns
    return [(means[:, patterns.holds[k]] * masks[:, k].unsqueeze(1)).flatten(1) for k in range(len(patterns))]


def probe(x: np.ndarray, labels: Tensor, y: np.ndarray, truth: Tensor, iterations: int = 100) -> float:
    """Accuracy on (y, truth) of a logistic regression fitted to (x, labels), features standardised; of the most
    frequent label where nothing varies."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    deviation, mean = x.std(0), x.mean(0)
    varied = deviation > 1e-6
    if not varied.any():
        return float((truth == labels.mode().values).double().mean())
    x, y = ((part[:, varied] - mean[varied]) / deviation[varied] for part in (x, y))
    classifier = LogisticRegression(max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(x, labels.numpy())
    return float((classifier.predict(y) == truth.numpy()).mean())
