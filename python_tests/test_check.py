"""`drpm check`: passes here, notices what is wrong, and says what to do without compiled kernels."""

import subprocess
import sys

import pytest
import torch

import drpm.ops
from drpm import check
from drpm.__main__ import main
from drpm.testing.samples import BY_NAME


def test_check_passes_and_prints_a_table(capsys):
    assert main(["check", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "0 failed" in out and "simd_compiled" in out
    assert out.count("  ok\n") == 2 * len(check.CHECKS)


def only(monkeypatch, words):
    """Leave the checks whose line starts with these words."""
    chosen = [x for x in check.CHECKS if x.__doc__.startswith(words)]
    assert chosen
    monkeypatch.setattr(check, "CHECKS", chosen)


@pytest.mark.parametrize(
    ("op", "words", "spoil"),
    [
        ("relaxed_sort", "relaxed_sort:", lambda out: out * (1 + 1e-4)),
        ("partition", "partition,", lambda out: out + 1e-3),
        ("mvhg_sample", "MVHG samples", lambda out: out.roll(1, -1)),
        ("mvhg_mean", "mvhg_mean", lambda out: out * float("nan")),
        ("partition_marginals", "partition_marginals", lambda out: out.flip(-1)),
        ("partition_mode", "partition_mode", lambda out: 0 * out),
        ("random_partition_log_prob", "log p(partition)", lambda out: out - 1e-3),
    ],
)
def test_wrong_results_fail(op, words, spoil, monkeypatch, capsys):
    kernel = getattr(drpm.ops, op)
    monkeypatch.setattr(drpm.ops, op, lambda *a, **k: spoil(kernel(*a, **k)))
    only(monkeypatch, words)
    assert main(["check", "--device", "cpu"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_wrong_gradients_fail(monkeypatch):
    kernel = drpm.ops.relaxed_sort
    monkeypatch.setattr(drpm.ops, "relaxed_sort", lambda s, tau: kernel(s, tau) + 1e-3 * (s - s.detach()).sum())
    error, allowed = check.against_reference(BY_NAME["relaxed_sort"])(torch.device("cpu"), torch.float64)
    assert error > allowed


def test_an_exception_is_a_failure_with_its_message(monkeypatch, capsys):
    def broken(*arguments, **options):
        raise RuntimeError("the kernel has no shoes")

    monkeypatch.setattr(drpm.ops, "relaxed_sort", broken)
    only(monkeypatch, "relaxed_sort")
    assert main(["check", "--device", "cpu"]) == 1
    assert "the kernel has no shoes" in capsys.readouterr().err


def test_without_compiled_kernels_it_says_what_to_do():
    code = (
        "import sys; sys.modules['drpm._C'] = None\n"  # what a checkout without a compiler looks like
        "from drpm.__main__ import main\n"
        "print(main(['check']), main(['demo']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("2 2")
    assert "pip install" in done.stdout and "drpm.reference works without" in done.stderr


@pytest.mark.cuda
def test_check_covers_the_cuda_devices(capsys):
    assert main(["check"]) == 0
    assert "cuda:0" in capsys.readouterr().out
