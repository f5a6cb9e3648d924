"""Likelihoods of decoded modalities: log-density of a datum, the picture a decoder gives, what data must look like."""

import abc
import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from drpm.ops._arguments import require


class Likelihood(abc.ABC):
    """p(x | decoder's output); `decoded` (N, …) are N outputs for N data `x` (N, …)."""

    @abc.abstractmethod
    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:  # -> (N,)
        """Log-density (log-probability) of each datum, summed over its entries, in nats."""

    def mean(self, decoded: Tensor) -> Tensor:
        """What is shown of an output, in the form of the data."""
        return decoded

    def check(self, op: str, name: str, x: Tensor) -> None:
        """Refuse data that the likelihood does not know.

        Raises: ValueError; TypeError for another dtype.
        """
        if not x.is_floating_point():
            raise TypeError(f"{op}: {name} must have a floating dtype, got {x.dtype}")
        finite = x.isfinite()
        if not bool(finite.all()):
            require(False, op, name, "be finite where observed", x[~finite][0].item())


def _check_scale(name: str, scale: float) -> None:
    require(scale > 0 and math.isfinite(scale), name, "scale", "be > 0", scale)


@dataclasses.dataclass(frozen=True)
class Laplace(Likelihood):
    """Decoder gives the locations; the scale is that of every entry."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale("Laplace", self.scale)

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        gap = (x - decoded).abs().flatten(1).sum(1) / self.scale
        return -gap - x[0].numel() * math.log(2 * self.scale)


@dataclasses.dataclass(frozen=True)
class Gaussian(Likelihood):
    """Decoder gives the means; the standard deviation is that of every entry."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale("Gaussian", self.scale)

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        gap = (x - decoded).square().flatten(1).sum(1) / (2 * self.scale**2)
        return -gap - x[0].numel() * (math.log(self.scale) + 0.5 * math.log(2 * math.pi))


@dataclasses.dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Decoder gives logits of entries in [0, 1]."""

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(decoded, x, reduction="none").flatten(1).sum(1)

    def mean(self, decoded: Tensor) -> Tensor:
        return decoded.sigmoid()

    def check(self, op: str, name: str, x: Tensor) -> None:
        super().check(op, name, x)
        outside = (x < 0) | (x > 1)
        if bool(outside.any()):
            require(False, op, name, "lie in [0, 1] for a Bernoulli likelihood", x[outside][0].item())


@dataclasses.dataclass(frozen=True)
class Categorical(Likelihood):
    """Decoder gives logits (N, classes, …) of entries (N, …), int64 in [0, classes)."""

    classes: int

    def __post_init__(self) -> None:
        require(self.classes >= 1, "Categorical", "classes", "be >= 1", self.classes)

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        return -F.cross_entropy(decoded, x, reduction="none").flatten(1).sum(1)

    def mean(self, decoded: Tensor) -> Tensor:
        return decoded.argmax(1)

    def check(self, op: str, name: str, x: Tensor) -> None:
        if x.dtype != torch.int64:
            raise TypeError(f"{op}: {name} must have dtype int64, got {x.dtype}")
        outside = (x < 0) | (x >= self.classes)
        if bool(outside.any()):
            require(False, op, name, f"hold symbols 0 to {self.classes - 1}", x[outside][0].item())
