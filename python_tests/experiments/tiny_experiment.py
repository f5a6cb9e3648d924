"""A small experiment that uses every kind of randomness, for the tests of the runner; as a script, one run of it."""

import dataclasses
import random
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from drpm.training.batches import EpochBatches
from drpm.training.loop import Options
from drpm.training.world import World
from experiments.runner.runner import Experiment, run

DELAY = 0.0  # seconds a step takes longer


@dataclasses.dataclass(frozen=True)
class TinyConfig:
    seed: int = 0
    steps: int = 25
    width: int = 8
    diverge_at: int | None = None


class Tiny(Experiment):
    """Two phases: a regression with dropout under AdamW, then one with a fresh optimiser."""

    name: ClassVar[str] = "tiny"
    Config: ClassVar[type] = TinyConfig

    def __init__(self, config: TinyConfig, world: World) -> None:
        self.config, self.world, self.steps = config, world, config.steps
        self.model = nn.Sequential(nn.Linear(3, config.width), nn.Dropout(0.3), nn.ReLU(), nn.Linear(config.width, 1))
        self.noise = torch.Generator().manual_seed(config.seed)
        data = torch.Generator().manual_seed(1)
        self.x = torch.randn(40, 3, generator=data)
        self.batches = EpochBatches(40, 16, config.seed, world)
        self.recorded: list[float] = []
        self.optimizer = self.make_optimizer()

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=1e-2)

    def phase(self, index: int) -> str:
        return "first" if index < self.steps // 2 else "second"

    def step(self, index: int) -> dict[str, float]:
        if index == self.steps // 2:
            self.optimizer = self.make_optimizer()
        x = self.x[self.batches(index)]
        wobble = float(np.random.randn()) * 0.01 + random.random() * 0.01
        noisy = x + 0.1 * torch.randn(x.shape, generator=self.noise) + wobble
        loss = (self.model(noisy) - x.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.world.average_gradients(self.model.parameters())
        self.optimizer.step()
        self.recorded.append(float(loss.detach()))
        time.sleep(DELAY)
        value = float("nan") if index == self.config.diverge_at else float(loss.detach())
        return {"loss": value} if self.phase(index) == "first" else {"loss": value, "wobble": wobble}

    def generators(self) -> dict[str, torch.Generator]:
        return {"noise": self.noise}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "recorded": list(self.recorded),
        }

    def load_state_dict(self, state: dict[str, Any], index: int) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.recorded = list(state["recorded"])

    def results(self) -> dict[str, Any]:
        def total(values: Tensor) -> float:
            return float(values.double().sum())

        return {"weights": [total(p.detach()) for p in self.model.parameters()], "recorded": self.recorded}


if __name__ == "__main__":
    folder, DELAY, resume = Path(sys.argv[1]), float(sys.argv[2]), "--resume" in sys.argv
    options = Options(
        out=folder, resume=resume, checkpoint_seconds=0.0, log_every=4, tensorboard=False, progress=False, threads=1
    )
    run(Tiny, TinyConfig(), options)
