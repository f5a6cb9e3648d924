"""Clustering on the runner: every method, shared pre-training, interruption, tables; on small made-up images."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_files import write_idx

pytest.importorskip("sklearn")
pytest.importorskip("tqdm")
pytest.importorskip("yaml")
pytest.importorskip("matplotlib")

from drpm.training.interrupt import Interrupted
from drpm.training.loop import Options
from drpm.training.provenance import write_json
from experiments.__main__ import main
from experiments.clustering import report as clustering_report
from experiments.clustering.experiment import Clustering, ClusteringRun
from experiments.runner import report
from experiments.runner.configuration import build, read_row, rows
from experiments.runner.runner import run

SMALL = {
    "hidden": (24, 24),
    "latent_dim": 2,
    "num_clusters": 3,
    "batch_size": 30,
    "pretrain_epochs": 6,
    "warm_start_epochs": 20,
    "epochs": 3,
    "mixture_starts": 3,
    "reconstruction_scale": 0.1,
    "frozen_layers": 1,
    "kl_samples": 4,
    "contrast_temperature": 1.0,
    "contrast_weight": 0.8,
}
ROWS = {
    "gmm": {"method": "gmm"},
    "latent_gmm": {"method": "latent_gmm"},
    "vade": {"method": "vade", "beta": 1.0, "anneal_fraction": 0.0},
    "drpm_bound": {"method": "drpm", "conditionals": "merged", "kl": "bound"},
    "drpm_exact": {"method": "drpm", "conditionals": "exact", "kl": "exact"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 8 x 8 pixels in three kinds (bright top, bright left, bright middle), in the files of MNIST."""
    folder = tmp_path_factory.mktemp("data")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shapes = np.zeros((3, 8, 8))
    shapes[0, :4], shapes[1, :, :4], shapes[2, 2:6, 2:6] = 1, 1, 1
    for split, count in (("train", 150), ("t10k", 60)):
        labels = rng.integers(0, 3, count).astype(np.uint8)
        pixels = 40 + 170 * shapes[labels] + rng.normal(0, 20, (count, 8, 8))
        write_idx(raw / f"{split}-images-idx3-ubyte", pixels.clip(0, 255).astype(np.uint8))
        write_idx(raw / f"{split}-labels-idx1-ubyte", labels)
    return folder


def config(root: Path, row: str, **changes) -> ClusteringRun:
    return ClusteringRun(root=str(root), **(SMALL | ROWS[row] | changes))


def options(out: Path, **changes) -> Options:
    return dataclasses.replace(Options(out=out, tensorboard=False, progress=False), **changes)


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every row, the last three from the pre-training of latent_gmm; results in one folder, as if of two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for row in ROWS:
        shared = {} if row.endswith("gmm") else {"pretrained": str(folder / "latent_gmm/seed0/pretrained.pt")}
        result = folder / "results" / "clustering" / f"mnist_{row}" / "seed0.json"
        record = run(
            Clustering, config(root, row, **shared), options(folder / row / "seed0", result=result), f"mnist_{row}"
        )
        write_json(record | {"seed": 1}, result.with_name("seed1.json"))
    kept = folder / "drpm_exact/seed0/pictures.npz"
    (folder / "results/clustering/mnist_drpm_exact/pictures_seed0.npz").write_bytes(kept.read_bytes())
    return folder


def metrics(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())["metrics"]


def test_every_method_is_scored_and_finds_separable_images(finished: Path) -> None:
    assert metrics(finished / "gmm/seed0").keys() == {"test"}
    for row in ("vade", "drpm_bound", "drpm_exact"):
        found = metrics(finished / row / "seed0")
        assert found.keys() >= {"start", "test", "initialisation", "curve", "class_sizes"}
        assert found["start"] == metrics(finished / "latent_gmm/seed0")["start"]  # every method's
        assert [point["epoch"] for point in found["curve"]] == [0, 1, 2, 3]
        assert found["curve"][-1]["responsibilities"] == found["test"]["responsibilities"]
        for point in found["curve"]:
            assert all(sum(sizes) == 60 for sizes in point["sizes"].values())
            assert row == "vade" or sum(point["mean_sizes"]) == pytest.approx(60, abs=1e-3)
        assert found["test"]["responsibilities"]["ari"] > 0.6
    assert metrics(finished / "drpm_exact/seed0")["test"]["partition"]["ari"] > 0.5
    for name in ("model.pt", "pictures.npz", "latent.png", "partition.png", "partition_without_noise.png"):
        assert (finished / "drpm_exact/seed0" / name).stat().st_size > 1000


@pytest.mark.parametrize("row", ["vade", "drpm_exact"])
def test_own_pretraining_gives_the_same_run_as_a_shared_one(
    finished: Path, root: Path, tmp_path: Path, row: str
) -> None:
    run(Clustering, config(root, row), options(tmp_path))
    assert metrics(tmp_path) == metrics(finished / row / "seed0")
    models = [torch.load(folder / "model.pt", weights_only=True) for folder in (tmp_path, finished / row / "seed0")]
    for name, weight in models[0]["weights"].items():
        assert torch.equal(weight, models[1]["weights"][name]), name


@pytest.mark.parametrize(
    ("row", "stops"),
    [("vade", [29, 1, 5]), ("drpm_bound", [30, 70, 33]), pytest.param("drpm_exact", [131], marks=pytest.mark.slow)],
)
def test_resumed_equals_uninterrupted(finished: Path, root: Path, tmp_path: Path, row: str, stops: list[int]) -> None:
    # Steps: 30 of pre-training, 100 of warm start (drpm), 15 of training; stops inside, at the ends and between.
    for number, stop in enumerate(stops):
        with pytest.raises(Interrupted):
            run(Clustering, config(root, row), options(tmp_path, resume=number > 0, stop_after=stop))
    run(Clustering, config(root, row), options(tmp_path, resume=True))
    assert metrics(tmp_path) == metrics(finished / row / "seed0")


def test_pretraining_of_another_run_is_refused(finished: Path, root: Path, tmp_path: Path) -> None:
    other = config(root, "vade", seed=1, pretrained=str(finished / "latent_gmm/seed0/pretrained.pt"))
    with pytest.raises(ValueError, match=r"clustering: pretrained must come from a run with the same .*seed=0"):
        run(Clustering, other, options(tmp_path))


def test_tables_and_figures_come_from_the_results(finished: Path, tmp_path: Path) -> None:
    table = clustering_report.tables(finished / "results" / "clustering")["clustering mnist"]()
    for title in ("GMM", "Latent GMM", "VaDE", "DRPM-VC, thesis' bound", "DRPM-VC, exact KL"):
        assert f"| {title} |" in table
    assert "0.88 | 0.89 | 0.94 | 0, 1 |" in table
    assert "All methods of a seed but GMM start from the same weights and mixture." in table
    compared = clustering_report.tables(finished / "results" / "clustering")["clustering comparison"]()
    assert "| mnist | DRPM-VC, exact KL (partition) − VaDE (responsibilities) |" in compared
    lengths = clustering_report.tables(finished / "results" / "clustering")["clustering pre-training"]()
    assert "| mnist | 6 |" in lengths and "| 0, 1 |" in lengths and "short" not in lengths
    empty = clustering_report.tables(tmp_path)
    assert {name.partition(" ")[0] for name in empty} == {"clustering"}
    assert {make() for make in empty.values()} == {"_No results yet._"}
    assert clustering_report.figures(tmp_path, tmp_path) == []
    written = clustering_report.figures(finished / "results" / "clustering", tmp_path)
    names = ["mnist", "mnist_drpm_exact_partition", "mnist_drpm_exact_latent", "sizes"]
    assert [path.name for path in written] == [f"clustering_{name}.png" for name in names]
    assert all(path.stat().st_size > 5000 for path in written)


def test_whole_models_are_compared_with_those_of_the_same_start(finished: Path, tmp_path: Path) -> None:
    results = tmp_path / "clustering"
    for row in ("vade", "drpm_exact"):
        shutil.copytree(finished / "results" / "clustering" / f"mnist_{row}", results / f"mnist_{row}")
    for seed in (0, 1):
        record = json.loads((results / "mnist_vade" / f"seed{seed}.json").read_text())
        record["metrics"]["test"]["responsibilities"]["ari"] += 0.25 + 0.5 * seed
        record["metrics"]["start"] = record["metrics"]["start"] if seed == 0 else "another"
        write_json(record, results / "mnist_whole_marginals" / f"seed{seed}.json")
    lines = clustering_report.tables(results)["clustering whole model"]().splitlines()
    assert [line.split(" | ")[1] for line in lines[2:5]] == [
        "VaDE",
        "DRPM-VC, exact KL",
        "DRPM-VC, all layers, exact marginals",
    ]
    assert lines[4].split(" | ")[4] == "+0.250"  # the other seed started elsewhere


def test_report_rewrites_stale_pages_only(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("nothing to fill")
    page = tmp_path / "docs" / "clustering.md"
    page.write_text("a\n<!-- begin: clustering mnist -->\nold\n<!-- end: clustering mnist -->\nb\n<!-- begin: x -->\n")
    (tmp_path / "results").symlink_to(finished / "results")
    assert main(["report", "--root", str(tmp_path), "--check"]) == 1
    assert "old" in page.read_text()
    assert main(["report", "--root", str(tmp_path)]) == 0
    text = page.read_text()
    assert "old" not in text and "VaDE" in text and text.startswith("a\n") and text.endswith("<!-- begin: x -->\n")
    assert (tmp_path / "docs" / "figures" / "clustering_mnist.png").exists()
    assert main(["report", "--root", str(tmp_path), "--check"]) == 0
    assert report.rendered("plain", {}) == "plain"


def test_every_row_builds() -> None:
    assert len(rows("clustering")) == 50
    for row in rows("clustering"):
        made = build(ClusteringRun, read_row("clustering", row), "clustering")
        assert made.title
        model = made.model()
        assert model.precision == made.precision
        if made.data in ("mnist", "fashion-mnist"):
            assert model.hidden == (500, 500, 500, 2000)


def test_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "clustering",
        "--row",
        "mnist_gmm",
        "--set",
        f"root={root}",
        "--set",
        "num_clusters=3",
        "--no-tensorboard",
    ]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--results", str(tmp_path / "results")]) == 0
    record = json.loads((tmp_path / "results/clustering/mnist_gmm/seed0.json").read_text())
    assert record["row"] == "mnist_gmm"
    assert record["config"]["num_clusters"] == 3
    assert (record["config"]["num_features"], record["config"]["image_shape"]) == (64, [8, 8])  # of the data
    assert record["metrics"]["test"]["responsibilities"]["ari"] > 0.8
    assert main([*arguments, "--set", "other=1"]) == 2
    assert "clustering: no option other" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert "mnist_drpm_exact" in capsys.readouterr().out
    assert main(["clustering", "--row", "absent"]) == 2
    assert "--row must be a .yaml file or one of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["clustering", "--help"])
    text = capsys.readouterr().out
    for option in ("row", "seed", "set", "resume", "out", "results", "checkpoint-seconds", "device", "threads"):
        assert f"--{option}" in text


def test_bad_options_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"clustering: method must be one of .*, got 'other'"):
        config(root, "gmm", method="other")
    with pytest.raises(ValueError, match=r"clustering: data must be one of .*, got 'cifar'"):
        config(root, "gmm", data="cifar")
    with pytest.raises(ValueError, match=r"clustering: epochs must be >= 1, got 0"):
        config(root, "gmm", epochs=0)


@pytest.mark.slow
def test_tables_are_clustered_whole(tmp_path: Path) -> None:
    # Three groups of unequal size in the format of KEEL; every method of the tables.
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [90, 40, 20])
    columns = np.eye(3)[labels].repeat(2, 1) * 9 + rng.normal(0, 1, (150, 6))
    lines = [
        ", ".join(f"{value:.3f}" for value in row) + f", {label}" for row, label in zip(columns, labels, strict=True)
    ]
    (tmp_path / "satimage.dat").write_text("@relation satimage\n@data\n" + "\n".join(lines) + "\n")
    for row in ("kmeans", "gmm", "drpm_equal", "drpm_odds"):
        changes = read_row("clustering", f"satimage_{row}") | SMALL | {"root": str(tmp_path), "pretrain_epochs": 30}
        result = tmp_path / "results" / f"satimage_{row}" / "seed0.json"
        run(Clustering, build(ClusteringRun, changes, "clustering"), options(tmp_path / row, result=result), row)
    found = {row: metrics(tmp_path / row) for row in ("kmeans", "gmm", "drpm_equal", "drpm_odds")}
    assert found["kmeans"]["test"]["responsibilities"]["ari"] > 0.9
    assert found["drpm_equal"]["curve"][-1]["sizes"]["partition"] == [50, 50, 50]
    assert found["drpm_odds"]["class_sizes"] == [90, 40, 20]
    assert found["drpm_odds"]["test"]["partition"]["ari"] > found["drpm_equal"]["test"]["partition"]["ari"] + 0.1
    text = clustering_report.tables(tmp_path / "results")["clustering unequal classes"]()
    assert "| satimage | DRPM-VC, equal sizes | partition |" in text and "| 50, 50, 50 |" in text
    assert "| satimage | _the classes_ | – | 1 | 1 | 1 | 20, 40, 90 | – |" in text


@pytest.mark.slow
def test_embedded_views_are_one_partition(finished: Path, tmp_path: Path, root: Path) -> None:
    changes = SMALL | {
        "data": "mnist-views",
        "root": str(root),
        "embedding": str(finished / "latent_gmm/seed0/pretrained.pt"),
        "partition_size": 10**6,
    }
    run(Clustering, ClusteringRun(**changes), options(tmp_path))
    found = metrics(tmp_path)
    assert sum(found["class_sizes"]) == 2 * (150 + 60)
    assert sum(found["curve"][-1]["sizes"]["partition"]) == 420
    assert found["test"]["responsibilities"]["ari"] > 0.4
    with pytest.raises(ValueError, match=r"clustering: embedding must be a file for data='mnist-views', got None"):
        run(Clustering, ClusteringRun(**(changes | {"embedding": None})), options(tmp_path))


@pytest.mark.slow
def test_smoke_on_real_digits(tmp_path: Path) -> None:
    # All methods on scikit-learn's 1,797 digits with the demo's network and schedule: one minute of two quiet cores.
    schedule = {"data": "digits", "hidden": (256, 256, 256, 512), "augment": True, "reconstruction_scale": 0.1}
    schedule |= {"pretrain_epochs": 140, "warm_start_epochs": 70, "epochs": 180, "mixture_starts": 20}
    schedule |= {"contrast_weight": 0.8, "contrast_temperature": 1.0, "contrast_views": 2, "cluster_weight": 0.0}
    schedule |= {"learning_rate": 1e-4, "precision": "float32"}
    shared = str(tmp_path / "latent_gmm" / "pretrained.pt")
    found = {}
    whole = ROWS["drpm_exact"] | {"estimator": "marginals", "frozen_layers": 0}
    for row in ("latent_gmm", "vade", "drpm_bound", "drpm_exact", "drpm_whole"):
        changes = (
            schedule | (ROWS | {"drpm_whole": whole})[row] | ({} if row == "latent_gmm" else {"pretrained": shared})
        )
        if row.startswith("drpm"):
            changes["beta"] = 1.0
        run(Clustering, ClusteringRun(**changes), options(tmp_path / row), row)
        found[row] = metrics(tmp_path / row)
    # Trained whole at beta = 1 both VaDE and DRPM-VC merge clusters of so small images: 0.80 to 0.44, 0.86 to 0.37.
    for row, least in {
        "latent_gmm": 0.65,
        "vade": 0.3,
        "drpm_bound": 0.65,
        "drpm_exact": 0.65,
        "drpm_whole": 0.3,
    }.items():
        assert found[row]["test"]["responsibilities"]["ari"] > least, row
    for row in ("drpm_bound", "drpm_exact"):
        before, after = found[row]["initialisation"]["partition"]["ari"], found[row]["test"]["partition"]["ari"]
        assert after > 0.65, row
        assert after > before - 0.02, row
