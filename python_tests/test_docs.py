"""README and docs: examples run and print what is shown, tables are what results/ holds, links lead somewhere."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/math/mvhg.md",
        "docs/score_matrix.md",
        "docs/exactly_k_of_n.md",
        "docs/sklearn.md",
        "docs/from_the_authors_code.md",
        "docs/experiments/multitask.md",
    ],
)
def test_examples_run(page):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})


@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/index.md", *(f"docs/guides/{page.name}" for page in (ROOT / "docs/guides").glob("*.md"))],
)
def test_examples_print_what_is_shown(page):
    """Blocks of a page follow each other; a block of text right after one is what it prints."""
    blocks = re.findall(
        r"```python\n(.*?)```(?:\n+(?:prints\n+)?```text\n(.*?)```)?", (ROOT / page).read_text(), re.DOTALL
    )
    assert blocks
    names = {}
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), names)
        assert printed.getvalue() == shown, code


def test_readme_fits_on_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


def test_tables_match_results():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "render_results.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]+`(?!\])", "", page.read_text())  # without code, which may look like a link
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target
