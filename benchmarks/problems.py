"""The inputs of a case: drawn from a fixed seed in float64, so that every dtype gets the same problem."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.cases import MVHG_OPS, Case
from drpm.ops import STREAM_ORDER, STREAM_SIZES, gumbel_noise

NOISY = ("random_partition", "mvhg_sample")


@dataclass
class Problem:
    """Differentiable inputs, constants and the output's cotangent.

    `seed` None: every call draws fresh noise (timing). An int: the noise which that seed stands for in the dtype of
    the case, also where the computation itself runs in another dtype (checking).
    """

    case: Case
    leaves: dict[str, Tensor]
    constants: dict[str, Tensor | int] = field(default_factory=dict)
    seed: int | None = None
    noise: bool = True

    def __getitem__(self, name: str):
        return self.leaves[name] if name in self.leaves else self.constants[name]

    @property
    def tau(self) -> float:
        return self.case.tau

    @property
    def dtype(self) -> torch.dtype:
        return next(iter(self.leaves.values())).dtype

    def to(self, dtype: torch.dtype) -> Problem:
        leaves = {name: x.detach().to(dtype).requires_grad_() for name, x in self.leaves.items()}
        constants = {
            name: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x
            for name, x in self.constants.items()
        }
        return Problem(self.case, leaves, constants, self.seed, self.noise)

    def size_noise(self) -> Tensor | None:  # (B, K - 1, m + 1)
        shape = (self.case["B"], self.case["K"] - 1, int(self["m"]) + 1)
        return self._gumbel(shape, STREAM_SIZES)

    def score_noise(self) -> Tensor | None:  # (B, n)
        noise = self._gumbel((self.case["B"], 1, self.case["n"]), STREAM_ORDER)
        return None if noise is None else noise.squeeze(1)

    def _gumbel(self, shape: tuple[int, int, int], stream: int) -> Tensor | None:
        if not self.noise:
            return None
        if self.seed is not None:
            return gumbel_noise(self.seed, shape, stream=stream, dtype=self.case.torch_dtype).to(self.dtype)
        exponential = torch.empty(shape, dtype=self.dtype).exponential_()
        return -exponential.clamp_min(torch.finfo(self.dtype).tiny).log()


def cotangent(out: Tensor) -> Tensor:
    """A fixed gradient for the output: the same for every contestant that returns this shape."""
    generator = torch.Generator().manual_seed(17)
    return torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)


def make_problem(case: Case, seed: int | None = None) -> Problem:
    """Draw the inputs of a case."""
    generator = torch.Generator().manual_seed(11 if seed is None else 11 + seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    rows, n = case["B"], case["n"]
    leaves: dict[str, Tensor] = {}
    constants: dict[str, Tensor | int] = {"n": n, "m": case.get("m", n)}
    if case.op == "random_partition" or case.op in MVHG_OPS:
        leaves["log_omega"] = normal(rows, case["K"], scale=0.5)
    if case.op == "random_partition":
        leaves["log_scores"] = normal(rows, n)
    elif case.op == "partition":
        leaves["scores"] = normal(rows, n)
        leaves["sizes"] = _even_sizes(rows, case["K"], n).double()
    elif case.op in ("relaxed_sort", "relaxed_sort_matmul"):
        leaves["scores"] = normal(rows, n)
    elif case.op == "mvhg_log_prob":
        constants["sizes"] = _even_sizes(rows, case["K"], n)
    elif case.op == "mvhg_kl":
        leaves["log_omega_p"] = normal(rows, case["K"], scale=0.5)
    elif case.op == "partition_log_prob":
        leaves["log_scores"] = normal(rows, n)
        constants["labels"] = torch.randint(case["K"], (rows, n), generator=generator)
        constants["num_subsets"] = case["K"]
    elif case.op == "hypergeometric_log_weights":
        leaves["log_omega_left"], leaves["log_omega_right"] = normal(rows, scale=0.5), normal(rows, scale=0.5)
        constants["m_right"] = n * (case["K"] - 1)
    elif case.op == "plackett_luce_log_prob":
        leaves["log_scores"] = normal(rows, n)
        constants["order"] = torch.rand((rows, n), generator=generator).argsort(-1)
    return Problem(case, leaves, constants, seed).to(case.torch_dtype)


def _even_sizes(rows: int, classes: int, n: int) -> Tensor:  # (rows, classes) int64
    """Near-even whole sizes that sum to n; they differ between rows where n is not a multiple of the classes."""
    base = torch.full((rows, classes), n // classes)
    position = (torch.arange(classes) + torch.arange(rows).unsqueeze(-1)) % classes
    return base + (position < n % classes)
