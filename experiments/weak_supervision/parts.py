"""Where the score of the shared part comes from: its posterior means, what the decoder gets of them, or the mask alone.

    python -m experiments.weak_supervision.parts --rows scratch_n3_drpm scratch_n3_oracle

reads the folders that runs of `python -m experiments weak_supervision` left (result.json, model.pt) and the images, and
adds to results/weak_supervision/parts.json.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drpm.training.provenance import provenance, write_json
from drpm.training.world import World
from experiments.runner.configuration import build, read_row
from experiments.weak_supervision.experiment import WeakSupervision, WeakSupervisionRun
from experiments.weak_supervision.linear_probes import probe_scores

_NAME = "weak_supervision"
VARIANTS = {
    "means": "posterior means of the shared dimensions (the score of the tables)",
    "drawn": "one draw of the posterior instead, what the decoder gets",
    "mask": "only which dimensions are shared",
    "whole": "posterior means of all dimensions",
}


def representations(of: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
    """Give each variant of the shared part of the first view: (N, d)."""
    shared = of["masks"][:, :-1].sum(1)
    means, deviations = of["means"][:, 0], (0.5 * of["log_variances"][:, 0]).exp()
    drawn = means + deviations * torch.randn(means.shape, generator=generator)
    return {"means": shared * means, "drawn": shared * drawn, "mask": shared, "whole": means}


def score(folder: Path, config: WeakSupervisionRun, train_tuples: int, test_tuples: int) -> dict[str, Any]:
    """Score the variants on the factors that the test pairs share: accuracy of every factor."""
    with World.join("cpu") as world:
        experiment = WeakSupervision(config, world)
        experiment.model.load_state_dict(torch.load(folder / "model.pt", weights_only=True)["model"])
        train, test = experiment._describe(False, train_tuples), experiment._describe(True, test_tuples)
    generator = torch.Generator().manual_seed(config.seed)
    known, unknown = representations(train, generator), representations(test, generator)
    counted = test["targets"].level == 0
    found = {}
    for name in VARIANTS:
        values = train["targets"].values[:, 0], test["targets"].values[:, 0]
        scores = probe_scores(known[name], values[0], unknown[name], values[1], counted, config.probe_iterations)
        found[name] = dict(zip(experiment.data.names, scores, strict=True))
    return found


def table(content: dict[str, Any]) -> str:
    """Give the mean over factors of every variant."""
    lines = [f"| row | {' | '.join(VARIANTS.values())} | seed |", "|---" * (len(VARIANTS) + 2) + "|"]
    for run in content["runs"]:
        cells = []
        for name in VARIANTS:
            scores = [value for value in run["scores"][name].values() if value is not None]
            cells.append(f"{statistics.mean(scores):.2f}" if scores else "–")
        title = read_row(_NAME, run["row"])["title"]
        lines.append(f"| {title} | {' | '.join(cells)} | {run['seed']} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.weak_supervision.parts", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("out") / _NAME, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where parts.json goes")
    parser.add_argument("--root", default="data", help="folder of the images")
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tuples", type=int, nargs=2, default=(5000, 2500), help="of training and of tests")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = parsed.results / _NAME / "parts.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    for row in parsed.rows:
        folder = parsed.runs / row / f"seed{parsed.seed}"
        recorded = json.loads((folder / "result.json").read_text(encoding="utf-8"))["config"]
        config = build(WeakSupervisionRun, recorded | {"root": parsed.root}, _NAME)
        scores = score(folder, config, *parsed.tuples)
        kept = [run for run in kept if (run["row"], run["seed"]) != (row, parsed.seed)]
        kept.append({"row": row, "seed": parsed.seed, "scores": scores})
        write_json({**provenance(), "tuples": list(parsed.tuples), "runs": kept}, path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
