"""The two MVHG experiments at small size: what passes, what fails, and the files they write."""

import json

from experiments.mvhg import ks_test, minimal_example


def test_each_sampler_passes_against_its_own_law_only(tmp_path, capsys):
    ks_test.main(["--samples", "4000", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "ks_test.json").read_text())
    passed = {name: comparison["passed"] for name, comparison in result["comparisons"].items()}
    assert passed["exact conditionals vs exact law"] == 30
    assert passed["merged conditionals vs merging reference"] == 30
    assert passed["merged conditionals vs exact law"] < 10
    assert passed["exact conditionals vs merging reference"] < 10
    assert (tmp_path / "ks_test.png").stat().st_size > 0
    assert "| exact conditionals vs exact law | 30 of 30" in capsys.readouterr().out


def test_minimal_example_recovers_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(minimal_example, "WEIGHTS", (5,))
    minimal_example.main(["--epochs", "4", "--out", str(tmp_path)])
    (entry,) = json.loads((tmp_path / "minimal_example.json").read_text())["datasets"]
    guess = minimal_example.estimate(entry, "maximum_likelihood")
    assert max(abs(g - t) for g, t in zip(guess, entry["truth"], strict=True)) < 0.06
    exact = minimal_example.estimate(entry, "exact")
    assert abs(exact[1] - entry["truth"][1]) < 0.15
    assert (tmp_path / "minimal_example.png").stat().st_size > 0
