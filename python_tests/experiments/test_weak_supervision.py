"""Weakly supervised experiment on the runner: every method, shared pre-training, interruption, probes, tables."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("tqdm")
pytest.importorskip("yaml")
pytest.importorskip("matplotlib")

from drpm.data import MPI3D
from drpm.data.multiple_features import VIEWS, WIDTHS
from drpm.training.interrupt import Interrupted
from drpm.training.loop import Options
from experiments.runner.configuration import build, read_row, rows
from experiments.runner.runner import run
from experiments.weak_supervision import parts, scratch_report
from experiments.weak_supervision import report as weak_supervision_report
from experiments.weak_supervision.accuracy import nats_shared
from experiments.weak_supervision.arm_scene import ArmScene, render_all
from experiments.weak_supervision.data import open_factor_images
from experiments.weak_supervision.experiment import METHODS, WeakSupervision, WeakSupervisionRun
from experiments.weak_supervision.linear_probes import probe_scores
from experiments.weak_supervision.oracle import OracleSelection

SMALL = {"latent": 4, "batch_size": 8, "train_tuples": 400, "probe_train": 200, "probe_test": 120, "joint_values": 2}
IMAGES = SMALL | {"pretrain_steps": 3, "pretrain_batch_size": 4, "steps": 4}
DIGITS = SMALL | {"data": "digits", "steps": 5, "hidden": 16}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of 2,592 images, and six made-up views of 300 digits."""
    folder = tmp_path_factory.mktemp("data")
    render_all(folder / "arm_scene_2.npy", ArmScene(2))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 300)
    (folder / "multiple_features").mkdir()
    for name in VIEWS:
        features = rng.normal(size=(10, WIDTHS[name]))[labels] + 0.1 * rng.normal(size=(300, WIDTHS[name]))
        header = ",".join(["x"] * WIDTHS[name] + ["label"])
        path = folder / "multiple_features" / f"mfeat-{name}.csv"
        np.savetxt(path, np.column_stack([features, labels]), fmt="%.4f", delimiter=",", header=header, comments="")
    return folder


def options(out: Path, **changes) -> Options:
    return dataclasses.replace(Options(out=out, tensorboard=False, progress=False), **changes)


def metrics(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())["metrics"]


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method on pairs of images that share three factors, the last three from the first one's pre-training."""
    folder = tmp_path_factory.mktemp("runs")
    for method in METHODS:
        row = f"arm_n3_{method}"
        shared = {} if method == METHODS[0] else {"pretrained": str(folder / f"arm_n3_{METHODS[0]}/pretrained.pt")}
        config = WeakSupervisionRun(root=str(root), method=method, shared=(3,), **IMAGES, **shared)
        result = folder / "results" / row / "seed0.json"
        run(WeakSupervision, config, options(folder / row, result=result), row)
    return folder


@pytest.mark.slow
def test_every_method_is_scored(finished: Path) -> None:
    for method in METHODS:
        test = metrics(finished / f"arm_n3_{method}")["test"]
        shared, private = test["sizes"]
        assert shared["mean"] + private["mean"] == pytest.approx(4)
        assert shared["true"] == 3 and "true" not in private
        scale = 7 / 4
        for name, factor in (("squared_error", 1.0), ("squared_error_scaled", scale)):
            spread = (factor * shared["deviation"]) ** 2 * 119 / 120  # the deviation is the unbiased one
            assert shared[name] == pytest.approx((factor * shared["mean"] - 3) ** 2 + spread, rel=1e-3, abs=1e-4)
        assert [(probe["part"], probe["views"]) for probe in test["probes"]] == [
            ("shared", [0, 1]),
            ("private", [0]),
            ("private", [1]),
        ]
        for probe in test["probes"]:
            assert list(probe["accuracy"]) == list(ArmScene.names)
            assert all(score is None or -1 <= score <= 1 for score in probe["accuracy"].values())
        assert np.isfinite(list(test["bound"].values())).all()
        assert (finished / f"arm_n3_{method}/traversals.png").stat().st_size > 5000
    label = metrics(finished / "arm_n3_label")["test"]["sizes"]
    assert [size["mean"] for size in label] == [3, 1] and label[0]["squared_error"] == 0


@pytest.mark.slow
def test_own_pretraining_and_interruption_change_nothing(finished: Path, root: Path, tmp_path: Path) -> None:
    config = WeakSupervisionRun(root=str(root), method="drpm", shared=(3,), **IMAGES)
    for number, stop in enumerate((2, 1, 2)):  # inside pre-training, at its end, inside training
        with pytest.raises(Interrupted):
            run(WeakSupervision, config, options(tmp_path, resume=number > 0, stop_after=stop))
    run(WeakSupervision, config, options(tmp_path, resume=True))
    assert metrics(tmp_path) == metrics(finished / "arm_n3_drpm")
    ours, theirs = (torch.load(f / "model.pt", weights_only=True) for f in (tmp_path, finished / "arm_n3_drpm"))
    for name, weight in ours["model"].items():
        assert torch.equal(weight, theirs["model"][name]), name
    other = dataclasses.replace(config, seed=1, pretrained=str(tmp_path / "pretrained.pt"))
    with pytest.raises(ValueError, match=r"pretrained must come from a run with the same .*seed=0"):
        run(WeakSupervision, other, options(tmp_path / "other"))


def test_three_levels_of_sharing(root: Path, tmp_path: Path) -> None:
    groups = ((0, 1, 2), (0, 1))
    config = WeakSupervisionRun(
        root=str(root), num_views=3, sharing=groups, shared=(2, 1), groups=groups, **(IMAGES | {"pretrain_steps": 0})
    )
    result = tmp_path / "results" / "three_levels_drpm" / "seed0.json"
    run(WeakSupervision, config, options(tmp_path / "run", result=result), "three_levels_drpm")
    test = metrics(tmp_path / "run")["test"]
    assert [size.get("true") for size in test["sizes"]] == [2, 1, None]
    assert [probe["views"] for probe in test["probes"]] == [[0, 1, 2], [0, 1], [0], [1], [2]]
    table = weak_supervision_report.tables(tmp_path / "results")["weak supervision three views"]()
    assert "| views 1, 2, 3 | 2 |" in table and "| views 1, 2 | 1 |" in table and "| private | – |" in table


def test_the_oracle_shares_what_the_pair_shares_and_training_is_probed(root: Path, tmp_path: Path) -> None:
    made = IMAGES | {"pretrain_steps": 0, "latent": 10, "side": 32, "width": 4, "probe_every": 2, "probe_tuples": 240}
    config = WeakSupervisionRun(root=str(root), method="oracle", shared=(3,), **made)
    with pytest.raises(Interrupted):
        run(WeakSupervision, config, options(tmp_path, stop_after=3))
    result = tmp_path / "results" / "scratch_n3_oracle" / "seed0.json"
    run(WeakSupervision, config, options(tmp_path, resume=True, result=result), "scratch_n3_oracle")
    found = metrics(tmp_path)
    made_tables = scratch_report.tables(tmp_path / "results")
    diagnosis, probes = made_tables["weak supervision diagnosis"](), made_tables["weak supervision probes"]()
    assert "| oracle | 4." in diagnosis and "| S: object shape |" in diagnosis
    assert "| selection | part | 2 | 4 |" in probes and "| oracle | S |" in probes
    assert made_tables["weak supervision from scratch"]() == "_No results yet._"
    (drawn,) = weak_supervision_report.figures(tmp_path / "results", tmp_path)
    assert drawn.stat().st_size > 10_000
    shutil.copytree(tmp_path, tmp_path / "runs" / "scratch_n3_oracle" / "seed0", ignore=lambda *_: ["runs", "results"])
    arguments = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path), "--root", str(root)]
    assert parts.main([*arguments, "--rows", "scratch_n3_oracle", "--tuples", "400", "200"]) == 0
    (kept,) = json.loads((tmp_path / "weak_supervision" / "parts.json").read_text())["runs"]
    assert kept["scores"].keys() == parts.VARIANTS.keys()
    table = scratch_report.tables(tmp_path / "weak_supervision")["weak supervision shared part"]()
    assert table.splitlines()[-1].startswith("| oracle | ") and table.endswith("| 0 |")
    # Ten dimensions of seven factors, the last three factors with two each.
    assert found["test"]["sizes"][0]["mean"] == pytest.approx(30 / 7, rel=0.2)
    assert [point["step"] for point in found["probed"]] == [2, 4]
    assert [len(point["probes"]) for point in found["probed"]] == [3, 3]
    selection = OracleSelection(10, 7)
    selection.tell(torch.tensor([[0, 1, 1, 1, 1, 1, 0]]))
    masks = selection(torch.zeros(1, 2, 10), torch.zeros(1, 2, 10)).masks
    assert masks[0, 0].nonzero().flatten().tolist() == [0, 6, 7] and torch.equal(masks.sum(1), torch.ones(1, 10))
    with pytest.raises(ValueError, match="tell must be given 2 rows, got 1"):
        selection(torch.zeros(2, 2, 10), torch.zeros(2, 2, 10))


def test_halved_images_are_means_of_four_pixels(root: Path) -> None:
    whole, halved = (open_factor_images("arm", str(root), "", 2, side) for side in (64, 32))
    factors = torch.tensor([[[0, 1, 1, 2, 0, 1, 0], [5, 5, 0, 0, 2, 0, 1]]])
    wanted = torch.nn.functional.avg_pool2d(whole.images(factors)[0], 2)
    assert halved.images(factors).shape == (1, 2, 3, 32, 32)
    assert (halved.images(factors)[0] - wanted).abs().max() <= 0.5 / 255 + 1e-6


def test_leave_one_out_trains(root: Path, tmp_path: Path) -> None:
    made = DIGITS | {"kl": "exact", "estimator": "leave-one-out", "samples": 3}
    run(WeakSupervision, WeakSupervisionRun(root=str(root), **made), options(tmp_path / "run"))
    assert np.isfinite(list(metrics(tmp_path / "run")["test"]["bound"].values())).all()


@pytest.mark.parametrize(("kl", "aggregation"), [("exact", "product"), ("loose bound", "mixture of products")])
def test_real_views_take_every_option(root: Path, tmp_path: Path, kl: str, aggregation: str) -> None:
    config = WeakSupervisionRun(root=str(root), kl=kl, aggregation=aggregation, **DIGITS)
    result = tmp_path / "results" / "six_views_drpm" / "seed0.json"
    run(WeakSupervision, config, options(tmp_path / "run", result=result), "six_views_drpm")
    probes = metrics(tmp_path / "run")["test"]["probes"]
    assert len(probes) == 7 and all(list(probe["accuracy"]) == ["digit"] for probe in probes)
    table = weak_supervision_report.tables(tmp_path / "results")["weak supervision six views"]()
    assert "| fou, fac, kar, pix, zer, mor | DRPM-VAE | all |" in table


def test_probes_read_off_what_is_there() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (1200, 3), generator=generator)
    features = torch.zeros(1200, 5)
    features[:, :4] = torch.nn.functional.one_hot(targets[:, 0], 4) + 0.1 * torch.randn(1200, 4, generator=generator)
    counted = torch.ones(400, 3, dtype=torch.bool)
    counted[20:, 2] = False
    found = probe_scores(features[:800], targets[:800], features[800:], targets[800:], counted)
    assert found[0] is not None and found[0] > 0.95
    assert found[1] is not None and abs(found[1]) < 0.15  # independent of the features
    assert found[2] is None  # too few elements count


@pytest.mark.slow
def test_tables_and_figures_come_from_the_results(finished: Path, tmp_path: Path) -> None:
    made = weak_supervision_report.tables(finished / "results")
    shutil.copytree(finished / "results" / "arm_n3_ada", tmp_path / "copy" / "scratch_n3_ada")
    shutil.copytree(finished / "results" / "arm_n3_ada", tmp_path / "copy" / "arm_n3_ada")
    scratch = scratch_report.tables(tmp_path / "copy")["weak supervision from scratch"]().splitlines()[2].split(" | ")
    assert scratch[:2] == ["| 3", "Ada-VAE"] and scratch[5:7] == scratch[7:9] and scratch[9:11] == ["0.10", "0.22"]
    test = {"shared_by_dimension": [[0.5, 1.0], [0.5, 0.0]], "kl_by_dimension": [3.0, 1.0]}
    assert nats_shared({"metrics": {"test": test}}) == 2.5 / 4
    sizes, accuracy = made["weak supervision sizes"](), made["weak supervision accuracy"]()
    assert "| 3 | Label-VAE | 3.00 | 0.00 |" in sizes and sizes.count("| 3 |") == 4
    assert "| 3 | S |" in accuracy and "| 0.10 | 0.10 | 0.08 | 0.15 |" in accuracy
    written = weak_supervision_report.figures(finished / "results", tmp_path)
    assert [path.name for path in written] == ["weak_supervision_sizes.png", "weak_supervision_training.png"]
    empty = weak_supervision_report.tables(tmp_path)
    assert {make() for make in empty.values()} == {"_No results yet._"}
    assert weak_supervision_report.figures(tmp_path, tmp_path) == []


@pytest.mark.slow
def test_kept_pictures_are_drawn_again(finished: Path, tmp_path: Path) -> None:
    row = "arm_n3_drpm"
    shutil.copytree(finished / "results", tmp_path / "results")
    shutil.copy(finished / row / "pictures.npz", tmp_path / "results" / row / "pictures_seed0.npz")
    drawn = weak_supervision_report.figures(tmp_path / "results", tmp_path)[-1]
    assert drawn.read_bytes() == (finished / row / "traversals.png").read_bytes()
    with np.load(finished / row / "pictures.npz") as content:
        assert content["pairs"].shape == (128, 512, 3) and content["moved"].shape == (4 * 64, 7 * 64, 3)
        assert sorted(content["dimension"]) == [0, 1, 2, 3] and (np.diff(content["kl"]) <= 0).all()


def test_every_row_is_a_configuration() -> None:
    found = rows("weak_supervision")
    assert {f"arm_n{n}_{method}" for n in (0, 1, 3, 5) for method in METHODS} < set(found)
    for row in found:
        config = build(WeakSupervisionRun, read_row("weak_supervision", row), "weak_supervision")
        assert config.title and config.gamma == 0.25 * config.beta and config.beta == (config.side / 64) ** 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "other"}, r"method must be one of .*, got 'other'"),
        ({"data": "cars"}, r"data must be one of .*, got 'cars'"),
        ({"kl": "none"}, r"kl must be one of .*, got 'none'"),
        ({"estimator": "none"}, r"estimator must be one of .*, got 'none'"),
        ({"method": "oracle", "data": "digits"}, r"data must have factors for oracle, got digits"),
        ({"side": 48}, r"side must be 32 or 64, got 48"),
        ({"shared": (1, 2)}, r"shared must have 1 numbers, one for each set, got \(1, 2\)"),
        ({"digit_views": ("fou", "abc")}, r"digit_views must be some of"),
        ({"method": "hg", "groups": ((0, 1), (0,))}, r"groups must be at most one set for method hg"),
    ],
)
def test_bad_options_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"weak_supervision: {message}"):
        WeakSupervisionRun(**changes)


@pytest.mark.slow
def test_smoke_sizes_follow_the_data(tmp_path: Path) -> None:
    # Pre-training and training of minutes on two quiet cores; half of the joints' values keeps rendering short.
    render_all(tmp_path / "arm_scene_4.npy", ArmScene(4))
    shared = {}
    estimates = {}
    for number in (0, 5):
        config = WeakSupervisionRun(
            root=str(tmp_path), shared=(number,), joint_values=4, pretrain_steps=400, steps=250, precision="bf16",
            train_tuples=20_000, probe_train=1000, probe_test=1000, **shared,
        )  # fmt: skip
        run(WeakSupervision, config, options(tmp_path / str(number)))
        shared = {"pretrained": str(tmp_path / "0" / "pretrained.pt")}
        test = metrics(tmp_path / str(number))["test"]
        estimates[number] = test["sizes"][0]["mean"]
    assert estimates[5] > estimates[0] + 0.5
    assert MPI3D(tmp_path / "arm_scene_4.npy", sizes=ArmScene(4).sizes).sizes[-1] == 4


@pytest.mark.slow
def test_smoke_from_scratch_the_shared_part_learns(tmp_path: Path) -> None:
    render_all(tmp_path / "arm_scene_4.npy", ArmScene(4))
    row = read_row("weak_supervision", "scratch_n5_drpm") | {
        "steps": 2000, "joint_values": 4, "train_tuples": 20_000, "probe_every": 1000,
        "probe_train": 1000, "probe_test": 1000, "root": str(tmp_path),
    }  # fmt: skip
    run(WeakSupervision, build(WeakSupervisionRun, row, "weak_supervision"), options(tmp_path / "run"))
    found = metrics(tmp_path / "run")
    accuracy = found["test"]["probes"][0]["accuracy"]
    assert max(score for score in accuracy.values() if score is not None) > 0.2, accuracy
    assert len(found["probed"]) == 2
