"""The demo: a tiny run writes everything, and an interrupted one that is resumed ends in the same numbers."""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from drpm.__main__ import main
from drpm.data import Digits, load_digits
from drpm.demo import evaluation
from drpm.demo.command import configure
from drpm.demo.demo import run_demo
from drpm.models import ClusteringConfig, VariationalPartitionClustering
from drpm.training.interrupt import Interrupted

for package in ("sklearn", "matplotlib", "tqdm"):
    pytest.importorskip(package)

TINY = ClusteringConfig(
    hidden=(32, 32), pretrain_epochs=3, warm_start_epochs=2, epochs=3, num_samples=1, frozen_layers=1
)
FILES = {"partition.png", "sizes.png", "training.png", "metrics.json", "model.pt", "checkpoint.pt"}


@pytest.fixture(scope="module", autouse=True)
def pixel_mixture_once() -> Iterator[None]:
    """The baseline on pixels depends on the seed alone and takes longest: fit it once for all runs of this file."""
    with pytest.MonkeyPatch.context() as patch:
        fitted, fit = {}, evaluation.pixel_mixture

        def once(digits: Digits, clusters: int, seed: int) -> object:
            if seed not in fitted:
                fitted[seed] = fit(digits, clusters, seed)
            return fitted[seed]

        patch.setattr(evaluation, "pixel_mixture", once)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("demo")
    return run_demo(TINY, out, results=out / "results" / "seed0.json"), out


def test_all_files_are_written(finished) -> None:
    record, out = finished
    assert {path.name for path in out.iterdir()} >= FILES
    assert json.loads((out / "metrics.json").read_text()) == record
    assert (out / "results" / "seed0.json").read_text() == (out / "metrics.json").read_text()


def test_record_says_where_it_comes_from(finished) -> None:
    record, _ = finished
    assert {"seed", "config", "versions", "commit", "machine", "training_seconds"} <= record.keys()
    for method in record["methods"].values():
        for column in {"partition", "gaussian"} & method.keys():
            assert all(-1.0 <= method[column][name] <= 1.0 for name in ("ari", "nmi", "acc"))


def test_saved_model_is_the_scored_one(finished) -> None:
    record, out = finished
    images, labels = load_digits(TINY.seed)[2:]
    sizes = VariationalPartitionClustering.load(out / "model.pt").partition(images).sizes[0]
    assert [int(size) for size in sizes] == record["sizes"]["noise_free"]
    assert sum(record["sizes"]["true"]) == len(labels)


@pytest.mark.parametrize("stop_after", [pytest.param(2, marks=pytest.mark.slow), 7])
def test_resumed_run_equals_an_uninterrupted_one(finished, tmp_path: Path, stop_after: int) -> None:
    with pytest.raises(Interrupted):
        run_demo(TINY, tmp_path, stop_after=stop_after)
    assert not (tmp_path / "metrics.json").exists()
    record = run_demo(TINY, tmp_path, resume=True)
    for name in ("methods", "held_out_ari", "sizes"):
        assert record[name] == finished[0][name]


def test_resuming_another_configuration_is_refused(finished) -> None:
    with pytest.raises(ValueError, match=r"demo: --resume must continue a run with the same options, got .*epochs=3"):
        run_demo(dataclasses.replace(TINY, epochs=9), finished[1], resume=True)


def test_split_is_reproducible_and_disjoint() -> None:
    first, again, other = load_digits(1), load_digits(1), load_digits(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.held_out_images, other.held_out_images)
    assert len(first.train_images) + len(first.held_out_images) == 1797
    with pytest.raises(ValueError, match=r"load_digits: held_out must lie in \[1, 1796\], got 0"):
        load_digits(held_out=0)


def test_help_explains_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["demo", "--help"])
    assert status.value.code == 0
    text = capsys.readouterr().out
    for option in (
        "--seed",
        "--out",
        "--epochs",
        "--quick",
        "--resume",
        "--threads",
        "--conditionals",
        "--kl",
        "--results",
    ):
        assert option in text


def test_quick_is_shorter() -> None:
    options = argparse.Namespace(seed=3, epochs=200, conditionals="auto", kl="bound", quick=True)
    config = configure(options)
    assert (config.seed, config.epochs) == (3, 20)


def test_exact_kl_takes_exact_conditionals() -> None:
    parsed = {"seed": 0, "epochs": 1, "quick": False}
    conditionals = [
        configure(argparse.Namespace(**parsed, conditionals="auto", kl=kl)).conditionals for kl in ("bound", "exact")
    ]
    assert conditionals == ["merged", "exact"]
