"""The inputs of a case: those of `drpm.testing.samples`, the same problem for every dtype."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.cases import Case
from drpm.ops import STREAM_ASSIGNMENT, STREAM_ORDER, STREAM_SIZES, gumbel_noise
from drpm.testing.samples import Shape, draw_inputs

ARGUMENTS = {  # positional, of the public function and of its twin
    "random_partition": ("log_omega", "log_scores"),
    "mvhg_sample": ("log_omega", "m", "n"),
    "mvhg_log_prob": ("sizes", "log_omega", "m", "n"),
    "mvhg_mean": ("log_omega", "m", "n"),
    "mvhg_kl": ("log_omega", "log_omega_p", "m", "n"),
    "partition": ("scores", "sizes"),
    "relaxed_sort": ("scores",),
    "relaxed_sort_matmul": ("scores",),
    "hypergeometric_log_weights": ("log_omega_left", "log_omega_right", "m", "m_right", "n"),
    "plackett_luce_log_prob": ("order", "log_scores"),
    "partition_log_prob": ("labels", "log_scores", "num_subsets"),
    "random_assignment": ("log_omega", "score_matrix"),
    "assignment_log_prob": ("labels", "score_matrix"),
}
SAMPLED_AS = {
    "log_scores": "scores",
    "log_omega_left": "left",
    "log_omega_right": "right",
    "score_matrix": "affinities",
}
NOISY = ("random_partition", "random_assignment", "mvhg_sample")


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

    def score_noise(self) -> Tensor | None:  # (B, n); of a matrix of scores (B, K, n)
        if self.case.op == "random_assignment":
            return self._gumbel((self.case["B"], self.case["K"], self.case["n"]), STREAM_ASSIGNMENT)
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
    n, classes = case["n"], case.get("K", 1)
    counts = {"n": n, "m": case.get("m", n), "m_right": n * (classes - 1), "num_subsets": classes}
    names = [name for name in ARGUMENTS[case.op] if name not in counts]
    sampled = [SAMPLED_AS.get(name, name) for name in names]
    drawn = draw_inputs(sampled, Shape((case["B"],), n, classes), torch.float64, seed=11 + (seed or 0))
    inputs = dict(zip(names, drawn.values(), strict=True))
    if case.op == "partition":
        inputs["sizes"] = inputs["sizes"].double()  # differentiated
    leaves = {name: x for name, x in inputs.items() if x.is_floating_point()}
    constants = counts | {name: x for name, x in inputs.items() if name not in leaves}
    return Problem(case, leaves, constants, seed).to(case.torch_dtype)
