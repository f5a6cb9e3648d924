"""Tables of result files, as docs/render_results.py puts them into the pages."""

import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks.cases import grid_cases
from benchmarks.results import FORMAT

ROOT = Path(__file__).parents[2]


@pytest.fixture
def render_results(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("render_results", ROOT / "docs" / "render_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def timed(seconds):
    return {direction: {"status": "ok", "seconds": seconds, "peak_bytes": 2**20} for direction in DIRECTIONS}


DIRECTIONS = ("forward", "forward+backward")


def result_file(path):
    """Two cells of the grid "mvhg": everyone in the first; in the second one too slow and one that does not fit."""
    small, large = (
        case for case in grid_cases("mvhg", ("mvhg_sample",), ("exact",)) if case["K"] == 3 and case["B"] < 101
    )
    slow = {direction: {"status": "too slow", "detail": "11 s"} for direction in DIRECTIONS}
    contestants = [
        {"kernel": timed(1e-3), "reference": timed(5e-3), "original": timed(0.25)},
        {"kernel": timed(2e-3), "reference": slow, "original": {"status": "does not fit", "detail": ""}},
    ]
    head = {
        "cpu": "a processor", "cores": 2, "threads": 2, "memory_gb": 8, "drpm": "0", "torch": "2", "python": "3",
        "build": {"simd": "avx2"}, "settings": {"cap": 10.0, "check_cap": 40.0, "memory_limit": 4 * 2**30},
    }  # fmt: skip
    cases = [
        {"key": case.key, "case": case.to_json(), "commit": "abc", "dirty": False, "contestants": found}
        for case, found in zip((small, large), contestants, strict=True)
    ]
    path.write_text(json.dumps({"format": FORMAT, "head": head, "cases": cases}))


def test_limits_stand_in_the_table_and_below_it(render_results, tmp_path):
    result_file(tmp_path / "mvhg.json")
    text = render_results.benchmark_table("mvhg.json", "mvhg_sample")
    assert "**mvhg_sample, exact, float32**" in text
    assert "| 1, 3, 200, 180 | 1 / 1 | 5 / 5 | 5× / 5× | 250 / 250 | 250× / 250× | 1 / 1 / 1 |" in text
    assert "| 100, 3, 200, 180 | 2 / 2 | too slow / too slow | – / – | no fit / no fit | – / – |" in text
    assert "`too slow`: one call took more than 10 s, or a check more than 40 s; `no fit`: more than 4 GB." in text
    assert render_results.benchmark_table("mvhg.json", "mvhg_kl").startswith("a processor")
    assert render_results.benchmark_table("absent.json", "mvhg_kl") == "_No results yet._"


def test_every_block_of_the_pages_has_a_function_and_is_rebuilt(render_results, monkeypatch):
    page = "before\n<!-- begin: MVHG errors -->\nstale\n<!-- end: MVHG errors -->\nafter\n"
    monkeypatch.setitem(render_results.BLOCKS, "MVHG errors", lambda: "fresh")
    assert render_results.rendered(page) == page.replace("stale", "fresh")
    with pytest.raises(KeyError):
        render_results.rendered("<!-- begin: nothing -->\n<!-- end: nothing -->")
