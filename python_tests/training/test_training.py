"""What the training loop is made of; the loop itself is tested with the runner of the experiments and the demo."""

import os
import random
import signal

import numpy as np
import pytest
import torch

from drpm.training.batches import EpochBatches
from drpm.training.checkpoint import random_state, seed_everything, set_random_state, write_checkpoint
from drpm.training.interrupt import deferred_interrupt
from drpm.training.provenance import commit_of, provenance
from drpm.training.world import World


def test_batches_of_the_processes_make_up_the_batch() -> None:
    alone = EpochBatches(50, 12, 3, World())
    shares = [EpochBatches(50, 12, 3, World(rank, 5)) for rank in range(5)]
    seen = []
    for step in range(8):
        assert torch.equal(torch.cat([share(step) for share in shares]), alone(step))
        seen.append(alone(step))
    assert alone.steps_per_epoch == 4
    assert len(torch.cat(seen[:4]).unique()) == 48
    assert not torch.equal(seen[0], seen[4])
    assert torch.equal(EpochBatches(50, 12, 3, World())(6), seen[6])  # from the step alone


def test_seeding_covers_all_three_libraries() -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()

    seed_everything(3)
    first = draw()
    seed_everything(3)
    assert draw() == first


def test_random_states_are_restored() -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.randn(())), float(np.random.randn()), random.gauss(0.0, 1.0)

    draw()  # NumPy and Python each keep half of a pair of normal numbers
    state = random_state(torch.device("cpu"))
    first = draw()
    set_random_state(state, torch.device("cpu"))
    assert draw() == first


def test_a_checkpoint_that_fails_leaves_the_old_one(tmp_path) -> None:
    write_checkpoint({"index": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint({"index": lambda: None}, tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True) == {"index": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_is_deferred_and_the_second_is_not(number, capsys) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), deferred_interrupt("epoch") as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), number)
        assert interrupted()
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    assert "Stopping after this epoch" in capsys.readouterr().err


def test_results_outside_a_checkout_have_no_commit(tmp_path) -> None:
    assert commit_of(tmp_path) == "unknown"
    assert {"drpm", "python", "torch"} <= provenance()["versions"].keys()
