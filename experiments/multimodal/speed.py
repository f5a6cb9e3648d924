"""How long a step takes, as ratios of processor time side by side: `python -m experiments.multimodal.speed`.

Missing rows against all rows, a learned partition against none, on PolyMNIST's networks and batches of noise; and the
memory that `log_likelihood` with 512 samples takes. Writes results/multimodal/speed.json.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from drpm.data import mask_at_random
from drpm.models.likelihoods import Laplace
from drpm.models.multimodal_vae import MultimodalVAE
from drpm.training.provenance import provenance, write_json
from experiments.multimodal.data import Kind, ModalityData
from experiments.multimodal.experiment import MultimodalRun, make_model

_MODALITIES = 5


def _model(batch: int, **changes: Any) -> tuple[MultimodalVAE, dict[str, torch.Tensor]]:
    kinds = {f"m{m}": Kind((3, 28, 28), Laplace(0.75), "picture") for m in range(_MODALITIES)}
    data = ModalityData(kinds, {"digit": 10}, None, None)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = make_model(MultimodalRun(batch_size=batch, **changes), data)
    return model, {name: torch.rand(batch, *kind.shape) for name, kind in kinds.items()}


def _step(batch: int, missing: float = 0.0, **changes: Any) -> Callable[[], None]:
    model, x = _model(batch, **changes)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    observed = mask_at_random(missing, batch, _MODALITIES) if missing else None

    def step() -> None:
        optimizer.zero_grad()
        (-model.bound(x, observed).objective.mean()).backward()
        optimizer.step()

    return step


def _seconds(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median processor time of each, interleaved."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(repeats + 1):
        for name, step in steps.items():
            started = time.process_time()
            step()
            if number:  # the first warms up
                found[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in found.items()}


def measure(batch: int = 128, repeats: int = 9) -> dict[str, Any]:
    steps = {
        "full": _step(batch),
        "half missing": _step(batch, missing=0.5),
        "joint, product": _step(batch, subsets="product"),
        "K = 27, product": _step(batch, subsets="product", sharing="groups"),
        "K = 27, mixture of products": _step(batch, sharing="groups"),
    }
    seconds = _seconds(steps, repeats)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, x = _model(16)
    started = time.process_time()
    model.log_likelihood(x, samples=512)
    per_tuple = (time.process_time() - started) / 16
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "milliseconds": {name: round(1e3 * value, 1) for name, value in seconds.items()},
        "half missing / full": seconds["half missing"] / seconds["full"],
        "partition share, product": 1 - seconds["joint, product"] / seconds["K = 27, product"],
        "partition share, mixture of products": 1 - seconds["full"] / seconds["K = 27, mixture of products"],
        "likelihood of 512 samples, milliseconds a tuple": round(1e3 * per_tuple, 1),
        "likelihood of 512 samples, more MiB at the peak": round(grown / 1024),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.multimodal.speed", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/multimodal/speed.json"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = measure(parsed.batch, parsed.repeats)
    write_json({**provenance(), **found}, parsed.out)
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
