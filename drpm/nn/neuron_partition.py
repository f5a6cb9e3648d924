"""Split the neurons of a layer among tasks, for each input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from drpm.estimators import partition_kl
from drpm.nn.temperature import Annealed, Schedule, Temperature
from drpm.ops import Partition, random_partition
from drpm.ops._arguments import check_floating
from drpm.ops._mvhg_arguments import check_conditionals

_OP = "NeuronPartition"


class NeuronPartition(Annealed):
    """Masks that give every neuron to one of K tasks, predicted from an encoding of the input.

        log ω = W_ω e + b_ω,  log s = W_s e + b_s,  y = DRPM(ω, s),  z_k = z ⊙ y_k            (thesis Eq. 5.82-5.83)

    >>> split = drpm.nn.NeuronPartition(features=64, num_neurons=50, num_tasks=3)
    >>> parts = z.unsqueeze(-2) * split(encoding).assignment      # (*, 50) -> (*, 3, 50); task k reads parts[..., k, :]

    Under autocast the two linear layers and the partition still compute in float32: scores rounded to bfloat16 tie.

    Args:
        features: width of the encoding e.
        num_neurons: n, the elements of the partition.
        num_tasks: K >= 1, its subsets. A task may end up without neurons.
        tau, hard, conditionals: as in `drpm.nn.RandomPartition`.
        noise: draw noise; False as in the thesis' multitask model; None: in training mode only.
    Gradient: w.r.t. the encoding and both layers, straight-through; see `drpm.ops.random_partition`.
    Raises: ValueError when an argument is out of range.
    Reference: T. Sutter, thesis, Section 5.3.2, Fig. 5.12.
    """

    def __init__(
        self,
        features: int,
        num_neurons: int,
        num_tasks: int,
        *,
        tau: float | Schedule = 1.0,
        hard: bool = True,
        conditionals: str = "exact",
        noise: bool | None = False,
    ) -> None:
        super().__init__()
        for name, value in (("features", features), ("num_neurons", num_neurons), ("num_tasks", num_tasks)):
            if value < 1:
                raise ValueError(f"{_OP}: {name} must be >= 1, got {value}")
        check_conditionals(_OP, conditionals)
        self.log_omega = nn.Linear(features, num_tasks)
        self.log_scores = nn.Linear(features, num_neurons)
        self.temperature = Temperature(tau)
        self.hard, self.conditionals, self.noise = hard, conditionals, noise

    def forward(
        self,
        encoding: Tensor,  # (*, features)
        *,
        generator: torch.Generator | None = None,
        seed: int | Tensor | None = None,
    ) -> Partition:
        """Partition the neurons: `Partition(assignment (*, K, n), sizes (*, K), order (*, n), labels (*, n))`.

        Args:
            generator, seed: where the noise comes from; at most one of the two; unused without noise.
        """
        check_floating(_OP, "encoding", encoding)
        noise = self.training if self.noise is None else self.noise
        log_omega, log_scores = self._parameters_of(encoding)
        with torch.autocast(encoding.device.type, enabled=False):
            return random_partition(
                log_omega,
                log_scores,
                self.tau,
                hard=self.hard,
                noise=noise,
                conditionals=self.conditionals,
                generator=generator if noise else None,
                seed=seed if noise else None,
            )

    def kl(
        self,
        encoding: Tensor,  # (*, features)
        *,
        samples: int = 2,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # (*)
        """KL(DRPM(ω, s) ‖ DRPM(1, 1)) of each input, in nats: how far the random partition is from the uniform one.

        Its pull on log ω does not vanish where the sizes saturate, so that no task loses its neurons for good. It is
        that of the random model also where `noise` is False.

        Args:
            samples: int >= 2, draws that estimate the order's term; the sizes' is exact.
            generator: where the draws come from.
        Gradient: unbiased, see `drpm.estimators.partition_kl`.
        """
        check_floating(_OP, "encoding", encoding)
        log_omega, log_scores = self._parameters_of(encoding)
        with torch.autocast(encoding.device.type, enabled=False):
            with torch.no_grad():
                labels = random_partition(log_omega, log_scores, sample_shape=(samples,), generator=generator).labels
            uniform = torch.zeros_like(log_omega), torch.zeros_like(log_scores)
            terms = partition_kl(labels, log_omega, uniform[0], log_scores, uniform[1])
        return terms.sizes + terms.order

    def _parameters_of(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(encoding.device.type, enabled=False):
            encoding = encoding.to(self.log_omega.weight.dtype)
            return self.log_omega(encoding), self.log_scores(encoding)

    if TYPE_CHECKING:
        __call__ = forward  # torch types a call of any module as Any

    def extra_repr(self) -> str:
        return f"hard={self.hard}, conditionals={self.conditionals!r}, noise={self.noise}"
