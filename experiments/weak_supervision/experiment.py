"""Shared and independent factors of views, as in thesis 5.3.3: one VAE, four ways to select what is shared.

Images whose factors are known (a rendered arm, or mpi3d's files), of which views share chosen numbers; and real views,
the six descriptions of the UCI digits. Training sees the views alone; `results` reads factors and labels.

Methods of a data set and seed share tuples, network, first weights and pre-training, whose noise comes from the seed
alone: a run that pre-trains by itself and one that reads `pretrained` are the same, bit for bit.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from drpm.data.multiple_features import VIEWS
from drpm.models.experts import gaussian_kl
from drpm.models.multiview_vae import MultiviewVAE
from drpm.models.view_aggregation import (
    AGGREGATIONS,
    PARTITION_ESTIMATORS,
    PARTITION_KLS,
    AdaptiveSelection,
    HypergeometricSelection,
    LabelSelection,
    PartitionSelection,
)
from drpm.nn.schedules import Exponential
from drpm.ops._arguments import require
from drpm.training.batches import EpochBatches
from drpm.training.checkpoint import write_checkpoint
from drpm.training.step_size import half_cosine
from drpm.training.world import World
from experiments.runner.configuration import LOCATION
from experiments.runner.runner import Experiment
from experiments.weak_supervision.data import DigitViews, FactorViews, Targets, ViewData, open_factor_images
from experiments.weak_supervision.linear_probes import probe_scores
from experiments.weak_supervision.oracle import OracleSelection

DATA = ("arm", "mpi3d", "digits")
METHODS = ("label", "ada", "hg", "drpm")
DIAGNOSES = ("oracle",)  # what no method may know
INITIAL = ("torch", "he")
PHASES = ("pretrain", "train")
_CURVE_POINTS = 40
_FORMAT = "drpm.experiments.weak_supervision/1"
_OP = "weak_supervision"


@dataclasses.dataclass(frozen=True)
class WeakSupervisionRun:
    """One method, data set and seed; docs/experiments/weak_supervision.md says why the numbers are what they are."""

    seed: int = 0
    title: str = ""
    data: str = "arm"
    root: str = dataclasses.field(default="data", metadata=LOCATION)  # folder of the data
    file: str = dataclasses.field(default="", metadata=LOCATION)  # mpi3d: the .npz or .npy
    joint_values: int = 10  # arm
    digit_views: tuple[str, ...] = VIEWS  # digits: which of the six
    num_views: int = 2  # images: views of a tuple
    shared: tuple[int, ...] = (3,)  # images: number of factors that each set of `sharing` shares
    sharing: tuple[tuple[int, ...], ...] = ()  # images: the sets of views that share factors; (): one, of all views
    groups: tuple[tuple[int, ...], ...] = ()  # the sets of views that the model lets share dimensions; (): all views
    # The model.
    method: str = "drpm"
    num_independent: int = 1  # label
    kl: str = "bound"  # drpm
    estimator: str = "straight-through"  # drpm
    samples: int = 2  # drpm, of "leave-one-out"
    conditionals: str = "exact"  # drpm
    aggregation: str = "mean"
    latent: int = 10
    hidden: int = 256  # digits
    side: int = 64  # images: pixels
    width: int = 32  # images: channels of the first convolution
    initial: str = "torch"  # images: weights at the start, or "he"
    # Optimisation.
    pretrain_steps: int = 0  # of a VAE that shares nothing, the same for all methods
    pretrained: str | None = None  # pretrained.pt of another run of the same data and seed, instead of that phase
    steps: int = 1000
    batch_size: int = 64
    train_tuples: int = 64_000  # images
    pretrain_batch_size: int = 16
    pretrain_learning_rate: float = 1e-3
    pretrain_beta: float = 0.1
    learning_rate: float = 1e-3
    head_learning_rate: float = 1e-2  # of the heads that give the partition's parameters
    beta: float = 1.0
    # beta and gamma are a tenth of their values for the first share of the training, and grow during the second.
    beta_hold: float = 0.0
    beta_warmup: float = 0.0
    gamma: float = 0.25
    tau_init: float = 1.0
    tau_final: float = 0.5
    precision: str = "float32"
    # Scores.
    probe_train: int = 10_000
    probe_test: int = 5_000
    probe_iterations: int = 100
    probe_every: int = 0  # steps of training; 0: at the end alone
    probe_tuples: int = 3_000  # for those, of training; half of that for tests

    def __post_init__(self) -> None:
        require(self.data in DATA, _OP, "data", f"be one of {DATA}", repr(self.data))
        known = METHODS + DIAGNOSES
        require(self.method in known, _OP, "method", f"be one of {known}", repr(self.method))
        require(self.method != "oracle" or self.data != "digits", _OP, "data", "have factors for oracle", self.data)
        require(
            self.estimator in PARTITION_ESTIMATORS,
            _OP,
            "estimator",
            f"be one of {PARTITION_ESTIMATORS}",
            repr(self.estimator),
        )
        require(
            self.aggregation in AGGREGATIONS, _OP, "aggregation", f"be one of {AGGREGATIONS}", repr(self.aggregation)
        )
        require(self.kl in PARTITION_KLS, _OP, "kl", f"be one of {PARTITION_KLS}", repr(self.kl))
        require(self.initial in INITIAL, _OP, "initial", f"be one of {INITIAL}", repr(self.initial))
        for name in ("beta_hold", "beta_warmup"):
            require(0 <= getattr(self, name) <= 1, _OP, name, "lie in [0, 1]", getattr(self, name))
        require(self.side in (32, 64), _OP, "side", "be 32 or 64", self.side)
        require(self.steps >= 1, _OP, "steps", "be >= 1", self.steps)
        unknown = set(self.digit_views) - set(VIEWS)
        require(not unknown, _OP, "digit_views", f"be some of {VIEWS}", self.digit_views)
        sets = len(self.sharing) or 1
        require(len(self.shared) == sets, _OP, "shared", f"have {sets} numbers, one for each set", self.shared)
        one_group = self.method == "drpm" or len(self.groups) <= 1
        require(one_group, _OP, "groups", f"be at most one set for method {self.method}", self.groups)

    def open(self) -> ViewData:
        if self.data == "digits":
            return DigitViews(self.root, self.digit_views)
        images = open_factor_images(self.data, self.root, self.file, self.joint_values, self.side)
        shared = list(zip(self.sharing or [tuple(range(self.num_views))], self.shared, strict=True))
        return FactorViews(images, self.num_views, shared, self.model_groups, self.train_tuples, self.seed, self.width)

    def grown(self, step: int) -> float:
        """The share of beta and gamma that holds at a step of the training."""
        since = step - self.beta_hold * self.steps
        if since < 0 or self.beta_warmup == 0:
            return 0.1 if since < 0 else 1.0
        return min(1.0, 0.1 + 0.9 * since / (self.beta_warmup * self.steps))

    @property
    def model_groups(self) -> list[tuple[int, ...]]:
        return list(self.groups) or [tuple(range(self.views))]

    @property
    def views(self) -> int:
        return len(self.digit_views) if self.data == "digits" else self.num_views

    def selection(self, factors: int) -> nn.Module:
        if self.method == "oracle":
            return OracleSelection(self.latent, factors)
        if self.method == "label":
            return LabelSelection(self.num_independent)
        if self.method == "ada":
            return AdaptiveSelection()
        if self.method == "hg":
            return HypergeometricSelection(self.latent)
        subsets = len(self.model_groups) + 1
        return PartitionSelection(
            self.latent,
            subsets,
            conditionals=self.conditionals,
            kl=self.kl,
            estimator=self.estimator,
            samples=self.samples,
        )


class WeakSupervision(Experiment):
    name: ClassVar[str] = _OP
    Config: ClassVar[type] = WeakSupervisionRun

    def __init__(self, config: WeakSupervisionRun, world: World) -> None:
        self.config, self.world = config, world
        self.data = config.open()
        encoders, decoders = self.data.network(config.latent, config.hidden)
        shape: dict[str, Any] = {"likelihood": self.data.likelihood, "precision": config.precision}
        shared_by_none = LabelSelection(config.latent)
        self.plain = MultiviewVAE(encoders, decoders, shared_by_none, num_views=self.data.plain_views, **shape)
        shape |= {"num_views": config.views, "groups": config.model_groups, "aggregation": config.aggregation}
        # The selection's weights come last, so that those before are the same for every method.
        self.model = MultiviewVAE(encoders, decoders, config.selection(len(self.data.names)), **shape).to(world.device)
        self.batches = EpochBatches(len(self.data), min(config.batch_size, len(self.data)), config.seed, world)
        self.temperature = Exponential(config.tau_init, config.tau_final, config.steps)
        self.pretrain_steps = 0 if config.pretrained else config.pretrain_steps
        self.steps = self.pretrain_steps + config.steps
        self.generator = torch.Generator()
        self.optimizer: torch.optim.Optimizer | None = None
        self.curve: list[dict[str, Any]] = []
        self.probed: list[dict[str, Any]] = []
        self.pretrained_state: dict[str, Tensor] | None = None

    # The loop.

    def phase(self, index: int) -> str:
        return PHASES[index >= self.pretrain_steps]

    def step(self, index: int) -> dict[str, float]:
        name = self.phase(index)
        step = index - (self.pretrain_steps if name == "train" else 0)
        if step == 0:
            self._enter(name)
        assert self.optimizer is not None
        config, model = self.config, self.plain if name == "pretrain" else self.model
        if name == "pretrain":
            share = self.data.plain_batch(step, config.pretrain_batch_size)
            views = [view.tensor_split(self.world.size)[self.world.rank] for view in share]
        else:
            batch = self.batches(step)
            views = self.data.batch(batch)
            self._tell(lambda: self.data.levels(batch))
        views = [view.to(self.world.device) for view in views]
        if name == "train":
            half_cosine(self.optimizer, step, config.steps)
        model.train()
        selection, posterior = model.infer(views, self.temperature(step), self.generator)
        grown = config.grown(step)
        beta = config.pretrain_beta if name == "pretrain" else config.beta * grown
        bound = model.bound_of(views, selection, posterior, beta, config.gamma * grown, self.generator)
        self.optimizer.zero_grad()
        (-bound.elbo).backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.world.average_gradients(trained)
        self.optimizer.step()
        values = {part: float(value.detach()) for part, value in bound._asdict().items()}
        if name == "train":
            sizes = selection.sizes.detach().mean(0).tolist()
            values |= {f"size_{k}": size for k, size in enumerate(sizes)}
            if (step + 1) % max(1, config.steps // _CURVE_POINTS) == 0:
                self.curve.append({"step": step + 1, "elbo": values["elbo"], "sizes": sizes})
            if config.probe_every and (step + 1) % config.probe_every == 0:
                self.probed.append({"step": step + 1, **self._probe()})
        return values

    def _tell(self, levels: Callable[[], Tensor]) -> None:
        if isinstance(self.model.selection, OracleSelection):
            self.model.selection.tell(levels())

    def _enter(self, name: str) -> None:
        """Start a phase with its own noise and a fresh optimiser."""
        number = PHASES.index(name)
        noise = (self.config.seed * 1_000_003 + 7919 * (number + 1)) * 1021 + self.world.rank
        self.generator.manual_seed(noise)
        torch.manual_seed(noise)
        if name == "train":
            if self.config.pretrained:
                self._read_pretrained(Path(self.config.pretrained))
            elif self.pretrain_steps:
                self.pretrained_state = {key: value.clone() for key, value in self.plain.state_dict().items()}
        self.optimizer = self._make_optimizer(name)

    def _make_optimizer(self, name: str) -> torch.optim.Optimizer:
        config = self.config
        if name == "pretrain":
            return torch.optim.Adam(self.plain.parameters(), config.pretrain_learning_rate, fused=True)
        groups = [
            {"params": [*self.model.encoders.parameters(), *self.model.decoders.parameters()]},
            {"params": list(self.model.selection.parameters()), "lr": config.head_learning_rate},
        ]
        return torch.optim.Adam([group for group in groups if group["params"]], config.learning_rate, fused=True)

    # State.

    def generators(self) -> dict[str, torch.Generator]:
        return {"noise": self.generator}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "curve": self.curve,
            "probed": self.probed,
            "pretrained": self.pretrained_state,
        }

    def load_state_dict(self, state: dict[str, Any], index: int) -> None:
        self.model.load_state_dict(state["model"])
        self.curve, self.pretrained_state = list(state["curve"]), state["pretrained"]
        self.probed = list(state["probed"])
        if state["optimizer"] is not None:
            self.optimizer = self._make_optimizer(self.phase(index - 1))
            self.optimizer.load_state_dict(state["optimizer"])

    def _pretrained_identity(self) -> dict[str, Any]:
        """What two runs must share to share the first phase."""
        names = (
            "seed", "data", "joint_values", "digit_views", "latent", "hidden", "pretrain_steps",
            "pretrain_batch_size", "pretrain_learning_rate", "pretrain_beta", "precision", "side", "width",
            "initial",
        )  # fmt: skip
        values = {name: getattr(self.config, name) for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def _read_pretrained(self, path: Path) -> None:
        content = torch.load(path, map_location=self.world.device, weights_only=True)
        wanted = self._pretrained_identity()
        found = content.get("identity", {}) if content.get("format") == _FORMAT else {}
        differing = [f"{name}={found.get(name)!r}" for name in wanted if found.get(name) != wanted[name]]
        require(not differing, _OP, "pretrained", f"come from a run with the same {', '.join(wanted)}", differing)
        self.plain.load_state_dict(content["model"])

    # Scores.

    def results(self) -> dict[str, Any]:
        config = self.config
        train = self._describe(False, config.probe_train)
        test = self._describe(True, config.probe_test)
        found: dict[str, Any] = {"test": {"bound": test.pop("bound"), "sizes": self._size_scores(test["sizes"])}}
        found["test"]["probes"] = self._probe_parts(train, test, config.probe_iterations)
        found["test"]["shared_by_dimension"] = test["masks"].mean(0).tolist()
        found["test"]["kl_by_dimension"] = test["kl"].mean((0, 1)).tolist()
        return _rounded({**found, "curve": self.curve, "probed": self.probed})

    def _probe(self) -> dict[str, Any]:
        """Sizes and what the parts hold in the middle of training, from few tuples."""
        train, test = (self._describe(test, self.config.probe_tuples // (1 + test)) for test in (False, True))
        parts = self._probe_parts(train, test, self.config.probe_iterations // 2)
        return {"sizes": test["sizes"].mean(0).tolist(), "bound": test["bound"], "probes": parts}

    def _probe_parts(self, train: dict[str, Any], test: dict[str, Any], iterations: int) -> list[dict[str, Any]]:
        scores = []
        for part in self._parts(train, test):
            known, targets, unknown, wanted, counted = part["data"]
            fitted = probe_scores(known, targets, unknown, wanted, counted, iterations)
            scores.append({**part["name"], "accuracy": dict(zip(self.data.names, fitted, strict=True))})
        return scores

    @torch.no_grad()
    def _describe(self, test: bool, count: int) -> dict[str, Any]:
        """Noise-free partitions and posterior means of many tuples; with `test` their bound too."""
        config, model = self.config, self.model.eval()
        targets, pieces = self.data.scored(test, count, config.seed)
        generator = torch.Generator().manual_seed(config.seed)
        kept: dict[str, list[Tensor]] = {"masks": [], "sizes": [], "means": [], "log_variances": [], "kl": []}
        bounds = []
        seen = 0
        for piece in pieces:
            views = [view.to(self.world.device) for view in piece]
            rows = slice(seen, seen + len(views[0]))
            seen = rows.stop
            self._tell(lambda rows=rows: targets.level[rows])  # type: ignore[misc]
            selection, posterior = model.infer(views, config.tau_final, generator)
            if test:
                found = model.bound_of(views, selection, posterior, config.beta, config.gamma, generator)
                bounds.append(torch.stack(found) * len(views[0]))
            kl = gaussian_kl(posterior.means, posterior.log_variances, 0.0, 0.0)
            found_here = (selection.masks, selection.sizes, posterior.means, posterior.log_variances, kl)
            for name, value in zip(kept, found_here, strict=True):
                kept[name].append(value.cpu())
        described: dict[str, Any] = {name: torch.cat(values) for name, values in kept.items()}
        described["targets"] = targets
        if test:
            means = torch.stack(bounds).sum(0) / len(described["sizes"])
            described["bound"] = dict(zip(("elbo", "reconstruction", "kl", "regulariser"), means.tolist(), strict=True))
        return described

    def _size_scores(self, sizes: Tensor) -> list[dict[str, float]]:
        """Estimated sizes of each subset, and their error on the dimensions and scaled to the number of factors."""
        found = []
        for k in range(sizes.shape[1]):
            estimate = sizes[:, k]
            scores = {"mean": float(estimate.mean()), "deviation": float(estimate.std())}
            if k in self.data.true_sizes:
                true = self.data.true_sizes[k]
                scaled = estimate * (len(self.data.names) / self.config.latent)
                scores |= {
                    "true": true,
                    "squared_error": float((estimate - true).square().mean()),
                    "squared_error_scaled": float((scaled - true).square().mean()),
                }
            found.append(scores)
        return found

    def _parts(self, train: dict[str, Any], test: dict[str, Any]) -> list[dict[str, Any]]:
        """Parts of the latent vector with what to predict from each: one for every group, one private for every view.

        A part is the latent vector with zeros where it does not hold. Dimensions of a group that a view is not in are
        private to the view. A group is asked for the values of its first view.
        """
        groups = self.config.model_groups
        parts = [(members[0], [k], {"part": "shared", "views": list(members)}) for k, members in enumerate(groups)]
        for view in range(self.config.views):
            own = [k for k, members in enumerate(groups) if view not in members] + [len(groups)]
            parts.append((view, own, {"part": "private", "views": [view]}))

        def representation(of: dict[str, Any], view: int, subsets: list[int]) -> Tensor:
            return of["masks"][:, subsets].sum(1) * of["means"][:, view]

        found = []
        for view, subsets, name in parts:
            targets: Targets = test["targets"]
            counted = (targets.level == -1) | torch.isin(targets.level, torch.tensor(subsets))
            data = (
                representation(train, view, subsets),
                train["targets"].values[:, view],
                representation(test, view, subsets),
                targets.values[:, view],
                counted,
            )
            found.append({"name": name, "data": data})
        return found

    def write_outputs(self, folder: Path) -> None:
        if self.pretrained_state is not None:
            content = {"format": _FORMAT, "identity": self._pretrained_identity(), "model": self.pretrained_state}
            write_checkpoint(content, folder / "pretrained.pt")
        write_checkpoint({"format": _FORMAT, "model": self.model.state_dict()}, folder / "model.pt")
        if self.data.likelihood == "bernoulli" and self.config.method != "oracle":
            from experiments.weak_supervision.figures import draw_traversals, traverse

            _, pieces = self.data.scored(True, 250, self.config.seed)
            pictures = traverse(self.model.eval(), next(pieces))
            np.savez_compressed(folder / "pictures.npz", **pictures)  # type: ignore[arg-type]
            draw_traversals(pictures, folder / "traversals.png")


def _rounded(value: Any) -> Any:
    """Six significant digits: result files stay small."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
