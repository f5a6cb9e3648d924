"""The exact gradients that the estimators are held to, and what must hold of the unbiased ones."""

import pytest
import torch

from benchmarks import subset_gradients as script


def test_unbiased_estimators_agree_with_enumeration():
    entries = script.measure(400)
    by = {(entry["law"], entry["estimator"].split(",")[0], entry["f"]): entry for entry in entries}
    simple = "SIMPLE: draws with the gradient of the marginals"
    assert by["conditional-bernoulli", simple, "linear"]["bias"] < 1e-12
    for law in ("conditional-bernoulli", "plackett-luce"):
        for f in script.functions():
            found = by[law, "leave-one-out on log p", f]
            assert found["bias"] < 3 * found["standard_error"]  # √(sum over 8 numbers): fixed seeds
    content = {"entries": entries, "replicates": 400, "machine": {}, "commit": "0" * 40}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(script.machine, "line", lambda content: "here")
        assert script.table(content).count("\n") == 3 + len(list(script.estimators()))


def test_the_exact_gradient_of_mixtures_is_that_of_draws():
    f = script.functions()["squared error"]
    logits = torch.randn(script.K, script.N, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    step = 1e-5
    moved = logits.clone()
    moved[1, 2] += step

    def mean(logits):
        law = logits.softmax(-1)
        total = 0.0
        for a in range(script.N):
            for b in range(script.N):
                for c in range(script.N):
                    mask = torch.zeros(script.N, dtype=torch.float64)
                    for j in (a, b, c):
                        mask[j] += 1
                    total += law[0, a] * law[1, b] * law[2, c] * f(mask)
        return total

    assert script.exact("mixtures", f, logits)[1, 2] == pytest.approx(
        float(mean(moved) - mean(logits)) / step, abs=1e-3
    )
