"""Multimodal experiment on the runner: rows of every kind on tiny data, interruption, scores, tables."""

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
pytest.importorskip("PIL")

from idx_files import write_idx
from PIL import Image

from drpm.training.interrupt import Interrupted
from drpm.training.loop import Options
from experiments.multimodal import classifiers, street
from experiments.multimodal import report as multimodal_report
from experiments.multimodal.compose import POLY_PICTURES
from experiments.multimodal.data import open_data
from experiments.multimodal.experiment import Multimodal, MultimodalRun, flatness, make_model
from experiments.multimodal.fidelity import average_precision, density_coverage, frechet_distance, prd_curve
from experiments.multimodal.networks import Classifier, Encoder, decoder
from experiments.multimodal.scores import pattern_name, probe, spread_indices, subsets_of
from experiments.runner.configuration import build, read_row, rows
from experiments.runner.runner import run

SCORES = {
    "score_train": 60, "score_test": 40, "score_coherence": 20, "score_likelihood": 8, "score_samples": 3,
    "score_precise": 4, "score_precise_samples": 5, "score_fidelity": 0,
}  # fmt: skip
TINY = SCORES | {"steps": 5, "batch_size": 8, "shared": 4, "precision": "float32"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty made-up digits a split, pictures and house numbers of noise, classifiers of two steps."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (folder / "MNIST" / "raw").mkdir(parents=True)
    for name in ("train", "t10k"):
        write_idx(folder / f"MNIST/raw/{name}-images-idx3-ubyte", rng.integers(0, 256, (60, 28, 28), dtype=np.uint8))
        write_idx(folder / f"MNIST/raw/{name}-labels-idx1-ubyte", (np.arange(60) % 10).astype(np.uint8))
    (folder / "pictures").mkdir()
    for name in POLY_PICTURES[1:]:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / "pictures" / name)
    (folder / "street").mkdir()
    for split in street.COUNTS:
        np.save(folder / f"street/{split}_0_60.npy", rng.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(street, "COUNTS", {"train": 60, "test": 60})
        for data in ("poly", "mst", "levels"):
            out = ["--root", str(folder), "--out", str(folder / "classifiers"), "--steps", "2"]
            assert classifiers.main([data, *out]) == 0
    return folder


@pytest.fixture(autouse=True)
def few_house_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(street, "COUNTS", {"train": 60, "test": 60})


def options(out: Path, **changes) -> Options:
    return dataclasses.replace(Options(out=out, tensorboard=False, progress=False), **changes)


def made(root: Path, **changes) -> MultimodalRun:
    return MultimodalRun(**({"root": str(root), "classifiers": str(root / "classifiers")} | TINY | changes))


def metrics(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())["metrics"]


ROWS = {
    "mst_mopoe_split": {"data": "mst", "private": 2, "score_released": 6, "score_fidelity": 20},
    "mst_mmvaeplus": {"data": "mst", "objective": "MMVAE+", "private": 2},
    "mst_mmjsd": {"data": "mst", "objective": "mmJSD"},
    "poly_unimodal": {"data": "levels", "shared": 0, "private": 4, "score_fidelity": 20},
    "poly_mmvm": {"data": "levels", "objective": "MMVM"},
    "poly_drpm": {"sharing": "groups", "shared": 5, "score_train": 30, "score_test": 20},
    "missing_mopoe": {"data": "levels", "missing": 0.5},
    "levels_true": {"data": "levels", "sharing": "true", "subsets": "product"},
    "levels_drpm5": {"data": "levels", "sharing": "groups", "missing": 0.3, "amortised": True},
}


QUICK = ("mst_mopoe_split", "levels_drpm5")


@dataclasses.dataclass
class Finished:
    """The folder of finished runs; each is made when it is first asked for."""

    root: Path
    folder: Path

    def __truediv__(self, name: str) -> Path:
        for row in ROWS if name == "results" else [name]:
            if not (self.folder / row).exists():
                result = self.folder / "results" / row / "seed0.json"
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(street, "COUNTS", {"train": 60, "test": 60})
                    run(Multimodal, made(self.root, **ROWS[row]), options(self.folder / row, result=result), row)
        return self.folder / name


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(root, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("row", [row if row in QUICK else pytest.param(row, marks=pytest.mark.slow) for row in ROWS])
def test_rows_of_every_kind_are_scored(finished: Finished, row: str) -> None:
    found, changes = metrics(finished / row), ROWS[row]
    names = {"mst": ["mnist", "street", "text"], "levels": ["m0", "m1", "m2"]}.get(changes.get("data"))
    names = names or [f"m{m}" for m in range(5)]
    subsets = [",".join(subset) for subset in subsets_of(names)]
    assert list(found["accuracy"]) == subsets and list(found["coherence"]) == subsets[:-1]
    assert all(0 <= v <= 1 for of in found["accuracy"].values() for factor in of.values() for v in factor)
    for subset, of in found["coherence"].items():
        assert set(of) == set(names) - set(subset.split(","))
        assert all(0 <= share <= 1 for factors in of.values() for share in factors.values())
    if "score_fidelity" in changes:
        assert set(found["fidelity"]) == {"real", "prior", *names, ",".join(names)}
    if changes.get("objective") == "MMVM":
        assert "log_likelihood" not in found
    else:
        assert list(found["log_likelihood"]) == subsets
        assert set(found["precise_log_likelihood"]) == {*names, ",".join(names)}
        assert all(np.isfinite(v).all() for v in found["log_likelihood"].values())
    assert np.isfinite(list(found["bound"].values())).all()
    if "sharing" in changes:
        size = changes.get("shared", 4)
        assert sum(found["patterns"].values()) == pytest.approx(size)
        assert set(found["parts"]) == set(found["patterns"])
    assert ("complete_share" in found) == ("missing" in changes)
    assert (finished / row / "pictures.npz").stat().st_size > 1000


@pytest.mark.slow
def test_true_patterns_are_a_quarter_each(finished: Finished) -> None:
    assert metrics(finished / "levels_true")["patterns"] == {"012": 1, "01|2": 1, "0|12": 1, "0|1|2": 1}
    assert len(metrics(finished / "poly_drpm")["patterns"]) == 27


@pytest.mark.parametrize("row", ["levels_drpm5", pytest.param("mst_mopoe_split", marks=pytest.mark.slow)])
def test_interruption_changes_nothing(finished: Finished, root: Path, tmp_path: Path, row: str) -> None:
    config = made(root, **ROWS[row])
    for number, stop in enumerate((2, 1)):
        with pytest.raises(Interrupted):
            run(Multimodal, config, options(tmp_path, resume=number > 0, stop_after=stop))
    run(Multimodal, config, options(tmp_path, resume=True))
    assert metrics(tmp_path) == metrics(finished / row)
    ours, theirs = (torch.load(f / "model.pt", weights_only=True) for f in (tmp_path, finished / row))
    for name, weight in ours["model"].items():
        assert torch.equal(weight, theirs["model"][name]), name


def test_incomplete_tuples_are_dropped(root: Path) -> None:
    from drpm.training.world import World

    config = made(root, data="levels", missing=0.5, incomplete="drop")
    dropped = Multimodal(config, World())
    masked = Multimodal(dataclasses.replace(config, incomplete="use"), World())
    assert dropped.observed is None
    assert dropped.kept.tolist() == masked.observed.all(-1).nonzero().flatten().tolist()
    assert 0 < len(dropped.kept) < 30


@pytest.mark.slow
def test_tables_and_figures_come_from_the_results(finished: Finished, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished / "results", results)
    shutil.copy(finished / "poly_drpm" / "pictures.npz", results / "poly_drpm" / "pictures_seed0.npz")
    tables = {name: make() for name, make in multimodal_report.tables(results).items()}
    none = {name for name, table in tables.items() if table == "_No results yet._"}
    assert none == {"multimodal beta", "multimodal classifiers"}
    assert "| MoPoE, 16 + 4 |" in tables["multimodal accuracy"] and "\\| 0.96 |" in tables["multimodal accuracy"]
    assert "grouped as released" in tables["multimodal likelihood"]
    assert "M←ST" in tables["multimodal coherence"] and "\\| 0.98" in tables["multimodal coherence"]
    assert "| held-out real | real |" in tables["multimodal fidelity"]
    assert "| 01\\|2 |" in tables["multimodal levels"]
    written = multimodal_report.figures(results, tmp_path)
    assert [path.name for path in written] == [
        "multimodal_by_size.png",
        "multimodal_poly_drpm_data.png",
        "multimodal_poly_drpm_prior.png",
    ]
    assert all(path.stat().st_size > 2000 for path in written)
    empty = multimodal_report.tables(tmp_path / "nothing")
    assert {make() for make in empty.values()} == {"_No results yet._"}
    assert multimodal_report.figures(tmp_path / "nothing", tmp_path) == []


def test_every_row_is_a_configuration() -> None:
    found = rows("multimodal")
    for row in found:
        config = build(MultimodalRun, read_row("multimodal", row), "multimodal")
        assert config.title and config.batch_size == 128 and config.precision == "bf16"
        assert config.data != "mst" or config.shared + config.private == 20
        assert config.data != "mst" or row.endswith("_drpm") or config.score_released
        assert config.data == "mst" or config.shared + config.private == 64
    assert len(found) == 12 + 9 + 3 + 9 + 6
    poolings = {row: read_row("multimodal", row)["subsets"] for row in found if row.endswith(("_joint", "_split"))
                and row.startswith("mst")}  # fmt: skip
    assert len(poolings) == 6 and len(set(poolings.values())) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "faces"}, r"data must be one of .*, got 'faces'"),
        ({"objective": "IWAE"}, r"objective must be one of .*, got 'IWAE'"),
        ({"subsets": "sum"}, r"subsets must be one of .*, got 'sum'"),
        ({"sharing": "some"}, r"sharing must be one of .*, got 'some'"),
        ({"sharing": "true"}, "sharing must be true for levels alone, got poly"),
        ({"incomplete": "keep"}, r"incomplete must be one of .*, got 'keep'"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
    ],
)
def test_bad_options_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"multimodal: {message}"):
        MultimodalRun(**changes)


def test_classifiers_are_kept_small_and_named(root: Path, tmp_path: Path) -> None:
    for data in ("poly", "mst", "levels"):
        assert (root / "classifiers" / f"{data}.pt").stat().st_size <= 2**21
        accuracy = json.loads((root / "classifiers" / f"{data}.json").read_text())["accuracy"]
        assert all(0 <= value <= 1 for factors in accuracy.values() for value in factors.values())
    data = open_data("levels", str(root))
    loaded = classifiers.load_classifiers(root / "classifiers" / "levels.pt", data)
    assert {name: list(c.heads) for name, c in loaded.items()} == {
        "m0": ["digit", "hue"], "m1": ["digit", "hue", "slant"], "m2": ["digit", "slant"],
    }  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"train them with: python -m experiments.multimodal.classifiers poly"):
        classifiers.load_classifiers(tmp_path / "poly.pt", data)
    with pytest.raises(ValueError, match=r"load_classifiers: path must hold m0, m1, m2, got mnist"):
        classifiers.load_classifiers(root / "classifiers" / "mst.pt", data)
    (tmp_path / "poly.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"load_classifiers: path must be a whole file of torch.save"):
        classifiers.load_classifiers(tmp_path / "poly.pt", data)


def test_classifiers_learn() -> None:
    class Bright:
        """The digit is the number of bright columns."""

        def __len__(self):
            return 400

        def batch(self, indices, names=None):
            x = (torch.arange(28) < 2 * (indices % 10 + 1).unsqueeze(-1)).float()
            return {"mnist": x.view(-1, 1, 1, 28).expand(-1, -1, 28, -1)}

        def factors(self, indices):
            return {"digit": indices % 10}

    from experiments.multimodal.data import Kind, ModalityData

    data = ModalityData({"mnist": Kind((1, 28, 28), None, "digit")}, {"digit": 10}, Bright(), Bright())
    trained = classifiers.train_classifiers(data, 60, 32)
    assert classifiers.accuracies(trained, data)["mnist"]["digit"] > 0.9


@pytest.mark.parametrize(
    ("network", "shape", "out"),
    [
        ("digit", (1, 28, 28), (1, 28, 28)),
        ("street", (3, 32, 32), (3, 32, 32)),
        ("picture", (3, 28, 28), (3, 28, 28)),
        ("text", (8,), (71, 8)),
    ],
)
def test_networks_fit_their_data(network, shape, out) -> None:
    x = torch.randint(71, (2, *shape)) if network == "text" else torch.rand(2, *shape)
    mean, log_variance = Encoder(network, 5)(x)
    assert mean.shape == log_variance.shape == (2, 5)
    assert decoder(network, 5)(mean).shape == (2, *out)
    classifier = Classifier(network, {"digit": 10, "hue": 6})
    assert classifier(x)["hue"].shape == (2, 6)
    assert classifier.features(x).shape == (2, 400 if network == "digit" else 128)


def features(count: int = 400, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) + shift


def test_precision_and_recall_are_one_for_equal_and_zero_for_disjoint_sets() -> None:
    real = features()
    assert average_precision(real, real) == pytest.approx(1, abs=1e-3)
    assert average_precision(real, features(shift=60.0)) == pytest.approx(0, abs=1e-3)
    half = torch.cat([real[:200], features(200, 60.0)])
    assert 0.1 < average_precision(real, half) < 0.6
    precision, recall = prd_curve(real, half)
    assert precision.max() == pytest.approx(0.5, abs=0.06) and recall.max() == pytest.approx(1, abs=0.2)
    with pytest.raises(ValueError, match="prd_curve: generated must be 400, as real, got 10"):
        prd_curve(real, real[:10])


def test_density_coverage_and_frechet_distance() -> None:
    real = features()
    assert density_coverage(real, features(shift=60.0)) == (0.0, 0.0)
    density, coverage = density_coverage(real, features(seed=1))
    assert 0.8 < density < 1.2 and coverage > 0.9
    assert density_coverage(real, real[:1].expand(400, -1))[1] < 0.2
    distances = torch.cdist(real, real)  # by hand
    radius = distances.sort(1).values[:, 5]
    inside = torch.cdist(features(seed=1), real) <= radius
    assert density == pytest.approx(float(inside.sum()) / (5 * 400)) and coverage == float(
        inside.any(0).double().mean()
    )
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(real, real + 3.0) == pytest.approx(6 * 9, rel=1e-4)
    scaled = frechet_distance(real, 2 * real)  # (2 - 1)² tr Σ for commuting covariances, and the means
    assert scaled == pytest.approx(float(torch.cov(real.T.double()).trace() + real.double().mean(0).square().sum()))
    with pytest.raises(ValueError, match=r"density_coverage: neighbours must lie in \[1, 400\)"):
        density_coverage(real, real, 400)


def test_small_parts_of_scoring() -> None:
    assert pattern_name(((2,), (0, 1))) == "01|2"
    labels = torch.arange(200) % 4
    x = torch.nn.functional.one_hot(labels, 5).float().numpy()
    assert probe(x[:100], labels[:100], x[100:], labels[100:]) == 1.0
    constant = np.ones((100, 3), dtype=np.float32)
    assert probe(constant, labels[:100] * 0, constant, labels[100:]) == 0.25
    assert flatness([{"objective": -100.0 / (k + 1)} for k in range(40)]) < 0.02
    assert flatness([{"objective": float(k)} for k in range(40)]) > 0.1

    class Many:
        def __len__(self):
            return 1000

    assert spread_indices(Many(), 10).tolist() == list(range(0, 1000, 100))


def test_models_share_their_networks_first_weights(root: Path) -> None:
    data = open_data("levels", str(root))
    found = []
    for changes in ({}, {"sharing": "groups"}, {"subsets": "product"}):
        torch.manual_seed(0)
        found.append(make_model(made(root, data="levels", **changes), data).state_dict())
    for name, weight in found[0].items():
        assert torch.equal(weight, found[1][name]) and torch.equal(weight, found[2][name])


@pytest.mark.slow
def test_smoke_the_digit_is_shared(root: Path, tmp_path: Path) -> None:
    """Two modalities that show the same two classes: what one generates from the other agrees with it."""
    from experiments.multimodal.data import Kind, ModalityData

    class Bars:
        def __len__(self):
            return 2000

        def batch(self, indices, names=None):
            down = (torch.arange(28) // 7 % 2 == (indices % 2).unsqueeze(-1)).float().view(-1, 1, 28, 1)
            noise = torch.rand(len(indices), 3, 28, 28, generator=torch.Generator().manual_seed(int(indices[0])))
            x = down.expand(-1, 3, -1, 28)
            found = {"m0": (0.8 * x + 0.2 * noise), "m1": 1 - (0.8 * x.transpose(2, 3) + 0.2 * noise)}
            return {name: value for name, value in found.items() if names is None or name in names}

        def factors(self, indices):
            return {"digit": indices % 2}

    from drpm.models.likelihoods import Laplace

    kinds = {name: Kind((3, 28, 28), Laplace(0.75), "picture") for name in ("m0", "m1")}
    data = ModalityData(kinds, {"digit": 2}, Bars(), Bars())
    for sharing in ("none", "groups"):
        torch.manual_seed(0)
        model = make_model(made(root, shared=8, beta=1.0, sharing=sharing), data)
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        for step in range(250):
            x = data.train.batch(torch.arange(32) + 32 * (step % 60))
            optimizer.zero_grad()
            (-model.bound(x).objective.mean()).backward()
            optimizer.step()
        x = data.test.batch(torch.arange(200))
        made_one = model.eval().generate({"m0": x["m0"]})["m1"][0]
        right = ((made_one - x["m1"]).abs().flatten(1).mean(1) < 0.25).double().mean()
        assert right > 0.9


@pytest.mark.slow
def test_speed_is_measured(tmp_path: Path) -> None:
    from experiments.multimodal import speed

    assert speed.main(["--out", str(tmp_path / "speed.json"), "--batch", "4", "--repeats", "1"]) == 0
    found = json.loads((tmp_path / "speed.json").read_text())
    assert 0 < found["half missing / full"] < 5 and found["likelihood of 512 samples, more MiB at the peak"] < 2048
