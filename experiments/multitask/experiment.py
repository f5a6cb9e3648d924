"""Multitask learning on noisyMultiMNIST as in thesis 5.3.2: ULS and DRPM-MTL, one noise ratio and one seed a run.

Both methods see the same images in the same batches under the same schedule; the seed decides digits, noise, weights,
dropout and batches.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from drpm.data import load_images
from drpm.data.idx import ImageSet
from drpm.models.multitask import MultitaskOutput, PartitionedMultitask, UnitaryScaling, multitask_loss
from drpm.nn import Exponential, advance_temperatures
from drpm.ops._arguments import require
from drpm.training.batches import EpochBatches
from drpm.training.checkpoint import write_checkpoint
from drpm.training.step_size import half_cosine
from drpm.training.world import World
from experiments.multitask.multi_mnist import LAYOUTS, MultiMNIST, make_multi_mnist
from experiments.runner.configuration import LOCATION
from experiments.runner.runner import Experiment

METHODS = ("uls", "drpm")
PRECISIONS = ("float32", "bf16")
_FORMAT = "drpm.experiments.multitask/1"
_MEAN, _SPREAD = 0.1307, 0.3081  # of MNIST's pixels, as Sener and Koltun normalise
_EVALUATION = 1000  # images at once


@dataclasses.dataclass(frozen=True)
class MultitaskRun:
    """One point of Fig. 5.13 and one seed; docs/experiments/multitask.md says why the numbers are what they are."""

    seed: int = 0
    title: str = ""
    method: str = "drpm"
    root: str = dataclasses.field(default="data", metadata=LOCATION)  # folder of MNIST
    # The data.
    noise: float = 0.0  # alpha: share of the last digit's pixels that are replaced
    salt: float = 0.5  # share of those that becomes white
    digits: int = 2  # tasks: which digit is where
    train_images: int = 60000
    test_images: int = 10000
    # The model.
    features: int = 50
    dropout: float = 0.5
    hard: bool = True
    conditionals: str = "exact"
    tau_init: float = 1.0
    tau_final: float = 0.5
    # Optimisation.
    weights: tuple[float, ...] | None = None  # of the tasks' losses; None: equal ones
    size_penalty: float = 0.0  # times the mean of sum_k log n_k!, of the masks' sizes; not in the thesis
    kl_weight: float = 0.0  # times the mean KL of the partition from the uniform one; falls to zero linearly
    kl_samples: int = 2
    batch_size: int = 128
    epochs: int = 3
    learning_rate: float = 3e-3
    partition_rate: float = 1.0  # times learning_rate: step size of the encoder and the layers that give the partition
    size_rate: float = 1.0  # times that: of the layer that gives log omega
    held_out: float = 0.0  # share of the training images that is left out and scored instead of the test images
    precision: str = "bf16"  # of the networks; losses, partitions and weights are float32

    def __post_init__(self) -> None:
        require(self.method in METHODS, "multitask", "method", f"be one of {METHODS}", repr(self.method))
        require(self.precision in PRECISIONS, "multitask", "precision", f"be one of {PRECISIONS}", repr(self.precision))
        require(self.digits in LAYOUTS, "multitask", "digits", f"be one of {sorted(LAYOUTS)}", self.digits)
        require(0 <= self.held_out < 1, "multitask", "held_out", "lie in [0, 1)", self.held_out)
        require(self.kl_samples >= 2, "multitask", "kl_samples", "be >= 2", self.kl_samples)
        require(self.epochs >= 1, "multitask", "epochs", "be >= 1", self.epochs)
        weights = self.weights
        require(
            weights is None or len(weights) == self.digits, "multitask", "weights", f"be {self.digits} numbers", weights
        )


class Multitask(Experiment):
    name: ClassVar[str] = "multitask"
    Config: ClassVar[type] = MultitaskRun

    def __init__(self, config: MultitaskRun, world: World) -> None:
        self.config, self.world = config, world
        self.train, self.test = (normalised(part, world.device) for part in make_data(config))
        size = min(config.batch_size, len(self.train.images))
        self.batches = EpochBatches(len(self.train.images), size, config.seed, world)
        self.steps = config.epochs * self.batches.steps_per_epoch
        self.model = make_model(config, self.steps).to(world.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotation lacks it
        self.optimizer = torch.optim.Adam(self._parameter_groups(), lr=config.learning_rate, fused=True)
        self.curve: list[dict[str, Any]] = []

    def step(self, index: int) -> dict[str, float]:
        half_cosine(self.optimizer, index, self.steps)
        batch = self.batches(index)
        self.model.train()
        out = self._forward(self.train.images[batch])
        loss, own = multitask_loss(out.logits, self.train.labels[batch], self.config.weights)
        values = {"loss": float(loss.detach())}
        values |= {f"loss_{task}": value for task, value in enumerate(own.detach().tolist())}
        if out.sizes is not None:
            values |= {f"size_{task}": value for task, value in enumerate(out.sizes.detach().mean(0).tolist())}
            if self.config.size_penalty:
                loss = loss + self.config.size_penalty * torch.lgamma(out.sizes + 1).sum(-1).mean()
        if out.encoding is not None and self.config.kl_weight:
            assert isinstance(self.model, PartitionedMultitask)
            kl = self.model.partition.kl(out.encoding, samples=self.config.kl_samples).mean()
            loss = loss + self.config.kl_weight * (1 - index / self.steps) * kl
            values["kl"] = float(kl.detach())
        self.optimizer.zero_grad()
        loss.backward()
        self.world.average_gradients(self.model.parameters())
        self.optimizer.step()
        advance_temperatures(self.model)
        if (index + 1) % self.batches.steps_per_epoch == 0:
            scores = self._evaluate(self.test)
            kept = ("accuracy", "loss", "sizes")
            epoch = (index + 1) // self.batches.steps_per_epoch
            self.curve.append({"epoch": epoch, **{name: scores[name] for name in kept if name in scores}})
        return values

    def _parameter_groups(self) -> list[dict[str, Any]]:
        config = self.config
        rates = {
            "": 1.0,
            "partition": config.partition_rate,
            "partition.log_omega": config.partition_rate * config.size_rate,
        }
        parts: dict[str, list[torch.nn.Parameter]] = {prefix: [] for prefix in rates}
        for name, parameter in self.model.named_parameters():
            parts[max((prefix for prefix in rates if name.startswith(prefix)), key=len)].append(parameter)
        return [{"params": part, "lr": config.learning_rate * rates[key]} for key, part in parts.items() if part]

    def _forward(self, images: Tensor) -> MultitaskOutput:
        low = torch.autocast(self.world.device.type, torch.bfloat16)
        with low if self.config.precision == "bf16" else contextlib.nullcontext():
            out = self.model(images)
        return out._replace(logits=out.logits.float())

    @torch.no_grad()
    def _evaluate(self, data: MultiMNIST) -> dict[str, Any]:
        """Scores of every task; of the masks: mean and spread over images of their sizes, and how fixed they are."""
        self.model.eval()
        outs = [self._forward(images) for images in data.images.split(_EVALUATION)]
        logits = torch.cat([out.logits for out in outs], dim=1)
        losses = multitask_loss(logits, data.labels)[1]
        right = (data.labels == logits.argmax(-1).T).double().mean(0)
        scores: dict[str, Any] = {"accuracy": _rounded(right), "loss": _rounded(losses)}
        if outs[0].masks is not None:
            masks = torch.cat([out.masks for out in outs if out.masks is not None]).double()  # (N, T, d)
            sizes = torch.cat([out.sizes for out in outs if out.sizes is not None]).double()
            scores["sizes"] = _rounded(sizes.mean(0))
            scores["sizes_sd"] = _rounded(sizes.std(0))
            # Mean over neurons of the largest share of images that agree on the task: 1 where masks do not depend on
            # the image, 1 / T at the least.
            scores["constancy"] = round(float(masks.mean(0).max(0).values.mean()), 5)
        return scores

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "curve": self.curve}

    def load_state_dict(self, state: dict[str, Any], index: int) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = list(state["curve"])

    def results(self) -> dict[str, Any]:
        first = MultiMNIST(*(part[: len(self.test.images)] for part in self.train))
        return {"test": self._evaluate(self.test), "train": self._evaluate(first), "curve": self.curve}

    def write_outputs(self, folder: Path) -> None:
        content = {"format": _FORMAT, "config": dataclasses.asdict(self.config), "model": self.model.state_dict()}
        write_checkpoint(content, folder / "model.pt")


def make_model(config: MultitaskRun, steps: int) -> UnitaryScaling | PartitionedMultitask:
    """Give the untrained model of a configuration; the temperature falls over `steps` steps."""
    if config.method == "uls":
        return UnitaryScaling(config.digits, config.features, dropout=config.dropout)
    return PartitionedMultitask(
        config.digits,
        config.features,
        dropout=config.dropout,
        tau=Exponential(config.tau_init, config.tau_final, steps),
        hard=config.hard,
        conditionals=config.conditionals,
    )


def make_data(config: MultitaskRun) -> tuple[MultiMNIST, MultiMNIST]:
    """Give training and test images: made from MNIST's training and test digits, which stay apart.

    With `held_out` the test images are made from the last of the training digits, the training images from the others.
    """
    mnist = load_images("mnist", config.root)
    if config.held_out:
        kept = round((1 - config.held_out) * len(mnist.train_images))
        images, labels = mnist.train_images, mnist.train_labels
        mnist = ImageSet(images[:kept], labels[:kept], images[kept:], labels[kept:])
    made = [
        make_multi_mnist(
            images, labels, count, config.noise, 2 * config.seed + part, salt=config.salt, digits=config.digits
        )
        for part, (images, labels, count) in enumerate(
            (
                (mnist.train_images, mnist.train_labels, config.train_images),
                (mnist.test_images, mnist.test_labels, config.test_images),
            )
        )
    ]
    return made[0], made[1]


def normalised(data: MultiMNIST, device: torch.device | None = None) -> MultiMNIST:
    """Give the images, changed in place, with MNIST's mean and spread taken out."""
    images = data.images.sub_(_MEAN).div_(_SPREAD)
    return MultiMNIST(images.to(device), data.labels.to(device))


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.double().tolist()]
