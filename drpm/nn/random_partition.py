"""A random partition as a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from drpm.nn.temperature import Annealed, Schedule, Temperature
from drpm.ops import Partition, random_partition
from drpm.ops._arguments import Counts, argument_error, counts_tensor, plain_int
from drpm.ops._mvhg_arguments import check_conditionals


class RandomPartition(Annealed):
    """Partition elements into K ordered subsets, with learned or given sizes and scores.

    >>> layer = drpm.nn.RandomPartition(num_subsets=3)         # learns log_omega, takes scores from a network
    >>> y = layer(log_scores)                                  # (*, n) -> y.assignment (*, K, n), y.sizes (*, K)

    Args:
        num_subsets: K, learns `log_omega` (K,), from 0: all subsets equally important. None: `forward` takes log_omega.
        num_elements: n, learns `log_scores` (n,), from 0. None: `forward` takes log_scores.
        tau: temperature, a float or a schedule; `advance` (or `advance_temperatures`) counts the steps.
        m: capacity of each subset, as `drpm.ops.random_partition` takes it. None: n for each.
        hard: exact partition with straight-through gradients; False: relaxed.
        conditionals: "exact", or "merged" for the scheme of the thesis.
        noise: draw noise. None: in training mode only; evaluation then gives the partition without noise.
    Gradient: w.r.t. log_omega and log_scores, straight-through; see `drpm.ops.random_partition`.
    Raises: ValueError when an argument is out of range, TypeError when `forward` gets what is learned, or does not get
        what is not.
    Reference: T. Sutter, thesis, Section 5.2; Sutter et al., Differentiable random partition models, 2023.
    """

    _name: ClassVar[str] = "RandomPartition"
    _draw: ClassVar[Callable[..., Partition]] = staticmethod(random_partition)
    log_omega: nn.Parameter | None
    log_scores: nn.Parameter | None
    m: Tensor | None

    def __init__(
        self,
        num_subsets: int | None = None,
        num_elements: int | None = None,
        *,
        tau: float | Schedule = 1.0,
        m: Counts | None = None,
        hard: bool = True,
        conditionals: str = "exact",
        noise: bool | None = None,
    ) -> None:
        super().__init__()
        check_conditionals(self._name, conditionals)
        self.register_parameter("log_omega", learned(self._name, "num_subsets", num_subsets, at_least=1))
        self.register_parameter("log_scores", learned(self._name, "num_elements", num_elements, at_least=0))
        self.temperature = Temperature(tau)
        self.hard, self.conditionals, self.noise = hard, conditionals, noise
        self._given_m = given_counts(self._name, "m", m)
        self.register_buffer("m", counts_buffer(self._given_m, m))

    def reset_parameters(self) -> None:
        """Start again from equal importances, equal scores and the capacities that were given."""
        for parameter in (self.log_omega, self.log_scores):
            if parameter is not None:
                nn.init.zeros_(parameter)
        if self.m is not None:
            self.m.copy_(torch.tensor(self._given_m, device="cpu"))

    def forward(
        self,
        log_scores: Tensor | None = None,  # (*, n)
        log_omega: Tensor | None = None,  # (*, K)
        *,
        sample_shape: int | Sequence[int] = (),
        generator: torch.Generator | None = None,
        seed: int | Tensor | None = None,
    ) -> Partition:
        """Draw partitions: `Partition(assignment (…, K, n), sizes (…, K), order (…, n), labels (…, n))`.

        Args:
            log_scores: (*, n) float; exactly when they are not learned.
            log_omega: (*, K) float; exactly when it is not learned.
            sample_shape: sizes of leading dimensions of independent samples.
            generator, seed: where the noise comes from; at most one of the two; unused without noise.
        """
        noise = self.training if self.noise is None else self.noise
        return self._draw(
            learned_or_given(self._name, "log_omega", self.log_omega, log_omega),
            learned_or_given(self._name, "log_scores", self.log_scores, log_scores),
            self.tau,
            m=self.m,
            hard=self.hard,
            noise=noise,
            conditionals=self.conditionals,
            sample_shape=sample_shape,
            generator=generator if noise else None,
            seed=seed if noise else None,
        )

    if TYPE_CHECKING:
        __call__ = forward  # torch types a call of any module as Any

    def extra_repr(self) -> str:
        parts = [] if self.log_omega is None else [f"num_subsets={self.log_omega.numel()}"]
        parts += [] if self.log_scores is None else [f"num_elements={self.log_scores.numel()}"]
        return ", ".join([*parts, f"hard={self.hard}", f"conditionals={self.conditionals!r}", f"noise={self.noise}"])


def learned(op: str, argument: str, count: int | None, *, at_least: int) -> nn.Parameter | None:
    """A parameter of `count` zeros; None where nothing is to be learned."""
    if count is None:
        return None
    count = plain_int(count)
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{op}: {argument} must be an int or None, got {type(count).__name__}")
    if count < at_least:
        raise ValueError(f"{op}: {argument} must be >= {at_least}, got {count}")
    return nn.Parameter(torch.zeros(count))


def given_counts(op: str, argument: str, value: Counts | None) -> Any:
    """Counts as Python numbers, from which buffers can be written anew; None where there are none."""
    if isinstance(value, Tensor):
        if value.is_meta:
            raise argument_error(op, argument, "have values", "a tensor on the meta device")
        value = value.cpu()
    return None if value is None else counts_tensor(op, argument, value, torch.device("cpu")).tolist()


def counts_buffer(given: Any, value: Counts | None) -> Tensor | None:
    """What `given_counts` gave, on the device of the value, else on torch's default device."""
    if given is None:
        return None
    return torch.tensor(given, dtype=torch.int64, device=value.device if isinstance(value, Tensor) else None)


def learned_or_given(op: str, name: str, parameter: Tensor | None, given: Tensor | None) -> Tensor:
    """The one of the two that is there."""
    if parameter is None:
        if given is None:
            raise TypeError(f"{op}: {name} must be given, this module does not learn it")
        return given
    if given is not None:
        raise TypeError(f"{op}: {name} must not be given, this module learns it")
    return parameter
