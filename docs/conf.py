"""Sphinx configuration of the site: `make docs`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "extensions")]

import gallery  # noqa: E402

from drpm._version import __version__  # noqa: E402

project = "drpm"
author = "The drpm authors"
copyright = "the drpm authors, MIT licence"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # serves MathJax and its fonts from the site itself
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "reference",
    "markdown",
    "gallery",
]
exclude_patterns = [
    "extensions",
    "gallery/*.py",
    "gallery/*.ipynb",
    "gallery/*.md5",
    "sg_execution_times.rst",
    "gallery/sg_execution_times.rst",
]
suppress_warnings = ["config.cache"]  # the gallery's configuration holds functions

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

mathjax3_config = {"tex": {"tags": "none"}, "options": {"enableMenu": False}}

autodoc_typehints = "none"  # arguments say shapes and types
autodoc_inherit_docstrings = False  # what a method of torch says is not in this template
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"

html_theme = "furo"
html_title = f"drpm {version}"
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["site.css"]
html_js_files = [("site.js", {"priority": 100})]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (gallery.scrape,),
    "reset_modules": (gallery.reset,),
    "reset_modules_order": "both",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "min_reported_time": 5,
    "show_memory": False,
    "show_signature": False,
}
