"""The runner: a killed and resumed run equals an uninterrupted one bit for bit; logs, results, torchrun, options."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("tqdm")
pytest.importorskip("yaml")

from tiny_experiment import Tiny, TinyConfig

from drpm.training.interrupt import Interrupted
from drpm.training.loop import Options
from experiments.runner import configuration
from experiments.runner.configuration import LOCATION, build, parse_settings, read_row, recorded, rows
from experiments.runner.queue import Run, in_process, make_runs, read_queue
from experiments.runner.registry import EXPERIMENTS
from experiments.runner.runner import run

SCRIPT = Path(__file__).parent / "tiny_experiment.py"


def options(out: Path, **changes) -> Options:
    base = Options(out=out, log_every=4, tensorboard=False, progress=False)
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("whole")
    return run(Tiny, TinyConfig(), options(out, result=out / "results" / "seed0.json")), out


def saved(folder: Path) -> dict:
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    del content["seconds"], content["processor_seconds"], content["identity"]
    return content


def assert_same(first: object, second: object, where: str = "checkpoint") -> None:
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for name in first:
            assert_same(first[name], second[name], f"{where}.{name}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{where}[{number}]")
    else:
        assert first == second, where


def assert_equal_runs(first: Path, second: Path) -> None:
    """Weights, optimiser, every random state, log and metrics."""
    assert_same(saved(first), saved(second))
    assert (first / "log.jsonl").read_bytes() == (second / "log.jsonl").read_bytes()
    results = [json.loads((folder / "result.json").read_text())["metrics"] for folder in (first, second)]
    assert results[0] == results[1]


@pytest.mark.parametrize("stops", [[1], [5, 7], [12], [13, 1, 1], [24], [25]])
def test_interrupted_and_resumed_equals_uninterrupted(whole, tmp_path: Path, stops: list[int]) -> None:
    for number, stop in enumerate(stops):
        torch.randn(3)  # whatever the process drew before must not matter
        try:
            run(Tiny, TinyConfig(), options(tmp_path, resume=number > 0, stop_after=stop))
        except Interrupted:
            assert not (tmp_path / "result.json").exists()
    run(Tiny, TinyConfig(), options(tmp_path, resume=True))
    assert_equal_runs(whole[1], tmp_path)


def test_kill_9_at_any_moment_loses_at_most_one_interval(tmp_path: Path) -> None:
    # Checkpoints after every step; each child is killed once it has made three steps more, wherever it then is.
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    reached = 0
    for attempt in range(2):
        command = [sys.executable, str(SCRIPT), str(killed), "0.03", *(["--resume"] if attempt else [])]
        child = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 300  # on a busy machine importing torch alone takes half a minute
        while time.monotonic() < deadline and child.poll() is None and _index(killed) < reached + 3:
            time.sleep(0.004 * (attempt + 1))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert _index(killed) >= reached + 3  # nothing that a checkpoint held is lost
        reached = _index(killed)
    assert not (killed / "result.json").exists()
    for folder in (killed, whole):
        run(Tiny, TinyConfig(), options(folder, resume=folder == killed, checkpoint_seconds=0.0))
    assert_equal_runs(killed, whole)


def _index(folder: Path) -> int:
    """Step of the checkpoint: a whole file at any moment."""
    path = folder / "checkpoint.pt"
    return torch.load(path, weights_only=True)["index"] if path.exists() else 0


def test_log_is_one_line_for_every_interval_and_phase(whole) -> None:
    lines = [json.loads(line) for line in (whole[1] / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 24, 25]
    assert [line["phase"] for line in lines] == ["first"] * 3 + ["second"] * 4
    recorded = whole[0]["metrics"]["recorded"]
    assert lines[0]["loss"] == sum(recorded[:4]) / 4
    assert "wobble" in lines[-1]


def test_result_says_where_it_comes_from(whole) -> None:
    record, out = whole
    assert json.loads((out / "result.json").read_text()) == record
    assert (out / "results" / "seed0.json").read_bytes() == (out / "result.json").read_bytes()
    assert {
        "experiment",
        "row",
        "seed",
        "config",
        "versions",
        "commit",
        "machine",
        "seconds",
        "processor_seconds",
        "peak_memory_mb",
        "metrics",
    } <= record.keys()


def test_another_configuration_is_not_continued(whole) -> None:
    with pytest.raises(ValueError, match=r"--resume must continue a run with the same options, got .* width=8"):
        run(Tiny, TinyConfig(width=9), options(whole[1], resume=True))


def test_divergence_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="tiny: diverged at step 6"):
        run(Tiny, TinyConfig(diverge_at=5), options(tmp_path))


def test_tensorboard_events_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(Tiny, TinyConfig(steps=6), options(tmp_path, tensorboard=True))
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_runs_under_torchrun_and_resumes(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch was built without distributed")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launch, str(SCRIPT), str(tmp_path), "0"], env=environment, check=True, capture_output=True)
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["processes"] == 2
    assert len(saved(tmp_path)["random"]) == 2
    first = (tmp_path / "result.json").read_text()
    subprocess.run(
        [*launch, str(SCRIPT), str(tmp_path), "0", "--resume"], env=environment, check=True, capture_output=True
    )
    assert json.loads((tmp_path / "result.json").read_text())["metrics"] == json.loads(first)["metrics"]


@dataclasses.dataclass(frozen=True)
class Example:
    rate: float = 1.0
    count: int = 2
    hidden: tuple[int, ...] = (1, 2)
    shape: tuple[int, int] | None = None
    name: str = "a"
    flag: bool = False


def test_configurations_are_built_from_yaml_values() -> None:
    settings = parse_settings(["rate=1e-4", "hidden=[3, 4, 5]", "shape=[2, 3]", "flag=true"])
    assert build(Example, settings, "x") == Example(rate=1e-4, hidden=(3, 4, 5), shape=(2, 3), flag=True)
    assert build(Example, {"rate": 2, "shape": None}, "x") == Example(rate=2.0)
    for bad, message in (
        ({"other": 1}, "x: no option other; options are count, flag, hidden, name, rate, shape"),
        ({"count": 1.5}, "x: count must be int, got 1.5"),
        ({"count": True}, "x: count must be int, got True"),
        ({"rate": "fast"}, "x: rate must be float, got 'fast'"),
        ({"hidden": 3}, r"x: hidden must be .*, got 3"),
        ({"shape": [1, 2, 3]}, r"x: shape must be .*, got \[1, 2, 3\]"),
        ({"name": 3}, "x: name must be str, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            build(Example, bad, "x")
    with pytest.raises(ValueError, match="--set must be NAME=VALUE, got 'rate'"):
        parse_settings(["rate"])


def test_results_do_not_keep_where_this_machine_has_its_data() -> None:
    @dataclasses.dataclass
    class Config:
        steps: int = 3
        root: str = dataclasses.field(default="data", metadata=LOCATION)

    assert recorded(Config(root="/somewhere/else")) == {"steps": 3}


def test_a_sweep_gives_a_row_for_every_combination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "FOLDER", tmp_path)
    sweeps = tmp_path / "made_up" / "sweeps"
    sweeps.mkdir(parents=True)
    (sweeps / "a.yaml").write_text(
        "options: {rate: 1, count: 1}\n"
        "grids:\n"
        "- - {small: {}, large: {count: 9}}\n"
        "  - {0: {name: none}, one: {name: some, rate: 2}}\n"
        "- - {alone: {rate: 3}}\n"
    )
    assert rows("made_up") == ["alone", "large_0", "large_one", "small_0", "small_one"]
    assert read_row("made_up", "small_0") == {"rate": 1, "count": 1, "name": "none"}
    assert read_row("made_up", "large_one") == {"rate": 2, "count": 9, "name": "some"}
    (tmp_path / "own.yaml").write_text("rate: 7\n")
    assert read_row("made_up", str(tmp_path / "own.yaml")) == {"rate": 7}
    with pytest.raises(
        FileNotFoundError, match=r"made_up: --row must be a .yaml file or one of .*'alone'.*got 'large'"
    ):
        read_row("made_up", "large")
    (sweeps / "b.yaml").write_text("grids:\n- - {large: {}}\n  - {0: {}}\n")
    configuration._sweeps.cache_clear()
    with pytest.raises(ValueError, match=r"made_up: b.yaml must name new rows, got 'large_0'"):
        rows("made_up")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_kept_result_belongs_to_a_row(name: str) -> None:
    kept = {path.name for path in (Path(__file__).parents[2] / "results" / name).glob("*") if path.is_dir()}
    assert kept <= set(rows(name))


def test_the_queue_makes_what_has_no_result_in_order(tmp_path: Path) -> None:
    queue = [Run("multitask", f"drpm_{level}", 0) for level in range(4)]
    kept = tmp_path / queue[1].place()
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    made: list[Run] = []

    def make(run: Run) -> int:
        made.append(run)
        return 130 if run == queue[2] else 0

    assert make_runs(queue, tmp_path, make) == 130
    assert made == [queue[0], queue[2]]
    assert make_runs(queue[:2], tmp_path, make) == 0


def test_the_queue_names_rows_that_exist(tmp_path: Path) -> None:
    assert read_queue()
    path = tmp_path / "queue.txt"
    path.write_text("# a comment\n\nmultitask drpm_3 0 2 root=here{seed} epochs=1  # and another\n")
    assert read_queue(path) == [Run("multitask", "drpm_3", seed, (f"root=here{seed}", "epochs=1")) for seed in (0, 2)]
    for line, message in (
        ("multitask drpm_3", "must be EXPERIMENT ROW SEED"),
        ("multitask drpm_3 zero", "must be EXPERIMENT ROW SEED"),
        ("multitask drpm_3 epochs=1 0", "must be EXPERIMENT ROW SEED"),
        ("multitask other 0", "must name a row of multitask, got 'other'"),
        ("multitask drpm_3 0 0", "must name every run once"),
    ):
        path.write_text(line)
        with pytest.raises(ValueError, match=f"queue: queue.txt.*{message}"):
            read_queue(path)


def test_sigterm_reaches_the_run_of_a_queue(tmp_path: Path) -> None:
    child = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(130)); "
        f"pathlib.Path({str(tmp_path / 'started')!r}).touch(); time.sleep(60)"
    )
    parent = (
        f"import sys; from experiments.runner.queue import in_process; "
        f"sys.exit(in_process([sys.executable, '-c', {child!r}]))"
    )
    queue = subprocess.Popen([sys.executable, "-c", parent])
    while not (tmp_path / "started").exists():
        assert queue.poll() is None
        time.sleep(0.05)
    queue.terminate()
    assert queue.wait(timeout=30) == 130
    assert in_process([sys.executable, "-c", "raise SystemExit(3)"]) == 3
