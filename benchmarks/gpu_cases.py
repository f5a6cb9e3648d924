"""One call per op for a device: what `python_tests/test_cuda.py` compares with the CPU and `make bench-gpu` times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from drpm import ops, reference

Tensors = Mapping[str, Tensor]
SEED = 5


@dataclass(frozen=True)
class GpuCase:
    """`kernel(leaves, constants)` returns a tensor; so does `reference`, where it computes the same thing."""

    kernel: Callable[[Tensors, Tensors], Tensor]
    reference: Callable[[Tensors, Tensors], Tensor] | None
    leaves: tuple[str, ...]  # what is differentiated
    constants: tuple[str, ...] = ()
    quadratic: bool = False  # memory of the result or of the work grows as n^2

    def inputs(
        self, rows: int, n: int, classes: int, dtype: torch.dtype, device: torch.device | str
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Drawn on the CPU from a fixed seed, the same for every device and dtype."""
        generator = torch.Generator().manual_seed(23)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        labels = torch.randint(classes, (rows, n), generator=generator)
        sizes = torch.nn.functional.one_hot(labels, classes).sum(1)
        every = {
            "log_omega": normal(rows, classes) * 0.5,
            "log_omega_2": normal(rows, classes) * 0.5,
            "scores": normal(rows, n),
            "values": normal(rows, n, classes),
            "real_sizes": sizes.double() + 0.3 * normal(rows, classes),
            "sizes": sizes,
            "labels": labels,
            "order": normal(rows, n).argsort(-1),
        }
        if set(self.leaves + self.constants) - set(every):
            raise ValueError(f"GpuCase: unknown inputs in {self.leaves + self.constants}")
        leaves = {name: every[name].to(device=device, dtype=dtype).requires_grad_() for name in self.leaves}
        return leaves, {name: every[name].to(device) for name in self.constants}


def _n(x: Tensor) -> int:
    return x.shape[-1]


OPS = {
    "relaxed_sort": GpuCase(
        lambda x, _: ops.relaxed_sort(x["scores"]),
        lambda x, _: reference.relaxed_sort(x["scores"]),
        ("scores",),
        quadratic=True,
    ),
    "relaxed_sort_matmul": GpuCase(
        lambda x, _: ops.relaxed_sort_matmul(x["scores"], x["values"]),
        lambda x, _: reference.relaxed_sort_matmul(x["scores"], x["values"]),
        ("scores", "values"),
    ),
    "partition, hard": GpuCase(
        lambda x, _: ops.partition(x["scores"], x["real_sizes"]),
        lambda x, _: reference.partition(x["scores"], x["real_sizes"]),
        ("scores", "real_sizes"),
    ),
    "partition, relaxed": GpuCase(
        lambda x, _: ops.partition(x["scores"], x["real_sizes"], hard=False),
        lambda x, _: reference.partition(x["scores"], x["real_sizes"], hard=False),
        ("scores", "real_sizes"),
    ),
    "random_partition": GpuCase(
        lambda x, _: ops.random_partition(x["log_omega"], x["scores"], seed=SEED).assignment,
        None,
        ("log_omega", "scores"),
    ),
    "mvhg_sample, exact": GpuCase(
        lambda x, c: ops.mvhg_sample(x["log_omega"], _n(c["labels"]), _n(c["labels"]), seed=SEED),
        None,
        ("log_omega",),
        ("labels",),
    ),
    "mvhg_sample, merged": GpuCase(
        lambda x, c: ops.mvhg_sample(
            x["log_omega"], _n(c["labels"]), _n(c["labels"]), seed=SEED, conditionals="merged"
        ),
        None,
        ("log_omega",),
        ("labels",),
    ),
    "mvhg_draw": GpuCase(
        lambda x, c: ops.mvhg_draw(x["log_omega"], _n(c["labels"]), _n(c["labels"]), seed=SEED),
        None,
        ("log_omega",),
        ("labels",),
    ),
    "mvhg_log_prob": GpuCase(
        lambda x, c: ops.mvhg_log_prob(c["sizes"], x["log_omega"], _n(c["labels"]), _n(c["labels"])),
        lambda x, c: reference.mvhg_log_prob(c["sizes"], x["log_omega"], _n(c["labels"]), _n(c["labels"])),
        ("log_omega",),
        ("sizes", "labels"),
    ),
    "mvhg_mean": GpuCase(
        lambda x, c: ops.mvhg_mean(x["log_omega"], _n(c["labels"]), _n(c["labels"])),
        lambda x, c: reference.mvhg_mean(x["log_omega"], _n(c["labels"]), _n(c["labels"])),
        ("log_omega",),
        ("labels",),
    ),
    "mvhg_covariance": GpuCase(
        lambda x, c: ops.mvhg_covariance(x["log_omega"], _n(c["labels"]), _n(c["labels"])),
        lambda x, c: reference.mvhg_covariance(x["log_omega"], _n(c["labels"]), _n(c["labels"])),
        ("log_omega",),
        ("labels",),
    ),
    "mvhg_entropy": GpuCase(
        lambda x, c: ops.mvhg_entropy(x["log_omega"], _n(c["labels"]), _n(c["labels"])),
        lambda x, c: reference.mvhg_entropy(x["log_omega"], _n(c["labels"]), _n(c["labels"])),
        ("log_omega",),
        ("labels",),
    ),
    "mvhg_kl": GpuCase(
        lambda x, c: ops.mvhg_kl(x["log_omega"], x["log_omega_2"], _n(c["labels"]), _n(c["labels"])),
        lambda x, c: reference.mvhg_kl(x["log_omega"], x["log_omega_2"], _n(c["labels"]), _n(c["labels"])),
        ("log_omega", "log_omega_2"),
        ("labels",),
    ),
    "plackett_luce_log_prob": GpuCase(
        lambda x, c: ops.plackett_luce_log_prob(c["order"], x["scores"]),
        lambda x, c: reference.plackett_luce_log_prob(c["order"], x["scores"]),
        ("scores",),
        ("order",),
    ),
    "partition_log_prob": GpuCase(
        lambda x, c: ops.partition_log_prob(c["labels"], x["scores"], _n(c["sizes"])),
        lambda x, c: reference.partition_log_prob(c["labels"], x["scores"], _n(c["sizes"])),
        ("scores",),
        ("labels", "sizes"),
    ),
    "random_partition_log_prob": GpuCase(
        lambda x, c: ops.random_partition_log_prob(c["labels"], x["log_omega"], x["scores"]),
        lambda x, c: reference.random_partition_log_prob(c["labels"], x["log_omega"], x["scores"]),
        ("log_omega", "scores"),
        ("labels",),
    ),
    "partition_marginals": GpuCase(
        lambda x, _: ops.partition_marginals(x["log_omega"], x["scores"]),
        lambda x, _: reference.partition_marginals(x["log_omega"], x["scores"]),
        ("log_omega", "scores"),
    ),
    "partition_mode": GpuCase(
        lambda x, _: ops.partition_mode(x["log_omega"], x["scores"]),
        lambda x, _: reference.partition_mode(x["log_omega"], x["scores"]),
        ("log_omega", "scores"),
        quadratic=True,
    ),
}


def value_and_gradients(
    call: Callable[[Tensors, Tensors], Tensor], leaves: Tensors, constants: Tensors
) -> tuple[Tensor, list[Tensor]]:
    """The result and, where it has any, the gradients of its product with fixed weights."""
    value = call(leaves, constants)
    if not value.requires_grad:
        return value, []
    weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(29), dtype=torch.float64)
    inputs = list(leaves.values())
    return value.detach(), list(torch.autograd.grad((value * weight.to(value)).sum(), inputs))
