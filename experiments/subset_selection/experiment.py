"""Choose k features on one data set by one method: trained inside every fold, scored by a predictor trained anew."""

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from drpm.ops._arguments import require
from drpm.training.world import World
from experiments.runner.configuration import LOCATION
from experiments.runner.runner import Experiment
from experiments.subset_selection.data import NAMES, Problem, load_problem, training_labels
from experiments.subset_selection.gates import GATES, Gate, make_gate
from experiments.subset_selection.rankings import RANKINGS, ranked
from experiments.subset_selection.scores import agreement, classification, jaccard, reconstruction

METHODS = (*GATES, *RANKINGS)
_OBJECTIVES = ("labels", "reconstruction")


@dataclasses.dataclass(frozen=True)
class SubsetSelectionRun:
    """One row and one seed, all folds; docs/experiments/subset_selection.md says why the numbers are what they are."""

    seed: int = 0
    title: str = ""
    method: str = "conditional-bernoulli"
    data: str = "blood-cells"
    root: str = dataclasses.field(default="data", metadata=LOCATION)
    k: int = 16
    published_split: bool = False  # of images
    known: float = 1.0  # share of the labels that each of several tasks keeps
    # What is trained.
    objective: str = "labels"
    price: float = 0.0  # per feature, of a learned k
    wide: int | None = None  # features let through at the start, where k is given; None: k
    masks: int = 128  # a batch
    batch_size: int = 128
    steps: int = 600  # a fold
    learning_rate: float = 0.01  # of the predictor
    gate_rate: float = 0.05  # of the selector
    decay: float = 0.0  # weight decay of the predictor

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("data", NAMES), ("objective", _OBJECTIVES)):
            value = getattr(self, name)
            require(value in known, "subset_selection", name, f"be one of {known}", repr(value))
        for name in ("k", "masks", "batch_size", "steps"):
            require(getattr(self, name) >= 1, "subset_selection", name, "be >= 1", getattr(self, name))


class SubsetSelection(Experiment):
    name: ClassVar[str] = "subset_selection"
    Config: ClassVar[type] = SubsetSelectionRun

    def __init__(self, config: SubsetSelectionRun, world: World) -> None:
        self.config, self.world = config, world
        self.problem = load_problem(config.data, config.root, config.seed, config.published_split, config.known)
        n = self.problem.x.shape[1]
        require(config.k <= n, "subset_selection", "k", f"be at most the number of features, {n}", config.k)
        self.trained = config.method in GATES
        self.per_fold = config.steps if self.trained else 1
        self.steps = self.per_fold * len(self.problem.folds)
        self.chosen: list[list[int]] = []  # of every fold that is finished
        self.found: list[
            dict[str, list[int]]
        ] = []  # labels that the trained model itself gives, where tasks are several
        self._begin(0)

    def _begin(self, fold: int) -> None:
        """Data of a fold, and untrained modules."""
        config, problem = self.config, self.problem
        train, _ = problem.folds[fold]
        own = problem.x[train]
        self.mean = own.mean(0)
        images = config.objective == "reconstruction"
        self.scale = torch.ones_like(self.mean) if images else own.std(0).clamp_min(1e-6)
        self.x = (own - self.mean) / self.scale
        self.variance = float(self.x.var(0).sum())  # a reconstruction counts in units of it
        self.targets = {task: training_labels(problem, task)[train] for task in problem.classes}
        if not self.trained:
            return
        n = problem.x.shape[1]
        self.gate: Gate = make_gate(
            config.method, n, config.k, config.steps, masks=config.masks, price=config.price, wide=config.wide
        )
        outputs = n if images else sum(problem.classes.values())
        self.predictor = nn.Linear(self.gate.width, outputs)
        if self.gate.width == n:
            nn.init.zeros_(self.predictor.weight)  # a feature says nothing before it was let through
        self.optimizer = torch.optim.Adam(
            [
                {"params": self.gate.parameters(), "lr": config.gate_rate, "weight_decay": 0.0},
                {"params": self.predictor.parameters(), "lr": config.learning_rate, "weight_decay": config.decay},
            ]
        )

    def step(self, index: int) -> dict[str, float]:
        fold, place = divmod(index, self.per_fold)
        if place == 0 and index:
            self._begin(fold)
        values = self._train_step() if self.trained else {}
        if place == self.per_fold - 1:
            self._finish(fold)
        return values

    def _train_step(self) -> dict[str, float]:
        rows = torch.randint(len(self.x), (min(self.config.batch_size, len(self.x)),))
        x = self.x[rows]
        out = self.predictor(self.gate(x))
        loss = self._loss(out, x, rows)
        total = loss + self.gate.penalty()
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        self.gate.advance()
        return {"loss": float(loss.detach())}

    def _loss(self, out: Tensor, x: Tensor, rows: Tensor) -> Tensor:
        if self.config.objective == "reconstruction":
            return (out - x).square().sum(-1).mean() / self.variance
        parts = out.split(list(self.problem.classes.values()), dim=-1)
        loss = out.new_zeros(())
        for part, target in zip(parts, self.targets.values(), strict=True):
            own = target[rows]
            if bool((own >= 0).any()):
                loss = loss + nn.functional.cross_entropy(part, own, ignore_index=-1)
        return loss / len(parts)

    @torch.no_grad()
    def _finish(self, fold: int) -> None:
        config = self.config
        if not self.trained:
            train, _ = self.problem.folds[fold]
            labels = next(iter(self.targets.values()))
            counts = config.data.startswith("blood-cells")
            seed = 1000 * config.seed + fold
            chosen = ranked(config.method, self.x, self.problem.x[train], labels, config.k, seed, counts=counts)
        else:
            chosen = self.gate.chosen()
            if len(self.problem.classes) > 1:
                self.found.append(self._own_labels(fold, chosen))
        self.chosen.append(chosen.tolist())

    def _own_labels(self, fold: int, chosen: Tensor) -> dict[str, list[int]]:
        """What the trained model says where only the chosen features enter."""
        _, test = self.problem.folds[fold]
        x = (self.problem.x[test] - self.mean) / self.scale
        inputs = (
            x[:, chosen] if self.gate.width != x.shape[1] else torch.zeros_like(x).index_copy(1, chosen, x[:, chosen])
        )
        parts = self.predictor(inputs).split(list(self.problem.classes.values()), dim=-1)
        return {task: part.argmax(-1).tolist() for task, part in zip(self.problem.classes, parts, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"chosen": self.chosen, "found": self.found}
        if self.trained:
            state |= {name: getattr(self, name).state_dict() for name in ("gate", "predictor", "optimizer")}
        return state

    def load_state_dict(self, state: dict[str, Any], index: int) -> None:
        self.chosen, self.found = list(state["chosen"]), list(state["found"])
        fold, place = divmod(index, self.per_fold)
        if place == 0:
            return  # the next step begins a fold
        with torch.random.fork_rng():
            self._begin(fold)
        if self.trained:
            for name in ("gate", "predictor", "optimizer"):
                getattr(self, name).load_state_dict(state[name])

    def results(self) -> dict[str, Any]:
        folds = [self._scores(fold) for fold in range(len(self.problem.folds))]
        sets = [sorted(set(chosen)) for chosen in self.chosen]
        return {
            "folds": folds,
            "chosen": sets,
            "names": [[self.problem.features[j] for j in chosen] for chosen in sets],
            "size": [len(chosen) for chosen in sets],
            "duplicates": [len(chosen) - len(set(chosen)) for chosen in self.chosen],
            "jaccard": jaccard(sets),
        }

    def _scores(self, fold: int) -> dict[str, Any]:
        config, problem = self.config, self.problem
        train, test = problem.folds[fold]
        chosen = torch.tensor(sorted(set(self.chosen[fold])))
        images = config.data in ("mnist", "fashion-mnist")
        mean, scale = problem.x[train].mean(0), problem.x[train].std(0).clamp_min(1e-6)
        columns = problem.x if images else (problem.x - mean) / scale
        scores: dict[str, Any] = {}
        for task in problem.classes:
            labels = training_labels(problem, task)[train]
            rows = train[labels >= 0]
            scores[task] = classification(
                columns[rows][:, chosen],
                problem.labels[task][rows],
                columns[test][:, chosen],
                problem.labels[task][test],
                trees=images,
                seed=config.seed,
            )
            if self.found:
                own = agreement(torch.tensor(self.found[fold][task]), problem.labels[task][test])
                scores[task] |= {f"own_{name}": value for name, value in own.items() if name != "recall"}
        if images:
            scores["reconstruction"] = reconstruction(problem.x[train], problem.x[test], chosen)
        return scores


__all__ = ["METHODS", "Problem", "SubsetSelection", "SubsetSelectionRun"]
