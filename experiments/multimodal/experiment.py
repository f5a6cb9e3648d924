"""Multimodal VAEs of thesis chapters 3 and 4, their peers, and learned sharing, on three data sets.

Training sees tuples alone; labels are read by `results`, through `experiments.multimodal.scores`.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from drpm.data import mask_at_random
from drpm.models.experts import INSIDE, SUBSETS, Pooling
from drpm.models.multimodal_objectives import OBJECTIVES
from drpm.models.multimodal_vae import Modality, MultimodalVAE
from drpm.models.pattern_sharing import FixedSharing, SharingSelection
from drpm.models.view_aggregation import PARTITION_KLS
from drpm.nn.schedules import Exponential
from drpm.ops._arguments import require
from drpm.training.batches import EpochBatches
from drpm.training.checkpoint import write_checkpoint
from drpm.training.step_size import half_cosine
from drpm.training.world import World
from experiments.multimodal.classifiers import FOLDER, load_classifiers
from experiments.multimodal.data import DATA, ModalityData, open_data
from experiments.multimodal.figures import picture_arrays
from experiments.multimodal.networks import Encoder, decoder
from experiments.multimodal.scores import Scorer, ScoreSizes
from experiments.runner.configuration import LOCATION
from experiments.runner.runner import Experiment

SHARING = ("none", "groups", "all or none", "true")
_CURVE_POINTS = 40
_FORMAT = "drpm.experiments.multimodal/1"
_OP = "multimodal"


@dataclasses.dataclass(frozen=True)
class MultimodalRun:
    """One model, data set and seed; docs/experiments/multimodal.md says why the numbers are what they are."""

    seed: int = 0
    title: str = ""
    data: str = "poly"
    root: str = dataclasses.field(default="data", metadata=LOCATION)
    folder: str = dataclasses.field(default="", metadata=LOCATION)  # poly: the published folders
    svhn: str = dataclasses.field(default="", metadata=LOCATION)  # mst: folder of SVHN's .mat files
    classifiers: str = dataclasses.field(default=str(FOLDER), metadata=LOCATION)
    # The model.
    objective: str = "elbo"
    subsets: str = "mixture of products"  # elbo
    inside: str = "product"  # elbo
    kl: str = "bound"  # elbo
    shared: int = 64
    private: int = 0  # of every modality
    beta: float = 2.5
    beta_private: float = 1.0
    private_betas: tuple[float, ...] = ()  # β_m; (): all 1
    sharing: str = "none"
    amortised: bool = False  # sharing
    partition_kl: str = "bound"  # sharing
    gamma: float = 1.0
    tau_init: float = 1.0
    tau_final: float = 0.5
    # Data.
    missing: float = 0.0  # rate at which modalities are missing in training
    incomplete: str = "use"  # or "drop" tuples that miss something
    # Optimisation.
    steps: int = 6000
    batch_size: int = 128
    learning_rate: float = 1e-3
    partition_learning_rate: float = 1e-2
    precision: str = "bf16"
    # Scores.
    score_train: int = 10_000
    score_test: int = 5_000
    score_coherence: int = 2_000
    score_likelihood: int = 1_000
    score_samples: int = 12
    score_precise: int = 1_000
    score_precise_samples: int = 512
    score_released: int = 0
    score_fidelity: int = 5_000

    def __post_init__(self) -> None:
        for name, known in (
            ("data", DATA),
            ("objective", tuple(OBJECTIVES)),
            ("subsets", SUBSETS),
            ("inside", INSIDE),
            ("sharing", SHARING),
            ("partition_kl", PARTITION_KLS),
            ("incomplete", ("use", "drop")),
        ):
            value = getattr(self, name)
            require(value in known, _OP, name, f"be one of {known}", repr(value))
        require(self.steps >= 1, _OP, "steps", "be >= 1", self.steps)
        require(self.sharing != "true" or self.data == "levels", _OP, "sharing", "be true for levels alone", self.data)

    @property
    def score_sizes(self) -> ScoreSizes:
        names = [field.name for field in dataclasses.fields(ScoreSizes)]
        return ScoreSizes(**{name: getattr(self, f"score_{name}") for name in names})


def make_sharing(config: MultimodalRun, modalities: int) -> SharingSelection | FixedSharing | None:
    """The partition of the latent dimensions into patterns, where the row has one."""
    if config.sharing == "none":
        return None
    everyone, alone = [list(range(modalities))], [[m] for m in range(modalities)]
    if config.sharing == "true":  # of Levels: a quarter each to the digit, the hue, the slant and what is private
        patterns = [everyone, [[0, 1], [2]], [[0], [1, 2]], alone]
        return FixedSharing([4 * i // config.shared for i in range(config.shared)], modalities, patterns)
    return SharingSelection(
        config.shared,
        modalities,
        [everyone, alone] if config.sharing == "all or none" else None,
        amortised=config.amortised,
        kl=config.partition_kl,
    )


def make_model(config: MultimodalRun, data: ModalityData) -> MultimodalVAE:
    """The model of a row."""
    betas = config.private_betas or (1.0,) * len(data.names)
    require(len(betas) == len(data.names), _OP, "private_betas", f"be {len(data.names)} numbers", betas)
    width, modalities = config.shared + config.private, {}
    for (name, kind), beta in zip(data.kinds.items(), betas, strict=True):
        networks = Encoder(kind.network, width), decoder(kind.network, width)
        for network in networks:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        modalities[name] = Modality(*networks, kind.likelihood, kind.shape, private=config.private, beta=beta)
    return MultimodalVAE(
        modalities,
        config.shared,
        objective=config.objective,
        pooling=Pooling(config.subsets, config.inside) if config.objective == "elbo" else None,
        kl=config.kl,
        beta=config.beta,
        beta_private=config.beta_private,
        sharing=make_sharing(config, len(data.names)),  # its weights come last: others are the same without it
        gamma=config.gamma,
        precision=config.precision,
    )


class Multimodal(Experiment):
    name: ClassVar[str] = _OP
    Config: ClassVar[type] = MultimodalRun

    def __init__(self, config: MultimodalRun, world: World) -> None:
        self.config, self.world, self.steps = config, world, config.steps
        self.data = open_data(config.data, config.root, 0, config.folder, config.svhn)
        place = Path(config.classifiers) / f"{config.data}.pt"
        self.classifiers = load_classifiers(place, self.data)  # before training: a run without them is lost
        torch.manual_seed(config.seed)  # the same first weights, however many numbers the classifiers drew
        self.model = make_model(config, self.data).to(world.device)
        self.observed: Tensor | None = None
        self.kept = torch.arange(len(self.data.train))
        if config.missing:
            self.observed = mask_at_random(config.missing, len(self.data.train), len(self.data.names), seed=config.seed)
            if config.incomplete == "drop":
                self.kept, self.observed = self.observed.all(-1).nonzero().flatten(), None
        self.batches = EpochBatches(len(self.kept), min(config.batch_size, len(self.kept)), config.seed, world)
        self.temperature = Exponential(config.tau_init, config.tau_final, config.steps)
        self.generator = torch.Generator().manual_seed(config.seed * 1021 + world.rank)
        self.curve: list[dict[str, Any]] = []
        self._pending: list[float] = []
        own = [] if self.model.sharing is None else list(self.model.sharing.parameters())
        others = [p for p in self.model.parameters() if all(p is not q for q in own)]
        self.optimizer = torch.optim.Adam(others, config.learning_rate, fused=True)
        if own:
            self.optimizer.add_param_group({"params": own, "lr": config.partition_learning_rate})

    # The loop.

    def step(self, index: int) -> dict[str, float]:
        indices = self.kept[self.batches(index)]
        x = {name: value.to(self.world.device) for name, value in self.data.train.batch(indices).items()}
        observed = None if self.observed is None else self.observed[indices]
        half_cosine(self.optimizer, index, self.steps)
        self.model.train()
        bound = self.model.bound(x, observed, tau=self.temperature(index), generator=self.generator)
        self.optimizer.zero_grad()
        (-bound.objective.mean()).backward()
        self.world.average_gradients(self.model.parameters())
        self.optimizer.step()
        values = {
            "objective": float(bound.objective.detach().mean()),
            "log_probs": float(bound.log_probs.detach().sum(-1).mean()),
            "kl": float(bound.kl.detach().mean()),
            "private_kl": float(bound.private_kl.detach().mean()),
        }
        sizes = None
        if bound.sizes is not None:
            sizes = bound.sizes.detach().mean(0).tolist()
            values["regulariser"] = float(bound.regulariser.detach().mean())
        self._record(index, values["objective"], sizes)
        return values

    def _record(self, index: int, objective: float, sizes: list[float] | None) -> None:
        self._pending.append(objective)
        if (index + 1) % max(1, self.steps // _CURVE_POINTS) == 0:
            point: dict[str, Any] = {"step": index + 1, "objective": float(np.mean(self._pending))}
            self.curve.append(point if sizes is None else point | {"sizes": sizes})
            self._pending = []

    # State.

    def generators(self) -> dict[str, torch.Generator]:
        return {"noise": self.generator}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curve": self.curve,
            "pending": self._pending,
        }

    def load_state_dict(self, state: dict[str, Any], index: int) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve, self._pending = list(state["curve"]), list(state["pending"])

    # Scores.

    def results(self) -> dict[str, Any]:
        found = Scorer(self.model, self.data, self.classifiers, self.config.score_sizes).scores()
        if self.observed is not None:
            found["complete_share"] = float(self.observed.all(-1).double().mean())
        found["train_tuples"] = len(self.kept)
        return _rounded({**found, "flatness": flatness(self.curve), "curve": self.curve})

    def write_outputs(self, folder: Path) -> None:
        write_checkpoint({"format": _FORMAT, "model": self.model.state_dict()}, folder / "model.pt")
        np.savez_compressed(folder / "pictures.npz", **picture_arrays(self.model, self.data))  # type: ignore[arg-type]


def flatness(curve: list[dict[str, Any]]) -> float | None:
    """How much the objective still changed inside the last quarter, over its change in all: near 0 where it is flat."""
    values = [point["objective"] for point in curve]
    last = values[-len(values) // 4 :]
    if len(last) < 4 or values[0] == values[-1]:
        return None
    half = len(last) // 2
    return float((np.mean(last[half:]) - np.mean(last[:half])) / abs(np.mean(last) - values[0]))


def _rounded(value: Any) -> Any:
    """Six significant digits: result files stay small."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
