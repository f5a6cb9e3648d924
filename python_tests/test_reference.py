"""The API reference: every public name has a docstring and a place, and docstrings become valid markup."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs" / "extensions"))

from docstrings import converted  # noqa: E402
from public_names import PACKAGES, documentation, public_names  # noqa: E402


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_a_docstring(package):
    missing = [
        f"{m}.{name}" for m, names in public_names(package).items() for name in names if not documentation(m, name)
    ]
    assert not missing, "a public name must have a docstring (a constant: a comment by it)"


def test_every_package_is_on_the_reference():
    index = (ROOT / "docs/api/index.rst").read_text()
    for package in PACKAGES:
        name = package.removeprefix("drpm.")
        page = (ROOT / f"docs/api/{name}.rst").read_text()
        patterns = re.findall(rf"\.\. public:: {package}\n(?:   :match: (.*)\n)?", page)
        assert patterns and patterns[-1] in ("", "*"), "the last directive of a page must take every name that is left"
        assert re.search(rf"^   {name}$", index, flags=re.MULTILINE)


def test_sections_arguments_and_formulas():
    text = converted(
        [
            "Sort `scores`.",
            "",
            "    y = P x                                    (Eq. 1, docs/math/relaxed_sort.md)",
            "",
            "Args:",
            "    scores: (*, n) float, see `partition`;",
            "        finite.",
            "Returns: (*, n).",
        ],
        {"partition": "drpm.ops.partition"},
    )
    assert text[:6] == [
        "Sort ``scores``.",
        "",
        "",
        "::",
        "",
        "    y = P x                                    (Eq. 1, docs/math/relaxed_sort.md)",
    ]
    assert "        (\\*, n) float, see :py:obj:`partition <drpm.ops.partition>`;" in text
    assert text[text.index(":Returns:") + 1] == "    (\\*, n)."
    assert "    :doc:`/math/relaxed_sort`" in text
