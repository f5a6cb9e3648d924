"""Multitask learning on the runner: both methods, interruption, rows, tables, pictures; on enlarged 8 x 8 digits."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("tqdm")
pytest.importorskip("yaml")
pytest.importorskip("matplotlib")

from idx_files import write_idx

from drpm.models.multitask import multitask_loss
from drpm.training.interrupt import Interrupted
from drpm.training.loop import Options
from drpm.training.provenance import write_json
from experiments.__main__ import main
from experiments.multitask import probe as multitask_probe
from experiments.multitask import report as multitask_report
from experiments.multitask.experiment import Multitask, MultitaskRun, make_data, make_model, normalised
from experiments.runner.configuration import build, read_row, rows
from experiments.runner.runner import run

SMALL = {"features": 12, "batch_size": 32, "epochs": 2, "train_images": 96, "test_images": 40}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scikit-learn's digits, enlarged to 28 x 28, in the files of MNIST."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    large = torch.nn.functional.interpolate(pixels, size=(20, 20), mode="bilinear", align_corners=False)
    images = (torch.nn.functional.pad(large, (4, 4, 4, 4)).squeeze(1) * 255).round().to(torch.uint8).numpy()
    folder = tmp_path_factory.mktemp("data")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, part in (("train", slice(0, 1400)), ("t10k", slice(1400, None))):
        write_idx(raw / f"{split}-images-idx3-ubyte", images[part])
        write_idx(raw / f"{split}-labels-idx1-ubyte", digits.target[part].astype(np.uint8))
    return folder


def config(root: Path, **changes) -> MultitaskRun:
    return MultitaskRun(root=str(root), **(SMALL | changes))


def options(out: Path, **changes) -> Options:
    return dataclasses.replace(Options(out=out, tensorboard=False, progress=False), **changes)


def metrics(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())["metrics"]


@pytest.mark.parametrize("changes", [{"method": "uls"}, {}, {"digits": 3, "conditionals": "merged"}, {"hard": False}])
def test_a_run_scores_every_task_and_its_neurons(root: Path, tmp_path: Path, changes: dict) -> None:
    made = config(root, noise=0.4, **changes)
    run(Multitask, made, options(tmp_path))
    found = metrics(tmp_path)
    assert [point["epoch"] for point in found["curve"]] == [1, 2]
    assert found["curve"][-1]["accuracy"] == found["test"]["accuracy"]
    for part in ("test", "train"):
        assert len(found[part]["accuracy"]) == made.digits
        assert all(0 <= value <= 1 for value in found[part]["accuracy"])
        if made.method == "uls":
            assert "sizes" not in found[part]
        else:
            assert sum(found[part]["sizes"]) == pytest.approx(12, abs=1e-3)
            assert 1 / made.digits <= found[part]["constancy"] <= 1
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert saved["config"]["digits"] == made.digits


@pytest.mark.parametrize("method", ["uls", "drpm"])
def test_resumed_equals_uninterrupted(root: Path, tmp_path: Path, method: str) -> None:
    run(Multitask, config(root, method=method), options(tmp_path / "whole"))
    for number, stop in enumerate((2, 1)):  # inside and at the end of the first epoch, of 3 steps
        with pytest.raises(Interrupted):
            run(Multitask, config(root, method=method), options(tmp_path / "parts", resume=number > 0, stop_after=stop))
    run(Multitask, config(root, method=method), options(tmp_path / "parts", resume=True))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    models = [torch.load(tmp_path / part / "model.pt", weights_only=True)["model"] for part in ("whole", "parts")]
    assert models[0].keys() == models[1].keys()
    for name, weight in models[0].items():
        assert torch.equal(weight, models[1][name]), name


def test_methods_share_images_and_splits_stay_apart(root: Path) -> None:
    found = [make_data(config(root, method=method, noise=0.3, seed=3)) for method in ("uls", "drpm")]
    for own, other in zip(*found, strict=True):
        assert torch.equal(own.images, other.images) and torch.equal(own.labels, other.labels)
    assert found[0][0].images.shape == (96, 1, 28, 28) and found[0][1].images.shape == (40, 1, 28, 28)
    assert not torch.equal(found[0][0].images[:40], found[0][1].images)
    clean = make_data(config(root, noise=0.0, seed=3))
    assert torch.equal(clean[0].labels, found[0][0].labels)


def test_temperature_falls_and_the_size_penalty_is_a_loss(root: Path, tmp_path: Path) -> None:
    run(Multitask, config(root), options(tmp_path / "plain"))
    state = torch.load(tmp_path / "plain" / "model.pt", weights_only=True)["model"]
    assert float(state["partition.temperature.value"]) == 0.5
    run(Multitask, config(root, size_penalty=1.0), options(tmp_path / "even"))
    apart = [abs(a - b) for a, b in (metrics(tmp_path / name)["test"]["sizes"] for name in ("plain", "even"))]
    assert apart[1] < apart[0]


def test_partition_rate_is_the_step_size_of_the_partition(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    frozen = config(root, partition_rate=0.0)
    run(Multitask, frozen, options(tmp_path))
    torch.manual_seed(frozen.seed)
    start, end = make_model(frozen, 1), torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    for name, value in start.named_parameters():
        assert torch.equal(value, end[name]) == name.startswith("partition"), name


def test_the_annealed_kl_keeps_the_sizes_together(root: Path, tmp_path: Path) -> None:
    apart = []
    for weight in (1e-6, 10.0):
        run(Multitask, config(root, kl_weight=weight, learning_rate=3e-2), options(tmp_path / str(weight), log_every=1))
        lines = [json.loads(line) for line in (tmp_path / str(weight) / "log.jsonl").read_text().splitlines()]
        assert all(line["kl"] > -5 for line in lines)
        left, right = metrics(tmp_path / str(weight))["test"]["sizes"]
        apart.append(abs(left - right))
    assert apart[1] < apart[0]


def test_size_rate_is_the_step_size_of_the_size_layer(root: Path, tmp_path: Path) -> None:
    frozen = config(root, size_rate=0.0)
    run(Multitask, frozen, options(tmp_path))
    torch.manual_seed(frozen.seed)
    start, end = make_model(frozen, 1), torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    for name, value in start.named_parameters():
        assert torch.equal(value, end[name]) == name.startswith("partition.log_omega"), name


def test_held_out_images_are_made_of_training_digits(root: Path) -> None:
    train, held_out = make_data(config(root, held_out=0.5, train_images=1400, test_images=1400))
    plain, test = make_data(config(root, train_images=1400, test_images=1400))
    assert len(train.images) == len(held_out.images) == 1400
    for one, two in ((train, plain), (held_out, test), (train, held_out)):
        assert not torch.equal(one.images, two.images)


def test_tables_and_figures_come_from_the_results(root: Path, tmp_path: Path) -> None:
    results, docs, runs = tmp_path / "results" / "multitask", tmp_path / "docs", tmp_path / "out"
    assert {make() for make in multitask_report.tables(results).values()} == {"_No results yet._"}
    record = run(Multitask, config(root), options(runs / "drpm_0" / "seed0"), "drpm_0")
    baseline = run(Multitask, config(root, method="uls"), options(tmp_path / "baseline"))
    three = run(Multitask, config(root, digits=3), options(tmp_path / "three"))
    for level in range(10):
        for seed in (0, 1):
            for method, own in (("drpm", record), ("drpm_even", record), ("uls", baseline)):
                changed = json.loads(json.dumps(own | {"seed": seed}))
                worse = 0.02 * (method == "uls") + 0.05 * (method == "drpm_even" and level == 9)
                changed["metrics"]["test"]["accuracy"] = [0.9 + 0.01 * seed, 0.8 - worse]
                write_json(changed, results / f"{method}_{level}" / f"seed{seed}.json")
    write_json(three, results / "three_exact_6" / "seed0.json")
    longer = json.loads(json.dumps(record))
    longer["metrics"]["curve"] *= 2
    for name, shift in (("uls", 0.0), ("kl", 0.01)):
        for seed in (0, 1):
            longer["metrics"]["test"]["accuracy"] = [0.9 + shift, 0.8 + shift * (1 + seed)]
            write_json(longer | {"seed": seed}, results / f"race_{name}_6" / f"seed{seed}.json")
    write_json(longer, results / "choose_weak_6" / "seed0.json")
    arguments = ["--runs", str(runs), "--results", str(tmp_path / "results"), "--root", str(root)]
    assert multitask_probe.main([*arguments, "--rows", "drpm_0"]) == 0
    found = {name: make() for name, make in multitask_report.tables(results).items()}
    assert (
        "| 0.3 | 0.905 ± 0.007 | 0.780 ± 0.000 | 0.905 ± 0.007 | 0.800 ± 0.000 | +0.000 ± 0.000 | +0.020"
        in (found["multitask noise ratios"])
    )
    claims = found["multitask claims"].splitlines()
    assert "left 10, right 10, both 10;" in claims[2] and "left 10, right 9, both 9;" in claims[2]
    assert "of the 10 ratios with two seeds or more: left 0, right 1, both 0" in claims[2]
    assert "right 0.800 beside 0.780 | left 0.905 beside 0.905; right 0.750 beside 0.780" in claims[4]
    assert "| three tasks: DRPM-MTL, size term, exact conditionals |" in found["multitask variants"]
    (race,) = (line for line in found["multitask without a race"].splitlines() if "exact KL" in line)
    assert race.startswith("| 0.6 |") and "| +0.010 ± 0.000 | +0.015 ± 0.005 |" in race
    assert "| 0.0 | 0.0 | 0.910 | 0.820 | 0.865 |" in found["multitask weight of the KL"]
    assert "race" not in found["multitask variants"]
    assert "| epoch 2 |" in found["multitask epochs"]
    assert "| `drpm_0` |" in found["multitask probe"]
    (tmp_path / "data").symlink_to(root)
    for path in multitask_report.figures(results, docs):
        assert path.stat().st_size > 10000
    assert {path.name for path in (docs / "figures").iterdir()} == {"multitask.png", "multitask_noise.png"}


def test_probe_measures_the_gradient_of_the_size_layer(root: Path, tmp_path: Path) -> None:
    made = config(root, hard=False)
    run(Multitask, made, options(tmp_path))
    found = multitask_probe.size_gradients(tmp_path, made)
    # A shift of every log-odds is a shift of the size layer's bias.
    model = make_model(made, 1)
    model.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True)["model"])
    model.eval()
    data = normalised(make_data(made)[1])
    for loss, wanted in zip(multitask_loss(model(data.images).logits, data.labels)[1], found["gradients"], strict=True):
        (gradient,) = torch.autograd.grad(loss, model.partition.log_omega.bias, retain_graph=True)
        assert float(gradient[1]) == pytest.approx(wanted, rel=5e-3, abs=1e-7)
    assert multitask_probe.main(["--runs", str(tmp_path), "--results", str(tmp_path), "--rows", "absent"]) == 2


def test_every_row_builds() -> None:
    assert {f"{method}_{level}" for method in ("uls", "drpm", "drpm_even") for level in range(10)} <= set(
        rows("multitask")
    )
    for row in rows("multitask"):
        made = build(MultitaskRun, read_row("multitask", row), "multitask")
        assert made.title
        if row[-1].isdigit():
            assert made.noise == int(row[-1]) / 10


def test_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"root={root}", *(f"{name}={value}" for name, value in SMALL.items())]
    arguments = ["multitask", "--row", "three_exact_6", "--no-tensorboard", "--out", str(tmp_path / "out")]
    arguments += [part for setting in settings for part in ("--set", setting)]
    assert main([*arguments, "--results", str(tmp_path / "results")]) == 0
    record = json.loads((tmp_path / "results/multitask/three_exact_6/seed0.json").read_text())
    assert len(record["metrics"]["test"]["sizes"]) == 3
    assert main([*arguments, "--set", "method=other"]) == 2
    assert "multitask: method must be one of ('uls', 'drpm'), got 'other'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "half"}, "precision must be one of"),
        ({"digits": 4}, r"digits must be one of \[2, 3\], got 4"),
        ({"held_out": 1.0}, r"held_out must lie in \[0, 1\), got 1.0"),
        ({"kl_samples": 1}, "kl_samples must be >= 2, got 1"),
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"weights": (1.0,)}, r"weights must be 2 numbers, got \(1.0,\)"),
    ],
)
def test_bad_options_are_refused(root: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(root, **changes)


@pytest.mark.slow
def test_smoke_both_methods_learn_both_tasks(root: Path, tmp_path: Path) -> None:
    # 8,000 images of pairs of scikit-learn's digits at the row's own network: one and a half minutes of a quiet core.
    schedule = {"train_images": 8000, "test_images": 1000, "epochs": 10, "batch_size": 128, "learning_rate": 3e-3}
    for name in ("uls", "drpm", "kl"):
        row = read_row("multitask", f"race_{name}_0") if name == "kl" else {"method": name}
        run(Multitask, MultitaskRun(**(row | {"root": str(root)} | schedule)), options(tmp_path / name))
        assert min(metrics(tmp_path / name)["test"]["accuracy"]) > 0.6, name
    for name in ("drpm", "kl"):
        assert min(metrics(tmp_path / name)["test"]["sizes"]) > 5, name
