"""The benchmark runner: what it reports when contestants are wrong, greedy, slow or absent."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import plot, report
from benchmarks.__main__ import main
from benchmarks.cases import GRIDS, VARIANTS, Case, grid_cases
from benchmarks.checks import Judge, checkable
from benchmarks.registry import contestants, load_plugin
from benchmarks.results import Results
from benchmarks.runner import Settings, run_case, run_cases
from drpm.testing.memory import peak_memory

FAKES = str(Path(__file__).with_name("fake_contestants.py"))
CASE = Case("partition", "soft", (("B", 2), ("n", 8), ("K", 3)))
QUICK = {"seconds": 0.01, "rounds": 2, "plugins": (FAKES,), "memory_limit": 2**30}


@pytest.fixture(scope="module", autouse=True)
def fakes():
    load_plugin(FAKES)


def run(tmp_path, *columns, case=CASE, **settings):
    results = Results(tmp_path / "result.json", {})
    return run_case(case, Settings(columns=columns, **{**QUICK, **settings}), results)["contestants"]


def entry(case=CASE, **contestants):
    """A case's entry as the runner writes it."""
    return {
        "key": case.key,
        "case": case.to_json(),
        "commit": "0123456789ab",
        "dirty": False,
        "contestants": contestants,
    }


def timed(seconds, peak=2**20):
    result = {"status": "ok", "seconds": seconds, "peak_bytes": peak}
    return {"status": "ok", "check": {"passed": True, "detail": ""}, "forward": result, "forward+backward": result}


HEAD = {
    "cpu": "some CPU",
    "cores": 2,
    "threads": 2,
    "memory_gb": 16.0,
    "drpm": "0.1.0",
    "torch": "2.13.0",
    "python": "3.11.7",
}


def test_every_contestant_of_a_case_is_judged_by_itself(tmp_path):
    found = run(
        tmp_path,
        "reference",
        "right",
        "wrong",
        "wrong gradient",
        "nan",
        "greedy",
        "elsewhere",
        "grabbing",
        "on one thread",
        threads=1,
    )
    assert found["reference"]["forward"]["status"] == "ok"
    for direction in ("forward", "forward+backward"):
        assert found["right"][direction]["seconds"] > 0
        assert found["right"][direction]["repetitions"] == 2
        assert found["right"][direction]["peak_bytes"] > 0
    assert found["wrong"]["status"] == "wrong" and "forward" not in found["wrong"]
    assert found["wrong gradient"]["status"] == "wrong" and "forward" not in found["wrong gradient"]
    assert found["on one thread"]["forward+backward"]["status"] == "ok"  # whatever the others did
    assert found["nan"]["forward"]["status"] == "wrong"
    assert found["greedy"]["status"] == "does not fit"
    assert found["elsewhere"] == {"status": "absent", "detail": "no_such_module not installed"}


def test_a_slow_a_hanging_and_a_dying_contestant_do_not_take_the_others_along(tmp_path):
    found = run(tmp_path, "right", "sleepy", "stuck", "dying", cap=0.5)
    assert found["sleepy"]["forward"]["status"] == "too slow"
    assert "forward+backward" not in found["sleepy"]
    assert found["stuck"]["forward"]["status"] == "too slow"
    assert found["dying"]["forward"]["status"] == "crashed"
    assert found["right"]["forward+backward"]["status"] == "ok"


def test_larger_cases_are_not_tried_after_a_failure(tmp_path):
    results = Results(tmp_path / "result.json", {})
    slow = {"status": "ok", "forward": {"status": "too slow", "detail": "in forward"}}
    results.cases[CASE.key] = entry(right=timed(1e-3), sleepy=slow)
    larger = CASE.resized(n=16)
    assert results.inferred(larger, "sleepy", "forward") == ("too slow", CASE.size_text)
    assert results.inferred(larger, "right", "forward") is None
    assert results.inferred(larger.resized(B=1), "sleepy", "forward") is None
    found = run_case(larger, Settings(columns=("sleepy",), **QUICK), results)["contestants"]
    assert found["sleepy"]["forward"]["inferred"] == f"from {CASE.size_text}"


def test_resume_keeps_finished_cases_and_measures_the_rest(tmp_path):
    path = tmp_path / "result.json"
    small, large = CASE, CASE.resized(n=16)
    results = Results(path, HEAD, {small.key: entry(small, kernel=timed(123.0))})
    results.save()
    resumed = Results.load(path)
    run_cases([small, large], Settings(columns=("right",), **QUICK), resumed)
    again = Results.load(path)
    assert list(again.cases) == [small.key, large.key]
    assert again.cases[small.key]["contestants"] == {"kernel": timed(123.0)}
    assert again.cases[large.key]["contestants"]["right"]["forward"]["status"] == "ok"


def test_command_line_runs_resumes_and_renders(tmp_path, capsys):
    path = tmp_path / "out.json"
    arguments = ["--grid", "tiny", "--ops", "plackett_luce_log_prob", "--seconds", "0.01", "--output", str(path)]
    main([*arguments, "--rounds", "1", "--memory", "2"])
    document = json.loads(path.read_text())
    assert {"cpu", "cores", "threads", "torch", "python", "drpm", "build"} <= document["head"].keys()
    (case,) = document["cases"]
    assert {"commit", "dirty", "time", "load"} <= case.keys()
    assert case["contestants"]["kernel"]["check"]["passed"]
    before = path.read_text()
    main([*arguments, "--resume"])
    assert path.read_text() == before
    main(["table", str(path)])
    text = capsys.readouterr().out
    assert "### plackett_luce_log_prob, order, float32" in text and "kernel fwd / f+b" in text
    main(["overhead", "--ops", "plackett_luce_log_prob"])
    assert "| plackett_luce_log_prob, order |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--resume", "--threads", "1"])
    assert "was measured with threads 2" in capsys.readouterr().err


def test_table_shows_ratios_and_withholds_what_failed():
    wrong = {"status": "wrong", "check": {"passed": False, "detail": "error 1"}}
    big = {"status": "ok", "forward": timed(0.5)["forward"], "forward+backward": {"status": "does not fit"}}
    results = Results(Path("x"), HEAD, {CASE.key: entry(kernel=timed(1e-3), reference=timed(4e-3), a=wrong, b=big)})
    text = report.render(results)
    row = next(line for line in text.splitlines() if line.startswith("| 2, 8, 3 |"))
    times = "1 / 1 | 4 / 4 | 4× / 4× | wrong / wrong | – / – | 500 / no fit | 500× / –"
    assert row == f"| 2, 8, 3 | {times} | 1 / 1 / wrong / no fit |"
    assert "speed withheld, its check failed (error 1)" in text
    assert "wrong" not in report.render(results, columns=("kernel", "reference"), with_notes=False)


def test_plot_names_the_slope(tmp_path):
    entries = {}
    for n in (64, 256, 1024, 4096):
        case = CASE.resized(n=n)
        entries[case.key] = entry(case, kernel=timed(1e-6 * n, n), reference=timed(1e-9 * n**2, n**2))
    assert plot.slope([(n, n**2.0) for n in (256, 1024)]) == pytest.approx(2.0)
    plot.plot(Results(Path("x"), HEAD, entries), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="no case"):
        plot.plot(Results(Path("x"), HEAD, entries), tmp_path / "plot.png", ops=("relaxed_sort",))


def test_lead_table_names_the_smallest_lead_and_where():
    small, large = CASE.resized(n=64), CASE.resized(n=1024)
    entries = {
        small.key: entry(small, kernel=timed(1e-3), peer=timed(1.5e-3)),
        large.key: entry(large, kernel=timed(2e-3), peer={"status": "ok", "forward": {"status": "too slow"}}),
    }
    table = report.lead_table(report.series_of(Results(Path("x"), HEAD, entries)))
    smallest = "1.5× (B=2, n=64, K=3), 1.5×, 1.5×"
    assert table.splitlines()[-1] == f"| partition, soft | peer | 1 | {smallest} | {smallest} | 0 | 1 |"


def test_merging_result_files_refuses_another_machine():
    here = Results(Path("x"), HEAD, {"a": {}})
    assert set(here.merged(Results(Path("y"), HEAD, {"b": {}})).cases) == {"a", "b"}
    with pytest.raises(ValueError, match="y: threads must be 2 as in x, got 1"):
        here.merged(Results(Path("y"), {**HEAD, "threads": 1}, {}))


def test_peak_memory_counts_what_is_held_at_once():
    def work():
        a = torch.ones(256, 1024)  # 1 MB
        b = a + a
        del a
        return b + b

    assert peak_memory(work) == pytest.approx(2 * 2**20, rel=0.01)
    assert peak_memory(lambda: torch.ones(64, 2**18)) == pytest.approx(64 * 2**20, rel=0.1)


def test_scratch_memory_outside_of_torch_is_counted():
    assert peak_memory(lambda: bytearray(64 * 2**20)) == pytest.approx(64 * 2**20, rel=0.1)


def test_checks_fit_and_keep_the_band_width():
    huge = Case("partition", "hard", (("B", 64), ("n", 16384), ("K", 10)))
    smaller, said = checkable(huge)
    assert smaller["B"] == 1 and smaller["n"] < 16384
    assert smaller.tau * smaller["n"] == huge.tau * huge["n"]
    assert said.startswith("checked at B=1, n=2048")
    assert checkable(CASE) == (CASE, "")
    sizes = Case("mvhg_sample", "exact", (("B", 100), ("K", 100), ("m", 1000), ("n", 1000)))
    assert checkable(sizes)[0] == sizes.resized(B=1, m=250, n=250)


@pytest.mark.parametrize("grid", GRIDS)
def test_grids_are_well_formed(grid):
    cases = grid_cases(grid)
    assert len({case.key for case in cases}) == len(cases) > 0
    for case in cases:
        assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case
        assert [c.name for c in contestants(case)][:2] == ["kernel", "reference"]


@pytest.mark.parametrize("op", VARIANTS)
def test_the_reference_passes_its_own_check_in_both_dtypes(op):
    for dtype in ("float32", "float64"):
        for case in grid_cases("tiny", (op,), dtypes=(dtype,)):
            judge = Judge(case)
            reference = next(c for c in contestants(case) if c.name == "reference")
            assert judge.check(reference).passed
            assert judge._same(reference).passed


@pytest.mark.parametrize("op", VARIANTS)
def test_the_kernel_passes_its_check(op):
    import drpm.ops

    if not hasattr(drpm.ops, op):
        pytest.skip(f"drpm.ops.{op} does not exist yet")
    for dtype in ("float32", "float64"):
        for case in grid_cases("tiny", (op,), dtypes=(dtype,)):
            kernel = next(c for c in contestants(case) if c.name == "kernel")
            try:
                found = Judge(case).check(kernel)
            except NotImplementedError:
                continue
            assert found.passed, found.detail
