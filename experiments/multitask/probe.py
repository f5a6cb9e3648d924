"""Why a task ends without neurons: sizes over training, and what the losses still say to the sizes at its end.

    python -m experiments.multitask.probe --runs out/multitask --results results

reads the folders that runs of `python -m experiments multitask` left (log.jsonl, model.pt) and MNIST.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from drpm.models.multitask import PartitionedMultitask, multitask_loss
from drpm.ops import random_partition
from drpm.training.provenance import provenance, write_json
from experiments.multitask.experiment import MultitaskRun, make_data, make_model, normalised

_IMAGES = 1000  # test images
_POINTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the steps


def sizes_over_training(folder: Path) -> list[dict[str, Any]]:
    """Give the mean sizes of the batches around some fractions of the steps, from a run's log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [lines[round(fraction * (len(lines) - 1))] for fraction in _POINTS]
    return [
        {"step": line["step"], "sizes": [round(line[f"size_{task}"], 2) for task in range(_tasks(line))]}
        for line in chosen
    ]


def size_gradients(folder: Path, config: MultitaskRun) -> dict[str, Any]:
    """Give what each task's loss says to the log-odds of the last task, at the end of a run.

    Returns: `log_odds`, the mean over test images of log ω of the last task less the mean of the others; `gradients`,
        d(mean loss of a task) / d(log-odds), the same shift for every image: negative where the task would gain
        from a larger last subset.
    """
    model = make_model(config, 1)
    assert isinstance(model, PartitionedMultitask)
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True)["model"])
    model.eval()
    data = normalised(make_data(dataclasses.replace(config, train_images=1))[1])  # the test images are the same
    images, labels = data.images[:_IMAGES], data.labels[:_IMAGES]
    with torch.no_grad():
        z, encoding = model.encoder(images), model.partition_encoder(images)
        log_omega, log_scores = model.partition.log_omega(encoding), model.partition.log_scores(encoding)
    shift = torch.zeros((), requires_grad=True)
    moved = torch.cat([log_omega[:, :-1], log_omega[:, -1:] + shift], -1)
    split = random_partition(
        moved,
        log_scores,
        model.partition.tau,
        hard=config.hard,
        noise=False,
        conditionals=config.conditionals,
    )
    masked = z.unsqueeze(0) * split.assignment.transpose(0, 1)
    logits = torch.stack([head(part) for head, part in zip(model.heads, masked, strict=True)])
    own = multitask_loss(logits, labels)[1]
    gradients = [float(torch.autograd.grad(loss, shift, retain_graph=True)[0]) for loss in own]
    odds = (log_omega[:, -1] - log_omega[:, :-1].mean(-1)).mean()
    return {"log_odds": round(float(odds), 4), "gradients": [float(f"{value:.3g}") for value in gradients]}


def table(content: dict[str, Any]) -> str:
    """Give a line per run: whether a task loses its neurons differs from seed to seed."""
    points = content["runs"][0]["path"]
    steps = " | ".join(f"step {point['step']}" for point in points)
    lines = [
        f"| run | seed | {steps} | log-odds at the end | gradient of the left loss | of the right loss |",
        "|---" * (5 + len(points)) + "|",
    ]
    for run in content["runs"]:
        path = [f"{point['sizes'][-1]:.1f}" for point in run["path"]]
        gradients = [f"{run['gradients'][task]:+.1e}" for task in (0, -1)]
        cells = [f"`{run['row']}`", str(run["seed"]), *path, f"{run['log_odds']:+.2f}", *gradients]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _tasks(line: dict[str, Any]) -> int:
    return sum(name.startswith("size_") for name in line)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, default=Path("out/multitask"), help="folder of ROW/seedS")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder that gets multitask/probe.json")
    parser.add_argument("--rows", nargs="+", required=True, help="rows of DRPM-MTL to read")
    parser.add_argument("--root", default="data", help="folder of MNIST")
    parsed = parser.parse_args(arguments)
    found = []
    for row in parsed.rows:
        for folder in sorted((parsed.runs / row).glob("seed*")):
            if not (folder / "result.json").is_file():
                continue
            values = json.loads((folder / "result.json").read_text(encoding="utf-8"))["config"]
            values["weights"] = values["weights"] and tuple(values["weights"])
            config = MultitaskRun(**(values | {"root": parsed.root}))
            path = sizes_over_training(folder)
            found.append({"row": row, "seed": config.seed, "path": path, **size_gradients(folder, config)})
            print(found[-1])
    if not found:
        print(f"multitask_probe: --runs must hold finished runs of {parsed.rows}, got {parsed.runs}", file=sys.stderr)
        return 2
    write_json({**provenance(), "images": _IMAGES, "runs": found}, parsed.results / "multitask" / "probe.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
