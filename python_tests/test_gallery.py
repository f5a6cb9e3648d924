"""The gallery's rules, without Sphinx: every picture says in words what it shows, no example takes long."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs" / "extensions"))

plt = pytest.importorskip("matplotlib.pyplot")
import gallery  # noqa: E402

EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))


@pytest.fixture
def variables(tmp_path):
    plt.close("all")
    (tmp_path / "gallery").mkdir()
    yield {"src_file": "plot_x.py", "image_path_iterator": iter([str(tmp_path / "gallery" / "x.png")])}
    plt.close("all")


def test_there_are_twelve_examples_with_alternative_texts():
    assert len(EXAMPLES) >= 12
    for path in EXAMPLES:
        text = path.read_text()
        assert text.count(".set_label(") == text.count("plt.subplots(") + text.count("plt.subplot_mosaic("), path.name


def test_a_picture_needs_an_alternative_text(variables):
    plt.figure()
    with pytest.raises(ValueError, match=r"plot_x\.py: a figure must have an alternative text"):
        gallery.scrape(None, variables, {})


def test_the_alternative_text_is_the_figure_s_label(variables):
    plt.figure(figsize=(1, 1)).set_label("A blank square, which shows nothing at all.")
    assert ":alt: A blank square, which shows nothing at all.\n" in gallery.scrape(None, variables, {})


def test_an_example_must_not_take_long(monkeypatch):
    monkeypatch.setattr(gallery, "LIMIT", -1.0)
    with plt.rc_context():
        gallery.reset({}, "plot_x.py", "before")
    with pytest.raises(RuntimeError, match=r"plot_x\.py: an example must take at most"):
        gallery.reset({}, "plot_x.py", "after")
