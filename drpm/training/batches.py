"""Which elements a step sees."""

import torch
from torch import Tensor

from drpm.training.world import World


class EpochBatches:
    """Batches of shuffled indices: those of a step follow from seed and step alone, so there is nothing to save.

    Args:
        count: int, number of elements; the last, incomplete batch of an epoch is left out.
        batch_size: int, over all processes; each gets its share of it.
    """

    def __init__(self, count: int, batch_size: int, seed: int, world: World) -> None:
        if not 1 <= batch_size <= count:
            raise ValueError(f"EpochBatches: batch_size must lie in [1, {count}], got {batch_size}")
        self.count, self.batch_size, self.seed, self.world = count, batch_size, seed, world
        self.steps_per_epoch = count // batch_size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Tensor:  # -> (about batch_size / processes,) int64
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.count, generator=generator)
        batch = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        return batch.tensor_split(self.world.size)[self.world.rank]
