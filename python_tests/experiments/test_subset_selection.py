"""Choosing features on the runner: every method, resumption, several tasks, scores, rows, tables, missing data."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("tqdm")
pytest.importorskip("yaml")
pytest.importorskip("matplotlib")

from drpm.data import Expression
from drpm.training.interrupt import Interrupted
from drpm.training.loop import Options
from experiments.__main__ import main
from experiments.runner.configuration import build, read_row, rows
from experiments.runner.runner import run
from experiments.subset_selection import data as its_data
from experiments.subset_selection.experiment import METHODS, SubsetSelection, SubsetSelectionRun
from experiments.subset_selection.gates import make_gate
from experiments.subset_selection.scores import agreement, jaccard, reconstruction

TELLING = [2, 5, 11]


def cells() -> Expression:
    """Four types told apart by three genes of 30; cycle and cluster by one of them each."""
    generator = torch.Generator().manual_seed(0)
    types = torch.arange(4).repeat(30)
    values = torch.rand(120, 30, generator=generator)
    values[:, TELLING[0]] += 3.0 * (types % 2)
    values[:, TELLING[1]] += 3.0 * (types // 2)
    labels = {"cell type": types, "cycle": types % 2, "cluster": types // 2}
    classes = {"cell type": list("abcd"), "cycle": list("ab"), "cluster": list("ab")}
    return Expression(values, [f"gene {j}" for j in range(30)], labels, classes)


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(its_data, "load_blood_cells", lambda root: cells())


def config(**changes) -> SubsetSelectionRun:
    return SubsetSelectionRun(**({"k": 2, "steps": 50, "batch_size": 32, "masks": 4, "gate_rate": 0.1} | changes))


def options(out: Path, **changes) -> Options:
    return dataclasses.replace(Options(out=out, tensorboard=False, progress=False), **changes)


QUICK = ("conditional-bernoulli", "concrete", "random")


@pytest.mark.parametrize("method", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in METHODS])
def test_every_method_chooses_and_is_scored(tmp_path: Path, method: str) -> None:
    changes = {"learned-k": {"price": 0.02}, "stochastic-gates": {"steps": 250}}.get(method, {})
    found = run(SubsetSelection, config(method=method, **changes), options(tmp_path))["metrics"]
    assert len(found["folds"]) == len(found["chosen"]) == 5
    for chosen, names, size, again in zip(
        found["chosen"], found["names"], found["size"], found["duplicates"], strict=True
    ):
        assert names == [f"gene {j}" for j in chosen] and len(set(chosen)) == size
        assert method == "learned-k" or size + again == 2
        assert again == 0 or method == "concrete"
    accuracy = sum(fold["cell type"]["accuracy"] for fold in found["folds"]) / 5
    if method in ("conditional-bernoulli", "plackett-luce", "stochastic-gates", "l1", "mutual-information"):
        assert found["chosen"] == [TELLING[:2]] * 5 and accuracy == 1.0 and found["jaccard"] == 1.0
    if method == "random":
        assert accuracy < 0.9


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    for method in ("conditional-bernoulli", "stochastic-gates", "l1"):
        changes = {"method": method, "steps": 4}
        whole = run(SubsetSelection, config(**changes), options(tmp_path / method / "whole"))["metrics"]
        steps = 5 if method == "l1" else 20
        for number, stop in enumerate((2, steps // 2)):  # within a fold and later
            with pytest.raises(Interrupted):
                out = options(tmp_path / method / "parts", resume=number > 0, stop_after=stop)
                run(SubsetSelection, config(**changes), out)
        parts = run(SubsetSelection, config(**changes), options(tmp_path / method / "parts", resume=True))["metrics"]
        assert parts == whole


def test_several_tasks_share_genes_and_keep_some_labels(tmp_path: Path) -> None:
    made = config(data="blood-cells-tasks", known=0.5, steps=80)
    found = run(SubsetSelection, made, options(tmp_path))["metrics"]
    for fold in found["folds"]:
        assert set(fold) == {"cell type", "cycle", "cluster"}
        assert all(scores["own_accuracy"] > 0.7 for scores in fold.values())
    problem = its_data.load_problem("blood-cells-tasks", "data", 0, known=0.5)
    for task in problem.classes:
        known = its_data.training_labels(problem, task)
        assert 40 < (known >= 0).sum() < 80 and (problem.labels[task] >= 0).all()


def test_a_wide_start_narrows_to_k() -> None:
    gate = make_gate("conditional-bernoulli", 30, 3, 20, masks=4, price=0.0, wide=20)
    sizes = []
    for _ in range(20):
        sizes.append(int((gate(torch.ones(4, 30)) != 0).sum(-1)[0]))
        gate.advance()
    assert sizes[0] == 20 and sizes[10:] == [3] * 10 and sizes == sorted(sizes, reverse=True)
    assert len(gate.chosen()) == 3


def test_scores() -> None:
    found = agreement(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1]))
    assert found == {"accuracy": 0.75, "balanced_accuracy": 0.83333, "recall": {"0": 0.66667, "1": 1.0}}
    assert jaccard([[0, 1], [1, 2], [1, 2]]) == pytest.approx((1 / 3 + 1 / 3 + 1) / 3, abs=1e-5)
    assert jaccard([[0]]) is None
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, x @ torch.tensor([[1.0], [2.0], [-1.0]])], dim=1)
    exact = reconstruction(x[:60], x[60:], torch.tensor([0, 1, 2]))
    assert exact["error"] < 1e-8
    assert reconstruction(x[:100], x[100:], torch.tensor([0, 1]))["error_of_rest"] > 0.1


@pytest.mark.parametrize("row", rows("subset_selection"))
def test_every_row_builds(row: str) -> None:
    made = build(SubsetSelectionRun, read_row("subset_selection", row), "subset_selection")
    assert made.title


def test_missing_data_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.undo()
    for row, package in (("cells_random_8", "blood-cells"), ("lineage_random_8", "leukaemia")):
        arguments = ["subset_selection", "--row", row, "--set", f"root={tmp_path}", "--out", str(tmp_path / "out")]
        assert main(arguments) == 2
        assert f"python -m drpm.data.fetch {package}" in capsys.readouterr().err


def test_bad_options_are_refused() -> None:
    for changes, message in (
        ({"method": "best"}, "subset_selection: method must be one of"),
        ({"data": "iris"}, "subset_selection: data must be one of"),
        ({"k": 0}, "subset_selection: k must be >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            config(**changes)
    assert json.dumps(dataclasses.asdict(config()))
