"""A user's code as mypy --strict must see it: every public name has a type, none of them Any. `make lint` checks it."""

from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import drpm


def functions(log_omega: Tensor, log_scores: Tensor) -> None:
    drawn = drpm.ops.random_partition(log_omega, log_scores, 0.5, seed=1, sample_shape=(2,))
    assert_type(drawn, drpm.ops.Partition)
    assert_type(drawn.labels, Tensor)
    assert_type(drpm.ops.partition(log_scores, drawn.sizes, torch.tensor(0.5), lengths=[3, 4]), Tensor)
    assert_type(drpm.ops.relaxed_sort_matmul(log_scores, log_scores.unsqueeze(-1), hard=True), Tensor)
    assert_type(drpm.ops.mvhg_log_prob(drawn.sizes, log_omega, (3, 4, 5), 6), Tensor)
    assert_type(drpm.ops.partition_log_prob_bounds(drawn.labels, log_omega, log_scores), tuple[Tensor, Tensor])
    assert_type(drpm.reference.partition(log_scores, drawn.sizes), Tensor)


def layers(log_scores: Tensor, values: Tensor) -> None:
    layer = drpm.nn.RandomPartition(3, tau=drpm.nn.Exponential(1.0, 0.1, steps=100))
    assert_type(layer(log_scores), drpm.ops.Partition)
    assert_type(drpm.nn.RelaxedSort()(log_scores, values), Tensor)
    assert_type(drpm.nn.SubsetSelector(10)(), drpm.nn.Selection)


def laws(log_omega: Tensor, log_scores: Tensor) -> None:
    law = drpm.distributions.RandomPartition(log_omega, log_scores)
    assert_type(law.log_prob(law.sample((4,))), Tensor)
    assert_type(drpm.distributions.RelaxedPlackettLuce(0.5, log_scores).rsample(), Tensor)


def rest(table: NDArray[np.float64], log_omega: Tensor, log_scores: Tensor) -> None:
    assert_type(drpm.sklearn.PartitionClustering(3).fit_predict(table), NDArray[np.int64])
    assert_type(drpm.distributed.random_partition(log_omega, log_scores), drpm.ops.Partition)
    assert_type(drpm.build_info(), dict[str, Any])
    print(drpm.nothing)  # type: ignore[attr-defined]
