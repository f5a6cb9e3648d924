"""Classifiers that score what is generated, one per modality: `python -m experiments.multimodal.classifiers DATA`.

They have the encoders' layers, are trained once per data set on its training tuples, and are kept in half precision
beside their accuracy on test tuples: results/multimodal/classifiers/DATA.pt and DATA.json.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from drpm.data._reading import reading
from drpm.ops._arguments import require
from drpm.training.batches import EpochBatches
from drpm.training.checkpoint import write_checkpoint
from drpm.training.provenance import provenance, write_json
from drpm.training.step_size import half_cosine
from drpm.training.world import World
from experiments.multimodal.data import DATA, ModalityData, open_data
from experiments.multimodal.networks import Classifier

FOLDER = Path("results") / "multimodal" / "classifiers"
_FORMAT = "drpm.experiments.multimodal.classifiers/1"
STEPS = {"poly": 1500, "mst": 4000, "levels": 1500}


def make_classifiers(data: ModalityData) -> dict[str, Classifier]:
    """Untrained classifiers of every modality, for the factors it shows."""
    return {
        name: Classifier(kind.network, {factor: data.classes[factor] for factor in kind.factors})
        for name, kind in data.kinds.items()
    }


def train_classifiers(data: ModalityData, steps: int, batch_size: int = 128, seed: int = 0) -> dict[str, Classifier]:
    """Adam at 1e-3, half cosine; bfloat16 where torch.autocast lets it."""
    torch.manual_seed(seed)
    classifiers = make_classifiers(data)
    parameters = [p for classifier in classifiers.values() for p in classifier.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
    batches = EpochBatches(len(data.train), min(batch_size, len(data.train)), seed, World())
    for step in range(steps):
        half_cosine(optimizer, step, steps)
        indices = batches(step)
        x, factors = data.train.batch(indices), data.train.factors(indices)
        loss = torch.zeros(())
        for name, classifier in classifiers.items():
            with torch.autocast("cpu", torch.bfloat16):
                logits = classifier(x[name])
            loss = loss + sum(F.cross_entropy(found.float(), factors[factor]) for factor, found in logits.items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifiers


def accuracies(classifiers: dict[str, Classifier], data: ModalityData, count: int = 10_000) -> dict[str, Any]:
    """Modality -> factor -> share of test tuples that is classified correctly."""
    stride = max(1, len(data.test) // count)
    hits: dict[str, dict[str, float]] = {}
    indices = torch.arange(0, len(data.test), stride)[:count]
    for part in indices.split(1000):
        x, factors = data.test.batch(part), data.test.factors(part)
        for name, classifier in classifiers.items():
            for factor, found in classifier.predicted(x[name]).items():
                of = hits.setdefault(name, {})
                of[factor] = of.get(factor, 0.0) + float((found == factors[factor]).sum())
    return {name: {factor: hit / len(indices) for factor, hit in of.items()} for name, of in hits.items()}


def save_classifiers(classifiers: dict[str, Classifier], path: Path) -> None:
    weights = {
        name: {key: value.half() for key, value in classifier.state_dict().items()}
        for name, classifier in classifiers.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint({"format": _FORMAT, "weights": weights}, path)


def load_classifiers(path: Path, data: ModalityData) -> dict[str, Classifier]:
    """Trained classifiers of a data set.

    Raises: FileNotFoundError that says how to train them; ValueError for another or a damaged file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"multimodal: classifiers {path} are missing; train them with: "
            f"python -m experiments.multimodal.classifiers {path.stem}"
        )
    with reading("load_classifiers", path, "file of torch.save"):
        content = torch.load(path, weights_only=True)
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    require(found == _FORMAT, "load_classifiers", "path", f"have format {_FORMAT!r}", repr(found))
    classifiers = make_classifiers(data)
    same = classifiers.keys() == content["weights"].keys()
    require(same, "load_classifiers", "path", f"hold {', '.join(classifiers)}", ", ".join(content["weights"]))
    for name, classifier in classifiers.items():
        classifier.load_state_dict({key: value.float() for key, value in content["weights"][name].items()})
        classifier.eval()
    return classifiers


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.multimodal.classifiers", description=__doc__)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--root", default="data", help="folder of the data (default: data)")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder of the classifiers (default: {FOLDER})")
    parser.add_argument("--steps", type=int, default=None, help="of training")
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(parsed.threads)
    try:
        data = open_data(parsed.data, parsed.root)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    steps, started = parsed.steps or STEPS[parsed.data], time.process_time()
    classifiers = train_classifiers(data, steps)
    seconds = round(time.process_time() - started, 1)
    path = parsed.out / f"{parsed.data}.pt"
    save_classifiers(classifiers, path)
    test = accuracies(load_classifiers(path, data), data)  # of what is kept: half precision
    record = {"data": parsed.data, **provenance(), "steps": steps, "processor_seconds": seconds, "accuracy": test}
    write_json(record, path.with_suffix(".json"))
    print(f"{path}: {test} after {seconds} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
